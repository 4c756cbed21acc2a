/**
 * Which reports of replicas are told as decided. In the model replicas accept versions in rising order, each version at some of them; one is
 * decided when a majority holds it, or when it is the highest that a quorum read confirms. Reports come late, in the order of each replica's
 * log, and replicas skip what has been replaced meanwhile.
 */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { type Batch, type Change, Decisions, UNDECIDED_MS } from "../../src/cluster/feed/decisions.ts";
import type { ReplicaGroup } from "../../src/cluster/layout/groups.ts";
import { loadHash } from "../../src/util/hash.ts";
import { Random, randomSeed } from "../random.ts";

before(loadHash);

const NODES = ["a", "b", "c"];
const GROUP = { nodes: NODES, current: 0b111, previous: 0b111 } as unknown as ReplicaGroup;

function change(version: number): Change {
  const etag = version.toString(16).padStart(32, "0");
  return {
    event: version % 5 === 0 ? "delete" : "put",
    key: "k",
    etag,
    text: `{"key":"k","etag":"${etag}"}`,
  };
}

test("decisions: what was never decided is not told, what is told never goes back, and the last decided version is told", async (t) => {
  const random = new Random(randomSeed(t));
  for (let run = 0; run < 300; run++) {
    let nowMs = 0;
    /** Of each replica, what it holds and what it has not reported yet. */
    const logs = NODES.map(() => [] as number[]);
    const held = NODES.map(() => 0);
    const decided = new Set<number>([0]);
    const told: number[] = [];
    const settle = (version: number): void => {
      decided.add(version);
      for (let node = 0; node < 3; node++)
        if (held[node] < version && random.below(2) === 0) {
          held[node] = version;
          logs[node].push(version);
        }
    };
    const reads: (() => void)[] = [];
    const decisions = new Decisions({
      groupOf: () => GROUP,
      // A read sees two replicas; the highest that they hold is confirmed at both before it answers.
      read: () =>
        new Promise((resolve) => {
          reads.push(() => {
            const asked = [random.below(3)];
            asked.push((asked[0] + 1 + random.below(2)) % 3);
            const highest = Math.max(...asked.map((node) => held[node]));
            for (const node of asked)
              if (held[node] < highest) {
                held[node] = highest;
                logs[node].push(highest);
              }
            decided.add(highest);
            const found = change(highest);
            if (highest === 0) resolve({ event: "absent", etag: null });
            else resolve(found.event === "delete" ? { event: "absent", etag: found.etag } : found);
          });
        }),
      tell: ({ etag }) => told.push(Number.parseInt(etag, 16)),
      now: () => nowMs,
    });
    const batches: Batch[] = [];
    const report = (node: number): void => {
      const batch = { open: 0 };
      batches.push(batch);
      for (let count = 1 + random.below(3); count > 0 && logs[node].length > 0; count--) {
        const version = logs[node].shift() as number;
        // What does not count any more may be passed over.
        if (version === held[node] || random.below(2) === 0)
          decisions.report(NODES[node], true, change(version), batch);
      }
    };
    const step = async (): Promise<void> => {
      nowMs += random.below(UNDECIDED_MS);
      decisions.sweep();
      if (reads.length > 0 && random.below(2) === 0) reads.splice(random.below(reads.length), 1)[0]();
      await new Promise((resolve) => setImmediate(resolve));
    };
    for (let version = 1; version <= 12; version++) {
      // Its coordinator may die after one accept; the next one is above it all the same.
      const holders = NODES.map((_, node) => node).filter(() => random.below(3) > 0);
      for (const node of holders) {
        held[node] = version;
        logs[node].push(version);
      }
      if (holders.length >= 2) settle(version);
      for (let i = random.below(4); i > 0; i--) report(random.below(3));
      await step();
    }
    for (let i = 0; i < 200; i++) {
      for (let node = 0; node < 3; node++) report(node);
      await step();
    }
    for (const version of told) assert.ok(decided.has(version), `${version} was not decided`);
    assert.deepEqual(
      told,
      [...new Set(told)].sort((a, b) => a - b),
    );
    const last = Math.max(...held);
    const majority = held.filter((version) => version === last).length >= 2;
    if (last > 0 && majority) assert.equal(told.at(-1), last, `${held} ${told}`);
    assert.ok(batches.every(({ open }) => open === 0) || !majority, "reports stay open");
  }
});

test("decisions: a deletion of which a read finds nothing is told once all would have heard of it", async () => {
  let nowMs = 0;
  const told: string[] = [];
  const decisions = new Decisions({
    groupOf: () => GROUP,
    read: async () => ({ event: "absent", etag: null }),
    tell: ({ etag }) => told.push(etag),
    now: () => nowMs,
  });
  const batch = { open: 0 };
  decisions.report("a", true, change(5), batch);
  for (; nowMs < 30_000; nowMs += UNDECIDED_MS) {
    decisions.sweep();
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.deepEqual([told, batch.open], [[], 1]);
  nowMs += UNDECIDED_MS;
  decisions.sweep();
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([told, batch.open], [[change(5).etag], 0]);
});
