/**
 * Blocks of rising keys, front-coded: each key says how much it has in common with the one before it
 * (FORMAT.md, "Keys in order"). Pure: no file is touched here.
 */
import { hash32 } from "../../util/hash.ts";
import { compareKeys, sharedBytes } from "./order.ts";

/** A block of keys, always of this size. */
export const KEY_BLOCK_BYTES = 4096;
const BLOCK_HEADER_BYTES = 8;
/** Keys in one block: bounds what it expands to. */
const KEY_BLOCK_KEYS_MAX = 512;
/** Longest key that fits a block beside its lengths; longer than any key of a store. */
export const RUN_KEY_BYTES_MAX = 2048;

const BLOCK = { checksum: 0, used: 4, count: 6 } as const;

/** The seed of a block's checksum: where it belongs. */
export function blockSeed(salt: number, file: number, block: number): number {
  return salt ^ Math.imul(file, 0x9e3779b1) ^ Math.imul(block + 1, 0x85ebca77);
}

/** Fills one block with rising keys. */
export class KeyBlockWriter {
  readonly bytes: Uint8Array = new Uint8Array(KEY_BLOCK_BYTES);
  private readonly view = new DataView(this.bytes.buffer);
  private used = BLOCK_HEADER_BYTES;
  private readonly last = new Uint8Array(RUN_KEY_BYTES_MAX);
  private lastBytes = 0;
  count = 0;

  /** Adds `key[from .. to)`, which comes after all before it. False: the block is full. */
  add(key: Uint8Array, from: number, to: number): boolean {
    const { bytes, last } = this;
    const shared = this.count === 0 ? 0 : sharedBytes(last, 0, this.lastBytes, key, from, to);
    const rest = to - from - shared;
    const needed = (shared < 128 ? 1 : 2) + (rest < 128 ? 1 : 2) + rest;
    if (this.used + needed > KEY_BLOCK_BYTES || this.count === KEY_BLOCK_KEYS_MAX) return false;
    let at = putLength(bytes, this.used, shared);
    at = putLength(bytes, at, rest);
    for (let i = from + shared; i < to; i++) bytes[at++] = key[i];
    for (let i = shared, k = from + shared; k < to; i++, k++) last[i] = key[k];
    this.used = at;
    this.lastBytes = to - from;
    this.count++;
    return true;
  }

  /** Completes the block; `bytes` are good until `clear`. */
  seal(seed: number): void {
    const { bytes, view } = this;
    bytes.fill(0, this.used);
    view.setUint16(BLOCK.used, this.used, true);
    view.setUint16(BLOCK.count, this.count, true);
    view.setInt32(BLOCK.checksum, hash32(bytes.subarray(BLOCK.used), seed), true);
  }

  clear(): void {
    this.used = BLOCK_HEADER_BYTES;
    this.count = 0;
    this.lastBytes = 0;
  }
}

/** One byte up to 127, else two: the lower 7 bits with the top bit set, then the rest. */
function putLength(bytes: Uint8Array, at: number, length: number): number {
  if (length < 128) {
    bytes[at] = length;
    return at + 1;
  }
  bytes[at] = (length & 127) | 128;
  bytes[at + 1] = length >>> 7;
  return at + 2;
}

/** The keys of one block, expanded. Reused from block to block. */
export class KeyBlock {
  /** Key `i` is `bytes[starts[i] .. starts[i + 1])`. */
  bytes: Uint8Array = new Uint8Array(4 * KEY_BLOCK_BYTES);
  readonly starts: Int32Array = new Int32Array(KEY_BLOCK_KEYS_MAX + 1);
  count = 0;

  /**
   * Expands a block.
   * @returns false: it is damaged, or not the block that belongs there
   */
  read(block: Uint8Array, seed: number): boolean {
    this.count = 0;
    const view = new DataView(block.buffer, block.byteOffset, KEY_BLOCK_BYTES);
    if (view.getInt32(BLOCK.checksum, true) !== hash32(block.subarray(BLOCK.used, KEY_BLOCK_BYTES), seed))
      return false;
    const used = view.getUint16(BLOCK.used, true);
    const count = view.getUint16(BLOCK.count, true);
    if (used > KEY_BLOCK_BYTES || count === 0 || count > KEY_BLOCK_KEYS_MAX) return false;
    return this.expand(block, used, count);
  }

  private expand(block: Uint8Array, used: number, count: number): boolean {
    const { starts } = this;
    let at = BLOCK_HEADER_BYTES;
    let end = 0;
    let previous = 0;
    for (let i = 0; i < count; i++) {
      if (at + 2 > used) return false;
      let shared = block[at++];
      if (shared > 127) shared = (shared & 127) | (block[at++] << 7);
      let rest = block[at++];
      if (rest > 127) rest = (rest & 127) | (block[at++] << 7);
      if (shared > end - previous || at + rest > used || shared + rest > RUN_KEY_BYTES_MAX) return false;
      this.makeRoom(end + shared + rest);
      const { bytes } = this;
      starts[i] = end;
      for (let k = previous; k < previous + shared; k++) bytes[end++] = bytes[k];
      previous = starts[i];
      for (let k = 0; k < rest; k++) bytes[end++] = block[at++];
    }
    starts[count] = end;
    this.count = count;
    return true;
  }

  private makeRoom(bytes: number): void {
    if (this.bytes.length >= bytes) return;
    const larger = new Uint8Array(Math.max(bytes, this.bytes.length * 2));
    larger.set(this.bytes);
    this.bytes = larger;
  }

  /** The first key that is not before `key[from .. to)`; `count`: all are. */
  find(key: Uint8Array, from: number, to: number): number {
    const { bytes, starts } = this;
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareKeys(bytes, starts[middle], starts[middle + 1], key, from, to) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
