/**
 * Runs of keys as bytes: front-coded blocks, fences, footer (FORMAT.md, "Keys in order"). Pure: no file is
 * touched here.
 */
import { hash32 } from "../../util/hash.ts";
import { BYTE_ORDER_MARK } from "../offsets.ts";

/** A block of keys, always of this size. */
export const KEY_BLOCK_BYTES = 4096;
const BLOCK_HEADER_BYTES = 8;
/** Keys in one block: bounds what it expands to. */
const KEY_BLOCK_KEYS_MAX = 512;
/** Longest key that fits a block beside its lengths; longer than any key of a store. */
const RUN_KEY_BYTES_MAX = 2048;

const BLOCK = { checksum: 0, used: 4, count: 6 } as const;

const RUN_MAGIC = "MINIKEYS";
const RUN_FORM = 1;
export const RUN_FOOTER_BYTES = 64;
const FOOTER = {
  form: 8,
  byteOrder: 12,
  salt: 16,
  file: 20,
  blocks: 24,
  keys: 28,
  fenceBytes: 36,
  fenceChecksum: 40,
  checksum: 60,
} as const;

/** The seed of a block's checksum: where it belongs. */
export function blockSeed(salt: number, file: number, block: number): number {
  return salt ^ Math.imul(file, 0x9e3779b1) ^ Math.imul(block + 1, 0x85ebca77);
}

/** Bytes that two keys have in common at their beginning. */
export function sharedBytes(
  a: Uint8Array,
  aFrom: number,
  aTo: number,
  b: Uint8Array,
  bFrom: number,
  bTo: number,
): number {
  const most = Math.min(aTo - aFrom, bTo - bFrom);
  let shared = 0;
  while (shared < most && a[aFrom + shared] === b[bFrom + shared]) shared++;
  return shared;
}

