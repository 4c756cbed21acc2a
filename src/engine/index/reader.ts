/** The index of a shard (key-index.ts) as any thread may read it, beside the one that writes. */
import {
  ARENA_BLOCK_BITS,
  ARENA_STEP_BYTES,
  BLOCK_ENTRIES,
  BLOCK_WORDS,
  BLOCKS_MAX,
  blockIndexOf,
  CONTROL_ARENA_STEPS,
  CONTROL_SEQUENCE,
  cellOf,
  DEPTH_MAX,
  firstTagOf,
  firstWordOf,
  type IndexMemory,
  PROBES_MAX,
  ROW_BLOCKS,
  ROW_CHAINED,
  ROW_DEPTH,
  ROW_FIRST_BLOCK,
  ROW_WORDS,
  slotOf,
  TAG_BITS,
  TAG_SHIFT,
  unitOf,
} from "./memory.ts";

/** Says whether the record at a location is the one looked for. */
export interface Matcher {
  /** Called with a location that the index held at one moment; answers whether the search may stop there. */
  matches(slot: number, unit: number): boolean;
}

export class IndexReader {
  protected readonly control: Int32Array;
  protected readonly directory: Int32Array;
  protected rows: Int32Array;
  protected links: Int32Array;
  protected readonly blocks: Int32Array[];
  protected readonly memory: IndexMemory;
  /** Location that the last successful `find` ended at. */
  slot = 0;
  unit = 0;

  constructor(memory: IndexMemory) {
    this.memory = memory;
    this.control = new Int32Array(memory.control);
    this.directory = new Int32Array(memory.directory);
    this.rows = new Int32Array(memory.rows, 0, memory.rows.byteLength >>> 2);
    this.links = new Int32Array(memory.links, 0, memory.links.byteLength >>> 2);
    this.blocks = memory.arenas.map((arena) => new Int32Array(arena, 0, arena.byteLength / 4));
  }

  /** Bytes of shared memory in use. */
  get bytes(): number {
    return (
      this.memory.directory.byteLength +
      this.memory.rows.byteLength +
      this.memory.links.byteLength +
      this.control[CONTROL_ARENA_STEPS] * ARENA_STEP_BYTES
    );
  }

  /**
   * Words of the arena that holds `block`; looks again at its size if the block lies beyond what this thread
   * has seen.
   */
  protected arenaOf(block: number): Int32Array {
    const arena = block >>> ARENA_BLOCK_BITS;
    const words = this.blocks[arena];
    if (firstWordOf(block) + BLOCK_WORDS <= words.length) return words;
    const shared = this.memory.arenas[arena];
    // Of a full arena `>>> 2` would make 0.
    const larger = new Int32Array(shared, 0, shared.byteLength / 4);
    this.blocks[arena] = larger;
    return larger;
  }

  protected rowOf(segment: number): number {
    const row = segment * ROW_WORDS;
    if (row + ROW_WORDS > this.rows.length)
      this.rows = new Int32Array(this.memory.rows, 0, this.memory.rows.byteLength >>> 2);
    return row;
  }

  /** The next block of a chain, or -1. */
  protected nextOf(block: number): number {
    if (block >= this.links.length)
      this.links = new Int32Array(this.memory.links, 0, this.memory.links.byteLength >>> 2);
    return this.links[block] - 1;
  }

  /**
   * Looks for the record of a key. `matcher` is asked for each entry with the key's tag; when it says yes,
   * its location is in `slot` and `unit` and the answer is true. False: no entry of the index matches.
   */
  find(hashA: number, hashB: number, matcher: Matcher): boolean {
    const tag = hashB >>> TAG_SHIFT;
    const cell = cellOf(hashA, tag);
    const home = tag & (BLOCK_ENTRIES - 1);
    search: for (;;) {
      const sequence = Atomics.load(this.control, CONTROL_SEQUENCE);
      if ((sequence & 1) !== 0) continue;
      const row = this.rowOf(this.directory[cell]);
      const rows = this.rows;
      if (rows[row + ROW_CHAINED] !== 0) return this.findChained(cell, tag, matcher);
      const block = rows[row + ROW_FIRST_BLOCK + blockIndexOf(tag, rows[row + ROW_BLOCKS])];
      const words = this.arenaOf(block);
      const base = firstWordOf(block);
      let entry = home;
      for (let probes = 0; probes < PROBES_MAX; probes++) {
        const at = base + entry * 2;
        const word1 = words[at + 1];
        if (word1 === 0) break;
        const word0 = words[at];
        if (word0 >>> TAG_SHIFT === tag) {
          if (Atomics.load(this.control, CONTROL_SEQUENCE) !== sequence) continue search;
          const slot = slotOf(word0, word1);
          const unit = unitOf(word1);
          if (matcher.matches(slot, unit)) {
            this.slot = slot;
            this.unit = unit;
            return true;
          }
        }
        entry = (entry + 1) & (BLOCK_ENTRIES - 1);
      }
      if (Atomics.load(this.control, CONTROL_SEQUENCE) === sequence) return false;
    }
  }

  /** Entries with the tag that was last looked for, two words each. */
  private readonly candidates: number[] = [];

