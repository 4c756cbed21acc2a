/** The index of a shard (key-index.ts) as any thread may read it, beside the one that writes. */
import {
  ARENA_BLOCK_BITS,
  ARENA_STEP_BYTES,
  BLOCK_ENTRIES,
  BLOCK_WORDS,
  BLOCKS_MAX,
  CONTROL_ARENA_STEPS,
  CONTROL_SEQUENCE,
  cellOf,
  DEPTH_MAX,
  firstWordOf,
  type IndexMemory,
  ROW_BLOCKS,
  ROW_DEPTH,
  ROW_FIRST_BLOCK,
  ROW_WORDS,
  slotOf,
  TAG_BITS,
  TAG_SHIFT,
  unitOf,
} from "./index-memory.ts";

/** Says whether the record at a location is the one looked for. */
export interface Matcher {
  /** Called with a location that the index held at one moment; answers whether the search may stop there. */
  matches(slot: number, unit: number): boolean;
}

export class IndexReader {
  protected readonly control: Int32Array;
  protected readonly directory: Int32Array;
  protected rows: Int32Array;
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
    this.blocks = memory.arenas.map((arena) => new Int32Array(arena, 0, arena.byteLength >>> 2));
  }

  /** Bytes of shared memory in use. */
  get bytes(): number {
    return (
      this.memory.directory.byteLength +
      this.memory.rows.byteLength +
      this.control[CONTROL_ARENA_STEPS] * ARENA_STEP_BYTES
    );
  }

  /** Words of the arena that holds `block`; looks again at its size if the block lies beyond what this thread has seen. */
  protected arenaOf(block: number): Int32Array {
    const arena = block >>> ARENA_BLOCK_BITS;
    const words = this.blocks[arena];
    if (firstWordOf(block) + BLOCK_WORDS <= words.length) return words;
    const shared = this.memory.arenas[arena];
    const larger = new Int32Array(shared, 0, shared.byteLength >>> 2);
    this.blocks[arena] = larger;
    return larger;
  }

  protected rowOf(segment: number): number {
    const row = segment * ROW_WORDS;
    if (row + ROW_WORDS > this.rows.length)
      this.rows = new Int32Array(this.memory.rows, 0, this.memory.rows.byteLength >>> 2);
    return row;
  }

  /**
   * Looks for the record of a key. `matcher` is asked for each entry with the key's tag; when it says yes, its location is in
   * `slot` and `unit` and the answer is true. False: no entry of the index matches.
   */
  find(hashA: number, hashB: number, matcher: Matcher): boolean {
    const tag = hashB >>> TAG_SHIFT;
    const cell = cellOf(hashA, tag);
    const choice = (tag >>> 8) & 0x3ff;
    const home = tag & (BLOCK_ENTRIES - 1);
    search: for (;;) {
      const sequence = Atomics.load(this.control, CONTROL_SEQUENCE);
      if ((sequence & 1) !== 0) continue;
      const row = this.rowOf(this.directory[cell]);
      const rows = this.rows;
      const block = rows[row + ROW_FIRST_BLOCK + ((choice * rows[row + ROW_BLOCKS]) >>> 10)];
      const words = this.arenaOf(block);
      const base = firstWordOf(block);
      let entry = home;
      for (let probes = 0; probes < BLOCK_ENTRIES; probes++) {
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

  private scratch = new Int32Array(0);

  /**
   * The entries of a partition from a tag on, in order of tag: about `limit`, more where several have the last tag, fewer where a segment ends. The order does
   * not depend on how the index has grown, so a cursor holds over any changes in between: what is there all the time is met once.
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
      if (this.scratch.length < count * BLOCK_WORDS) this.scratch = new Int32Array(count * BLOCK_WORDS);
      // Copied first and looked at later: a writer then rarely comes in between.
      for (let i = 0; i < count; i++) {
        const block = rows[row + ROW_FIRST_BLOCK + i];
        const words = this.arenaOf(block);
        const base = firstWordOf(block);
        this.scratch.set(words.subarray(base, base + BLOCK_WORDS), i * BLOCK_WORDS);
      }
      if (Atomics.load(this.control, CONTROL_SEQUENCE) !== sequence) continue;
      const span = 1 << (TAG_BITS - depth);
      return this.page(count * BLOCK_WORDS, fromTag, (Math.floor(fromTag / span) + 1) * span, limit);
    }
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
