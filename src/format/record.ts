/**
 * Records: encoding into a staging buffer, and reading fields from any buffer that holds a slab's bytes (the
 * map of a slab, or a staging buffer). All positions here are units within that buffer; FORMAT.md has the
 * table.
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
  TYPE_FORGOTTEN,
  TYPE_MANIFEST,
  TYPE_MARK,
  TYPE_MASK,
  TYPE_TOMBSTONE,
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

/** Size of a record in units, for the lengths of its parts in bytes. */
export function recordUnits(
  keyBytes: number,
  contentTypeBytes: number,
  valueBytes: number,
  trailerBytes = 0,
): number {
  return unitsOf(RECORD_HEADER_BYTES + keyBytes + contentTypeBytes + valueBytes + trailerBytes);
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
const NO_TRAILER = new Uint8Array(0);

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

function checksum(source: RecordSource, unit: number, place: number): number {
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
  trailer: Uint8Array = NO_TRAILER,
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

/** Rounds bytes up to whole units; the result is in units. */
function unitsOf(bytes: number): number {
  return (bytes + UNIT_BYTES - 1) >>> UNIT_SHIFT;
}

/** Whether records of this type say what a key holds, so that the index has the last one of each key. */
export function isIndexed(type: number): boolean {
  return isValue(type) || isAbsence(type);
}

/** Whether a record of this type is what a key holds. */
export function isValue(type: number): boolean {
  return type === TYPE_VALUE || type === TYPE_MANIFEST;
}

/** Whether who follows changes is told of a record of this type. */
export function isTold(type: number): boolean {
  return isIndexed(type) && type !== TYPE_FORGOTTEN;
}

/** Whether a record of this type says that the key has no value. */
export function isAbsence(type: number): boolean {
  return type === TYPE_TOMBSTONE || type === TYPE_FORGOTTEN || type === TYPE_ENDED;
}
