/** Lists under chaos, the long form: three to five workers, moves, lost disks, runs without a master. RUNS and RUN_MS say how many and how long. */
import { test } from "node:test";
import { type ListChaosResult, listChaos } from "../cluster/list-chaos.ts";
import { DISK_FAULTS, FAULTS } from "../cluster/nemesis.ts";
import { type Cluster, startCluster } from "../cluster/workers.ts";
import { randomSeed } from "../random.ts";

const RUNS = Number(process.env.RUNS ?? 50);
const RUN_MS = Number(process.env.RUN_MS ?? 4000);
const RUNS_PER_CLUSTER = 10;
const SIZES = [3, 4, 5];
const TEST_MS_MAX = 3_000_000;

test(`cluster lists: keys that stay are in every list once: ${RUNS} runs under chaos`, {
  timeout: TEST_MS_MAX,
}, async (t) => {
  const first = randomSeed(t);
  const total: ListChaosResult = { lists: 0, pages: 0, refused: 0, faults: 0 };
  let cluster: Cluster | null = null;
  try {
    for (let run = 0; run < RUNS; run++) {
      if (run % RUNS_PER_CLUSTER === 0) {
        await cluster?.dispose();
        cluster = await startCluster({ workers: SIZES[(run / RUNS_PER_CLUSTER) % SIZES.length] });
      }
      const withoutMaster = run % 5 === 4;
      const result = await listChaos(cluster as Cluster, {
        seed: first + run,
        ms: RUN_MS,
        lanes: 1 + (run % 3),
        withoutMaster,
        faults: withoutMaster ? FAULTS : [...FAULTS, ...DISK_FAULTS],
        ...(run % 10 === 5 ? { move: "add" } : run % 10 === 8 ? { move: "drain" } : {}),
      });
      for (const name of ["lists", "pages", "refused", "faults"] as const) total[name] += result[name];
      console.log(`# run ${run + 1}, ${cluster?.workers.length} workers: ${JSON.stringify(result)}`);
    }
  } finally {
    await cluster?.dispose();
  }
  console.log(`# in all: ${JSON.stringify(total)}`);
});
