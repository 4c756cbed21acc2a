import assert from "node:assert/strict";
import { test } from "node:test";
import { Random, randomSeed } from "../random.ts";
import { MEMORY_FOLDER, temporaryDirectory } from "./harness.ts";
import { OnceModel } from "./once-model.ts";

for (const sync of ["always", "os"] as const)
  test(`idempotency keys, model: writes sent again, over kills, compaction, ends and time, -sync ${sync}`, async (t) => {
    const random = new Random(randomSeed(t));
    for (let run = 0; run < 2; run++) {
      const directory = temporaryDirectory(MEMORY_FOLDER);
      try {
        const model = new OnceModel(directory.path, random, {
          sync,
          snapshotEntriesMin: run % 2 === 0 ? 1 : 1e9,
        });
        await model.run(900);
        t.diagnostic(`${model.replayed} were known, ${model.reused} had another's key`);
        assert.ok(model.replayed > 0);
      } finally {
        directory.remove();
      }
    }
  });
