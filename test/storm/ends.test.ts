/**
 * Ends of life with real processes, the long form of test/cluster/ends.test.ts: clocks that are set again and again, and a nemesis at work.
 * RUNS and TAKEOVERS say how much; several locks are contended for at once, since a takeover is mostly a wait.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { goneStaysGone, lockHolders } from "../cluster/ends.ts";
import { Nemesis } from "../cluster/nemesis.ts";
import { type Cluster, startCluster } from "../cluster/workers.ts";
import { Random, randomSeed } from "../random.ts";

const RUNS = Number(process.env.RUNS ?? 100);
const TAKEOVERS = Number(process.env.TAKEOVERS ?? 10_000);
const KEYS_PER_RUN = 40;
const RUNS_PER_CLUSTER = 20;
const LOCKS = 8;
const TAKEOVERS_PER_LOCK = 60;
const TEST_MS_MAX = 3_000_000;

/** Does some work while things go wrong, and then waits until the cluster is whole. */
async function besideNemesis<Result>(
  cluster: Cluster,
  random: Random,
  work: () => Promise<Result>,
): Promise<Result> {
  const nemesis = new Nemesis(cluster, random);
  let working = true;
  const lane = async (): Promise<void> => {
    while (working) await nemesis.run(performance.now() + 500);
  };
  const lanes = [lane(), lane()];
  try {
    return await work();
  } finally {
    working = false;
    await Promise.all(lanes);
    await nemesis.heal();
    await cluster.ready();
  }
}

test("ends: what was told gone is never read again, under chaos", { timeout: TEST_MS_MAX }, async (t) => {
  const random = new Random(randomSeed(t));
  const total = { keys: 0, reads: 0, gone: 0 };
  let cluster: Cluster | null = null;
  try {
    for (let run = 0; run < RUNS; run++) {
      if (run % RUNS_PER_CLUSTER === 0) {
        await cluster?.dispose();
        cluster = await startCluster({ workers: 3, clocks: true });
      }
      const own = cluster as Cluster;
      const result = await besideNemesis(own, random, () => goneStaysGone(own, random, KEYS_PER_RUN));
      for (const name of Object.keys(total) as (keyof typeof total)[]) total[name] += result[name];
      console.log(
        `# run ${run + 1}: ${result.keys} keys, ${result.reads} reads, ${result.back.length} came back`,
      );
      assert.deepEqual(result.back, []);
      assert.equal(result.gone, result.keys);
    }
  } finally {
    await cluster?.dispose();
  }
  console.log(`# ${total.keys} keys, ${total.reads} reads, ${total.gone} told as gone by all`);
});

test("ends: a lock has one holder at a time, under chaos", { timeout: TEST_MS_MAX }, async (t) => {
  const random = new Random(randomSeed(t));
  const cluster = await startCluster({ workers: 3, clocks: true });
  let takeovers = 0;
  try {
    while (takeovers < TAKEOVERS) {
      const work = () =>
        Promise.all(Array.from({ length: LOCKS }, () => lockHolders(cluster, random, TAKEOVERS_PER_LOCK)));
      const results = await besideNemesis(cluster, random, work);
      const sumOf = (name: "abandoned" | "late"): number =>
        results.reduce((sum, result) => sum + result[name], 0);
      takeovers += results.reduce((sum, result) => sum + result.takeovers, 0);
      console.log(
        `# ${takeovers} takeovers, ${sumOf("abandoned")} of the last were left to their end; ${sumOf("late")} told too late`,
      );
      for (const { together, falling } of results) assert.deepEqual([together, falling], [[], []]);
    }
  } finally {
    await cluster.dispose();
  }
});
