/**
 * Records: reading fields from any buffer that holds a slab's bytes (the map of a slab, or a staging buffer).
 * All positions here are units within that buffer; FORMAT.md has the table.
 *
 * A `RecordSource` is one buffer seen as bytes and as 32-bit words; records are 16-byte aligned, so words
 * can be read without a DataView, which keeps the hot path short.
 */
import { hash32 } from "../util/hash.ts";
import { CHUNK_BYTES, CONTENT_TYPE_BYTES_MAX, RECORD_KEY_BYTES_MAX } from "../util/limits.ts";
import {
  FIELD_ORIGIN,
  FLAG_EXTENDED,
  FLAG_FRESH,
  FLAG_JSON,
  FLAG_OUTRANKED,
  MANIFEST_CHUNKS_MAX,
  MANIFEST_ENTRY_BYTES,
  MANIFEST_HEADER_BYTES,
  ORIGIN_FIELD_BYTES,
  RECORD,
  RECORD_HEADER_BYTES,
  TRAILER_BYTES_MAX,
  TYPE_CHUNK,
  TYPE_ENDED,
  TYPE_MARK,
  TYPE_MASK,
  TYPE_VALUE,
  UNIT_BYTES,
  UNIT_SHIFT,
} from "./offsets.ts";

export interface RecordSource {
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
  /**
   * What both are views of, and from which byte on: asking a typed array each time is slow enough to show in
   * profiles.
   */
  readonly buffer: ArrayBufferLike;
  readonly base: number;
}

/** A source over the whole of `bytes`, which must start at a multiple of 4. */
export function recordSource(bytes: Uint8Array): RecordSource {
  const { buffer, byteOffset, length } = bytes;
  return { bytes, words: new Int32Array(buffer, byteOffset, length >>> 2), buffer, base: byteOffset };
}

/** Version of a value: hybrid logical clock, node, incarnation, all as unsigned 32-bit numbers. */
export interface Ballot {
  clockLow: number;
  clockHigh: number;
  node: number;
  incarnation: number;
}

/** A ballot of its own, from anything that carries one. */
export function ballotOf({ clockLow, clockHigh, node, incarnation }: Ballot): Ballot {
  return { clockLow, clockHigh, node, incarnation };
}

/** What a record says besides its key, content type, value and trailer. */
export interface RecordHead extends Ballot {
  type: number;
  json: boolean;
  /** A promise above its ballot stood when it was appended. */
  outranked: boolean;
  /** The key had no record that a list of keys need know: see FORMAT.md. */
  fresh: boolean;
  chunk: number;
  operationLow: number;
  operationHigh: number;
}

/** Longest value of one record: a chunk or a full manifest. */
const RECORD_VALUE_BYTES_MAX = Math.max(
  CHUNK_BYTES,
  MANIFEST_HEADER_BYTES + MANIFEST_ENTRY_BYTES * MANIFEST_CHUNKS_MAX,
);

/** Size of a record in units, for the lengths of its parts in bytes. */
export function recordUnits(
  keyBytes: number,
  contentTypeBytes: number,
  valueBytes: number,
  trailerBytes = 0,
): number {
  const bytes = RECORD_HEADER_BYTES + keyBytes + contentTypeBytes + valueBytes + trailerBytes;
  return (bytes + UNIT_BYTES - 1) >>> UNIT_SHIFT;
}

/** Of a damaged header not even the length can be trusted. */
export const RECORD_UNITS_MAX = recordUnits(
  RECORD_KEY_BYTES_MAX,
  CONTENT_TYPE_BYTES_MAX,
  RECORD_VALUE_BYTES_MAX,
  TRAILER_BYTES_MAX + ORIGIN_FIELD_BYTES,
);

/** The seed of a record's checksum: where it belongs. */
export function placeOf(storeSalt: number, shard: number, sequence: number, unit: number): number {
  return (
    storeSalt ^ Math.imul(shard, 0x9e3779b1) ^ Math.imul(sequence, 0x85ebca77) ^ Math.imul(unit, 0xc2b2ae3d)
  );
}

