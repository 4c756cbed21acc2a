/**
 * The index against a Map, with tags chosen so that they collide: many entries of one tag, neighbours of it, and segments that are as large as one can be.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { KeyIndex } from "../../src/engine/index/key-index.ts";
import {
  createIndexMemory,
  entryWord0,
  entryWord1,
  TAG_BITS,
  TAG_SHIFT,
  tagOfHash,
} from "../../src/engine/index/memory.ts";
import { IndexReader, SCAN_END } from "../../src/engine/index/reader.ts";
import { indexPartitionOf } from "../../src/util/hash.ts";
import { Random, randomSeed } from "../random.ts";

interface Entry {
  hashA: number;
  hashB: number;
  slot: number;
  unit: number;
}

/** Kinds of keys: [partition, tag, the tag's bits that vary]. */
const KINDS = [
  [0, 0, 0],
  [0, 0x2a5_5aa5, 0],
  [0, 0x2a5_5aa6, 0],
  [0, 0x3ff_ffff, 0],
  // One block of every segment; one home of every block; one segment of the greatest depth; everything.
  [1, 0x001_2300, 0x3ff_00ff],
  [1, 0x000_0077, 0x3ff_ff00],
  [1023, 0x155_0000, 0x003_ffff],
  [1023, 0, 0x3ff_ffff],
] as const;

const kind = fc.integer({ min: 0, max: KINDS.length - 1 });
const command = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("insert" as const),
      kind,
      count: fc.integer({ min: 1, max: 700 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("remove" as const),
      kind,
      share: fc.double({ min: 0, max: 1, noNaN: true }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("replace" as const), kind }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("restore" as const, "build" as const) }) },
);

class Model {
  memory = createIndexMemory();
  index = new KeyIndex(this.memory);
  reader = new IndexReader(this.memory);
  readonly entries: Set<Entry>[] = KINDS.map(() => new Set());
  private locations = 0;
  private readonly random: Random;

  constructor(random: Random) {
    this.random = random;
  }

  /** A location that no other entry has. */
  private location(): { slot: number; unit: number } {
    const number = ++this.locations;
    return { slot: number % 7 === 0 ? 65_535 : number & 0xff, unit: 256 + number };
  }

  insert(kindNumber: number, count: number): void {
    const [partition, tag, varies] = KINDS[kindNumber];
    for (let i = 0; i < count; i++) {
      const entry = {
        hashA: (partition << 22) | (this.random.word() >>> 10),
        hashB: ((tag | (this.random.word() & varies)) << TAG_SHIFT) | this.random.below(1 << TAG_SHIFT),
        ...this.location(),
      };
      this.index.insert(entry.hashA, entry.hashB, entry.slot, entry.unit);
      this.entries[kindNumber].add(entry);
    }
  }

  remove(kindNumber: number, share: number): void {
    for (const entry of this.entries[kindNumber]) {
      if (this.random.below(1000) >= share * 1001) continue;
      this.index.remove(entry.hashA, entry.hashB, entry.slot, entry.unit);
      this.entries[kindNumber].delete(entry);
    }
  }

  replace(kindNumber: number): void {
    for (const entry of this.entries[kindNumber]) {
      const { slot, unit } = this.location();
      this.index.replace(entry.hashA, entry.hashB, entry.slot, entry.unit, slot, unit);
      Object.assign(entry, { slot, unit });
    }
  }

  private fresh(): void {
    this.memory = createIndexMemory();
    this.index = new KeyIndex(this.memory);
    this.reader = new IndexReader(this.memory);
  }

  /** As a snapshot does. */
  restore(): void {
    const { entries, segments, blocks, freeBlocks, parts } = this.index.image();
    const copies = parts.map((part) => part.slice());
    this.fresh();
    this.index.restore({ entries, segments, blocks }, (targets) => {
      targets.forEach((target, i) => {
        target.set(copies[i]);
      });
      return freeBlocks;
    });
  }

  /** As a start without a snapshot does. */
  build(): void {
    this.fresh();
    const all = this.all();
    for (const partition of [0, 1, 1023]) {
      const entries = all.filter(({ hashA }) => indexPartitionOf(hashA) === partition);
      const word0s = Int32Array.from(entries, ({ hashB, slot }) => entryWord0(hashB, slot));
      const word1s = Int32Array.from(entries, ({ slot, unit }) => entryWord1(slot, unit));
      this.index.build(partition, word0s, word1s, 0, entries.length);
    }
  }

  all(): Entry[] {
    return this.entries.flatMap((entries) => [...entries]);
  }

