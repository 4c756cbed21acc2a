/**
 * What a replica holds of keys in order, tombstones included, as bytes: for other nodes. For each key, all
 * little-endian: key length 2 · type length 1 · flags 1 · value bytes 8 · ballot 16 · key · content type ·
 * end 8 (of what ends, or has ended).
 *
 * A page over a cluster reads several times as many of them as it tells, and mostly they are the same from
 * each replica. So they stay bytes, and are compared as such, until somebody asks for one.
 */
import { compareKeys, sharedBytes } from "../../format/keys/order.ts";
import type { Ballot } from "../../format/record.ts";
import { bufferOf, copyOf } from "../../util/bytes.ts";
import { CONTENT_TYPE_BYTES_MAX, RECORD_KEY_BYTES_MAX } from "../../util/limits.ts";

const HEAD_BYTES = 28;
const TOMBSTONE_FLAG = 1;
const JSON_FLAG = 2;
const ENDED_FLAG = 4;
const ENDING_FLAG = 8;
const END_BYTES = 8;
/** A writer grows: many pages have few keys. */
const START_BYTES = 4 * 1024;

/** Longest such entry. */
export const HELD_BYTES_MAX = HEAD_BYTES + RECORD_KEY_BYTES_MAX + CONTENT_TYPE_BYTES_MAX + END_BYTES;

export interface HeldKey {
  key: Uint8Array;
  ballot: Ballot;
  tombstone: boolean;
  /** It is one that says that the value of that ballot has ended. */
  ended: boolean;
  /** End of life of the value, or of the one that has ended, in milliseconds since 1970; 0: none. */
  end: number;
  json: boolean;
  /** Empty of JSON and of a tombstone. */
  contentType: string;
  valueBytes: number;
}

/** Writes entries one behind the other. */
export class HeldWriter {
  private bytes: Buffer = bufferOf(new Uint8Array(START_BYTES));
  private length = 0;
  private type = "";
  private typeBytes: Uint8Array = new Uint8Array(0);

  /** @returns the entry's length */
  put(held: HeldKey): number {
    const { key, ballot, tombstone, ended, end, json, contentType, valueBytes } = held;
    if (contentType !== this.type) {
      this.type = contentType;
      this.typeBytes = Buffer.from(contentType);
    }
    const { typeBytes } = this;
    this.reserve(HELD_BYTES_MAX);
    const { bytes, length: start } = this;
    bytes.writeUInt16LE(key.length, start);
    bytes[start + 2] = typeBytes.length;
    bytes[start + 3] =
      (tombstone ? TOMBSTONE_FLAG : 0) |
      (json ? JSON_FLAG : 0) |
      (ended ? ENDED_FLAG : 0) |
      (end === 0 ? 0 : ENDING_FLAG);
    bytes.writeDoubleLE(valueBytes, start + 4);
    bytes.writeUInt32LE(ballot.clockLow, start + 12);
    bytes.writeUInt32LE(ballot.clockHigh, start + 16);
    bytes.writeUInt32LE(ballot.node, start + 20);
    bytes.writeUInt32LE(ballot.incarnation, start + 24);
    let at = start + HEAD_BYTES;
    for (let index = 0; index < key.length; index++) bytes[at++] = key[index];
    for (let index = 0; index < typeBytes.length; index++) bytes[at++] = typeBytes[index];
    if (end !== 0) at = bytes.writeDoubleLE(end, at);
    this.length = at;
    return at - start;
  }

  /** All of them, in memory of their own, so that it can be handed over. */
  whole(): Uint8Array {
    return copyOf(this.bytes, 0, this.length);
  }

  private reserve(more: number): void {
    if (this.length + more <= this.bytes.length) return;
    const grown = bufferOf(new Uint8Array(2 * this.bytes.length + more));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
  }
}

/** Entries that were checked, by their numbers. */
export class HeldRow {
  private readonly bytes: Buffer;
  /** Where each begins, and where the last one ends. */
  private readonly starts: readonly number[];

