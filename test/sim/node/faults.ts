/**
 * What happens to a cluster in one history: each fault is an episode that begins at some time, goes on for a while and is over by itself.
 * What no system survives is not asked for: at most one replica at a time has lost its data, wholly or in part.
 */
import type { SimCluster, SimWorker } from "./cluster.ts";

export type Fault =
  | "crash"
  | "power"
  | "wipe"
  | "oldDisk"
  | "cut"
  | "pause"
  | "slowDisk"
  | "clocks"
  | "master"
  | "masterWiped"
  | "masterOld"
  | "settings"
  | "replace"
  | "returns"
  | "move"
  | "abandon"
  | "twin"
  | "dead"
  | "givenUp"
  | "majorityDead";

export const FAULTS: readonly Fault[] = [
  "crash",
  "power",
  "wipe",
  "oldDisk",
  "cut",
  "pause",
  "slowDisk",
  "clocks",
  "master",
  "masterWiped",
  "masterOld",
  "settings",
  "replace",
  "returns",
  "move",
  "abandon",
  "twin",
  "dead",
];
/** These a history has only where they are asked for. After the second what was acknowledged may be lost. */
export const GIVEN_UP: Fault = "givenUp";
export const MAJORITY_DEAD: Fault = "majorityDead";

/** How often an operator looks after the cluster in the end, and how long a move may take. */
const OPERATOR_MS = 3000;
const MOVE_MS_MAX = 60_000;
/** So long he waits for a majority, before he goes on with what is left. */
const STUCK_MS_MAX = 90_000;

const CLOCK_STEPS_MS = [1500, 20_000, 70_000, 3_600_000, 8 * 3_600_000];

/** The faults of one history. */
export class Faults {
  private readonly cluster: SimCluster;
  private readonly spanMs: number;
  /** Whose data is not whole just now, as far as this has seen to it. */
  private damaged: SimWorker | null = null;
  over = false;
  /** The operator saw no way out but `recover`, though nobody was dead. */
  hasRecovered = false;
  /** The move that the operator has seen, and since when. */
  private moving: { epoch: number; sinceMs: number } | null = null;
  /** Since when no majority is left, as the operator sees it. */
  private stuckSinceMs: number | null = null;

  constructor(cluster: SimCluster, spanMs: number) {
    this.cluster = cluster;
    this.spanMs = spanMs;
  }

  /** Plans an episode. */
  plan(fault: Fault): void {
    this.later(this.within(0, this.spanMs * 0.8), () => this.begin(fault));
  }

  /** Everything that stands still goes on, and an operator does what is left to do. */
  end(): void {
    this.over = true;
    const { cluster } = this;
    cluster.network.heal();
    for (const zombie of cluster.zombies) cluster.crash(zombie);
    for (const worker of cluster.workers) {
      worker.disk.syncMs = 2;
      cluster.start(worker);
    }
    cluster.startMaster();
    this.operate();
  }

  /**
   * What the docs tell an operator to do: recover where no majority is left, or none that can synchronise; remove what is dead; give a move
   * up that does not end.
   */
  private operate(): void {
    const { cluster } = this;
    const { simulation } = cluster;
    const dead = cluster.workers.filter(({ isGone }) => isGone).map(({ url }) => url);
    cluster.order(({ steward }) => {
      const nowMs = performance.now();
      const epoch = steward.layout?.epoch ?? 0;
      const { missing, stuck } = steward.absence(nowMs);
      if (steward.layout?.previous == null || this.moving?.epoch !== epoch)
        this.moving = { epoch, sinceMs: nowMs };
      if (stuck === 0) this.stuckSinceMs = null;
      else this.stuckSinceMs ??= nowMs;
      const isStuck = this.stuckSinceMs !== null && nowMs - this.stuckSinceMs > STUCK_MS_MAX;
      if (isStuck && missing.every((url) => dead.includes(url))) {
        steward.orders.recover(nowMs, epoch, missing);
        // Of two, one that is dead, or has an old disk, is a majority.
        this.hasRecovered ||= missing.length === 0 && (steward.layout?.nodes.length ?? 0) > 2;
      } else if (nowMs - this.moving.sinceMs > MOVE_MS_MAX) steward.orders.abandon(nowMs, epoch);
      else for (const url of dead) if (steward.isMember(url)) steward.orders.remove(nowMs, url);
    });
    simulation.after(simulation.observer, OPERATOR_MS, () => this.operate());
  }

