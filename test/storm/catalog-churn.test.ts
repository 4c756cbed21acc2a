/** Lists beside churn, the long form. RUNS says how many histories. */
import { test } from "node:test";
import { churnRun } from "../engine/catalog-churn.ts";
import { MEMORY_FOLDER, temporaryDirectory } from "../engine/harness.ts";
import { Random, randomSeed } from "../random.ts";

const RUNS = Number(process.env.RUNS ?? 1000);

test(`catalog: keys that stay come exactly once in every list: ${RUNS} histories`, async (t) => {
  const first = randomSeed(t);
  for (let run = 0; run < RUNS; run++) {
    const directory = temporaryDirectory(MEMORY_FOLDER);
    try {
      await churnRun(directory.path, new Random(first + run));
    } catch (error) {
      throw new Error(`run ${run}, SEED=${first + run}`, { cause: error });
    } finally {
      directory.remove();
    }
    if (run % 100 === 99) console.log(`# ${run + 1} histories`);
  }
});