/** The order of keys: by their bytes, a prefix before what it begins. Negative when `a` comes first. */
export function compareKeys(
  a: Uint8Array,
  aFrom: number,
  aTo: number,
  b: Uint8Array,
  bFrom: number,
  bTo: number,
): number {
  const shared = sharedBytes(a, aFrom, aTo, b, bFrom, bTo);
  if (aFrom + shared === aTo || bFrom + shared === bTo) return aTo - aFrom - (bTo - bFrom);
  return a[aFrom + shared] - b[bFrom + shared];
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

/**
 * What tells the blocks of a file apart: for each the shortest text that is above every key before the block
 * and not above its first one; for the first block that key itself.
 */
export class Fences {
  private bytes: Uint8Array = new Uint8Array(256);
  private starts: Int32Array = new Int32Array(64);
  count = 0;

  /** Memory in use. */
  get memoryBytes(): number {
    return this.bytes.length + this.starts.byteLength;
  }

  add(fence: Uint8Array, from: number, to: number): void {
    const at = this.starts[this.count];
    if (at + to - from > this.bytes.length) {
      const larger = new Uint8Array(Math.max(at + to - from, this.bytes.length * 2));
      larger.set(this.bytes);
      this.bytes = larger;
    }
    for (let i = from, k = at; i < to; i++, k++) this.bytes[k] = fence[i];
    if (this.count + 2 > this.starts.length) {
      const larger = new Int32Array(this.starts.length * 2);
      larger.set(this.starts);
      this.starts = larger;
    }
    this.starts[++this.count] = at + to - from;
  }

  /** Gives memory back that was kept for more. */
  trim(): this {
    this.bytes = this.bytes.slice(0, this.starts[this.count]);
    this.starts = this.starts.slice(0, this.count + 1);
    return this;
  }

  /** Negative when fence `number` comes before `key[from .. to)`. */
  compare(number: number, key: Uint8Array, from: number, to: number): number {
    return compareKeys(this.bytes, this.starts[number], this.starts[number + 1], key, from, to);
  }

  /** The last block that may have keys at or before `key[from .. to)`, at least 0. */
  blockOf(key: Uint8Array, from: number, to: number): number {
    let low = 0;
    let high = this.count - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.compare(middle, key, from, to) <= 0) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  encode(): Uint8Array {
    const encoded = new Uint8Array(this.starts[this.count] + 2 * this.count);
    let at = 0;
    for (let number = 0; number < this.count; number++) {
      const length = this.starts[number + 1] - this.starts[number];
      encoded[at] = length & 255;
      encoded[at + 1] = length >>> 8;
      encoded.set(this.bytes.subarray(this.starts[number], this.starts[number + 1]), at + 2);
      at += 2 + length;
    }
    return encoded;
  }

  /** Null: the bytes are not those of `count` fences. */
  static decode(encoded: Uint8Array, count: number): Fences | null {
    const fences = new Fences();
    let at = 0;
    for (let number = 0; number < count; number++) {
      const length = encoded[at] | (encoded[at + 1] << 8);
      if (at + 2 + length > encoded.length || length > RUN_KEY_BYTES_MAX) return null;
      fences.add(encoded, at + 2, at + 2 + length);
      at += 2 + length;
    }
    return at === encoded.length ? fences.trim() : null;
  }
}

/** What the end of a run's file says of it. */
export interface RunFooter {
  /** First word of the store's id, signed. */
  salt: number;
  /** Number of the file. */
  file: number;
  blocks: number;
  keys: number;
}

/** Fences and footer: what follows the blocks. */
export function encodeRunEnd({ salt, file, blocks, keys }: RunFooter, fences: Fences): Uint8Array {
  const encoded = fences.encode();
  const end = new Uint8Array(encoded.length + RUN_FOOTER_BYTES);
  end.set(encoded);
  const view = new DataView(end.buffer, encoded.length);
  for (let i = 0; i < 8; i++) view.setUint8(i, RUN_MAGIC.charCodeAt(i));
  view.setUint32(FOOTER.form, RUN_FORM, true);
  view.setUint32(FOOTER.byteOrder, BYTE_ORDER_MARK, true);
  view.setInt32(FOOTER.salt, salt, true);
  view.setUint32(FOOTER.file, file, true);
  view.setUint32(FOOTER.blocks, blocks, true);
  view.setUint32(FOOTER.keys, keys, true);
  view.setUint32(FOOTER.fenceBytes, encoded.length, true);
  view.setInt32(FOOTER.fenceChecksum, hash32(encoded, file), true);
  view.setInt32(FOOTER.checksum, hash32(end.subarray(encoded.length, end.length - 4), 0), true);
  return end;
}

/**
 * Reads the end of a run's file.
 * @param bytes the whole file
 * @returns what is wrong with it, for a person, if something is
 */
export function decodeRunEnd(bytes: Uint8Array): { footer: RunFooter; fences: Fences } | string {
  const at = bytes.length - RUN_FOOTER_BYTES;
  if (at < 0) return "it is shorter than a footer";
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, RUN_FOOTER_BYTES);
  for (let i = 0; i < 8; i++) if (view.getUint8(i) !== RUN_MAGIC.charCodeAt(i)) return "it has no footer";
  if (
    view.getInt32(FOOTER.checksum, true) !==
    hash32(Uint8Array.prototype.slice.call(bytes, at, at + FOOTER.checksum), 0)
  )
    return "the footer's checksum does not hold";
  if (view.getUint32(FOOTER.form, true) !== RUN_FORM) return "it has another form";
  if (view.getUint32(FOOTER.byteOrder, true) !== BYTE_ORDER_MARK) return "it has another byte order";
  const footer: RunFooter = {
    salt: view.getInt32(FOOTER.salt, true),
    file: view.getUint32(FOOTER.file, true),
    blocks: view.getUint32(FOOTER.blocks, true),
    keys: view.getUint32(FOOTER.keys, true),
  };
  const fenceBytes = view.getUint32(FOOTER.fenceBytes, true);
  if (footer.blocks * KEY_BLOCK_BYTES + fenceBytes !== at) return "its parts do not add up to its size";
  const encoded = Uint8Array.prototype.slice.call(bytes, at - fenceBytes, at);
  if (hash32(encoded, footer.file) !== view.getInt32(FOOTER.fenceChecksum, true))
    return "the checksum of its fences does not hold";
  const fences = Fences.decode(encoded, footer.blocks);
  return fences === null ? "its fences cannot be read" : { footer, fences };
}
