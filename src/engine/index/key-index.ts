/**
 * The key index of one shard, in shared memory: one writer (the shard's thread), any number of readers (the
 * fronts).
 *
 *   partition (10 bits of A) ┐
 *   top 8 bits of the tag    ┴► directory ► segment ► block (by the next 10 bits of the tag) ► entries, probed linearly
 *                                                       └► chain of blocks for what it cannot take (blocks.ts)
 *
 * An entry is 8 bytes: word 0 = 26 bits of tag (the top of hash B) and the high 6 bits of the location, word
 * 1 = the low 32 bits of the location. A location is slot × 2^22 + unit, never 0 in word 1, so word 1 = 0
 * means empty. Everything that decides where an entry stands is in its tag, so growing never reads a record:
 * a segment gets one block more (its entries are dealt out again), and from 16 blocks on it splits in two by
 * the next bit of the tag. So the load stays between 0.6 and 0.75 and growth is a few thousand entries at a
 * time. A segment that is as large as one can be only gets longer chains.
 *
 * An entry is never refused for where it belongs, only where there is no memory: `reserve` tells before
 * anything is written.
 *
 * Readers and the writer meet by a sequence lock (Boehm, "Can seqlocks get along with programming language
 * memory models?", 2012): the counter is odd while the writer changes anything; a reader that sees it change
 * starts over. A reader acts on a location only after it has seen the counter unchanged.
 */

import { INDEX_PARTITIONS } from "../../util/hash.ts";
import { grow } from "./blocks.ts";
import {
  ARENA_STEP_BYTES,
  BLOCK_ENTRIES,
  BLOCKS_MAX,
  blocksIn,
  CONTROL_ARENA_STEPS,
  cellOf,
  DEPTH_MAX,
  entryWord0,
  entryWord1,
  type IndexMemory,
  indexPartBytes,
  LINK_BYTES,
  ROW_BLOCKS,
  ROW_CHAINED,
  ROW_DEPTH,
  ROW_ENTRIES,
  ROW_FIRST_BLOCK,
  ROWS_BYTES_MAX,
  ROWS_STEP_BYTES,
  TAG_BITS,
  TAG_SHIFT,
  tagOf,
} from "./memory.ts";
import { IndexSegments, LOAD_MAX } from "./segments.ts";

/** Load of what `build` makes, and the entries from which on it splits: some room to grow is left. */
const LOAD_BUILT = 0.68;
const BUILT_ENTRIES_MAX = 12 * BLOCK_ENTRIES * LOAD_BUILT;

/** The state of an index, as bytes. */
export interface IndexImage {
  segments: number;
  blocks: number;
  freeBlocks: Int32Array;
  entries: number;
  parts: Uint8Array[];
}

/** The writer's side. Only the thread that owns the shard may call it. */
export class KeyIndex extends IndexSegments {
  /** Entries in the index, tombstones included. */
  entries = 0;
  constructor(memory: IndexMemory) {
    super(memory);
    if (memory.rows.byteLength !== 0) throw new Error("an index has one writer, made once");
    this.makeEmpty();
  }

  /** Gives each partition a segment of one block. */
  private makeEmpty(): void {
    for (let partition = 0; partition < INDEX_PARTITIONS; partition++) {
      const segment = this.newSegment(0, { blocks: [this.newBlock()], entries: 0, chained: 0 });
      this.directory.fill(segment, partition << DEPTH_MAX, (partition + 1) << DEPTH_MAX);
    }
  }

  /** Whether the index points to exactly this location for these hashes. */
  holds(hashA: number, hashB: number, slot: number, unit: number): boolean {
    return this.locate(hashA, hashB, slot, unit) >= 0;
  }

  /** Adds an entry. The key must not be there yet. Throws when there is no memory, unless it was reserved. */
  insert(hashA: number, hashB: number, slot: number, unit: number): void {
    const cell = cellOf(hashA, hashB >>> TAG_SHIFT);
    this.insertAt(cell, entryWord0(hashB, slot), entryWord1(slot, unit));
  }

  private insertAt(cell: number, word0: number, word1: number): void {
    let row = this.rowOf(this.directory[cell]);
    while (this.rows[row + ROW_ENTRIES] >= this.rows[row + ROW_BLOCKS] * BLOCK_ENTRIES * LOAD_MAX) {
      if (!this.grow(cell)) break;
      row = this.rowOf(this.directory[cell]);
    }
    const first = this.blockOf(row, tagOf(word0));
    if (!this.seat(first, word0, true)) throw new Error("index: out of memory");
    this.begin();
    this.sitDown(word0, word1);
    if (this.seated.block === first) this.rows[row + ROW_ENTRIES]++;
    else if (this.seated.linkFrom >= 0) this.rows[row + ROW_CHAINED]++;
    this.end();
    this.entries++;
    if (this.reserved > 0) this.reserved--;
  }

