/**
 * Writes that are sent again by their `Idempotency-Key`, with real processes, the long form of test/cluster/once.test.ts. RUNS says how much.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { DISK_FAULTS, FAULTS } from "../cluster/nemesis.ts";
import { onceRun } from "../cluster/once-chaos.ts";
import { type Cluster, startCluster } from "../cluster/workers.ts";
import { randomSeed } from "../random.ts";

const RUNS = Number(process.env.RUNS ?? 200);
const RUN_MS = 4000;
const RUNS_PER_CLUSTER = 20;
/** In one run of so many a disk may be lost as well. */
const DISKS_ONE_IN = 5;
const TEST_MS_MAX = 6_000_000;

test("idempotency keys: each write is done once, under chaos", { timeout: TEST_MS_MAX }, async (t) => {
  const first = randomSeed(t);
  const total = { writes: 0, again: 0, replayed: 0 };
  let cluster: Cluster | null = null;
  try {
    for (let run = 0; run < RUNS; run++) {
      if (run % RUNS_PER_CLUSTER === 0) {
        await cluster?.dispose();
        cluster = await startCluster({ workers: run % (2 * RUNS_PER_CLUSTER) === 0 ? 3 : 5 });
      }
      const faults = run % DISKS_ONE_IN === 0 ? [...FAULTS, ...DISK_FAULTS] : FAULTS;
      const options = { seed: first + run, ms: RUN_MS, faults };
      const result = await onceRun(cluster as Cluster, options);
      for (const name of Object.keys(total) as (keyof typeof total)[]) total[name] += result[name];
      console.log(
        `# run ${run + 1}: ${result.writes} writes, ${result.again} sent again, ${result.replayed} were known; ${result.faults}`,
      );
      assert.deepEqual(result.wrong, []);
    }
  } finally {
    await cluster?.dispose();
  }
  t.diagnostic(`${total.writes} writes, ${total.again} sent again, ${total.replayed} were known`);
  assert.ok(total.replayed > 0);
});
