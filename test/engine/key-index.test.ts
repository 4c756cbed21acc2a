import assert from "node:assert/strict";
import { test } from "node:test";
import { KeyIndex } from "../../src/engine/index/key-index.ts";
import { createIndexMemory, entryWord0, entryWord1 } from "../../src/engine/index/memory.ts";
import { IndexReader } from "../../src/engine/index/reader.ts";
import { INDEX_PARTITIONS } from "../../src/util/hash.ts";
import { Random, randomSeed } from "../random.ts";

/** Finds by exact location, as if every location were one key. */
class Exact {
  slot = 0;
  unit = 0;
  matches(slot: number, unit: number): boolean {
    return slot === this.slot && unit === this.unit;
  }
}

test("index: 1.3 million random entries are found, replaced and removed, at 16 bytes a key or less", (t) => {
  const seed = randomSeed(t);
  const random = new Random(seed);
  const memory = createIndexMemory();
  const index = new KeyIndex(memory);
  const reader = new IndexReader(memory);
  const count = 1_300_000;
  const hashA = new Int32Array(count).map(() => random.word());
  const hashB = new Int32Array(count).map(() => random.word());
  const slot = (i: number): number => (i >>> 20) + 40_000;
  const unit = (i: number): number => (i & 0xfffff) + 256;
  for (let i = 0; i < count; i++) {
    index.insert(hashA[i], hashB[i], slot(i), unit(i));
    // The fixed part is 3 MiB, which weighs on small stores; from here on the bound holds.
    if (i >= 800_000 && i % 1000 === 0)
      assert.ok(index.bytes / i <= 16, `${index.bytes / i} bytes a key at ${i}`);
  }
  const exact = new Exact();
  const found = (i: number, atSlot = slot(i), atUnit = unit(i)): boolean => {
    exact.slot = atSlot;
    exact.unit = atUnit;
    return reader.find(hashA[i], hashB[i], exact) && reader.slot === atSlot && reader.unit === atUnit;
  };
  for (let i = 0; i < count; i++) assert.ok(found(i));
  for (let i = 0; i < count; i += 3) index.remove(hashA[i], hashB[i], slot(i), unit(i));
  for (let i = 1; i < count; i += 3) index.replace(hashA[i], hashB[i], slot(i), unit(i), 65_535, unit(i) + 1);
  for (let i = 0; i < count; i++) {
    if (i % 3 === 0) assert.ok(!found(i));
    else if (i % 3 === 1)
      assert.ok(found(i, 65_535, unit(i) + 1) && !index.holds(hashA[i], hashB[i], slot(i), unit(i)));
    else assert.ok(found(i));
  }
  assert.equal(index.entries, count - Math.ceil(count / 3));
});

test("index: thousands of entries with one tag are all found, and gone when they are removed", () => {
  const index = new KeyIndex(createIndexMemory());
  const exact = new Exact();
  exact.slot = 1;
  const count = 5000;
  for (let i = 0; i < count; i++) index.insert(0, 0, 1, 256 + i);
  for (let i = 0; i < count; i++) {
    exact.unit = 256 + i;
    assert.ok(index.find(0, 0, exact));
  }
  for (let i = 0; i < count; i++) index.remove(0, 0, 1, 256 + i);
  assert.equal(index.entries, 0);
  assert.ok(!index.find(0, 0, { matches: () => true }));
});

test("index: partitions built at once hold every entry, and go on growing, in 16 bytes a key or less", (t) => {
  const seed = randomSeed(t);
  const random = new Random(seed);
  const memory = createIndexMemory();
  const index = new KeyIndex(memory);
  const count = 300_000;
  // Few partitions, so that some split deeply, next to one with a single entry and many with none.
  const hashA = new Int32Array(count).map((_, i) => (i === 0 ? 1023 << 22 : (random.word() & 7) << 22));
  const hashB = new Int32Array(count).map(() => random.word());
  const unit = (i: number): number => i + 256;
  const half = count / 2;
  const word0 = new Int32Array(half);
  const word1 = new Int32Array(half);
  for (let partition = 0; partition < INDEX_PARTITIONS; partition++) {
    let entries = 0;
    for (let i = 0; i < half; i++) {
      if (hashA[i] >>> 22 !== partition) continue;
      word0[entries] = entryWord0(hashB[i], 50_000);
      word1[entries++] = entryWord1(50_000, unit(i));
    }
    index.build(partition, word0, word1, 0, entries);
    if (partition === 8) partition = 1022;
  }
  assert.equal(index.entries, half);
  const fixedBytes = 1024 * 2048;
  assert.ok((index.bytes - memory.directory.byteLength - fixedBytes) / half <= 16);
  for (let i = half; i < count; i++) index.insert(hashA[i], hashB[i], 50_000, unit(i));
  const exact = new Exact();
  exact.slot = 50_000;
  const reader = new IndexReader(memory);
  for (let i = 0; i < count; i++) {
    exact.unit = unit(i);
    assert.ok(reader.find(hashA[i], hashB[i], exact), `entry ${i}`);
  }
  for (let i = 0; i < count; i++) index.remove(hashA[i], hashB[i], 50_000, unit(i));
  assert.equal(index.entries, 0);
});
