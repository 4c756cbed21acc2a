/** Five hundred runs of test/shards/feed/follow.test.ts: RUNS and SEED change that. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Random, randomSeed } from "../random.ts";
import { follow } from "../shards/feed/follow-model.ts";

const RUNS = Number(process.env.RUNS ?? 500);

test(`feed: ${RUNS} runs of clients that keep a copy by it, over compaction, restarts and kills`, async (t) => {
  const seed = randomSeed(t);
  const total = { resets: 0, restarts: 0, compacted: 0 };
  for (let run = 0; run < RUNS; run++) {
    const { resets, restarts, compacted } = await follow(new Random(seed + run), 120).catch((error: Error) =>
      assert.fail(`run ${run} (SEED=${seed + run} RUNS=1): ${error.stack}`),
    );
    console.log(
      `# run ${run + 1}, SEED=${seed + run}: ${resets} resets, ${restarts} restarts, ${compacted} compacted`,
    );
    total.resets += resets;
    total.restarts += restarts;
    total.compacted += compacted;
  }
  t.diagnostic(JSON.stringify(total));
  if (RUNS >= 100) assert.ok(total.resets > 0 && total.restarts > 0 && total.compacted > 0);
});