const W = UNIT_SHIFT - 2; // units to words

export function typeOf(source: RecordSource, unit: number): number {
  return (source.words[(unit << W) + 2] >>> 24) & TYPE_MASK;
}
export function isJson(source: RecordSource, unit: number): boolean {
  return ((source.words[(unit << W) + 2] >>> 24) & FLAG_JSON) !== 0;
}
export function isOutranked(source: RecordSource, unit: number): boolean {
  return ((source.words[(unit << W) + 2] >>> 24) & FLAG_OUTRANKED) !== 0;
}
export function isFresh(source: RecordSource, unit: number): boolean {
  return ((source.words[(unit << W) + 2] >>> 24) & FLAG_FRESH) !== 0;
}
export function isExtended(source: RecordSource, unit: number): boolean {
  return ((source.words[(unit << W) + 2] >>> 24) & FLAG_EXTENDED) !== 0;
}
/** 0: it has none. */
export function trailerBytesOf(source: RecordSource, unit: number): number {
  return isExtended(source, unit) ? source.words[(unit << W) + 5] >>> 0 : 0;
}
export function keyBytesOf(source: RecordSource, unit: number): number {
  return source.words[(unit << W) + 2] & 0xffff;
}
export function contentTypeBytesOf(source: RecordSource, unit: number): number {
  return (source.words[(unit << W) + 2] >>> 16) & 0xff;
}
export function valueBytesOf(source: RecordSource, unit: number): number {
  return source.words[(unit << W) + 1] >>> 0;
}
export function checksumOf(source: RecordSource, unit: number): number {
  return source.words[unit << W];
}
export function durableOf(source: RecordSource, unit: number): number {
  return source.words[(unit << W) + 3] >>> 0;
}
export function previousOf(source: RecordSource, unit: number): number {
  return source.words[(unit << W) + 4];
}
export function keyOffset(unit: number): number {
  return (unit << UNIT_SHIFT) + RECORD_HEADER_BYTES;
}
export function valueOffset(source: RecordSource, unit: number): number {
  const sizes = source.words[(unit << W) + 2];
  return (unit << UNIT_SHIFT) + RECORD_HEADER_BYTES + (sizes & 0xffff) + ((sizes >>> 16) & 0xff);
}
/** Size of the record at `unit` in units, from its own header; only meaningful if `isPlausible`. */
export function unitsAt(source: RecordSource, unit: number): number {
  const sizes = source.words[(unit << W) + 2];
  const valueBytes = source.words[(unit << W) + 1] >>> 0;
  return recordUnits(sizes & 0xffff, (sizes >>> 16) & 0xff, valueBytes, trailerBytesOf(source, unit));
}

/** The key of the record at `unit`: a view. */
export function keyOf(source: RecordSource, unit: number): Uint8Array {
  const at = keyOffset(unit);
  return source.bytes.subarray(at, at + keyBytesOf(source, unit));
}

/**
 * The fields that are kept with the value of the record at `unit`, as trailer.ts reads them: a view; empty
 * where it has none. The origin is not among them: it is about where the record stands.
 */
export function trailerOf(source: RecordSource, unit: number): Uint8Array {
  const at = valueOffset(source, unit) + valueBytesOf(source, unit);
  const from = originOf(source, unit) === 0 ? at : at + ORIGIN_FIELD_BYTES;
  return source.bytes.subarray(from, at + trailerBytesOf(source, unit));
}

/** The sequence in which the record at `unit` was first appended, if it is a copy that says so; else 0. */
export function originOf(source: RecordSource, unit: number): number {
  if (trailerBytesOf(source, unit) < ORIGIN_FIELD_BYTES) return 0;
  const at = valueOffset(source, unit) + valueBytesOf(source, unit);
  const { bytes } = source;
  if ((bytes[at] | (bytes[at + 1] << 8)) !== FIELD_ORIGIN || (bytes[at + 2] | (bytes[at + 3] << 8)) !== 4)
    return 0;
  return (bytes[at + 4] | (bytes[at + 5] << 8) | (bytes[at + 6] << 16) | (bytes[at + 7] << 24)) >>> 0;
}

