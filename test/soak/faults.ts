/**
 * What goes wrong in a soak: one thing at a time, and the next one only when all is well again. The first worker is never killed, so that what
 * its process holds is the sum of all that it has lived through.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Cluster, Worker } from "../cluster/workers.ts";
import type { Random } from "../random.ts";

const DOWN_MS_MIN = 1000;
const DOWN_MS_MAX = 12_000;
const PAUSE_MS_MIN = 500;
const PAUSE_MS_MAX = 8000;
const ERROR_LETTERS_MAX = 1000;

export const FAULT_NAMES = ["kill -9 of a worker", "pause of a worker", "restart of the master"] as const;
export type FaultName = (typeof FAULT_NAMES)[number];

export class Faults {
  readonly count = new Map<FaultName, number>(FAULT_NAMES.map((name) => [name, 0]));
  /** How often each worker was started. */
  readonly starts: number[];
  private readonly cluster: Cluster;
  private readonly random: Random;
  private readonly bag: FaultName[] = [];

  constructor(cluster: Cluster, random: Random) {
    this.cluster = cluster;
    this.random = random;
    this.starts = cluster.workers.map(() => 1);
  }

  /**
   * @param gapMs between what is well again and the next fault, on average
   * @param wrong is told when something does not come back
   */
  async run(gapMs: number, over: () => boolean, wrong: (what: string) => void): Promise<void> {
    while (!over()) {
      await sleepUnless(over, gapMs / 2 + this.random.below(gapMs));
      if (over()) return;
      const name = this.draw();
      this.count.set(name, (this.count.get(name) ?? 0) + 1);
      try {
        await this.fault(name);
        await this.cluster.ready();
      } catch (error) {
        wrong(`after a ${name}: ${String(error).slice(0, ERROR_LETTERS_MAX)}`);
        for (const worker of this.cluster.workers.filter(({ isRunning }) => !isRunning))
          await worker.start().catch(() => {});
      }
    }
  }

  /** Each once, in any order, before the next round. */
  private draw(): FaultName {
    if (this.bag.length === 0) this.bag.push(...FAULT_NAMES);
    const [name] = this.bag.splice(this.random.below(this.bag.length), 1);
    return name;
  }

  private async fault(name: FaultName): Promise<void> {
    const { cluster, random } = this;
    const [, ...others] = cluster.workers;
    const downMs = DOWN_MS_MIN + random.below(DOWN_MS_MAX - DOWN_MS_MIN);
    if (name === "kill -9 of a worker") await this.kill(others[random.below(others.length)], downMs);
    else if (name === "pause of a worker") {
      const worker = cluster.workers[random.below(cluster.workers.length)];
      worker.signal("SIGSTOP");
      await sleep(PAUSE_MS_MIN + random.below(PAUSE_MS_MAX - PAUSE_MS_MIN));
      worker.signal("SIGCONT");
    } else {
      await cluster.killMaster();
      await sleep(downMs);
      await cluster.startMaster();
    }
  }

  private async kill(worker: Worker, downMs: number): Promise<void> {
    await worker.kill();
    await sleep(downMs);
    await worker.start();
    this.starts[worker.number]++;
  }
}

/** Sleeps, but not on when it is over. */
export async function sleepUnless(over: () => boolean, ms: number): Promise<void> {
  for (const untilMs = performance.now() + ms; !over() && performance.now() < untilMs; )
    await sleep(Math.min(200, Math.max(1, untilMs - performance.now())));
}
