/**
 * xxHash (Yann Collet's XXH32) by WebAssembly, and the placement of keys. `loadHash` must have finished once
 * in a thread before anything else here is called in it.
 */
import xxhash from "xxhash-wasm";
import { SIP_SECRET_WORDS, sipHash } from "./sip-hash.ts";

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

/** Keys up to this length are hashed in JavaScript. */
const SHORT_BYTES_MAX = 48;

const PRIME_1 = 0x9e3779b1;
const PRIME_2 = 0x85ebca77;
const PRIME_3 = 0xc2b2ae3d;
const PRIME_4 = 0x27d4eb2f;
const PRIME_5 = 0x165667b1;

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}

function word(bytes: Uint8Array, at: number): number {
  return bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
}

function round(accumulator: number, input: number): number {
  return Math.imul(rotate((accumulator + Math.imul(input, PRIME_2)) | 0, 13), PRIME_1);
}

/**
 * xxh32 of `bytes[0 .. length)`, the same number as `hash32` gives. A short key is hashed here, in
 * JavaScript: copying it into the WebAssembly module's memory costs more than hashing it (measured for 16
 * bytes: 70 to 90 ns there, 15 ns here), and every request does so twice.
 */
export function hashKey(bytes: Uint8Array, length: number, seed: number): number {
  if (length > SHORT_BYTES_MAX) return hash32(bytes.subarray(0, length), seed);
  let at = 0;
  let hash: number;
  if (length >= 16) {
    let a = (seed + PRIME_1 + PRIME_2) | 0;
    let b = (seed + PRIME_2) | 0;
    let c = seed | 0;
    let d = (seed - PRIME_1) | 0;
    for (; at + 16 <= length; at += 16) {
      a = round(a, word(bytes, at));
      b = round(b, word(bytes, at + 4));
      c = round(c, word(bytes, at + 8));
      d = round(d, word(bytes, at + 12));
    }
    hash = (rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18)) | 0;
  } else hash = (seed + PRIME_5) | 0;
  hash = (hash + length) | 0;
  for (; at + 4 <= length; at += 4)
    hash = Math.imul(rotate((hash + Math.imul(word(bytes, at), PRIME_3)) | 0, 17), PRIME_4);
  for (; at < length; at++) hash = Math.imul(rotate((hash + Math.imul(bytes[at], PRIME_5)) | 0, 11), PRIME_1);
  hash = Math.imul(hash ^ (hash >>> 15), PRIME_2);
  hash = Math.imul(hash ^ (hash >>> 13), PRIME_3);
  return hash ^ (hash >>> 16);
}

/** Names of the hashes that hash B can be: of version 1 of a store, and of later ones. */
export const XXH32 = "xxh32";
export const SIPHASH = "siphash-1-3";

/** How a store hashes keys for hash B: that of its version, with its own secret. */
export interface KeyHash {
  readonly name: typeof XXH32 | typeof SIPHASH;
  /** The seed, one word; or SipHash's secret. */
  readonly secret: Int32Array;
}

/** Hash B of the key `bytes[0 .. length)`, as a signed 32-bit integer. Nothing else computes it. */
export function hashBOf(bytes: Uint8Array, length: number, { secret }: KeyHash): number {
  return secret.length === SIP_SECRET_WORDS
    ? sipHash(bytes, length, secret)
    : hashKey(bytes, length, secret[0]);
}

/**
 * Partitions by which the index of a store is arranged, and its floors: the same in every store. Those of a
 * layout are as large or smaller (hash-prefix.ts).
 */
export const INDEX_PARTITION_BITS = 10;
export const INDEX_PARTITIONS = 1 << INDEX_PARTITION_BITS;

/** Partition of the index that a key belongs to, from its hash A. */
export function indexPartitionOf(hashA: number): number {
  return hashA >>> (32 - INDEX_PARTITION_BITS);
}

/** Shard of a key from its hashes. */
export function shardOf(hashA: number, hashB: number, shards: number): number {
  return (Math.imul(hashA ^ hashB, 0x85ebca6b) >>> 16) % shards;
}
