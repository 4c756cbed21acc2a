/**
 * The key index of one shard, in shared memory: one writer (the shard's thread), any number of readers (the fronts).
 *
 *   partition (10 bits of A) ┐
 *   top 8 bits of the tag    ┴► directory ► segment ► block (by the next 10 bits of the tag) ► entries, probed linearly
 *
 * An entry is 8 bytes: word 0 = 26 bits of tag (the top of hash B) and the high 6 bits of the location, word 1 = the low
 * 32 bits of the location. A location is slot × 2^22 + unit, never 0 in word 1, so word 1 = 0 means empty. Everything
 * that decides where an entry stands is in its tag, so growing never reads a record: a segment gets one block more
 * (its entries are dealt out again), and from 16 blocks on it splits in two by the next bit of the tag. So the load stays
 * between 0.6 and 0.75 and growth is a few thousand entries at a time.
 *
 * Readers and the writer meet by a sequence lock (Boehm, "Can seqlocks get along with programming language memory models?",
 * 2012): the counter is odd while the writer changes anything; a reader that sees it change starts over. A reader acts on a
 * location only after it has seen the counter unchanged.
 */

import { PARTITIONS } from "../util/hash.ts";
import {
  ARENA_BLOCK_BITS,
  ARENA_STEP_BYTES,
  ARENAS,
  BLOCK_ENTRIES,
  BLOCK_WORDS,
  BLOCKS_MAX,
  CONTROL_ARENA_STEPS,
  CONTROL_SEQUENCE,
  cellOf,
  DEPTH_MAX,
  entryWord0,
  entryWord1,
  firstWordOf,
  type IndexMemory,
  indexPartBytes,
  ROW_BLOCKS,
  ROW_DEPTH,
  ROW_ENTRIES,
  ROW_FIRST_BLOCK,
  ROW_WORDS,
  ROWS_BYTES_MAX,
  ROWS_STEP_BYTES,
  TAG_BITS,
  TAG_SHIFT,
  tagOf,
} from "./index-memory.ts";
import { IndexReader } from "./index-reader.ts";

/** A segment of this many blocks splits, unless its depth is at the maximum. */
const SPLIT_BLOCKS = 16;
const LOAD_MAX = 0.75;
/** Load of what `build` makes, and the entries from which on it splits: some room to grow is left. */
const LOAD_BUILT = 0.68;
const BUILT_ENTRIES_MAX = 12 * BLOCK_ENTRIES * LOAD_BUILT;
/** An entry that would stand further than this from its home makes its segment grow, whatever the load. */
const PROBES_MAX = 128;

/** The state of an index, as bytes. */
export interface IndexImage {
  segments: number;
  blocks: number;
  freeBlocks: Int32Array;
  entries: number;
  parts: Uint8Array[];
}

interface GrowableSharedArrayBuffer extends SharedArrayBuffer {
  grow(bytes: number): void;
}

/** The writer's side. Only the thread that owns the shard may call it. */
export class KeyIndex extends IndexReader {
  private readonly freeBlocks: number[] = [];
  private blockCount = 0;
  private segmentCount = 0;
  /** Entries in the index, tombstones included. */
  entries = 0;
  /** How often a segment has grown or split. */
  growths = 0;

  constructor(memory: IndexMemory) {
    super(memory);
    if (memory.rows.byteLength !== 0) throw new Error("an index has one writer, made once");
    this.makeEmpty();
  }

