/**
 * Digests for anti-entropy: cells, one for each value of the first bits of hash A, that combine hash(key,
 * ballot) of their keys' newest records by XOR (Merkle trees as in Dynamo, 2007, cut down to one level). What
 * a layout calls a partition are some cells in a row, so any layout's digests are read off them. Two replicas
 * whose digests agree hold the same records. Written by the shard's thread, read by the fronts.
 *
 * Tables of slabs have no ballots, so after a start the digests are summed up in the background, in the order
 * of partition and tag. What lies before that cursor is counted, and kept up to date by each write in O(1);
 * what lies behind it will be read with its newest record. Collected keys do not count.
 */

import { RECORD, UNIT_SHIFT } from "../../format/offsets.ts";
import type { RecordSource } from "../../format/record.ts";
import { cellAt, digestOf } from "../../rules/digest.ts";
import { INDEX_PARTITIONS, indexPartitionOf } from "../../util/hash.ts";
import { tagOfHash } from "../index/memory.ts";

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
    return this.partition === INDEX_PARTITIONS;
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
    const partition = indexPartitionOf(hashA);
    return partition < this.partition || (partition === this.partition && tagOfHash(hashB) < this.tag);
  }

  /** Adds a record to its leaf, or takes it out: that is the same. */
  toggle(hashA: number, source: RecordSource, unit: number): void {
    const at = ((unit << UNIT_SHIFT) + RECORD.clockLow) >>> 2;
    const [low, high] = digestOf(hashA, source.words, at);
    const cell = cellAt(hashA);
    this.words[cell] ^= low;
    this.words[cell + 1] ^= high;
  }
}