  check(): void {
    const { index, reader } = this;
    const all = this.all();
    assert.equal(index.entries, all.length);
    for (const [i, { hashA, hashB, slot, unit }] of all.entries()) {
      assert.ok(index.holds(hashA, hashB, slot, unit));
      const isFound: boolean = reader.find(hashA, hashB, { matches: (s, u) => s === slot && u === unit });
      assert.ok(isFound && reader.slot === slot && reader.unit === unit);
      if (i % 16 === 0) assert.ok(!index.holds(hashA, hashB, slot, unit + 2 ** 21));
    }
    for (const partition of [0, 1, 2, 1023]) this.checkScan(partition);
  }

  /** A scan meets every entry once, those of a tag together, in order of tag. */
  private checkScan(partition: number): void {
    const expected = new Map<string, number>();
    for (const { hashA, hashB, slot, unit } of this.all())
      if (indexPartitionOf(hashA) === partition) expected.set(`${slot} ${unit}`, tagOfHash(hashB));
    let last = -1;
    for (let tag = 0; tag < SCAN_END; ) {
      const page = this.reader.scan(partition, tag, 100);
      assert.ok(page.next > tag);
      page.tags.forEach((met, i) => {
        assert.ok(met >= last && met < page.next, "in order");
        assert.equal(expected.get(`${page.slots[i]} ${page.units[i]}`), met);
        expected.delete(`${page.slots[i]} ${page.units[i]}`);
        last = met;
      });
      assert.notEqual(page.next, last, "the entries of a tag stay together");
      tag = page.next;
    }
    assert.equal(expected.size, 0, "every entry is met");
  }

  usedBlocks(): number {
    const { blocks, freeBlocks } = this.index.image();
    return blocks - freeBlocks.length;
  }
}

test("index: answers like a Map where tags collide, over growth, removals, snapshots and rebuilds", (t) => {
  const seed = randomSeed(t);
  assert.equal(TAG_BITS, 26);
  fc.assert(
    fc.property(fc.array(command, { minLength: 5, maxLength: 25 }), fc.integer(), (commands, number) => {
      const model = new Model(new Random(number));
      for (const step of commands) {
        if (step.do === "insert") model.insert(step.kind, step.count);
        else if (step.do === "remove") model.remove(step.kind, step.share);
        else if (step.do === "replace") model.replace(step.kind);
        else model[step.do]();
      }
      model.check();
      model.build();
      model.check();
    }),
    { seed, numRuns: Number(process.env.RUNS ?? 15) },
  );
});

test("index: chains give their blocks back as they get shorter", () => {
  const model = new Model(new Random(1));
  // Everything that comes after stands in full segments: none of these grows.
  for (const [number, count] of [
    [0, 6000],
    [4, 5000],
    [6, 11_000],
  ] as const) {
    const before = model.usedBlocks();
    model.insert(number, count);
    const full = model.usedBlocks();
    model.remove(number, 0.5);
    model.check();
    model.remove(number, 0.8);
    model.check();
    model.remove(number, 1);
    assert.equal(model.index.entries, 0);
    // What a segment has grown to stays; each of its blocks' chains is gone.
    const left = model.usedBlocks() - before;
    assert.ok(left <= 256 + 32 && left < full - before, `${left} of ${full - before} blocks are left`);
    model.check();
  }
  const onlySegments = new Model(new Random(1));
  onlySegments.insert(0, 6000);
  assert.ok(onlySegments.usedBlocks() >= 1024 + 6000 / 128 - 1);
  onlySegments.remove(0, 1);
  assert.equal(onlySegments.usedBlocks(), 1024);
});

test("index: a segment as large as one can be goes on in chains, bounded by memory alone", () => {
  const model = new Model(new Random(2));
  model.insert(6, 12_000);
  model.check();
  model.restore();
  model.check();
  model.build();
  model.check();
  const bytes = (model.usedBlocks() - 1024) * 2048;
  assert.ok(bytes / 12_000 <= 16, `${bytes / 12_000} bytes an entry`);
});

test("index: what was reserved is there, however the index grows meanwhile", () => {
  const model = new Model(new Random(3));
  assert.ok(model.index.reserve(2000));
  const bytes = model.index.bytes;
  model.insert(0, 2000);
  assert.equal(model.index.bytes, bytes, "a reserved entry takes no new memory");
  assert.ok(!model.index.reserve(2 ** 24), "more than there can be is refused");
  model.insert(7, 1000);
  model.check();
});