  private constructor(bytes: Buffer, starts: readonly number[]) {
    this.bytes = bytes;
    this.starts = starts;
  }

  /** Reads all entries; the row is a view. Null: they are none. */
  static of(bytes: Uint8Array): HeldRow | null {
    const entries = bufferOf(bytes);
    const starts = [0];
    for (let at = 0; at < entries.length; ) {
      if (at + HEAD_BYTES > entries.length) return null;
      const keyBytes = entries.readUInt16LE(at);
      const typeEnd = at + HEAD_BYTES + keyBytes + entries[at + 2];
      const next = typeEnd + ((entries[at + 3] & ENDING_FLAG) === 0 ? 0 : END_BYTES);
      if (keyBytes < 1 || keyBytes > RECORD_KEY_BYTES_MAX || next > entries.length) return null;
      if (!isCount(entries.readDoubleLE(at + 4))) return null;
      if (next !== typeEnd && !isCount(entries.readDoubleLE(typeEnd))) return null;
      starts.push(next);
      at = next;
    }
    return new HeldRow(entries, starts);
  }

  get count(): number {
    return this.starts.length - 1;
  }

  /** An entry's key, as a view. */
  key(index: number): Uint8Array {
    const from = this.starts[index] + HEAD_BYTES;
    return this.bytes.subarray(from, from + this.keyBytes(index));
  }

  /** An entry; its key is a view. */
  at(index: number): HeldKey {
    const { bytes } = this;
    const at = this.starts[index];
    const flags = bytes[at + 3];
    const typeAt = at + HEAD_BYTES + this.keyBytes(index);
    const typeEnd = typeAt + bytes[at + 2];
    return {
      key: this.key(index),
      ballot: {
        clockLow: bytes.readUInt32LE(at + 12),
        clockHigh: bytes.readUInt32LE(at + 16),
        node: bytes.readUInt32LE(at + 20),
        incarnation: bytes.readUInt32LE(at + 24),
      },
      tombstone: (flags & TOMBSTONE_FLAG) !== 0,
      ended: (flags & ENDED_FLAG) !== 0,
      end: (flags & ENDING_FLAG) === 0 ? 0 : bytes.readDoubleLE(typeEnd),
      json: (flags & JSON_FLAG) !== 0,
      contentType: typeAt === typeEnd ? "" : bytes.toString("utf8", typeAt, typeEnd),
      valueBytes: bytes.readDoubleLE(at + 4),
    };
  }

  /** The order of two keys, of two rows or of one. */
  compareKeys(index: number, other: HeldRow, otherIndex: number): number {
    const from = this.starts[index] + HEAD_BYTES;
    const otherFrom = other.starts[otherIndex] + HEAD_BYTES;
    const to = from + this.keyBytes(index);
    return compareKeys(this.bytes, from, to, other.bytes, otherFrom, otherFrom + other.keyBytes(otherIndex));
  }

  /** Whether two entries are the same, of two rows or of one. */
  isSame(index: number, other: HeldRow, otherIndex: number): boolean {
    const from = this.starts[index];
    const to = this.starts[index + 1];
    const otherFrom = other.starts[otherIndex];
    const otherTo = other.starts[otherIndex + 1];
    if (to - from !== otherTo - otherFrom) return false;
    return sharedBytes(this.bytes, from, to, other.bytes, otherFrom, otherTo) === to - from;
  }

  /** Whether keys are in the order of a list, each once. */
  isInOrder(reverse: boolean): boolean {
    for (let i = 1; i < this.count; i++) {
      const order = this.compareKeys(i - 1, this, i);
      if (reverse ? order <= 0 : order >= 0) return false;
    }
    return true;
  }

  private keyBytes(index: number): number {
    const at = this.starts[index];
    return this.bytes[at] | (this.bytes[at + 1] << 8);
  }
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}
