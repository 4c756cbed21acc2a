/**
 * What a digest is made of: part of what nodes tell each other, so it uses hash A alone, which is the same on
 * all of them. A store keeps a cell for each value of the first bits of hash A; a partition of a layout is
 * some cells in a row, told as a few leaves.
 */
import { bitsOf, type HashPrefix, PARTITIONS_MAX, prefixOf } from "../util/hash-prefix.ts";

/** Most leaves of a partition's digest, chosen by the bits of hash A after the partition's. */
const LEAF_BITS_MAX = 4;
/** Words of a leaf. */
const LEAF_WORDS = 2;

/**
 * First bits of hash A that a cell is for: 512 KiB a shard. The smallest partitions have one cell, which is
 * fewer keys than a leaf of the largest has.
 */
const CELL_BITS = 16;
export const DIGEST_BYTES = 2 ** CELL_BITS * LEAF_WORDS * 4;

if (2 ** CELL_BITS < PARTITIONS_MAX) throw new Error("the smallest partitions need a cell each");

const BALLOT_WORDS = 4;

/** Bits that choose a leaf: the smallest partitions have fewer leaves. */
function leafBitsOf(prefix: HashPrefix): number {
  return Math.min(LEAF_BITS_MAX, CELL_BITS - bitsOf(prefix));
}

/** Words of the digest of a partition, one of so many: two a leaf. */
export function digestWordsOf(partitions: number): number {
  return LEAF_WORDS << leafBitsOf(prefixOf(0, partitions));
}

/** Leaves, as bits, in which two digests differ. */
export function differingLeaves(a: Int32Array, b: Int32Array): number {
  let leaves = 0;
  for (let word = 0; word < a.length; word++)
    if (a[word] !== b[word]) leaves |= 1 << Math.floor(word / LEAF_WORDS);
  return leaves;
}

/** Leaf of a key within its partition. */
export function leafOf(hashA: number, prefix: HashPrefix): number {
  const leafBits = leafBitsOf(prefix);
  return (hashA >>> (32 - bitsOf(prefix) - leafBits)) & ((1 << leafBits) - 1);
}

/** Where a key's cell begins in the words of a digest's memory. */
export function cellAt(hashA: number): number {
  return (hashA >>> (32 - CELL_BITS)) * LEAF_WORDS;
}

/** The digest of a partition over some stores' cells. */
export function sumDigest(stores: readonly Int32Array[], prefix: HashPrefix): Int32Array {
  const bits = bitsOf(prefix);
  const sum = new Int32Array(digestWordsOf(2 ** bits));
  const cells = 2 ** (CELL_BITS - bits);
  const perLeaf = cells >>> leafBitsOf(prefix);
  const first = (prefix - 2 ** bits) * cells;
  for (const words of stores)
    for (let cell = 0; cell < cells; cell++) {
      const leaf = Math.floor(cell / perLeaf) * LEAF_WORDS;
      sum[leaf] ^= words[(first + cell) * LEAF_WORDS];
      sum[leaf + 1] ^= words[(first + cell) * LEAF_WORDS + 1];
    }
  return sum;
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
