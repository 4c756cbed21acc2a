import { test } from "node:test";
import { Random, randomSeed } from "../random.ts";
import { EndsModel } from "./ends-model.ts";
import { MEMORY_FOLDER, temporaryDirectory } from "./harness.ts";

for (const sync of ["always", "os"] as const)
  test(`ends, model: writes, reads, clocks and kills, -sync ${sync}`, async (t) => {
    const random = new Random(randomSeed(t));
    for (let run = 0; run < 2; run++) {
      const directory = temporaryDirectory(MEMORY_FOLDER);
      try {
        await new EndsModel(directory.path, random, {
          sync,
          snapshotEntriesMin: run % 2 === 0 ? 1 : 1e9,
        }).run(900);
      } finally {
        directory.remove();
      }
    }
  });
