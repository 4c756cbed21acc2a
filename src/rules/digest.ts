/**
 * What a digest is made of: part of what nodes tell each other, so it uses hash A alone, which is the same on
 * all of them. A store keeps a cell for each value of the first bits of hash A; a partition of a layout is
 * some cells in a row, told as a few leaves.
 */
import { bitsOf, type HashPrefix, PARTITIONS_MAX } from "../util/hash-prefix.ts";

/** Leaves of a partition's digest, chosen by the bits of hash A after the partition's. */
const LEAF_BITS_MAX = 4;
export const LEAVES = 1 << LEAF_BITS_MAX;
/** Words of a partition's digest: two a leaf. */
export const DIGEST_WORDS = LEAVES * 2;

/** First bits of hash A that a cell is for: 2 MiB a shard, of which only what has keys is touched. */
const CELL_BITS = 18;
const CELL_WORDS = 2;
export const DIGEST_BYTES = 2 ** CELL_BITS * CELL_WORDS * 4;

if (2 ** CELL_BITS < PARTITIONS_MAX) throw new Error("the smallest partitions need a cell each");

const BALLOT_WORDS = 4;

/** Bits that choose a leaf: the smallest partitions have fewer leaves. */
function leafBitsOf(prefix: HashPrefix): number {
  return Math.min(LEAF_BITS_MAX, CELL_BITS - bitsOf(prefix));
}

/** Leaf of a key within its partition. */
export function leafOf(hashA: number, prefix: HashPrefix): number {
  const leafBits = leafBitsOf(prefix);
  return (hashA >>> (32 - bitsOf(prefix) - leafBits)) & ((1 << leafBits) - 1);
}

/** Where a key's cell begins in the words of a digest's memory. */
export function cellAt(hashA: number): number {
  return (hashA >>> (32 - CELL_BITS)) * CELL_WORDS;
}

/** Adds the digest of a partition, as these cells have it, to the leaves of `sum`. */
export function addDigest(sum: Int32Array, words: Int32Array, prefix: HashPrefix): void {
  const bits = bitsOf(prefix);
  const cells = 2 ** (CELL_BITS - bits);
  const perLeaf = cells >>> leafBitsOf(prefix);
  const first = (prefix - 2 ** bits) * cells;
  for (let cell = 0; cell < cells; cell++) {
    const leaf = Math.floor(cell / perLeaf) * 2;
    sum[leaf] ^= words[(first + cell) * CELL_WORDS];
    sum[leaf + 1] ^= words[(first + cell) * CELL_WORDS + 1];
  }
}

/** The two words that a record adds to its leaf; the ballot is read at `words[at .. at + 4)`. */
export function digestOf(hashA: number, words: ArrayLike<number>, at: number): [number, number] {
  let low = hashA ^ 0x2c1b3c6d;
  let high = Math.imul(hashA, 0x9e3779b1) ^ 0x297a2d39;
  for (let i = at; i < at + BALLOT_WORDS; i++) {
    low = Math.imul(low ^ words[i], 0x85ebca6b);
    low ^= low >>> 15;
    high = Math.imul(high ^ words[i], 0xc2b2ae35);
    high = (high ^ (high >>> 13) ^ low) | 0;
  }
  low = Math.imul(low ^ high, 0x27d4eb2f);
  high = Math.imul(high ^ (low >>> 16), 0x165667b1);
  return [low ^ (low >>> 16), high ^ (high >>> 15)];
}
