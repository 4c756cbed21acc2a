/** A full disk comes back, with the real engine on a disk of few blocks. The decisions alone: compaction-model.test.ts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Random, randomSeed } from "../random.ts";
import { Harness, inDirectory } from "./harness.ts";
import { LimitedDisk } from "./limited-disk.ts";

const MIB = 1024 * 1024;
const SLAB_BYTES = MIB;
const CHUNK_BYTES = 16 * 1024;
/** Copied bytes for one that is freed: LIVE_FRACTION_MAX / (1 - LIVE_FRACTION_MAX). */
const WORK_MAX = 9;

/** A clock that goes on with each look, so that the disk is asked again. */
function fastClock(): () => number {
  let now = Date.now();
  return () => (now += 20);
}

async function open(directory: string, disk: LimitedDisk, io = disk.io): Promise<Harness> {
  const options = { io, now: fastClock(), slabBytes: SLAB_BYTES, chunkBytes: CHUNK_BYTES };
  return Harness.open(directory, options);
}

/** Idle work, until nothing is copied any more. */
async function rest(vault: Harness): Promise<void> {
  let copied = -1;
  for (let quiet = 0; quiet < 60; ) {
    await vault.settle();
    await new Promise((resolve) => setTimeout(resolve, 1));
    quiet = vault.figure("compactedBytes") === copied ? quiet + 1 : 0;
    copied = vault.figure("compactedBytes");
  }
}

async function fill(vault: Harness, value: Buffer, stored: string[]): Promise<void> {
  for (let number = 0; ; number++) {
    const key = `k${number}`;
    const isLarge = value.length > CHUNK_BYTES;
    const { error } = isLarge ? vault.upload(key, value) : vault.put(key, value);
    if (error !== null) {
      assert.equal(error, "disk_full");
      return;
    }
    stored.push(key);
    if (number % 8 === 0) await vault.settle();
  }
}

for (const { valueBytes, share, diskMib } of [
  { valueBytes: 4000, share: 0.5, diskMib: 6 },
  { valueBytes: 4000, share: 0.9, diskMib: 8 },
  { valueBytes: 60_000, share: 0.5, diskMib: 10 },
  { valueBytes: 60_000, share: 1, diskMib: 5 },
  { valueBytes: 4000, share: 1, diskMib: 4 },
])
  test(`full disk of ${diskMib} MiB: ${share} of values of ${valueBytes} bytes deleted; writes come back, compaction rests`, (t) =>
    inDirectory(async (directory) => {
      const random = new Random(randomSeed(t));
      const disk = new LimitedDisk(diskMib * MIB);
      const vault = await open(directory, disk);
      const value = Buffer.alloc(valueBytes, "v");
      const stored: string[] = [];
      await fill(vault, value, stored);
      const said = (sentence: RegExp) => vault.warnings.filter((warning) => sentence.test(warning)).length;
      assert.ok(said(/the disk is full/) >= 1, String(vault.warnings));
      // Others take the rest.
      disk.freeBlocks = 0;
      const before = vault.figure("storedBytes");
      const kept: string[] = [];
      for (const key of stored) {
        if (random.below(1000) >= share * 1000) {
          kept.push(key);
          continue;
        }
        const removed = vault.remove(key);
        assert.deepEqual([removed.error, removed.deleted], [null, true], key);
        if (random.below(16) === 0) await vault.settle();
      }
      await rest(vault);
      assert.equal(vault.figure("diskFull"), 0, `${disk.freeBlocks} blocks free`);
      assert.ok(said(/the disk has room again/) >= 1);
      assert.equal(vault.put("again", "x").error, null);
      const freed = before - vault.figure("storedBytes");
      assert.ok(vault.figure("compactedBytes") <= WORK_MAX * Math.max(freed, SLAB_BYTES));
      for (const key of kept) {
        const read = vault.read(key);
        assert.ok(read.state === "found" && read.value.equals(value), key);
      }
      await vault.crash();
      const again = await open(directory, disk);
      assert.equal(again.figure("keys"), kept.length + 1);
      await again.shard.close();
    }));

test("full disk: a start that finds no room for a slab serves, and the first write with room opens one", () =>
  inDirectory(async (directory) => {
    const disk = new LimitedDisk(8 * MIB);
    const { freeBlocks } = disk;
    let refusing = true;
    // STORE and the list of slabs are there; then nothing is left.
    const vault = await open(directory, disk, {
      ...disk.io,
      open: (path, flags) => {
        if (refusing && flags === "wx+" && path.includes(".slab")) disk.freeBlocks = 0;
        return disk.io.open(path, flags);
      },
    });
    assert.equal(vault.figure("diskFull"), 1);
    assert.equal(vault.read("key").state, "absent");
    assert.equal(vault.put("key", "value").error, "disk_full");
    const removed = vault.remove("key");
    assert.deepEqual([removed.error, removed.deleted], [null, false], "what is not there needs no tombstone");
    disk.freeBlocks = freeBlocks;
    refusing = false;
    await rest(vault);
    assert.equal(vault.figure("diskFull"), 0);
    assert.equal(vault.put("key", "value").error, null);
    assert.equal(vault.read("key").state, "found");
    await vault.crash();
  }));
