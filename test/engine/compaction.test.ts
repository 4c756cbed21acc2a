/** The disk that a store takes while its values are overwritten: the short form of test/storm/compaction.test.ts, and writes in large batches. */
import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { Random, randomSeed } from "../random.ts";
import { overwrite } from "../rest/overwrite.ts";
import { Harness, temporaryDirectory } from "./harness.ts";

const MIB = 1024 * 1024;

test("compaction: 20,000 keys overwritten 5 times take twice the live bytes and 4 slabs at most, at every moment", async (t) => {
  const directory = temporaryDirectory();
  try {
    await overwrite(t, path.join(directory.path, "data"), {
      keys: 20_000,
      valueBytes: 100,
      times: 5,
      slabBytes: MIB,
      spaceFactor: 2,
      slackSlabs: 4,
    });
  } finally {
    directory.remove();
  }
});

test("compaction: its pace follows the bytes written, however large a batch is", async (t) => {
  const random = new Random(randomSeed(t));
  const directory = temporaryDirectory();
  try {
    const slabBytes = MIB;
    const vault = await Harness.open(directory.path, { sync: "os", slabBytes, chunkBytes: 16 * 1024 });
    const value = Buffer.alloc(8000, "v");
    for (let batch = 0; batch < 250; batch++) {
      for (let i = 0; i < 32; i++) {
        const number = batch < 16 ? batch * 32 + i : random.below(512);
        assert.equal(vault.stage(`k${number}`, value).error, null);
      }
      vault.shard.commit();
      // One small step for a whole batch.
      vault.shard.idle(1024);
      vault.reader.maps.release();
      await new Promise((resolve) => setImmediate(resolve));
      const used = vault.figure("slabs") * slabBytes;
      assert.ok(used <= 2 * vault.figure("liveBytes") + 4 * slabBytes, `batch ${batch}: ${used} bytes`);
    }
    assert.ok(vault.figure("compactedBytes") > 0);
    await vault.shard.close();
  } finally {
    directory.remove();
  }
});
