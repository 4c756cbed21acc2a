/**
 * Chaos with real processes, the long form: many runs on clusters of three to five workers. RUNS and RUN_MS say how many and how long, FAULTS with which,
 * FRONTS how many front threads each worker has.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type ChaosTotal, chaosRun, emptyTotal, lineOf, summaryOf } from "../cluster/chaos.ts";
import { CLOCK_FAULTS, DISK_FAULTS, FAULTS, type FaultName } from "../cluster/nemesis.ts";
import { type Cluster, startCluster } from "../cluster/workers.ts";
import { randomSeed } from "../random.ts";

const RUNS = Number(process.env.RUNS ?? 200);
/** Of all faults only these, by commas. */
const ONLY = process.env.FAULTS?.split(",") as FaultName[] | undefined;
const RUN_MS = Number(process.env.RUN_MS ?? 3000);
const FRONTS = Number(process.env.FRONTS ?? 1);
const RUNS_PER_CLUSTER = 20;
const SIZES = [3, 4, 3, 5];
/** The master is dead in every so manieth run. */
const WITHOUT_MASTER = 5;
/** A worker joins in the run of this number of every ten, and is drained in a later one. */
const ADD_AT = 5;
const DRAIN_AT = 8;
const TEST_MS_MAX = 3 * 3_600_000;

test("chaos: 200 runs with real processes", { timeout: TEST_MS_MAX }, async (t) => {
  const first = randomSeed(t);
  const total: ChaosTotal = emptyTotal();
  let cluster: Cluster | null = null;
  const problems: string[] = [];
  try {
    for (let run = 0; run < RUNS; run++) {
      if (run % RUNS_PER_CLUSTER === 0) {
        await cluster?.dispose();
        cluster = await startCluster({
          workers: SIZES[(run / RUNS_PER_CLUSTER) % SIZES.length],
          clocks: true,
          fronts: FRONTS,
        });
      }
      const isWithoutMaster = run % WITHOUT_MASTER === WITHOUT_MASTER - 1;
      const result = await chaosRun(cluster as Cluster, {
        seed: first + run,
        ms: RUN_MS,
        lanes: 1 + (run % 3),
        withoutMaster: isWithoutMaster,
        // A worker without its disk asks the master for its place.
        faults:
          ONLY ??
          (isWithoutMaster ? [...FAULTS, ...CLOCK_FAULTS] : [...FAULTS, ...CLOCK_FAULTS, ...DISK_FAULTS]),
        ...(run % 10 === ADD_AT ? { move: "add" } : run % 10 === DRAIN_AT ? { move: "drain" } : {}),
      });
      console.log(`# run ${run + 1}, ${cluster?.workers.length} workers, ${lineOf(result)}`);
      total.add(result);
      for (const problem of [...result.unexpected, ...result.violations]) {
        console.log(problem);
        problems.push(problem);
      }
    }
  } finally {
    await cluster?.dispose();
  }
  console.log(`# ${summaryOf(total)}`);
  assert.equal(problems.length, 0, `${problems.length} problems:\n${problems.slice(0, 5).join("\n")}`);
});

test("chaos: the judge notices reads that ask one replica only", { timeout: TEST_MS_MAX }, async (t) => {
  const first = randomSeed(t);
  const cluster = await startCluster({ workers: 3 });
  let caught = 0;
  try {
    for (let run = 0; run < 20 && caught === 0; run++)
      caught += (await chaosRun(cluster, { seed: first + run, ms: RUN_MS, consistency: "one" }))
        .notLinearizable;
  } finally {
    await cluster.dispose();
  }
  assert.ok(caught > 0, "stale reads went unnoticed");
});