  /**
   * Fills an empty partition at once with the entries of distinct keys: `word0s[start .. start + count)`, and
   * `word1s` likewise. Much faster than one `insert` for each, since nothing is dealt out twice.
   */
  build(partition: number, word0s: Int32Array, word1s: Int32Array, start: number, count: number): void {
    // Its block has never been written, so it takes no memory yet.
    if (count === 0) return;
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
    this.giveBack(this.rows[row + ROW_FIRST_BLOCK]);
    const span = 1 << (DEPTH_MAX - depth);
    const rowOfPart = new Int32Array(1 << depth);
    sizes.forEach((size, part) => {
      const wanted = Math.ceil(size / (BLOCK_ENTRIES * LOAD_BUILT));
      const length = Math.min(BLOCKS_MAX, Math.max(1, wanted));
      const blocks = Array.from({ length }, () => this.newBlock());
      const made = this.newSegment(
        depth,
        { blocks, entries: 0, chained: 0 },
        part === 0 ? segment : undefined,
      );
      rowOfPart[part] = this.rowOf(made);
      this.directory.fill(made, cell + part * span, cell + (part + 1) * span);
    });
    const { rows } = this;
    const left: number[] = [];
    this.begin();
    for (let i = start; i < start + count; i++) {
      const at = rowOfPart[tagOf(word0s[i]) >>> shift];
      if (this.place(this.blockOf(at, tagOf(word0s[i])), word0s[i], word1s[i])) rows[at + ROW_ENTRIES]++;
      else left.push(i);
    }
    this.end();
    this.entries += count - left.length;
    for (const i of left)
      this.insertAt(cell | (tagOf(word0s[i]) >>> (TAG_BITS - DEPTH_MAX)), word0s[i], word1s[i]);
  }

  /** Points an entry to another location. It must be there. */
  replace(hashA: number, hashB: number, slot: number, unit: number, newSlot: number, newUnit: number): void {
    if (this.locate(hashA, hashB, slot, unit) < 0)
      throw new Error("index: the entry to replace is not there");
    const { words, at } = this.seated;
    this.begin();
    words[at] = entryWord0(hashB, newSlot);
    words[at + 1] = entryWord1(newSlot, newUnit);
    this.end();
  }

  /** Removes an entry. It must be there. */
  remove(hashA: number, hashB: number, slot: number, unit: number): void {
    const row = this.locate(hashA, hashB, slot, unit);
    if (row < 0) throw new Error("index: the entry to remove is not there");
    this.begin();
    const { entries, blocks } = this.takeOut(this.blockOf(row, hashB >>> TAG_SHIFT));
    this.rows[row + ROW_ENTRIES] -= entries;
    this.rows[row + ROW_CHAINED] -= blocks;
    this.end();
    this.entries--;
  }

  /** Finds an entry, which is in `seated` then; answers the row of its segment, or -1. */
  private locate(hashA: number, hashB: number, slot: number, unit: number): number {
    const tag = hashB >>> TAG_SHIFT;
    const row = this.rowOf(this.directory[cellOf(hashA, tag)]);
    const isThere = this.locateIn(this.blockOf(row, tag), entryWord0(hashB, slot), entryWord1(slot, unit));
    return isThere ? row : -1;
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

  /** The memory of so many segments and blocks: directory, segments, links, and blocks by arena. */
  private parts(segments: number, blocks: number): Uint8Array[] {
    const { directory, rows, links, arenas } = this.memory;
    const bytes = indexPartBytes(segments, blocks);
    return [directory, rows, links, ...arenas].map((buffer, i) => new Uint8Array(buffer, 0, bytes[i]));
  }

  /**
   * Restores an image into an empty index: `fill` gets the memory of the image's parts, must fill all of it,
   * and answers the free blocks. When it throws, the index is empty again.
   */
  restore(
    image: Pick<IndexImage, "segments" | "blocks" | "entries">,
    fill: (parts: Uint8Array[]) => Int32Array,
  ): void {
    if (this.entries !== 0) throw new Error("index: only an empty index can be restored");
    const { rows, links, arenas } = this.memory;
    const [, rowBytes, , ...arenaBytes] = indexPartBytes(image.segments, image.blocks);
    grow(rows, Math.min(ROWS_BYTES_MAX, Math.ceil(rowBytes / ROWS_STEP_BYTES) * ROWS_STEP_BYTES));
    arenas.forEach((arena, number) => {
      const steps = Math.ceil(arenaBytes[number] / ARENA_STEP_BYTES);
      const added = steps - arena.byteLength / ARENA_STEP_BYTES;
      if (added <= 0) return;
      grow(arena, steps * ARENA_STEP_BYTES);
      this.control[CONTROL_ARENA_STEPS] += added;
    });
    grow(links, blocksIn(this.control[CONTROL_ARENA_STEPS]) * LINK_BYTES);
    const parts = this.parts(image.segments, image.blocks);
    this.freeBlocks.length = 0;
    this.begin();
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

  /** Puts an entry into a block itself; false when it has no place for it. */
  private place(block: number, word0: number, word1: number): boolean {
    const words = this.arenaOf(block);
    const at = this.roomIn(words, block, word0);
    if (at < 0) return false;
    words[at] = word0;
    words[at + 1] = word1;
    return true;
  }
}
