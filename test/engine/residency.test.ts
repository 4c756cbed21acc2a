/** What is in memory is asked of the kernel once, and not for each read. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { isInMemory, mapSlab, type SlabMap } from "../../src/engine/slabs/maps.ts";
import { PAGE_BYTES, unknownResidence } from "../../src/engine/slabs/residence.ts";
import { BEAT_MS, Residency } from "../../src/engine/slabs/residency.ts";
import { temporaryDirectory } from "./harness.ts";

const SLAB_BYTES = 4 * 2 ** 20;
const WRITTEN_BYTES = 10 * PAGE_BYTES;

test("residency: pages of the slab being written count as in memory without asking for each read, and its holes do not", (t) => {
  const directory = temporaryDirectory();
  t.after(() => directory.remove());
  const file = path.join(directory.path, "slab");
  const fd = fs.openSync(file, "wx");
  fs.ftruncateSync(fd, SLAB_BYTES);
  fs.writeSync(fd, Buffer.alloc(WRITTEN_BYTES, "w"), 0, WRITTEN_BYTES, 0);
  fs.closeSync(fd);
  const map: SlabMap = {
    ...mapSlab(file, SLAB_BYTES),
    slot: 1,
    sequence: 1,
    path: file,
    residence: unknownResidence(SLAB_BYTES),
    pins: 0,
    missingBefore: 0,
    missingSinceMs: 0,
  };
  let asked = 0;
  const residency = new Residency((part, from, to) => {
    asked++;
    return isInMemory(part, from, to);
  });
  t.after(() => residency.close());
  assert.ok(residency.isResident(map, 100, 2 * PAGE_BYTES));
  assert.ok(asked > 0);
  asked = 0;
  for (let read = 0; read < 100; read++) assert.ok(residency.isResident(map, 100, 2 * PAGE_BYTES));
  assert.equal(asked, 0, "known pages");
  assert.ok(residency.isResident(map, PAGE_BYTES, 3 * PAGE_BYTES), "one of them is new");
  assert.equal(asked, 1);
  const hole = WRITTEN_BYTES + PAGE_BYTES;
  assert.ok(!residency.isResident(map, hole, hole + 1), "a hole is not in memory");
  assert.ok(!residency.isResident(map, WRITTEN_BYTES - 1, hole + 1), "a part of it is not");
  // What was seen is believed for a while only.
  asked = 0;
  for (let beat = 0; beat < 2 * (10_000 / BEAT_MS); beat++) residency.beat(() => true);
  assert.ok(residency.isResident(map, 100, 2 * PAGE_BYTES));
  assert.ok(asked > 0);
});

test("residency: what the disk cannot give counts as there, so that nobody waits for it again and again", async (t) => {
  const directory = temporaryDirectory();
  t.after(() => directory.remove());
  const file = path.join(directory.path, "slab");
  fs.writeFileSync(file, Buffer.alloc(WRITTEN_BYTES, "w"));
  const map: SlabMap = {
    ...mapSlab(file, SLAB_BYTES),
    slot: 1,
    sequence: 1,
    path: file,
    residence: unknownResidence(SLAB_BYTES),
    pins: 0,
    missingBefore: 0,
    missingSinceMs: 0,
  };
  const residency = new Residency();
  t.after(() => residency.close());
  const [from, to] = [WRITTEN_BYTES - PAGE_BYTES, WRITTEN_BYTES + 3 * PAGE_BYTES];
  assert.ok(!residency.isResident(map, from, to), "behind the end of the file");
  await new Promise<void>((resolve) => residency.read(map, from, to, resolve));
  assert.ok(residency.isResident(map, from, to));
  assert.equal(map.bytes[WRITTEN_BYTES - 1], "w".charCodeAt(0));
  assert.equal(map.bytes[WRITTEN_BYTES], 0);
});
