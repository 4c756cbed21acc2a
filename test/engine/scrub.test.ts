/**
 * The background scrub: it finds bytes that change under a running store, says where, and readers then notice what they had checked before.
 */
import assert from "node:assert/strict";
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { UNIT_BYTES } from "../../src/format/offsets.ts";
import { Harness, SMALL_SLAB_BYTES, temporaryDirectory } from "./harness.ts";

function flip(file: string, at: number): void {
  const fd = openSync(file, "r+");
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, at);
  byte[0] ^= 4;
  writeSync(fd, byte, 0, 1, at);
  closeSync(fd);
}

/** Steps until a pass is over. */
function pass(vault: Harness): void {
  for (let steps = 0; vault.shard.scrub.step() > 0; steps++) assert.ok(steps < 10_000, "it does not end");
}

test("scrub: a sound store, then flipped bytes in several slabs", async () => {
  const directory = temporaryDirectory();
  let now = Date.now();
  const vault = await Harness.open(directory.path, { now: () => now });
  try {
    for (let i = 0; i < 300; i++) vault.put(`key ${i}`, Buffer.alloc(700, i));
    vault.upload("big", Buffer.alloc(30_000, 7));
    pass(vault);
    assert.equal(vault.figure("scrubPasses"), 1);
    assert.equal(vault.figure("scrubDamaged"), 0, vault.warnings.join());
    const stored = vault.figure("scrubbedBytes");
    assert.ok(stored > 3 * SMALL_SLAB_BYTES, `only ${stored} bytes were read`);
    assert.equal(vault.shard.scrub.step(), 0, "the next pass is a week away");

    const places: string[] = [];
    for (const key of ["key 3", "key 100", "key 290", "big"]) {
      const { bytes, hashA, hashB } = vault.hashes(key);
      assert.equal(vault.read(key).state, "found");
      assert.equal(vault.reader.find(bytes, bytes.length, hashA, hashB), "found");
      const { map, unit } = vault.reader;
      const file = path.join(directory.path, "shard-000", path.basename(map.path));
      flip(file, unit * UNIT_BYTES + 80);
      places.push(`${file}, byte ${unit * UNIT_BYTES}: `);
    }
    // The reader has checked it before, and cannot know yet.
    assert.equal(vault.read("key 3").state, "found");
    now += 8 * 24 * 3600 * 1000;
    pass(vault);
    assert.equal(vault.figure("scrubPasses"), 2);
    assert.equal(vault.figure("scrubDamaged"), 4);
    for (const place of places)
      assert.equal(vault.warnings.filter((line) => line.startsWith(place)).length, 1, place);
    for (const key of ["key 3", "key 100", "key 290", "big"])
      assert.equal(vault.read(key).state, "damaged", key);
    assert.equal(vault.read("key 4").state, "found");
    now += 8 * 24 * 3600 * 1000;
    pass(vault);
    assert.equal(vault.figure("scrubDamaged"), 4, "a place is counted once");
  } finally {
    await vault.shard.close();
    directory.remove();
  }
});
