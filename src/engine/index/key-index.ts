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

import { PARTITIONS } from "../../util/hash.ts";
import { grow, IndexBlocks } from "./blocks.ts";
import {
  ARENA_STEP_BYTES,
  BLOCK_ENTRIES,
  BLOCK_WORDS,
  BLOCKS_MAX,
  blockIndexOf,
  blocksIn,
  CONTROL_ARENA_STEPS,
  cellOf,
  DEPTH_MAX,
  entryWord0,
  entryWord1,
  firstWordOf,
  type IndexMemory,
  indexPartBytes,
  LINK_BYTES,
  ROW_BLOCKS,
  ROW_CHAINED,
  ROW_DEPTH,
  ROW_ENTRIES,
  ROW_FIRST_BLOCK,
  ROW_WORDS,
  ROWS_BYTES_MAX,
  ROWS_STEP_BYTES,
  TAG_BITS,
  TAG_SHIFT,
  tagOf,
} from "./memory.ts";

/** A segment of this many blocks splits, unless its depth is at the maximum. */
const SPLIT_BLOCKS = 16;
const LOAD_MAX = 0.75;
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

/** Entries dealt out over fresh blocks that nobody sees yet. */
interface Deal {
  blocks: number[];
  /** Entries in these blocks, and blocks chained to them. */
  entries: number;
  chained: number;
}

/** The writer's side. Only the thread that owns the shard may call it. */
export class KeyIndex extends IndexBlocks {
  private segmentCount = 0;
  /** Entries in the index, tombstones included. */
  entries = 0;
  /** How often a segment has grown or split. */
  growths = 0;
  /** Entries of a segment that grows. */
  private word0s = new Int32Array(0);
  private word1s = new Int32Array(0);

  constructor(memory: IndexMemory) {
    super(memory);
    if (memory.rows.byteLength !== 0) throw new Error("an index has one writer, made once");
    this.makeEmpty();
  }

