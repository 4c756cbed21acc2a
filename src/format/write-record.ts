/**
 * Records as they are written: into a staging buffer, or around a value that is in place already. Positions
 * are units within that buffer; record.ts has how they are read.
 */

import { NOTHING } from "../util/bytes.ts";
import { RECORD_KEY_BYTES_MAX } from "../util/limits.ts";
import {
  FLAG_EXTENDED,
  FLAG_FRESH,
  FLAG_JSON,
  FLAG_OUTRANKED,
  RECORD,
  TYPE_CHUNK,
  UNIT_SHIFT,
} from "./offsets.ts";
import {
  checksum,
  keyOffset,
  type RecordHead,
  type RecordSource,
  recordSource,
  recordUnits,
} from "./record.ts";

const W = UNIT_SHIFT - 2; // units to words

/**
 * Memory for one record: its value is put into `value`, and the rest of the record then around it, so that
 * nothing has to be moved.
 */
export interface Frame {
  readonly source: RecordSource;
  readonly value: Uint8Array;
}

/** Bytes of memory that a frame takes for a value of at most `valueBytes`, whatever its key. */
export function frameBytes(valueBytes: number): number {
  return recordUnits(RECORD_KEY_BYTES_MAX, 0, valueBytes) << UNIT_SHIFT;
}

/**
 * A frame for a record with a key of `keyBytes` and a value of at most `valueBytes`, without a content type,
 * in memory of `frameBytes`.
 */
export function createFrame(memory: Uint8Array, keyBytes: number, valueBytes: number): Frame {
  const source = recordSource(memory);
  const at = keyOffset(0) + keyBytes;
  return { source, value: source.bytes.subarray(at, at + valueBytes) };
}

/**
 * Writes header, key, content type and trailer of a record at `unit` of a staging buffer and zeroes its
 * padding. The value belongs at the returned byte offset, where it may be already; then the caller calls
 * `sealRecord`.
 * @param trailer its fields; empty: it is not extended
 */
export function beginRecord(
  target: RecordSource,
  unit: number,
  head: RecordHead,
  key: Uint8Array,
  contentType: Uint8Array,
  valueBytes: number,
  trailer: Uint8Array = NOTHING,
): number {
  const { words, bytes } = target;
  const w = unit << W;
  words[w + 1] = valueBytes;
  const flags =
    head.type |
    (head.json ? FLAG_JSON : 0) |
    (head.outranked ? FLAG_OUTRANKED : 0) |
    (trailer.length > 0 ? FLAG_EXTENDED : 0) |
    (head.fresh ? FLAG_FRESH : 0);
  words[w + 2] = key.length | (contentType.length << 16) | (flags << 24);
  words[w + 5] = head.type === TYPE_CHUNK ? head.chunk : trailer.length;
  words[w + 6] = head.clockLow;
  words[w + 7] = head.clockHigh;
  words[w + 8] = head.node;
  words[w + 9] = head.incarnation;
  words[w + 10] = head.operationLow;
  words[w + 11] = head.operationHigh;
  const at = keyOffset(unit);
  bytes.set(key, at);
  if (contentType.length > 0) bytes.set(contentType, at + key.length);
  const valueAt = at + key.length + contentType.length;
  const end = (unit + recordUnits(key.length, contentType.length, valueBytes, trailer.length)) << UNIT_SHIFT;
  let padding = valueAt + valueBytes;
  if (trailer.length > 0) {
    bytes.set(trailer, padding);
    padding += trailer.length;
  }
  for (; padding < end; padding++) bytes[padding] = 0;
  return valueAt;
}

/** Makes a record that is not sealed yet one with a trailer of so many bytes, which its caller writes. */
export function setTrailerBytes(target: RecordSource, unit: number, trailerBytes: number): void {
  const w = unit << W;
  target.words[w + 2] |= FLAG_EXTENDED << 24;
  target.words[w + 5] = trailerBytes;
}

/** Sets or clears the flags of a record that is not sealed yet. */
export function setFlags(target: RecordSource, unit: number, outranked: boolean, fresh: boolean): void {
  const at = (unit << UNIT_SHIFT) + RECORD.type;
  const flags = (outranked ? FLAG_OUTRANKED : 0) | (fresh ? FLAG_FRESH : 0);
  target.bytes[at] = (target.bytes[at] & ~(FLAG_OUTRANKED | FLAG_FRESH)) | flags;
}

/** Ties a record to its place and its predecessor; answers its checksum. */
export function sealRecord(
  target: RecordSource,
  unit: number,
  place: number,
  durable: number,
  previous: number,
): number {
  const w = unit << W;
  target.words[w + 3] = durable;
  target.words[w + 4] = previous;
  const sum = checksum(target, unit, place);
  target.words[w] = sum;
  return sum;
}
