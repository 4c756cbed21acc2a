/**
 * Where the index of a shard (key-index.ts) has what in shared memory, and what an entry is.
 */
import { SLAB_UNIT_BITS } from "../../format/offsets.ts";
import { INDEX_PARTITIONS, indexPartitionOf } from "../../util/hash.ts";

export const TAG_BITS = 26;
export const TAG_SHIFT = 32 - TAG_BITS;
const LOCATION_HIGH_MASK = (1 << TAG_SHIFT) - 1;
const UNIT_MASK = (1 << SLAB_UNIT_BITS) - 1;
const SLOT_LOW_BITS = 32 - SLAB_UNIT_BITS;

export const BLOCK_ENTRIES = 256;
export const BLOCK_WORDS = BLOCK_ENTRIES * 2;
export const BLOCK_BYTES = BLOCK_WORDS * 4;
export const DEPTH_MAX = 8;
const DIRECTORY_ENTRIES = INDEX_PARTITIONS << DEPTH_MAX;
export const BLOCKS_MAX = 32;
/** An entry stands at most this many places after its home, or in another block of the chain. */
export const PROBES_MAX = 128;
/**
 * Words of a segment's row: number of blocks, depth, entries in these blocks, number of blocks chained to
 * them, then block numbers.
 */
export const ROW_BLOCKS = 0;
export const ROW_DEPTH = 1;
export const ROW_ENTRIES = 2;
export const ROW_CHAINED = 3;
export const ROW_FIRST_BLOCK = 4;
export const ROW_WORDS = ROW_FIRST_BLOCK + BLOCKS_MAX;

/**
 * Growable arrays of blocks; four of 4 GiB hold 1.6 billion entries. Only address space is taken until used.
 */
export const ARENAS = 4;
const ARENA_BYTES_MAX = 2 ** 32;
export const ARENA_BLOCK_BITS = 21;
const ARENA_STEP_BLOCKS = 512;
export const ARENA_STEP_BYTES = ARENA_STEP_BLOCKS * BLOCK_BYTES;
/** A link is the number of the next block of a chain plus 1; 0: the chain ends. */
export const LINK_BYTES = 4;
export const ROWS_BYTES_MAX = DIRECTORY_ENTRIES * ROW_WORDS * 4;
export const ROWS_STEP_BYTES = 256 * ROW_WORDS * 4;

/** Words of the control array. */
export const CONTROL_SEQUENCE = 0;
export const CONTROL_ARENA_STEPS = 1;
const CONTROL_WORDS = 8;

/** Shared memory of an index: made once by the owner, passed to every thread that reads. */
export interface IndexMemory {
  control: SharedArrayBuffer;
  directory: SharedArrayBuffer;
  rows: SharedArrayBuffer;
  /** A link for each block. */
  links: SharedArrayBuffer;
  arenas: SharedArrayBuffer[];
}

function growable(bytes: number, bytesMax: number): SharedArrayBuffer {
  // The option is newer than the type library's constructor.
  const Growable = SharedArrayBuffer as unknown as new (
    length: number,
    options: { maxByteLength: number },
  ) => SharedArrayBuffer;
  return new Growable(bytes, { maxByteLength: bytesMax });
}

/** Reserves an index's memory; next to nothing is committed. */
export function createIndexMemory(): IndexMemory {
  return {
    control: new SharedArrayBuffer(CONTROL_WORDS * 4),
    directory: new SharedArrayBuffer(DIRECTORY_ENTRIES * 4),
    rows: growable(0, ROWS_BYTES_MAX),
    links: growable(0, (ARENAS << ARENA_BLOCK_BITS) * LINK_BYTES),
    arenas: Array.from({ length: ARENAS }, () => growable(0, ARENA_BYTES_MAX)),
  };
}

/** Blocks that so many steps of all arenas hold: one arena is filled after the other. */
export function blocksIn(arenaSteps: number): number {
  return arenaSteps * ARENA_STEP_BLOCKS;
}

/** Sizes of the parts of an index' image: directory, segments, links, and blocks by arena. */
export function indexPartBytes(segments: number, blocks: number): number[] {
  const arenas = Array.from({ length: ARENAS }, (_, arena) => {
    const inArena = Math.min(blocks - (arena << ARENA_BLOCK_BITS), 1 << ARENA_BLOCK_BITS);
    return Math.max(0, inArena) * BLOCK_BYTES;
  });
  return [DIRECTORY_ENTRIES * 4, segments * ROW_WORDS * 4, blocks * LINK_BYTES, ...arenas];
}

export function slotOf(word0: number, word1: number): number {
  return ((word0 & LOCATION_HIGH_MASK) << SLOT_LOW_BITS) | (word1 >>> SLAB_UNIT_BITS);
}
export function unitOf(word1: number): number {
  return word1 & UNIT_MASK;
}
export function tagOf(word0: number): number {
  return word0 >>> TAG_SHIFT;
}
/** First word of the entry of a record in a slot. */
export function entryWord0(hashB: number, slot: number): number {
  return (hashB & ~LOCATION_HIGH_MASK) | (slot >>> SLOT_LOW_BITS);
}
/** Second word of the entry of a record. */
export function entryWord1(slot: number, unit: number): number {
  return (slot << SLAB_UNIT_BITS) | unit;
}

/** Tag of a key from its hash B: with its partition, its place in the order of `scan`. */
export function tagOfHash(hashB: number): number {
  return hashB >>> TAG_SHIFT;
}

/** Which of its segment's `count` blocks an entry with this tag belongs to. */
export function blockIndexOf(tag: number, count: number): number {
  return (((tag >>> 8) & 0x3ff) * count) >>> 10;
}

/**
 * In a segment of the greatest depth, whose tags differ in these bits alone: the lowest tag of a block, in
 * the place of `tag`'s lower bits.
 */
export function firstTagOf(tag: number, blockIndex: number, count: number): number {
  return (tag & ~0x3ffff) | (Math.ceil((blockIndex << 10) / count) << 8);
}

/** Cell of the directory for a key. */
export function cellOf(hashA: number, tag: number): number {
  return (indexPartitionOf(hashA) << DEPTH_MAX) | (tag >>> (TAG_BITS - DEPTH_MAX));
}

/** Where a block begins in the words of its arena. */
export function firstWordOf(block: number): number {
  return (block & ((1 << ARENA_BLOCK_BITS) - 1)) * BLOCK_WORDS;
}