  private begin(fault: Fault): void {
    const { cluster } = this;
    const running = cluster.workers.filter(({ process }) => process !== null);
    if (running.length === 0) return;
    const worker = running[cluster.simulation.below(running.length)];
    switch (fault) {
      case "crash":
      case "power":
        this.crash(worker, fault === "power", () => {});
        break;
      case "wipe":
        this.damage(worker, () => cluster.wipe(worker));
        break;
      case "oldDisk": {
        // Sometimes one from before the worker was a member of anything.
        const copy = (cluster.simulation.chance() < 0.4 && worker.fresh) || cluster.copyOf(worker);
        this.later(this.within(1000, this.spanMs / 3), () => {
          if (cluster.workers.includes(worker)) this.damage(worker, () => cluster.putBack(worker, copy));
        });
        break;
      }
      case "cut":
        this.cut(worker);
        break;
      case "pause":
        this.pause(worker, this.within(100, 9000));
        break;
      case "slowDisk":
        worker.disk.syncMs = this.within(100, 4000);
        this.later(this.within(1000, 15_000), () => {
          worker.disk.syncMs = 2;
        });
        break;
      case "clocks":
        this.step(worker);
        break;
      case "master":
      case "masterWiped":
        cluster.crashMaster(fault === "masterWiped");
        this.later(this.within(100, 20_000), () => cluster.startMaster());
        break;
      case "masterOld":
        this.putMasterBack();
        break;
      case "settings":
        this.change(worker);
        break;
      case "replace":
        this.replace(worker);
        break;
      case "returns":
        this.die(1, this.within(15_000, 25_000));
        break;
      case "twin":
        this.twin(worker);
        break;
      case "dead":
        this.die(1);
        break;
      case "majorityDead":
        this.die(2);
        break;
      case "move":
        this.move();
        break;
      case "givenUp":
        this.giveUp();
        break;
      case "abandon":
        this.move();
        this.later(this.within(2000, 12_000), () =>
          cluster.order(({ steward }) =>
            steward.orders.abandon(performance.now(), steward.layout?.epoch ?? 0),
          ),
        );
    }
  }

  private crash(worker: SimWorker, isPowerLoss: boolean, between: () => void): void {
    this.cluster.crash(worker, isPowerLoss);
    between();
    this.later(this.within(100, 15_000), () => this.cluster.start(worker));
  }

  /**
   * What a replica has is lost, in part or wholly, unless another's is. Often when it matters most: one of the others has just missed what
   * was written, and the rest stands still, so that these two would be a majority.
   */
  private damage(worker: SimWorker, harm: () => void): void {
    if (this.damaged !== null || !isWhole(worker)) return;
    const { cluster } = this;
    const { simulation } = cluster;
    this.damaged = worker;
    const others = cluster.workers.filter((other) => other !== worker && isWhole(other));
    const behind = others[simulation.below(Math.max(1, others.length))];
    const missingMs = behind === undefined || simulation.chance() < 0.3 ? 0 : this.within(500, 4000);
    if (missingMs > 0) this.isolate(behind, missingMs);
    this.later(missingMs, () => {
      for (const other of others)
        if (missingMs > 0 && other !== behind) this.pause(other, this.within(1000, 6000));
      cluster.crash(worker);
      harm();
      this.later(this.within(50, missingMs > 0 ? 600 : 15_000), () => cluster.start(worker));
      this.watch(worker);
    });
  }

  /** Nothing passes to a worker, or from it. */
  private isolate(worker: SimWorker, ms: number): void {
    const { network } = this.cluster;
    for (const url of this.othersOf(worker)) {
      network.cut(url, worker.url, ms);
      network.cut(worker.url, url, ms);
    }
  }

