/**
 * What nodes ask each other for lists, as bytes (the first byte tells these frames from the others). All
 * numbers are little-endian.
 *
 *   list    28 1 · flags 1 · low length 2 · epoch 4 · limit 4 · high length 2 · bytes of the prefix 2 ·
 *           delimiter length 2 (0: none) · low · high · delimiter
 *
 *   listed  0 1 · flags 1 · place length 2 · partitions that it votes for, a bit each · place · entries
 *           (as many bits as the layout of that epoch has partitions: 128 bytes of 1,024)
 *           (src/shards/catalog/held.ts)
 *   refused 2 1 · epoch 4 · code and sentence as text with a blank between
 */
import type { KeyRange } from "../../engine/catalog/runs/listing.ts";
import { HeldRow } from "../../shards/catalog/held.ts";
import { bufferOf, copyOf } from "../../util/bytes.ts";
import { RECORD_KEY_BYTES_MAX } from "../../util/limits.ts";

export const LIST = 28;
/** Keys of one answer, dead ones included. */
export const LIST_KEYS_MAX = 2000;
const REQUEST_BYTES = 18;
const REVERSE_FLAG = 1;
const HIGH_FLAG = 2;
const MORE_FLAG = 1;
const HEAD_BYTES = 4;
const YES = 0;
const REFUSED = 2;
/** A key, and one byte that makes what follows it. */
const PLACE_BYTES_MAX = RECORD_KEY_BYTES_MAX + 1;

export interface ListRequest {
  epoch: number;
  limit: number;
  /**
   * Without scopes. With a delimiter, of the keys that are rolled up into one prefix only the first is told
   * that has a value.
   */
  range: KeyRange;
}

/** What a replica holds from the beginning of a range on. */
export interface Listed {
  /** A bit for each partition that it votes for. */
  votes: Uint8Array;
  /** Up to where in the range it has told: the next `low`, or `high`; null: to its end. */
  place: Uint8Array | null;
  keys: HeldRow;
}

export interface ListRefusal {
  epoch: number;
  text: string;
}

/** Bytes of the map of votes in a layout of so many partitions. */
export function votesBytes(partitions: number): number {
  return partitions / 8;
}

/** The partitions that a node votes for, a bit each of so many. */
export function votesOf(partitions: number, voted: Iterable<number>): Uint8Array {
  const bits = new Uint8Array(votesBytes(partitions));
  for (const partition of voted) bits[partition >>> 3] |= 1 << (partition & 7);
  return bits;
}

/** Whether it votes for a partition. */
export function hasVote(votes: Uint8Array, partition: number): boolean {
  return (votes[partition >>> 3] & (1 << (partition & 7))) !== 0;
}

export function isListFrame(bytes: Uint8Array): boolean {
  return bytes.length > 0 && bytes[0] === LIST;
}

export function encodeListRequest({ epoch, limit, range }: ListRequest): Buffer {
  const { low, high, reverse, delimiter, prefixBytes } = range;
  const highBytes = high?.length ?? 0;
  const delimiterBytes = delimiter?.length ?? 0;
  const frame = Buffer.alloc(REQUEST_BYTES + low.length + highBytes + delimiterBytes);
  frame[0] = LIST;
  frame[1] = (reverse ? REVERSE_FLAG : 0) | (high === null ? 0 : HIGH_FLAG);
  frame.writeUInt16LE(low.length, 2);
  frame.writeUInt32LE(epoch, 4);
  frame.writeUInt32LE(limit, 8);
  frame.writeUInt16LE(highBytes, 12);
  frame.writeUInt16LE(delimiter === null ? 0 : prefixBytes, 14);
  frame.writeUInt16LE(delimiterBytes, 16);
  frame.set(low, REQUEST_BYTES);
  if (high !== null) frame.set(high, REQUEST_BYTES + low.length);
  if (delimiter !== null) frame.set(delimiter, REQUEST_BYTES + low.length + highBytes);
  return frame;
}

/** Reads a request; its range is a copy. Null: it is none. */
export function decodeListRequest(bytes: Uint8Array): ListRequest | null {
  const frame = bufferOf(bytes);
  if (frame.length < REQUEST_BYTES || frame[0] !== LIST) return null;
  const limit = frame.readUInt32LE(8);
  const prefixBytes = frame.readUInt16LE(14);
  const lengths = [frame.readUInt16LE(2), frame.readUInt16LE(12), frame.readUInt16LE(16)];
  if (lengths.some((length) => length > PLACE_BYTES_MAX) || prefixBytes > RECORD_KEY_BYTES_MAX) return null;
  if (limit < 1 || limit > LIST_KEYS_MAX) return null;
  const [lowEnd, highEnd, end] = lengths.map((_, i) =>
    lengths.slice(0, i + 1).reduce((sum, length) => sum + length, REQUEST_BYTES),
  );
  if (frame.length !== end) return null;
  const hasHigh = (frame[1] & HIGH_FLAG) !== 0;
  const range: KeyRange = {
    low: copyOf(frame, REQUEST_BYTES, lowEnd),
    high: hasHigh ? copyOf(frame, lowEnd, highEnd) : null,
    reverse: (frame[1] & REVERSE_FLAG) !== 0,
    delimiter: highEnd === end ? null : copyOf(frame, highEnd, end),
    prefixBytes,
    scopes: null,
  };
  return { epoch: frame.readUInt32LE(4), limit, range };
}

/** @param entries as a HeldRow reads them */
export function encodeListed(votes: Uint8Array, place: Uint8Array | null, entries: Uint8Array): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  head[1] = place === null ? 0 : MORE_FLAG;
  head.writeUInt16LE(place?.length ?? 0, 2);
  return Buffer.concat([head, votes, place ?? new Uint8Array(0), entries]);
}

export function encodeListRefusal({ epoch, text }: ListRefusal): Buffer {
  const frame = Buffer.alloc(5 + Buffer.byteLength(text));
  frame[0] = REFUSED;
  frame.writeUInt32LE(epoch, 1);
  frame.write(text, 5);
  return frame;
}

/** Reads an answer by a layout of so many partitions. Null: it is none. */
export function decodeListed(bytes: Uint8Array, partitions: number): Listed | ListRefusal | null {
  const frame = bufferOf(bytes);
  if (frame.length >= 5 && frame[0] === REFUSED)
    return { epoch: frame.readUInt32LE(1), text: frame.toString("utf8", 5) };
  const listedBytes = HEAD_BYTES + votesBytes(partitions);
  if (frame.length < listedBytes || frame[0] !== YES) return null;
  const placeBytes = frame.readUInt16LE(2);
  if (placeBytes > PLACE_BYTES_MAX || listedBytes + placeBytes > frame.length) return null;
  const keys = HeldRow.of(frame.subarray(listedBytes + placeBytes));
  if (keys === null) return null;
  const hasMore = (frame[1] & MORE_FLAG) !== 0;
  return {
    votes: copyOf(frame, HEAD_BYTES, listedBytes),
    place: hasMore ? Uint8Array.from(frame.subarray(listedBytes, listedBytes + placeBytes)) : null,
    keys,
  };
}
