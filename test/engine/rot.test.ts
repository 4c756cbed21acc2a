/** Bytes that change under a running store, in records that were good when they were last looked at: compaction must not make them good again. */
import assert from "node:assert/strict";
import { closeSync, openSync, writeSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { FIRST_UNIT, UNIT_BYTES } from "../../src/format/offsets.ts";
import { keyOffset, valueOffset } from "../../src/format/record.ts";
import { Harness, temporaryDirectory } from "./harness.ts";

/** Overwrites a byte of the record of a key. */
function rot(vault: Harness, directory: string, key: string, offset: (unit: number) => number): void {
  const { bytes, hashA, hashB } = vault.hashes(key);
  assert.equal(vault.reader.find(bytes, bytes.length, hashA, hashB), "found");
  const { map, unit } = vault.reader;
  const at = offset(unit);
  const fd = openSync(path.join(directory, "shard-000", path.basename(map.path)), "r+");
  writeSync(fd, Uint8Array.of(map.bytes[at] ^ 1), 0, 1, at);
  closeSync(fd);
}

for (const what of ["value", "chunk", "manifest"])
  test(`rot: a ${what} that changed on the disk is not copied by compaction`, async () => {
    const directory = temporaryDirectory();
    const vault = await Harness.open(directory.path);
    try {
      vault.put("kept", "kept value");
      vault.upload("big", Buffer.alloc(20_000, 7), { contentType: "image/png" });
      for (let i = 0; i < 300; i++) vault.put(`filler ${i % 100}`, Buffer.alloc(600, i));
      await vault.settle();
      for (const key of ["kept", "big"]) assert.equal(vault.read(key).state, "found");
      const { reader } = vault;
      if (what === "value") rot(vault, directory.path, "kept", (unit) => valueOffset(reader.map, unit));
      // Its first chunk follows "kept" in the first slab.
      if (what === "chunk") rot(vault, directory.path, "kept", () => (FIRST_UNIT + 10) * UNIT_BYTES + 500);
      if (what === "manifest") rot(vault, directory.path, "big", (unit) => keyOffset(unit) + "big".length);
      for (let round = 0; round < 6; round++) {
        for (let i = 0; i < 400; i++) vault.put(`filler ${i % 100}`, Buffer.alloc(600, i + round));
        await vault.settle();
      }
      // Written were about 30.
      assert.ok(vault.figure("slabs") < 12, `${vault.figure("slabs")} slabs: nothing was compacted`);
      assert.match(vault.warnings.join("\n"), /slab 1 of shard 0 is not compacted: .*damaged/);
      await vault.shard.close();
      const again = await Harness.open(directory.path);
      assert.equal(again.read("kept").state, what === "value" ? "damaged" : "found");
      assert.equal(again.read("big").state, what === "value" ? "found" : "damaged");
      await again.shard.close();
    } finally {
      directory.remove();
    }
  });
