/**
 * One replica has promised far more than the others would ever draw: its clock, or that of whoever asked it, was ahead for a while. What the
 * others hold must reach it all the same.
 */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { NO_TRAILER } from "../../src/format/fields/trailer.ts";
import type { Ballot } from "../../src/format/record.ts";
import { compareBallots, compareOptionalBallots } from "../../src/format/version.ts";
import { NO_LIFE } from "../../src/rules/expiry.ts";
import { hashKey, loadHash } from "../../src/util/hash.ts";
import { randomSeed } from "../random.ts";
import { SimCluster, type SimWorker } from "./node/cluster.ts";
import { isWhole } from "./node/faults.ts";
import { BIRTH_MS, Simulation } from "./node/simulation.ts";

const KEY = "key";
const NONE = Buffer.alloc(0);
const AHEAD_MS = 3600 * 1000;
const KNOWN_MS = 2000;
const COLLECTED_MS = 10_000;
const LONGEST_MS = 180_000;

class Scenario {
  readonly simulation: Simulation;
  readonly cluster: SimCluster;

  constructor(seed: number) {
    this.simulation = new Simulation(seed);
    const weather = { latencyMs: 1, jitterMs: 1, loss: 0, duplicate: 0, slow: 0, slowMs: 0 };
    this.cluster = new SimCluster(this.simulation, weather, 3);
    this.cluster.install();
  }

  /** Starts a master and workers, and waits until all vote. */
  async born(names: string): Promise<SimWorker[]> {
    const { cluster } = this;
    const workers = [...names].map((name) => cluster.addWorker(name));
    for (const worker of workers) cluster.start(worker);
    cluster.startMaster();
    await this.until("the cluster is born", () => workers.every(({ isReady }) => isReady));
    return workers;
  }

  async until(what: string, isSo: () => boolean): Promise<void> {
    const endMs = this.simulation.now + LONGEST_MS;
    await this.simulation.run(() => isSo() || this.simulation.now > endMs);
    assert.ok(isSo(), `${what}\n${this.cluster.said.map(({ text }) => text).join("\n")}`);
  }

  /** Writes or deletes a key through a worker. */
  async write(worker: SimWorker, verb: "put" | "delete", { ttlMs = 0, key = KEY } = {}): Promise<void> {
    const { process, part } = worker;
    const bytes = Buffer.from(key);
    let isDone = false;
    assert.ok(process);
    this.simulation.after(process, 0, () =>
      part?.node?.submit(
        {
          ...{ verb, key: { bytes, length: bytes.length }, json: false, contentType: "text/plain" },
          ...{ trailer: NO_TRAILER, life: { ...NO_LIFE, ttlMs }, ifMatch: "", ifNoneMatch: "" },
        },
        Buffer.from(verb === "put" ? "value" : ""),
        ({ error }) => {
          assert.equal(error, null);
          isDone = true;
        },
      ),
    );
    await this.until(`a ${verb} is done`, () => isDone);
  }

  put(worker: SimWorker): Promise<void> {
    return this.write(worker, "put");
  }

  async pass(ms: number): Promise<void> {
    const { simulation } = this;
    const endMs = simulation.now + ms;
    await this.until("some time has passed", () => simulation.now > endMs);
  }

  /** Waits until workers hold the same of the key. */
  async same(workers: readonly SimWorker[]): Promise<void> {
    await this.until("all hold the same", () => {
      const [first, ...others] = workers.map(({ vault }) => vault?.state.keys.get(KEY)?.ballot ?? null);
      return others.every((ballot) => compareOptionalBallots(ballot, first) === 0);
    });
  }

  /** Puts another disk into a worker, which has to synchronise then, and waits until it votes. */
  async reborn(worker: SimWorker, between: () => void): Promise<void> {
    const { cluster } = this;
    // Until the others know how far its log was.
    await this.pass(KNOWN_MS);
    cluster.crash(worker);
    between();
    const before = cluster.said.length;
    cluster.start(worker);
    await this.until("it votes again", () => worker.isReady && isWhole(worker));
    assert.ok(cluster.said.slice(before).some(({ text }) => text.includes("synchronised")));
  }

  /** A worker promises a ballot that only a clock far ahead gives. */
  async promiseAhead({ process, vault }: SimWorker): Promise<Ballot> {
    const millis = BIRTH_MS + this.simulation.now + AHEAD_MS;
    const clockHigh = Math.floor(millis / 0x10000);
    const ballot = { clockHigh, clockLow: (millis % 0x10000) * 0x10000, node: 7, incarnation: 1 };
    const bytes = Buffer.from(KEY);
    let verdict: string | undefined;
    assert.ok(process);
    this.simulation.after(process, 0, () =>
      vault?.prepare({ bytes, length: bytes.length }, ballot, ({ register }) => {
        verdict = register?.verdict;
      }),
    );
    await this.until("the promise is given", () => verdict === "yes");
    return ballot;
  }

