/**
 * One history of a whole cluster: clients work, faults happen; then the faults end, and everything has to be well again within a bound: what
 * clients were told is linearizable, every key can be read and written through every node, and all replicas hold the same.
 */
import { describe, isLinearizable } from "../linearizability.ts";
import { Clients } from "./clients.ts";
import { SimCluster, type SimWorker } from "./cluster.ts";
import { FAULTS, type Fault, Faults, GIVEN_UP, isWhole, MAJORITY_DEAD } from "./faults.ts";
import { Simulation } from "./simulation.ts";

const CLIENTS = 6;
const KEYS = Array.from({ length: 20 }, (_, index) => `key ${index}`);
/** Pauses of a client between two operations are that part of the time at most. */
const THINK_SHARE = 1 / 60;
/** A cluster without faults is there within this time. */
const BIRTH_MS_MAX = 60_000;
/** Everything is well again within this time after the last fault. */
const HEALED_MS_MAX = 240_000;
/** Far more than any history needs: beyond it something runs in circles. */
const EVENTS_MAX = 3_000_000;

export interface Outcome {
  seed: number;
  faults: Fault[];
  /** What is wrong, for people; null: nothing. */
  problem: string | null;
  operations: number;
  unknown: number;
  silent: number;
  refused: number;
  /** How long it took until all was well. */
  healedMs: number;
  /** Of the layout in the end. */
  partitions: number | undefined;
  events: number;
  digest: number;
}

/**
 * Runs the history of a seed.
 * @param always faults that it has at least
 * @param partitions that the cluster is born with
 */
export async function runHistory(
  seed: number,
  always: readonly Fault[] = [],
  partitions: number | null = null,
): Promise<Outcome> {
  const simulation = new Simulation(seed);
  const chance = () => simulation.chance();
  const latencyMs = 0.3 + chance() * chance() * 40;
  const isBad = chance() < 0.5;
  const cluster = new SimCluster(
    simulation,
    {
      ...{ latencyMs, jitterMs: chance() * latencyMs },
      loss: isBad ? chance() * 0.1 : 0,
      duplicate: isBad ? chance() * 0.2 : 0,
      slow: isBad ? chance() * 0.1 : 0,
      slowMs: [50, 500, 3000, 15_000][simulation.below(4)],
    },
    3,
    partitions,
  );
  cluster.install();
  try {
    return await new History(seed, cluster).run(always);
  } finally {
    simulation.uninstall();
  }
}

class History {
  private readonly seed: number;
  private readonly cluster: SimCluster;
  private readonly clients: Clients;

  constructor(seed: number, cluster: SimCluster) {
    this.seed = seed;
    this.cluster = cluster;
    this.clients = new Clients(cluster, KEYS);
  }

  async run(always: readonly Fault[]): Promise<Outcome> {
    const { cluster, clients, seed } = this;
    const { simulation } = cluster;
    const { weather } = cluster.network;
    cluster.network.heal();
    for (const name of "abc") cluster.addWorker(name);
    for (const worker of cluster.workers) cluster.start(worker);
    cluster.startMaster();
    const isBorn = await this.until(() => cluster.workers.every(({ isReady }) => isReady), BIRTH_MS_MAX);
    cluster.network.weather = weather;
    const drawn = FAULTS.filter((fault) => always.includes(fault) || simulation.chance() < 0.2);
    drawn.push(...[GIVEN_UP, MAJORITY_DEAD].filter((fault) => always.includes(fault)));
    clients.sendsAgain = !drawn.includes("clocks");
    const spanMs = 20_000 + simulation.chance() * 40_000;
    const faults = new Faults(cluster, spanMs);
    for (const fault of drawn)
      for (let times = 1 + simulation.below(2); times > 0; times--) faults.plan(fault);
    const endMs = simulation.now + spanMs;
    for (let client = 0; client < CLIENTS; client++)
      clients.begin(spanMs * THINK_SHARE, () => simulation.now >= endMs);
    await this.until(() => simulation.now >= endMs && clients.working === 0, 10 * spanMs);
    faults.end();
    const beganMs = simulation.now;
    const stuck = isBorn ? await this.heal() : "the cluster was never born";
    const isLost = drawn.includes(MAJORITY_DEAD);
    const needless =
      faults.hasRecovered && !isLost ? "an operator had to recover what no majority had lost" : null;
    return {
      ...{ seed, faults: drawn, problem: stuck ?? needless ?? this.judge(isLost) },
      ...{
        operations: clients.operations,
        unknown: clients.unknown,
        silent: clients.silent,
        refused: clients.refused,
      },
      ...{
        healedMs: Math.round(simulation.now - beganMs),
        partitions: this.members()[0]?.part?.membership?.layout?.partitions,
        events: simulation.events,
        digest: simulation.digest,
      },
    };
  }

