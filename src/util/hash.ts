/**
 * xxHash (Yann Collet's XXH32) by WebAssembly, and the placement of keys that is built on it. `loadHash` must
 * have finished once in a thread before anything else here is called in it.
 */
import xxhash from "xxhash-wasm";

type Hash32 = (input: Uint8Array, seed?: number) => number;

let h32: Hash32 | undefined;

/** Compiles the WebAssembly module for this thread. */
export async function loadHash(): Promise<void> {
  if (h32 === undefined) h32 = (await xxhash()).h32Raw;
}

/** xxh32 of all of `bytes`, as a signed 32-bit integer. */
export function hash32(bytes: Uint8Array, seed: number): number {
  return (h32 as Hash32)(bytes, seed) | 0;
}

/** Partitions of the key space; a setting of the cluster's layout, so fixed in format version 1. */
export const PARTITIONS = 1024;

/** Partition of a key from its hash A. */
export function partitionOf(hashA: number): number {
  return hashA >>> 22;
}

/** Shard of a key from its hashes. */
export function shardOf(hashA: number, hashB: number, shards: number): number {
  return (Math.imul(hashA ^ hashB, 0x85ebca6b) >>> 16) % shards;
}