  /** Waits until workers hold the same record, above a ballot. */
  async agreed(workers: readonly SimWorker[], above: Ballot): Promise<void> {
    await this.until("all hold the same record, above the promise", () => {
      const held = workers.map(({ vault }) => vault?.state.keys.get(KEY));
      const [first] = held;
      return held.every(
        (state) =>
          state?.ballot != null &&
          first?.ballot != null &&
          compareBallots(state.ballot, first.ballot) === 0 &&
          Buffer.compare(state.value?.bytes ?? NONE, first.value?.bytes ?? NONE) === 0 &&
          compareBallots(state.ballot, above) > 0,
      );
    });
  }
}

before(loadHash);

/** A test of three workers that are born and vote. */
function simulated(
  what: string,
  run: (scenario: Scenario, workers: SimWorker[], cluster: SimCluster) => Promise<void>,
): void {
  test(`simulated nodes: ${what}`, async (t) => {
    const scenario = new Scenario(randomSeed(t));
    try {
      await run(scenario, await scenario.born("abc"), scenario.cluster);
    } finally {
      scenario.simulation.uninstall();
    }
  });
}

for (const hasValue of [true, false])
  simulated(
    `a replica that has promised far more gets what the others hold${hasValue ? "" : " of a key that it has nothing of"}`,
    async (scenario, workers) => {
      if (hasValue) await scenario.put(workers[0]);
      const ballot = await scenario.promiseAhead(workers[1]);
      await scenario.put(workers[0]);
      await scenario.agreed(workers, ballot);
    },
  );

simulated("a new owner that has promised far more takes a partition over", async (scenario, [a], cluster) => {
  await scenario.put(a);
  const d = cluster.addWorker("d");
  cluster.start(d);
  // What it had promised before, it forgets.
  await scenario.until(
    "the new node takes partitions over",
    () => d.part?.membership?.layout?.previous != null,
  );
  const ballot = await scenario.promiseAhead(d);
  await scenario.until("the new node is taken in", () => isWhole(d) && d.isReady);
  const group = d.part?.membership?.placement?.groupOf(hashKey(Buffer.from(KEY), KEY.length, 0));
  const owners = cluster.workers.filter(({ url }) => group?.nodes.includes(url));
  assert.ok(owners.includes(d));
  await scenario.agreed(owners, ballot);
});

simulated(
  "a value that has ended is gone at a replica that has promised far more, too",
  async (scenario, workers) => {
    await scenario.write(workers[0], "put", { ttlMs: 3000 });
    await scenario.same(workers);
    await scenario.promiseAhead(workers[1]);
    await scenario.until("no replica has the value", () =>
      workers.every(({ vault }) => vault?.state.keys.get(KEY)?.value == null),
    );
    await scenario.same(workers);
  },
);

simulated(
  "a replica that has promised far more synchronises from the others",
  async (scenario, workers, cluster) => {
    const [a, b] = workers;
    await scenario.put(a);
    await scenario.same(workers);
    const ballot = await scenario.promiseAhead(b);
    const copy = cluster.copyOf(b);
    await scenario.put(a);
    // Of this one it is known to have it.
    await scenario.write(a, "put", { key: "another" });
    await scenario.reborn(b, () => cluster.putBack(b, copy));
    await scenario.agreed(workers, ballot);
  },
);

simulated(
  "what was deleted and collected stays so when an old disk comes back that has promised far more",
  async (scenario, workers, cluster) => {
    const [a, b] = workers;
    await scenario.put(a);
    await scenario.same(workers);
    await scenario.promiseAhead(b);
    const copy = cluster.copyOf(b);
    await scenario.reborn(b, () => cluster.wipe(b));
    await scenario.write(a, "delete");
    const isGone = () => workers.every(({ vault }) => vault?.state.keys.get(KEY)?.ballot == null);
    await scenario.until("its tombstone is collected", isGone);
    await scenario.reborn(b, () => cluster.putBack(b, copy));
    assert.ok(isGone(), "no replica has anything of it");
  },
);

simulated(
  "a deletion under a promise from far ahead does not raise the floor of all its partition",
  async (scenario, workers) => {
    const [a, b] = workers;
    await scenario.put(a);
    await scenario.write(a, "delete");
    await scenario.write(a, "delete", { key: "another" });
    await scenario.same(workers);
    const ballot = await scenario.promiseAhead(b);
    await scenario.until("the other tombstone is collected", () =>
      workers.every(({ vault }) => vault?.state.keys.get("another")?.ballot == null),
    );
    // All nodes look for tombstones more often than that.
    await scenario.pass(COLLECTED_MS);
    for (const { vault } of workers)
      for (const floor of vault?.state.floors.values() ?? []) assert.ok(compareBallots(floor, ballot) < 0);
    assert.equal(b.vault?.state.keys.get(KEY)?.tombstone, true);
  },
);
