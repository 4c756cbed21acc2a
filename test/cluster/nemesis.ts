/**
 * What goes wrong in a cluster of real processes, drawn from a seed: each fault begins, lasts a while, and is undone.
 * Faults of several lanes overlap; one node is in the hands of one lane at a time, and rarely is a majority dead or paused.
 *
 * A disk is only lost while all nodes vote: a second one before the first is filled again would be a loss, not a fault to live through.
 */
import { rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../random.ts";
import { call } from "../rest/client.ts";
import type { Cluster, Worker } from "./workers.ts";

export const FAULTS = [
  "kill",
  "wipe",
  "pause",
  "cut",
  "one way",
  "partition",
  "delay",
  "stall",
  "reset",
] as const;
export type FaultName = (typeof FAULTS)[number];

const HOLD_MS_MIN = 60;
const HOLD_MS_MAX = 900;
const GAP_MS_MAX = 200;
const VOTING_MS_MAX = 500;
/** In one of so many cases a majority is taken after all. */
const MAJORITY_ONE_IN = 8;
const DELAY_MS_MAX = 80;

export class Nemesis {
  readonly count: Record<FaultName, number> = Object.fromEntries(FAULTS.map((name) => [name, 0])) as Record<
    FaultName,
    number
  >;
  private readonly cluster: Cluster;
  private readonly random: Random;
  private readonly held = new Set<Worker>();
  /** Those that were there at the start. */
  private readonly members: readonly Worker[];
  private readonly wipes: boolean;
  private wiping = false;

  constructor(cluster: Cluster, random: Random, wipes: boolean) {
    this.cluster = cluster;
    this.members = [...cluster.workers];
    this.wipes = wipes;
    this.random = random;
  }

  /** One fault after the other until then. */
  async run(untilMs: number): Promise<void> {
    while (performance.now() < untilMs) {
      const name = FAULTS[this.random.below(FAULTS.length)];
      const holdMs = HOLD_MS_MIN + this.random.below(HOLD_MS_MAX - HOLD_MS_MIN);
      const undo = await this.begin(name);
      if (undo !== null) {
        this.count[name]++;
        await sleep(Math.max(0, Math.min(holdMs, untilMs - performance.now())));
        await undo();
      }
      await sleep(this.random.below(GAP_MS_MAX));
    }
  }

  /** Begins a fault; answers what ends it, or null when nothing can be done now. */
  private async begin(name: FaultName): Promise<(() => Promise<void>) | null> {
    const { random, members: workers } = this;
    const index = random.below(workers.length);
    const node = workers[index];
    const other = workers[(index + 1 + random.below(workers.length - 1)) % workers.length];
    const link = node.linkFrom(other);
    if (name === "kill" || name === "pause" || name === "wipe") {
      const isMinority = 2 * (this.held.size + 1) < workers.length;
      if (this.held.has(node) || !(isMinority || random.below(MAJORITY_ONE_IN) === 0)) return null;
      this.held.add(node);
      if (name === "wipe" && !(await this.mayWipe())) {
        this.held.delete(node);
        return null;
      }
      if (name === "pause") node.signal("SIGSTOP");
      else await node.kill("SIGKILL");
      if (name === "wipe") rmSync(node.data, { recursive: true, force: true });
      return async () => {
        if (name === "pause") node.signal("SIGCONT");
        else await node.start();
        this.held.delete(node);
      };
    }
    if (name === "cut" || name === "one way") {
      const back = other.linkFrom(node);
      link.cut(name === "cut" ? "both" : random.below(2) === 0 ? "to" : "from");
      if (name === "cut") back.cut("both");
      return async () => {
        link.heal();
        back.heal();
      };
    }
    if (name === "partition") {
      const side = new Set(workers.filter(() => random.below(2) === 0));
      if (side.size === 0 || side.size === workers.length) side.clear();
      if (side.size === 0) side.add(node);
      const links = workers.flatMap((a) =>
        workers.filter((b) => side.has(a) !== side.has(b)).map((b) => a.linkFrom(b)),
      );
      for (const each of links) each.cut("both");
      return async () => {
        for (const each of links) each.heal();
      };
    }
    if (name === "delay") {
      link.delay(1 + random.below(DELAY_MS_MAX));
      return async () => link.delay(0);
    }
    if (name === "stall") {
      link.stall();
      return async () => link.heal();
    }
    link.reset();
    return async () => {};
  }

  /** Once a run, and only when every node says that it votes. */
  private async mayWipe(): Promise<boolean> {
    if (!this.wipes || this.wiping) return false;
    this.wiping = true;
    const answers = await Promise.all(
      this.members.map(async ({ port }) => {
        const signal = sleep(VOTING_MS_MAX).then(() => false);
        const vote = call(port, "GET", "/_stats").then(
          (reply) => reply.json().cluster?.voting === true,
          () => false,
        );
        return Promise.race([vote, signal]);
      }),
    );
    this.wiping = answers.every((votes) => votes);
    return this.wiping;
  }

  /** Ends everything that may still be wrong. */
  async heal(): Promise<void> {
    const { workers } = this.cluster;
    for (const worker of workers) {
      for (const other of workers) {
        if (other === worker) continue;
        worker.linkFrom(other).heal();
        worker.linkFrom(other).delay(0);
      }
      worker.signal("SIGCONT");
    }
    await Promise.all(workers.filter((worker) => !worker.isRunning).map((worker) => worker.start()));
  }
}