  /** Waits until all is well. Answers what is not, or null. */
  private async heal(): Promise<string | null> {
    const { simulation } = this.cluster;
    const untilMs = simulation.now + HEALED_MS_MAX;
    if (!(await this.until(() => this.isSettled(), untilMs - simulation.now)))
      return `not settled: ${this.describeNodes()}`;
    const members = this.members();
    for (const [index, key] of KEYS.entries()) {
      // Read through each node, then written through one after the other.
      const writer = members[index % members.length];
      const steps = [...members.map((worker) => ["get", worker] as const), ["put", writer] as const];
      for (const [kind, worker] of steps)
        if (!(await this.operated(worker, key, kind, untilMs)))
          return `${kind} ${key} at ${worker.url} does not succeed: ${this.describeNodes()}`;
    }
    if (!(await this.until(() => this.hasConverged(), untilMs - simulation.now)))
      return `replicas differ: ${this.describeDifferences()} ${this.describeNodes()}`;
    return null;
  }

  /** Tries an operation until it succeeds. */
  private async operated(
    worker: SimWorker,
    key: string,
    kind: "get" | "put",
    untilMs: number,
  ): Promise<boolean> {
    const { simulation } = this.cluster;
    let isDone = false;
    const attempt = (): void => {
      this.clients.operate(worker, key, kind, (done) => {
        isDone = done;
        if (!done && simulation.now < untilMs) simulation.after(simulation.observer, 500, attempt);
      });
    };
    attempt();
    await this.until(() => isDone, untilMs - simulation.now);
    return isDone;
  }

  /** The workers of the newest layout that any of them knows. */
  private members(): SimWorker[] {
    const layouts = this.cluster.workers.map(({ part }) => part?.membership?.layout ?? null);
    const newest = layouts.reduce(
      (best, layout) => ((layout?.epoch ?? 0) > (best?.epoch ?? 0) ? layout : best),
      null,
    );
    const urls = new Set((newest?.nodes ?? []).map(({ url }) => url));
    return this.cluster.workers.filter(({ url }) => urls.has(url));
  }

  /** Everybody has the same layout, the master too, nothing moves, and all of its nodes vote. */
  private isSettled(): boolean {
    const members = this.members();
    const epochs = new Set(members.map(({ part }) => part?.membership?.layout?.epoch));
    const { steward } = this.cluster.keeper ?? {};
    if (members.length === 0 || epochs.size !== 1 || !members.every(isWhole)) return false;
    const isKept = steward?.queue.length === 0 && epochs.has(steward.layout?.epoch);
    return isKept && members.every(({ isReady }) => isReady);
  }

  /** All replicas of each key hold the same record. */
  private hasConverged(): boolean {
    const members = this.members();
    const { placement } = members[0]?.part?.membership ?? {};
    if (placement == null || !this.isSettled()) return false;
    return placement.groups.every(({ prefix, nodes }) => {
      const replicas = members.filter(({ url }) => nodes.includes(url));
      const digests = new Set(replicas.map(({ vault }) => vault?.replica.digests(prefix).join()));
      return replicas.length === nodes.length && digests.size === 1;
    });
  }

  /** What was told that cannot be true; null: nothing. */
  private judge(mayLose: boolean): string | null {
    for (const key of KEYS) {
      if (mayLose) continue;
      const history = this.clients.judged(key);
      if (!isLinearizable(history)) return `${key} is not linearizable:\n${describe(history)}`;
    }
    return null;
  }

  /** Lets the simulation run until something is so; false: it is not, after so long. */
  private async until(isSo: () => boolean, ms: number): Promise<boolean> {
    const { simulation } = this.cluster;
    const untilMs = simulation.now + ms;
    let checkMs = 0;
    let is = false;
    await simulation.run(() => {
      if (simulation.events > EVENTS_MAX) throw new Error(`the history of seed ${this.seed} runs in circles`);
      if (simulation.now < checkMs) return false;
      checkMs = simulation.now + 20;
      is = isSo();
      return is || simulation.now >= untilMs;
    });
    return is;
  }

  /** Which keys are not the same everywhere, for people. */
  private describeDifferences(): string {
    const members = this.members();
    const { groups } = members[0]?.part?.membership?.placement ?? {};
    const lines = [];
    for (const { partition, nodes } of groups ?? []) {
      const replicas = members.filter(({ url }) => nodes.includes(url));
      const names = new Set(
        replicas.flatMap(({ vault }) => [...(vault?.state.byPartition.get(partition) ?? [])]),
      );
      for (const name of names) {
        const held = replicas.map(({ url, vault }) => {
          const { ballot, promised, tombstone } = vault?.state.keys.get(name) ?? {};
          const floor = vault?.state.floors.get(partition);
          return `${url} ${JSON.stringify({ ballot, promised, tombstone, floor })}`;
        });
        lines.push(`${name} at ${Math.round(this.cluster.simulation.now)}: ${held.join("; ")}`);
      }
    }
    return lines.join("\n");
  }

  /** For people. */
  private describeNodes(): string {
    const nodes = this.cluster.workers.map(({ url, process, part, isReady }) => {
      const { membership } = part ?? {};
      const layout = membership?.layout;
      const state = process === null ? "down" : isReady ? "ready" : "not ready";
      const facts = part?.facts();
      return `${url} ${state}, epoch ${layout?.epoch}${layout?.previous ? " (moving)" : ""}, voting ${membership?.voting}, ${facts?.reason} ${facts?.unable}`;
    });
    const said = this.cluster.said.slice(-60).map(({ atMs, who, text }) => `${atMs} ${who} ${text}`);
    return `${nodes.join("; ")}\n${said.join("\n")}`;
  }
}
