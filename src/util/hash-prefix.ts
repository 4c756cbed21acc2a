/**
 * A partition of the key space as one number: the first bits of hash A of its keys, after a leading 1. So
 * partition `number` of `count` is `count + number`, and what is finer has more bits.
 *
 * A layout has its own number of partitions. A store knows of none: its index, its floors and its digests are
 * arranged by the first bits of hash A, the same in every store, so it serves any layout, and is born and
 * changes without one. Whoever asks it for a partition names the bits.
 */
import { INDEX_PARTITION_BITS } from "./hash.ts";

export type HashPrefix = number & { readonly kind: "HashPrefix" };

/** Partitions that a layout may have: a power of two from the one to the other. */
export const PARTITIONS_MIN = 1024;
export const PARTITIONS_MAX = 65536;

if (PARTITIONS_MIN < 1 << INDEX_PARTITION_BITS)
  throw new Error("a partition of a layout must not be larger than one of the index");

/** Whether a layout may have so many partitions. */
export function isPartitionCount(count: unknown): count is number {
  return (
    Number.isInteger(count) &&
    (count as number) >= PARTITIONS_MIN &&
    (count as number) <= PARTITIONS_MAX &&
    ((count as number) & ((count as number) - 1)) === 0
  );
}

/** Partition `number` of `count`, a power of two. */
export function prefixOf(number: number, count: number): HashPrefix {
  return (count + number) as HashPrefix;
}

/** How many first bits of hash A a prefix names. */
export function bitsOf(prefix: HashPrefix): number {
  return 31 - Math.clz32(prefix);
}

/** Whether a key belongs to the partition. */
export function startsWith(hashA: number, prefix: HashPrefix): boolean {
  const bits = bitsOf(prefix);
  return (hashA >>> (32 - bits)) + 2 ** bits === prefix;
}

/** The partition of the index that the partition is a part of, or all of. */
export function indexPartitionOfPrefix(prefix: HashPrefix): number {
  return (prefix >>> (bitsOf(prefix) - INDEX_PARTITION_BITS)) - 2 ** INDEX_PARTITION_BITS;
}
