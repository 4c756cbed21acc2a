/** Slab files with holes in them are read as they are, and only as far as somebody looks. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { SlabReader } from "../../src/engine/start/slab-reader.ts";
import { UNIT_BYTES } from "../../src/format/offsets.ts";
import { loadAddon } from "../../src/platform/addon.ts";
import { Random, randomSeed } from "../random.ts";
import { inDirectory } from "./harness.ts";

const MIB = 2 ** 20;
const BYTES = 8 * MIB;
const RUNS = 30;

const never = (position: number): never => assert.fail(`the page at ${position} was refused`);

/** Unit behind the last byte that is not zero. */
function endOf(bytes: Uint8Array): number {
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end--;
  return Math.ceil(end / UNIT_BYTES);
}

test("slab reader: what it has read is what the file holds, whatever is written and whatever is a hole", async (t) => {
  const random = new Random(randomSeed(t));
  await inDirectory(async (folder) => {
    for (let run = 0; run < RUNS; run++) {
      const file = path.join(folder, `${run}.slab`);
      const fd = fs.openSync(file, "wx+");
      // Now and then a file that was cut.
      fs.ftruncateSync(fd, random.below(4) === 0 ? random.below(BYTES) : BYTES);
      const size = fs.fstatSync(fd).size;
      for (let piece = random.below(6); piece > 0; piece--) {
        const bytes = Buffer.alloc(
          1 + random.below(random.below(2) === 0 ? 100 : MIB),
          1 + random.below(255),
        );
        const at = random.below(BYTES);
        if (at + bytes.length <= size) fs.writeSync(fd, bytes, 0, bytes.length, at);
      }
      if (random.below(2) === 0) fs.fsyncSync(fd);
      const expected = Buffer.alloc(BYTES);
      fs.readFileSync(file).copy(expected);
      const reader = new SlabReader(file, BYTES, never);
      try {
        const unit = random.below(BYTES / UNIT_BYTES + 1);
        reader.readTo(unit);
        const before = unit * UNIT_BYTES;
        assert.ok(expected.subarray(0, before).equals(reader.source.bytes.subarray(0, before)));
        const zerosFrom = reader.readRest();
        assert.ok(expected.equals(reader.source.bytes));
        assert.ok(zerosFrom >= endOf(expected) && zerosFrom <= BYTES / UNIT_BYTES, `zeros from ${zerosFrom}`);
      } finally {
        reader.close();
        fs.closeSync(fd);
      }
    }
  });
});

test("slab reader: what was never written is not read", async (t) => {
  await inDirectory(async (folder) => {
    const file = path.join(folder, "open.slab");
    const fd = fs.openSync(file, "wx+");
    fs.ftruncateSync(fd, 64 * MIB);
    fs.writeSync(fd, Buffer.alloc(4096, 1), 0, 4096, 0);
    const tells = loadAddon("guard").nextData(fd, 32 * MIB) < 0;
    fs.closeSync(fd);
    if (!tells) return t.skip("this file system does not tell where a file has holes");
    const reader = new SlabReader(file, 64 * MIB, never);
    reader.readTo(1);
    assert.ok(reader.readRest() <= MIB / UNIT_BYTES);
    reader.close();
  });
});