  /** Gives each partition a segment of one block. */
  private makeEmpty(): void {
    for (let partition = 0; partition < PARTITIONS; partition++) {
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

  /** The block of its segment that an entry with this tag belongs to. */
  private blockOf(row: number, tag: number): number {
    return this.rows[row + ROW_FIRST_BLOCK + blockIndexOf(tag, this.rows[row + ROW_BLOCKS])];
  }

  /**
   * Fills an empty partition at once with the entries of distinct keys: `word0s[start .. start + count)`, and
   * `word1s` likewise. Much faster than one `insert` for each, since nothing is dealt out twice.
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

  /**
   * Gives the segment of a cell one block more, or splits it. Built aside, then switched over under the lock.
   * @returns false: it cannot grow, or there is no memory to; then nothing has changed
   */
  private grow(cell: number): boolean {
    const segment = this.directory[cell];
    const row = this.rowOf(segment);
    const count = this.rows[row + ROW_BLOCKS];
    const depth = this.rows[row + ROW_DEPTH];
    const splits = count >= SPLIT_BLOCKS && depth < DEPTH_MAX;
    if ((!splits && count === BLOCKS_MAX) || (splits && !this.hasRow(this.segmentCount))) return false;
    const old = Array.from(this.rows.subarray(row + ROW_FIRST_BLOCK, row + ROW_FIRST_BLOCK + count));
    const gathered = this.gather(old);
    if (splits) {
      const bit = 1 << (TAG_BITS - 1 - depth);
      const first = this.sort(gathered, bit);
      const low = this.deal(0, first, blocksFor(first));
      const high = low && this.deal(first, gathered, blocksFor(gathered - first));
      if (low === null || high === null) {
        if (low !== null) for (const block of low.blocks) this.giveBack(block);
        return false;
      }
      const other = this.newSegment(depth + 1, high);
      const span = 1 << (DEPTH_MAX - depth);
      const firstCell = cell - (cell % span);
      this.begin();
      this.setRow(row, depth + 1, low);
      this.directory.fill(other, firstCell + span / 2, firstCell + span);
      this.end();
    } else {
      const larger = this.deal(0, gathered, count + 1);
      if (larger === null) return false;
      this.begin();
      this.setRow(row, depth, larger);
      this.end();
    }
    this.growths++;
    for (const block of old) this.giveBack(block);
    return true;
  }

  /** Notes the entries of blocks and of their chains; answers how many they are. */
  private gather(blocks: readonly number[]): number {
    let entries = 0;
    for (const first of blocks)
      for (let block = first; block >= 0; block = this.nextOf(block)) {
        if (this.word0s.length < entries + BLOCK_ENTRIES) {
          const length = Math.max(BLOCKS_MAX * BLOCK_ENTRIES, this.word0s.length * 2);
          [this.word0s, this.word1s] = [this.word0s, this.word1s].map((words) => {
            const larger = new Int32Array(length);
            larger.set(words);
            return larger;
          });
        }
        const words = this.arenaOf(block);
        const base = firstWordOf(block);
        for (let at = base; at < base + BLOCK_WORDS; at += 2) {
          if (words[at + 1] === 0) continue;
          this.word0s[entries] = words[at];
          this.word1s[entries++] = words[at + 1];
        }
      }
    return entries;
  }

  /** Moves the gathered entries without a bit of the tag before those with it; answers how many they are. */
  private sort(count: number, bit: number): number {
    const { word0s, word1s } = this;
    let first = 0;
    for (let i = 0; i < count; i++) {
      if ((tagOf(word0s[i]) & bit) !== 0) continue;
      const [word0, word1] = [word0s[i], word1s[i]];
      word0s[i] = word0s[first];
      word1s[i] = word1s[first];
      word0s[first] = word0;
      word1s[first++] = word1;
    }
    return first;
  }

  /**
   * Deals the gathered entries `from` to `to` - 1 out over so many fresh blocks; null, and nothing kept:
   * there is no memory.
   */
  private deal(from: number, to: number, count: number): Deal | null {
    const deal: Deal = { blocks: [], entries: 0, chained: 0 };
    const { blocks } = deal;
    const fail = (): null => {
      for (const block of blocks) this.giveBack(block);
      return null;
    };
    while (blocks.length < count) {
      const block = this.takeBlock(false);
      if (block < 0) return fail();
      blocks.push(block);
    }
    for (let i = from; i < to; i++) {
      const word0 = this.word0s[i];
      const first = blocks[blockIndexOf(tagOf(word0), count)];
      if (!this.seat(first, word0, false)) return fail();
      this.sitDown(word0, this.word1s[i]);
      if (this.seated.block === first) deal.entries++;
      else if (this.seated.linkFrom >= 0) deal.chained++;
    }
    return deal;
  }

  private newBlock(): number {
    const block = this.takeBlock(true);
    if (block < 0) throw new Error("index: out of memory");
    return block;
  }

  /** Makes sure of the memory for a segment's row. False: there is none. */
  private hasRow(segment: number): boolean {
    const { rows } = this.memory;
    if ((segment + 1) * ROW_WORDS * 4 <= rows.byteLength) return true;
    try {
      grow(rows, Math.min(ROWS_BYTES_MAX, rows.byteLength + ROWS_STEP_BYTES));
    } catch {
      return false;
    }
    return true;
  }

  private setRow(row: number, depth: number, { blocks, entries, chained }: Deal): void {
    this.rows[row + ROW_BLOCKS] = blocks.length;
    this.rows[row + ROW_DEPTH] = depth;
    this.rows[row + ROW_ENTRIES] = entries;
    this.rows[row + ROW_CHAINED] = chained;
    this.rows.set(blocks, row + ROW_FIRST_BLOCK);
  }

  private newSegment(depth: number, deal: Deal, reused?: number): number {
    const segment = reused ?? this.segmentCount++;
    if (!this.hasRow(segment)) throw new Error("index: out of memory");
    this.setRow(this.rowOf(segment), depth, deal);
    return segment;
  }
}

/** Blocks for half of a segment that is split, with room to grow. */
function blocksFor(entries: number): number {
  const needed = Math.floor(entries / (BLOCK_ENTRIES * LOAD_MAX)) + 1;
  return Math.min(BLOCKS_MAX, Math.max(SPLIT_BLOCKS / 2 + 1, needed));
}
