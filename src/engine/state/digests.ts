/**
 * Digests for anti-entropy: of each partition, leaves that combine hash(key, ballot) of the keys' newest
 * records by XOR (Merkle trees as in Dynamo, 2007, cut down to one level). Two replicas whose leaves agree
 * hold the same records. Written by the shard's thread, read by the fronts.
 *
 * Tables of slabs have no ballots, so after a start the digests are summed up in the background, in the order
 * of partition and tag. What lies before that cursor is counted, and kept up to date by each write in O(1);
 * what lies behind it will be read with its newest record. Collected keys do not count.
 *
 * The hash and the leaf of a key are part of what nodes tell each other: they use hash A alone, which is the
 * same on all nodes.
 */

import { RECORD, UNIT_SHIFT } from "../../format/offsets.ts";
import type { RecordSource } from "../../format/record.ts";
import { PARTITIONS, partitionOf } from "../../util/hash.ts";
import { tagOfHash } from "../index/memory.ts";

/** Leaves of a partition, chosen by the bits of hash A after the partition's. */
const LEAF_BITS = 4;
export const LEAVES = 1 << LEAF_BITS;
/** Words of a partition's digest: two a leaf. */
export const DIGEST_WORDS = LEAVES * 2;
export const DIGEST_BYTES = PARTITIONS * DIGEST_WORDS * 4;

const PARTITION_BITS = 10;
const BALLOT_WORDS = 4;

/** Leaf of a key within its partition. */
export function leafOf(hashA: number): number {
  return (hashA >>> (32 - PARTITION_BITS - LEAF_BITS)) & (LEAVES - 1);
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

/** The owner's side. */
export class Digests {
  private readonly words: Int32Array;
  /** What lies before this partition and tag is counted. */
  private partition = 0;
  private tag = 0;

  constructor(memory: SharedArrayBuffer) {
    this.words = new Int32Array(memory);
  }

  /** Whether any record may be counted. */
  get started(): boolean {
    return this.partition > 0 || this.tag > 0;
  }

  get ready(): boolean {
    return this.partition === PARTITIONS;
  }

  /** Where summing up goes on. */
  get cursor(): { partition: number; tag: number } {
    return { partition: this.partition, tag: this.tag };
  }

  /** Everything before this is counted. */
  advance(partition: number, tag: number): void {
    this.partition = partition;
    this.tag = tag;
  }

  /** Whether a key's record is counted. */
  counts(hashA: number, hashB: number): boolean {
    const partition = partitionOf(hashA);
    return partition < this.partition || (partition === this.partition && tagOfHash(hashB) < this.tag);
  }

  /** Adds a record to its leaf, or takes it out: that is the same. */
  toggle(hashA: number, source: RecordSource, unit: number): void {
    const at = ((unit << UNIT_SHIFT) + RECORD.clockLow) >>> 2;
    const [low, high] = digestOf(hashA, source.words, at);
    const leaf = partitionOf(hashA) * DIGEST_WORDS + leafOf(hashA) * 2;
    this.words[leaf] ^= low;
    this.words[leaf + 1] ^= high;
  }
}
