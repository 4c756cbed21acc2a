/** Values that end, the long forms. */
import { test } from "node:test";
import { EndsModel } from "../engine/ends-model.ts";
import { MEMORY_FOLDER, temporaryDirectory } from "../engine/harness.ts";
import { Random, randomSeed } from "../random.ts";
import { endsStorm } from "../rest/ends-storm.ts";

test("ends: 1,000,000 values that end within a minute, beside 64 clients", (t) =>
  endsStorm(t, { values: 1_000_000, spreadSeconds: 60, clients: 64, slowdownMax: 2, backSecondsMax: 120 }));

for (const sync of ["always", "os"] as const)
  test(`ends, model: 100 runs of writes, reads, clocks and kills, -sync ${sync}`, async (t) => {
    const random = new Random(randomSeed(t));
    for (let run = 0; run < 100; run++) {
      const directory = temporaryDirectory(MEMORY_FOLDER);
      try {
        const snapshotEntriesMin = run % 2 === 0 ? 1 : 1e9;
        await new EndsModel(directory.path, random, { sync, snapshotEntriesMin }).run(2000);
      } finally {
        directory.remove();
      }
    }
  });