  private othersOf(worker: SimWorker): string[] {
    const { workers, masterUrl } = this.cluster;
    return [...workers.filter((other) => other !== worker).map(({ url }) => url), masterUrl];
  }

  private watch(worker: SimWorker): void {
    this.later(500, () => {
      // A start that proves itself in vain is whole for a moment only by its own word.
      if (isWhole(worker)) this.damaged = null;
      else this.watch(worker);
    });
  }

  private twin(worker: SimWorker): void {
    const { cluster } = this;
    // A copy of a copy that is not whole is none that anybody knows of.
    if (this.damaged !== null || !isWhole(worker)) return;
    const standsStillMs = this.within(100, 8000);
    const twin = cluster.takePlace(worker, standsStillMs);
    this.damaged = twin;
    cluster.start(twin);
    this.watch(twin);
    this.later(standsStillMs + this.within(5000, 20_000), () => cluster.crash(worker));
    // When the first one goes on, one of the others does not see what it does; then that one, and not the other, is there.
    const [one, other] = cluster.workers.filter((each) => each !== twin && isWhole(each));
    const halfMs = this.within(500, 3000);
    this.later(standsStillMs, () => this.pause(one, halfMs));
    this.later(standsStillMs + halfMs, () => this.pause(other, this.within(1000, 5000)));
  }

  private pause(worker: SimWorker | undefined, ms: number): void {
    const process = worker?.process;
    if (process != null) process.pausedUntilMs = this.cluster.simulation.now + ms;
  }

  /** The master's disk is put back from a copy: what it has decided since is known to the workers alone. */
  private putMasterBack(): void {
    const { cluster } = this;
    this.move();
    // What waits then was done long before it comes back.
    this.later(this.within(0, 8000), () => {
      const copy = cluster.copyOfMaster();
      this.later(this.within(1000, 20_000), () => {
        cluster.crashMaster();
        cluster.putMasterBack(copy);
        this.later(this.within(100, 6000), () => cluster.startMaster());
      });
    });
  }

  /** A worker comes back with another region, and the master with another number of copies; right again some time later. */
  private change(worker: SimWorker): void {
    const { cluster } = this;
    const { simulation } = cluster;
    this.join();
    if (simulation.chance() < 0.5) this.join();
    const set = (region: string, replicas: number): void => {
      worker.region = region;
      cluster.replicas = replicas;
      if (worker.process !== null && cluster.workers.includes(worker)) this.crash(worker, false, () => {});
      cluster.crashMaster();
      this.later(this.within(100, 3000), () => cluster.startMaster());
    };
    // Of fewer copies than three one that is lost would be one too many.
    set(simulation.chance() < 0.5 ? "there" : "here", 3 + simulation.below(3));
    if (simulation.chance() < 0.5)
      this.later(this.within(5000, 20_000), () => set("here", 3 + simulation.below(2)));
  }

  /** One worker for another in one move; or, where that one has joined by itself, the first one leaves. */
  private replace(worker: SimWorker): void {
    const { cluster } = this;
    const by = this.join();
    if (by === null) return;
    this.later(this.within(1000, 4000), () =>
      cluster.order(({ steward }) => steward.orders.replace(performance.now(), worker.url, by.url)),
    );
  }

  /**
   * One of five is replaced by a worker that cannot read from the others, so that the move is given up when all others have long finished it:
   * each of them was to gain some partitions by it, and to lose some.
   */
  private giveUp(): void {
    const { cluster } = this;
    const { simulation, network } = cluster;
    while (cluster.workers.length < 4) this.join();
    this.later(this.within(7000, 10_000), () => {
      const by = this.join();
      if (by === null) return;
      const { url } = cluster.workers[simulation.below(3)];
      let epoch = 0;
      // As soon as it can be reached, before it joins by itself.
      const replace = (): void => {
        if (epoch > 0) return;
        cluster.order(({ steward }) => {
          if (steward.layout?.previous != null) return;
          steward.orders.replace(performance.now(), url, by.url);
          epoch = steward.layout?.epoch ?? 0;
          for (const other of this.othersOf(by)) network.cut(by.url, other, 60_000);
        });
        this.later(100, replace);
      };
      replace();
      this.later(this.within(8000, 12_000), () =>
        cluster.order(({ steward }) => {
          if (steward.layout?.epoch === epoch) steward.orders.abandon(performance.now(), epoch);
        }),
      );
    });
  }