  /**
   * `find` in a segment with chains. All entries of the tag are noted first and asked about afterwards: where
   * there are thousands, a writer would otherwise make the search start over for ever.
   */
  private findChained(cell: number, tag: number, matcher: Matcher): boolean {
    while (!this.note(cell, tag));
    const { candidates } = this;
    for (let at = 0; at < candidates.length; at += 2) {
      const slot = slotOf(candidates[at], candidates[at + 1]);
      const unit = unitOf(candidates[at + 1]);
      if (!matcher.matches(slot, unit)) continue;
      this.slot = slot;
      this.unit = unit;
      return true;
    }
    return false;
  }

  /** Puts all entries with a tag into `candidates`. False: a writer came in between. */
  private note(cell: number, tag: number): boolean {
    const { candidates, control } = this;
    candidates.length = 0;
    const sequence = Atomics.load(control, CONTROL_SEQUENCE);
    if ((sequence & 1) !== 0) return false;
    const row = this.rowOf(this.directory[cell]);
    let block = this.rows[row + ROW_FIRST_BLOCK + blockIndexOf(tag, this.rows[row + ROW_BLOCKS])];
    const mask = BLOCK_ENTRIES - 1;
    const shift = TAG_SHIFT;
    do {
      const words = this.arenaOf(block);
      const base = firstWordOf(block);
      const end = (tag & mask) + PROBES_MAX;
      for (let entry = tag & mask; entry < end; entry++) {
        const at = base + (entry & mask) * 2;
        if (words[at + 1] === 0) break;
        if (words[at] >>> shift === tag) candidates.push(words[at], words[at + 1]);
      }
      block = this.nextOf(block);
      // A chain is only followed as long as it is known to be one: a block that was given back may be
      // anywhere by now.
      if (Atomics.load(control, CONTROL_SEQUENCE) !== sequence) return false;
    } while (block >= 0);
    return true;
  }

  private scratch = new Int32Array(0);

  /**
   * The entries of a partition from a tag on, in order of tag: about `limit`, more where several have the
   * last tag, fewer where a segment or a block ends. The order does not depend on how the index has grown, so
   * a cursor holds over any changes in between: what is there all the time is met once.
   */
  scan(partition: number, fromTag: number, limit: number): IndexPage {
    const cell = (partition << DEPTH_MAX) | (fromTag >>> (TAG_BITS - DEPTH_MAX));
    for (;;) {
      const sequence = Atomics.load(this.control, CONTROL_SEQUENCE);
      if ((sequence & 1) !== 0) continue;
      const row = this.rowOf(this.directory[cell]);
      const { rows } = this;
      const depth = rows[row + ROW_DEPTH];
      const count = Math.min(rows[row + ROW_BLOCKS], BLOCKS_MAX);
      // At the greatest depth the blocks lie in order of tag, so the first few are enough.
      const ordered = depth === DEPTH_MAX;
      let index = ordered ? blockIndexOf(fromTag, count) : 0;
      let words = 0;
      do words = this.copyChain(rows[row + ROW_FIRST_BLOCK + index++], words, sequence);
      while (words >= 0 && index < count && !(ordered && words >= limit * 2));
      if (words < 0 || Atomics.load(this.control, CONTROL_SEQUENCE) !== sequence) continue;
      const span = 1 << (TAG_BITS - depth);
      const end = index < count ? firstTagOf(fromTag, index, count) : (Math.floor(fromTag / span) + 1) * span;
      return this.page(words, fromTag, end, limit);
    }
  }

  /**
   * Copies a block and its chain to `scratch`, to be looked at later: a writer then rarely comes in between.
   * @returns where they end in it; -1: one did
   */
  private copyChain(first: number, from: number, sequence: number): number {
    let end = from;
    for (let block = first; block >= 0; block = this.nextOf(block)) {
      if (Atomics.load(this.control, CONTROL_SEQUENCE) !== sequence) return -1;
      if (this.scratch.length < end + BLOCK_WORDS) {
        const larger = new Int32Array(Math.max(BLOCKS_MAX * BLOCK_WORDS, this.scratch.length * 2));
        larger.set(this.scratch);
        this.scratch = larger;
      }
      const words = this.arenaOf(block);
      const base = firstWordOf(block);
      this.scratch.set(words.subarray(base, base + BLOCK_WORDS), end);
      end += BLOCK_WORDS;
    }
    return end;
  }

  private page(words: number, fromTag: number, endTag: number, limit: number): IndexPage {
    const { scratch } = this;
    const places: number[] = [];
    for (let at = 0; at < words; at += 2)
      if (scratch[at + 1] !== 0 && scratch[at] >>> TAG_SHIFT >= fromTag) places.push(at);
    const tagAt = (at: number): number => scratch[at] >>> TAG_SHIFT;
    places.sort((a, b) => tagAt(a) - tagAt(b));
    let end = Math.min(limit, places.length);
    while (end > 0 && end < places.length && tagAt(places[end]) === tagAt(places[end - 1])) end++;
    const next = end < places.length ? tagAt(places[end]) : endTag;
    places.length = end;
    return {
      slots: places.map((at) => slotOf(scratch[at], scratch[at + 1])),
      units: places.map((at) => unitOf(scratch[at + 1])),
      tags: places.map(tagAt),
      next,
    };
  }
}

/** Entries with one partition, in order of tag. */
export interface IndexPage {
  slots: number[];
  units: number[];
  tags: number[];
  /** Tag to go on with; `SCAN_END` when the partition is through. */
  next: number;
}

/** The cursor behind the last tag. */
export const SCAN_END = 1 << TAG_BITS;