  /** Gives each partition a segment of one block. */
  private makeEmpty(): void {
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const segment = this.newSegment(0, [this.newBlock()]);
      this.directory.fill(segment, partition << DEPTH_MAX, (partition + 1) << DEPTH_MAX);
    }
  }

  /** Whether the index points to exactly this location for these hashes. */
  holds(hashA: number, hashB: number, slot: number, unit: number): boolean {
    return this.locate(hashA, hashB, slot, unit) >= 0;
  }

  /** Adds an entry. The key must not be there yet. Throws when the index is full. */
  insert(hashA: number, hashB: number, slot: number, unit: number): void {
    const cell = cellOf(hashA, hashB >>> TAG_SHIFT);
    this.insertAt(cell, entryWord0(hashB, slot), entryWord1(slot, unit));
  }

  private insertAt(cell: number, word0: number, word1: number): void {
    const tag = tagOf(word0);
    for (;;) {
      const row = this.rowOf(this.directory[cell]);
      const count = this.rows[row + ROW_BLOCKS];
      if (this.rows[row + ROW_ENTRIES] < count * BLOCK_ENTRIES * LOAD_MAX) {
        const block = this.rows[row + ROW_FIRST_BLOCK + ((((tag >>> 8) & 0x3ff) * count) >>> 10)];
        this.begin();
        const placed = this.place(block, word0, word1);
        if (placed) this.rows[row + ROW_ENTRIES]++;
        this.end();
        if (placed) {
          this.entries++;
          return;
        }
      }
      this.grow(cell);
    }
  }

  /**
   * Fills an empty partition at once with the entries of distinct keys: `word0s[start .. start + count)`, and `word1s` likewise. Much faster
   * than one `insert` for each, since nothing is dealt out twice.
   */
  build(partition: number, word0s: Int32Array, word1s: Int32Array, start: number, count: number): void {
    const cell = partition << DEPTH_MAX;
    const segment = this.directory[cell];
    const row = this.rowOf(segment);
    if (this.rows[row + ROW_ENTRIES] !== 0 || this.rows[row + ROW_DEPTH] !== 0)
      throw new Error("index: only an empty partition can be built");
    let depth = 0;
    while (depth < DEPTH_MAX && count > BUILT_ENTRIES_MAX << depth) depth++;
    const shift = TAG_BITS - depth;
    const sizes = new Int32Array(1 << depth);
    for (let i = start; i < start + count; i++) sizes[tagOf(word0s[i]) >>> shift]++;
    this.freeBlocks.push(this.rows[row + ROW_FIRST_BLOCK]);
    const span = 1 << (DEPTH_MAX - depth);
    const rowOfPart = new Int32Array(1 << depth);
    sizes.forEach((size, part) => {
      const wanted = Math.ceil(size / (BLOCK_ENTRIES * LOAD_BUILT));
      const length = Math.min(BLOCKS_MAX, Math.max(1, wanted));
      const blocks = Array.from({ length }, () => this.newBlock());
      const made = this.newSegment(depth, blocks, part === 0 ? segment : undefined);
      rowOfPart[part] = this.rowOf(made);
      this.directory.fill(made, cell + part * span, cell + (part + 1) * span);
    });
    const { rows } = this;
    this.begin();
    const left: number[] = [];
    for (let i = start; i < start + count; i++) {
      const tag = tagOf(word0s[i]);
      const at = rowOfPart[tag >>> shift];
      const block = rows[at + ROW_FIRST_BLOCK + ((((tag >>> 8) & 0x3ff) * rows[at + ROW_BLOCKS]) >>> 10)];
      if (this.place(block, word0s[i], word1s[i])) rows[at + ROW_ENTRIES]++;
      else left.push(i);
    }
    this.end();
    this.entries += count - left.length;
    for (const i of left)
      this.insertAt(cell | (tagOf(word0s[i]) >>> (TAG_BITS - DEPTH_MAX)), word0s[i], word1s[i]);
  }

  /** Points an entry to another location. It must be there. */
  replace(hashA: number, hashB: number, slot: number, unit: number, newSlot: number, newUnit: number): void {
    const at = this.locate(hashA, hashB, slot, unit);
    if (at < 0) throw new Error("index: the entry to replace is not there");
    const words = this.found;
    this.begin();
    words[at] = entryWord0(hashB, newSlot);
    words[at + 1] = entryWord1(newSlot, newUnit);
    this.end();
  }

  /** Removes an entry and closes the gap (backward shift, Knuth, vol. 3, 6.4, algorithm R). It must be there. */
  remove(hashA: number, hashB: number, slot: number, unit: number): void {
    const at = this.locate(hashA, hashB, slot, unit);
    if (at < 0) throw new Error("index: the entry to remove is not there");
    const words = this.found;
    const base = at - (at % BLOCK_WORDS);
    let hole = (at - base) >>> 1;
    this.begin();
    let next = hole;
    for (let probes = 1; probes < BLOCK_ENTRIES; probes++) {
      next = (next + 1) & (BLOCK_ENTRIES - 1);
      const word1 = words[base + next * 2 + 1];
      if (word1 === 0) break;
      const home = (words[base + next * 2] >>> TAG_SHIFT) & (BLOCK_ENTRIES - 1);
      // The entry may fill the hole if its home is not between the hole and itself, going round.
      if (((next - home) & (BLOCK_ENTRIES - 1)) >= ((next - hole) & (BLOCK_ENTRIES - 1))) {
        words[base + hole * 2] = words[base + next * 2];
        words[base + hole * 2 + 1] = word1;
        hole = next;
      }
    }
    words[base + hole * 2] = words[base + hole * 2 + 1] = 0;
    const tag = hashB >>> TAG_SHIFT;
    const cell = cellOf(hashA, tag);
    this.rows[this.rowOf(this.directory[cell]) + ROW_ENTRIES]--;
    this.end();
    this.entries--;
  }

  private found: Int32Array = new Int32Array(0);

  /** Position of an entry in the words of `found`, or -1. */
  private locate(hashA: number, hashB: number, slot: number, unit: number): number {
    const tag = hashB >>> TAG_SHIFT;
    const cell = cellOf(hashA, tag);
    const row = this.rowOf(this.directory[cell]);
    const block =
      this.rows[row + ROW_FIRST_BLOCK + ((((tag >>> 8) & 0x3ff) * this.rows[row + ROW_BLOCKS]) >>> 10)];
    const words = this.arenaOf(block);
    const base = firstWordOf(block);
    const word0 = entryWord0(hashB, slot);
    const word1 = entryWord1(slot, unit);
    let entry = tag & (BLOCK_ENTRIES - 1);
    for (let probes = 0; probes < BLOCK_ENTRIES; probes++) {
      const at = base + entry * 2;
      if (words[at + 1] === 0) return -1;
      if (words[at + 1] === word1 && words[at] === word0) {
        this.found = words;
        return at;
      }
      entry = (entry + 1) & (BLOCK_ENTRIES - 1);
    }
    return -1;
  }

  /** The index as it lies in memory; for a snapshot. Valid until the next change. */
  image(): IndexImage {
    const { segmentCount, blockCount, entries } = this;
    return {
      segments: segmentCount,
      blocks: blockCount,
      freeBlocks: Int32Array.from(this.freeBlocks),
      entries,
      parts: this.parts(segmentCount, blockCount),
    };
  }

  /** The memory of so many segments and blocks: directory, segments, and blocks by arena. */
  private parts(segments: number, blocks: number): Uint8Array[] {
    const { directory, rows, arenas } = this.memory;
    const bytes = indexPartBytes(segments, blocks);
    return [directory, rows, ...arenas].map((buffer, i) => new Uint8Array(buffer, 0, bytes[i]));
  }

  /**
   * Restores an image into an empty index: `fill` gets the memory of the image's parts, must fill all of it, and answers the free blocks. When it throws,
   * the index is empty again.
   */
  restore(
    image: Pick<IndexImage, "segments" | "blocks" | "entries">,
    fill: (parts: Uint8Array[]) => Int32Array,
  ): void {
    if (this.entries !== 0) throw new Error("index: only an empty index can be restored");
    this.begin();
    const rows = this.memory.rows as GrowableSharedArrayBuffer;
    while (rows.byteLength < image.segments * ROW_WORDS * 4)
      rows.grow(Math.min(ROWS_BYTES_MAX, rows.byteLength + ROWS_STEP_BYTES));
    const [, , ...arenaBytes] = indexPartBytes(image.segments, image.blocks);
    this.memory.arenas.forEach((arena, number) => {
      const steps = Math.ceil(arenaBytes[number] / ARENA_STEP_BYTES);
      const added = steps - arena.byteLength / ARENA_STEP_BYTES;
      if (added <= 0) return;
      (arena as GrowableSharedArrayBuffer).grow(steps * ARENA_STEP_BYTES);
      this.control[CONTROL_ARENA_STEPS] += added;
    });
    const parts = this.parts(image.segments, image.blocks);
    this.freeBlocks.length = 0;
    try {
      for (const block of fill(parts)) this.freeBlocks.push(block);
      this.segmentCount = image.segments;
      this.blockCount = image.blocks;
      this.entries = image.entries;
    } catch (error) {
      for (const part of parts) part.fill(0);
      this.segmentCount = this.blockCount = 0;
      this.makeEmpty();
      throw error;
    } finally {
      this.end();
    }
  }

  private begin(): void {
    Atomics.add(this.control, CONTROL_SEQUENCE, 1);
  }
  private end(): void {
    Atomics.add(this.control, CONTROL_SEQUENCE, 1);
  }

  /** Puts an entry into a block; false when the block is too full. */
  private place(block: number, word0: number, word1: number): boolean {
    const words = this.arenaOf(block);
    const base = firstWordOf(block);
    let entry = (word0 >>> TAG_SHIFT) & (BLOCK_ENTRIES - 1);
    for (let probes = 0; probes < PROBES_MAX; probes++) {
      const at = base + entry * 2;
      if (words[at + 1] === 0) {
        words[at] = word0;
        words[at + 1] = word1;
        return true;
      }
      entry = (entry + 1) & (BLOCK_ENTRIES - 1);
    }
    return false;
  }

  /** Gives the segment of a cell one block more, or splits it. Built aside, then switched over under the lock. */
  private grow(cell: number): void {
    this.growths++;
    const segment = this.directory[cell];
    const row = this.rowOf(segment);
    const count = this.rows[row + ROW_BLOCKS];
    const depth = this.rows[row + ROW_DEPTH];
    const old = Array.from(this.rows.subarray(row + ROW_FIRST_BLOCK, row + ROW_FIRST_BLOCK + count));
    const entries = this.rows[row + ROW_ENTRIES];
    if (count < SPLIT_BLOCKS || depth === DEPTH_MAX) {
      for (let blocks = count + 1; ; blocks++) {
        if (blocks > BLOCKS_MAX) throw new Error("index: a segment is full");
        const fresh = this.deal(old, blocks, () => true);
        if (fresh === null) continue;
        this.begin();
        this.rows.set(fresh, row + ROW_FIRST_BLOCK);
        this.rows[row + ROW_BLOCKS] = blocks;
        this.end();
        break;
      }
    } else {
      const bit = 1 << (TAG_BITS - 1 - depth);
      const halves = [0, bit].map((want) => {
        for (let blocks = SPLIT_BLOCKS / 2 + 1; blocks <= BLOCKS_MAX; blocks++) {
          let dealt = 0;
          const fresh = this.deal(old, blocks, (tag) => (tag & bit) === want && ++dealt > 0);
          if (fresh !== null && dealt < blocks * BLOCK_ENTRIES * LOAD_MAX) return { fresh, dealt };
          if (fresh !== null) this.freeBlocks.push(...fresh);
        }
        throw new Error("index: a segment cannot be split");
      });
      const other = this.newSegment(depth + 1, halves[1].fresh);
      this.rows[this.rowOf(other) + ROW_ENTRIES] = halves[1].dealt;
      const span = 1 << (DEPTH_MAX - depth);
      const first = cell - (cell % span);
      this.begin();
      this.rows.set(halves[0].fresh, row + ROW_FIRST_BLOCK);
      this.rows[row + ROW_BLOCKS] = halves[0].fresh.length;
      this.rows[row + ROW_DEPTH] = depth + 1;
      this.rows[row + ROW_ENTRIES] = halves[0].dealt;
      this.directory.fill(other, first + span / 2, first + span);
      this.end();
      if (halves[0].dealt + halves[1].dealt !== entries) throw new Error("index: a split lost entries");
    }
    this.freeBlocks.push(...old);
  }

  /** Deals the chosen entries of `from` out over `count` fresh blocks; null (and nothing kept) when one gets too full. */
  private deal(from: readonly number[], count: number, chosen: (tag: number) => boolean): number[] | null {
    const fresh = Array.from({ length: count }, () => this.newBlock());
    for (const block of from) {
      const words = this.arenaOf(block);
      const base = firstWordOf(block);
      for (let at = base; at < base + BLOCK_WORDS; at += 2) {
        if (words[at + 1] === 0) continue;
        const tag = words[at] >>> TAG_SHIFT;
        if (!chosen(tag)) continue;
        if (!this.place(fresh[(((tag >>> 8) & 0x3ff) * count) >>> 10], words[at], words[at + 1])) {
          this.freeBlocks.push(...fresh);
          return null;
        }
      }
    }
    return fresh;
  }

  /** A block of zeros. Blocks just freed may still be read by a front; the sequence lock makes it start over. */
  private newBlock(): number {
    let block = this.freeBlocks.pop();
    if (block === undefined) {
      block = this.blockCount++;
      const arena = block >>> ARENA_BLOCK_BITS;
      if (arena >= ARENAS) throw new Error("index: out of blocks");
      const shared = this.memory.arenas[arena] as GrowableSharedArrayBuffer;
      if ((firstWordOf(block) + BLOCK_WORDS) * 4 > shared.byteLength) {
        shared.grow(shared.byteLength + ARENA_STEP_BYTES);
        this.control[CONTROL_ARENA_STEPS]++;
      }
      return block;
    }
    const base = firstWordOf(block);
    // A reader that still probes this block must notice: the counter moves around the wipe.
    this.begin();
    this.arenaOf(block).fill(0, base, base + BLOCK_WORDS);
    this.end();
    return block;
  }

  private newSegment(depth: number, blocks: readonly number[], reused?: number): number {
    const segment = reused ?? this.segmentCount++;
    if ((segment + 1) * ROW_WORDS * 4 > this.memory.rows.byteLength) {
      const shared = this.memory.rows as GrowableSharedArrayBuffer;
      shared.grow(Math.min(ROWS_BYTES_MAX, shared.byteLength + ROWS_STEP_BYTES));
    }
    const row = this.rowOf(segment);
    this.rows[row + ROW_BLOCKS] = blocks.length;
    this.rows[row + ROW_DEPTH] = depth;
    this.rows[row + ROW_ENTRIES] = 0;
    this.rows.set(blocks, row + ROW_FIRST_BLOCK);
    return segment;
  }
}