  /**
   * Workers that never come back, and others in their place. Only one history in all has room for that.
   * @param returnMs after so long they are started again all the same, as they were: removed meanwhile, or not
   */
  private die(count: number, returnMs = 0): void {
    const { cluster } = this;
    if (this.damaged !== null || cluster.workers.some(({ isGone }) => isGone)) return;
    const dying = cluster.workers.filter(isWhole).slice(0, count);
    if (dying.length < count) return;
    // From now on no other may lose anything.
    this.damaged = dying[0];
    for (const worker of dying) {
      cluster.crash(worker);
      worker.isGone = true;
    }
    for (let joining = 0; joining < count; joining++) this.join();
    if (returnMs === 0) return;
    const remove = (): void => {
      for (const { url } of dying)
        cluster.order(({ steward }) => steward.orders.remove(performance.now(), url));
    };
    if (cluster.simulation.chance() < 0.7) this.later(returnMs / 2, remove);
    this.later(returnMs, () => {
      for (const worker of dying) {
        worker.isGone = false;
        cluster.start(worker);
        this.watch(worker);
      }
    });
  }

  private join(): SimWorker | null {
    const { cluster } = this;
    if (cluster.workers.length >= 6) return null;
    const worker = cluster.addWorker("abcdef"[cluster.workers.length]);
    cluster.start(worker);
    return worker;
  }

  private cut(worker: SimWorker): void {
    const { cluster } = this;
    const { network, simulation } = cluster;
    const others = this.othersOf(worker);
    const ms = this.within(500, 20_000);
    const [isIn, isOut] = [simulation.chance() < 0.75, simulation.chance() < 0.75];
    for (const other of others) {
      if (simulation.chance() < 0.3) continue;
      if (isIn) network.cut(other, worker.url, ms);
      if (isOut || !isIn) network.cut(worker.url, other, ms);
    }
  }

  /** The clock of one machine, or of all, is put forward or back; sometimes right again later. */
  private step(worker: SimWorker): void {
    const { cluster } = this;
    const { simulation } = cluster;
    const stepMs =
      CLOCK_STEPS_MS[simulation.below(CLOCK_STEPS_MS.length)] * (simulation.chance() < 0.5 ? -1 : 1);
    const stepped = simulation.chance() < 0.25 ? [...cluster.workers] : [worker];
    for (const each of stepped) each.clockOffsetMs += stepMs;
    if (simulation.chance() < 0.5)
      this.later(this.within(1000, 20_000), () => {
        for (const each of stepped) each.clockOffsetMs -= stepMs;
      });
  }

  /** A new worker joins, and one of the others leaves. */
  private move(): void {
    const { cluster } = this;
    const { simulation } = cluster;
    this.join();
    if (simulation.chance() < 0.7)
      this.later(this.within(3000, 15_000), () => {
        const { url } = cluster.workers[simulation.below(3)];
        cluster.order(({ steward }) => steward.orders.drain(performance.now(), url));
      });
  }

  private within(leastMs: number, mostMs: number): number {
    return leastMs + this.cluster.simulation.chance() * Math.max(0, mostMs - leastMs);
  }

  private later(ms: number, run: () => void): void {
    const { simulation } = this.cluster;
    simulation.after(simulation.observer, ms, () => {
      if (!this.over) run();
    });
  }
}

/** Whether a replica votes, and no move is under way here that it would still have to take part in. */
export function isWhole(worker: SimWorker): boolean {
  const membership = worker.part?.membership;
  return (
    worker.process?.alive === true && membership?.voting === true && membership.layout?.previous === null
  );
}
