/**
 * The origin of a copy: the slab in which its record was first appended, for who follows the log. FORMAT.md,
 * "Origin". It is the first field of the trailer, and is read with the record (record.ts, `originOf`).
 */
import { FIELD_ORIGIN, ORIGIN_FIELD_BYTES, UNIT_SHIFT } from "../offsets.ts";
import {
  contentTypeBytesOf,
  keyBytesOf,
  type RecordSource,
  recordUnits,
  trailerBytesOf,
  unitsAt,
  valueBytesOf,
  valueOffset,
} from "../record.ts";
import { setTrailerBytes } from "../write-record.ts";

/** A trailer with an origin before the fields that are kept with the value. */
export function withOrigin(trailer: Uint8Array, sequence: number): Uint8Array {
  const bytes = new Uint8Array(ORIGIN_FIELD_BYTES + trailer.length);
  writeOrigin(bytes, 0, sequence);
  bytes.set(trailer, ORIGIN_FIELD_BYTES);
  return bytes;
}

function writeOrigin(bytes: Uint8Array, at: number, sequence: number): void {
  bytes[at] = FIELD_ORIGIN & 0xff;
  bytes[at + 1] = FIELD_ORIGIN >>> 8;
  bytes[at + 2] = 4;
  bytes[at + 3] = 0;
  for (let i = 0; i < 4; i++) bytes[at + 4 + i] = sequence >>> (8 * i);
}

/**
 * Lays a copy of a record out at `unit` of a staging buffer, to be sealed; its place, and what `setFlags`
 * sets, are left open.
 * @param origin the sequence that it is to name; 0: the copy is as long as the record
 */
export function layCopy(
  target: RecordSource,
  unit: number,
  source: RecordSource,
  sourceUnit: number,
  origin: number,
): void {
  const { bytes } = target;
  const from = sourceUnit << UNIT_SHIFT;
  const to = unit << UNIT_SHIFT;
  if (origin === 0) {
    bytes.set(source.bytes.subarray(from, from + (unitsAt(source, sourceUnit) << UNIT_SHIFT)), to);
    return;
  }
  const valueEnd = valueOffset(source, sourceUnit) + valueBytesOf(source, sourceUnit);
  const trailerBytes = trailerBytesOf(source, sourceUnit);
  bytes.set(source.bytes.subarray(from, valueEnd), to);
  setTrailerBytes(target, unit, trailerBytes + ORIGIN_FIELD_BYTES);
  let at = to + valueEnd - from;
  writeOrigin(bytes, at, origin);
  at += ORIGIN_FIELD_BYTES;
  bytes.set(source.bytes.subarray(valueEnd, valueEnd + trailerBytes), at);
  bytes.fill(0, at + trailerBytes, to + (unitsAt(target, unit) << UNIT_SHIFT));
}

/** Units of such a copy. */
export function copyUnits(source: RecordSource, unit: number, origin: number): number {
  if (origin === 0) return unitsAt(source, unit);
  const trailerBytes = trailerBytesOf(source, unit) + ORIGIN_FIELD_BYTES;
  return recordUnits(
    keyBytesOf(source, unit),
    contentTypeBytesOf(source, unit),
    valueBytesOf(source, unit),
    trailerBytes,
  );
}