/** Reads the head of the record at `unit` into `head`. */
export function readHead(source: RecordSource, unit: number, head: RecordHead): void {
  const { words } = source;
  const w = unit << W;
  const flags = words[w + 2] >>> 24;
  head.type = flags & TYPE_MASK;
  head.json = (flags & FLAG_JSON) !== 0;
  head.outranked = (flags & FLAG_OUTRANKED) !== 0;
  head.fresh = (flags & FLAG_FRESH) !== 0;
  head.chunk = head.type === TYPE_CHUNK ? words[w + 5] >>> 0 : 0;
  head.clockLow = words[w + 6] >>> 0;
  head.clockHigh = words[w + 7] >>> 0;
  head.node = words[w + 8] >>> 0;
  head.incarnation = words[w + 9] >>> 0;
  head.operationLow = words[w + 10] >>> 0;
  head.operationHigh = words[w + 11] >>> 0;
}

/** A head with all fields zero, to be filled by `readHead` or by hand. */
export function emptyHead(): RecordHead {
  return {
    type: 0,
    json: false,
    outranked: false,
    fresh: false,
    chunk: 0,
    clockLow: 0,
    clockHigh: 0,
    node: 0,
    incarnation: 0,
    operationLow: 0,
    operationHigh: 0,
  };
}

/** Whether the lengths and the type at `unit` can be those of a record that ends at or before `endUnit`. */
export function isPlausible(source: RecordSource, unit: number, endUnit: number): boolean {
  if (unit + 3 > endUnit) return false;
  const type = typeOf(source, unit);
  if (type < TYPE_VALUE || type > TYPE_ENDED) return false;
  const keyBytes = keyBytesOf(source, unit);
  if ((keyBytes === 0) !== (type === TYPE_MARK) || keyBytes > RECORD_KEY_BYTES_MAX) return false;
  if (valueBytesOf(source, unit) > RECORD_VALUE_BYTES_MAX) return false;
  if (isExtended(source, unit)) {
    const trailerBytes = trailerBytesOf(source, unit);
    if (type === TYPE_CHUNK || trailerBytes === 0) return false;
    if (trailerBytes > TRAILER_BYTES_MAX + ORIGIN_FIELD_BYTES) return false;
  }
  return unit + unitsAt(source, unit) <= endUnit;
}

/** Whether the record at `unit` is whole and belongs there. `endUnit` bounds what may be read. */
export function isIntact(source: RecordSource, unit: number, endUnit: number, place: number): boolean {
  if (!isPlausible(source, unit, endUnit)) return false;
  return checksumOf(source, unit) === checksum(source, unit, place);
}

/** What the checksum of the record at `unit` is to be there. */
export function checksum(source: RecordSource, unit: number, place: number): number {
  const start = (unit << UNIT_SHIFT) + RECORD.valueBytes;
  const end = valueOffset(source, unit) + valueBytesOf(source, unit) + trailerBytesOf(source, unit);
  return hash32(new Uint8Array(source.buffer, source.base + start, end - start), place);
}

/** Whether the key of the record at `unit` equals `key[0 .. keyBytes)`. */
export function keyEquals(source: RecordSource, unit: number, key: Uint8Array, keyBytes: number): boolean {
  if (keyBytesOf(source, unit) !== keyBytes) return false;
  const { bytes } = source;
  let at = keyOffset(unit);
  for (let i = 0; i < keyBytes; i++) if (bytes[at++] !== key[i]) return false;
  return true;
}

/** Reads the ballot of the record at `unit`. */
export function ballotAt(source: RecordSource, unit: number): Ballot {
  const { words } = source;
  const w = unit << W;
  return {
    clockLow: words[w + 6] >>> 0,
    clockHigh: words[w + 7] >>> 0,
    node: words[w + 8] >>> 0,
    incarnation: words[w + 9] >>> 0,
  };
}
