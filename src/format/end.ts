/**
 * Reading a value's end of life from its record or trailer, where it is the first field that is kept with the
 * value: fields/end.ts writes it.
 */
import { END_BYTES, FIELD_END, FIELD_HEADER_BYTES, ORIGIN_FIELD_BYTES } from "./offsets.ts";
import { isExtended, originOf, type RecordSource, valueBytesOf, valueOffset } from "./record.ts";

/** Latest end that is believed: what a date can say. */
const END_MAX = 8.64e15;

/** When the value with this trailer ends, in milliseconds since 1970; 0: never. */
export function endOf(trailer: Uint8Array): number {
  return trailer.length < END_BYTES ? 0 : endIn(trailer, 0);
}

/** When the value whose record is at `unit` ends, or has ended; 0: never. */
export function endAt(source: RecordSource, unit: number): number {
  if (!isExtended(source, unit)) return 0;
  const at = valueOffset(source, unit) + valueBytesOf(source, unit);
  // A copy may say first where it is from.
  return (
    endIn(source.bytes, at) ||
    (originOf(source, unit) === 0 ? 0 : endIn(source.bytes, at + ORIGIN_FIELD_BYTES))
  );
}

/** The field at `at`, if it is that of an end. */
function endIn(bytes: Uint8Array, at: number): number {
  const isEnd =
    (bytes[at] | (bytes[at + 1] << 8)) === FIELD_END &&
    (bytes[at + 2] | (bytes[at + 3] << 8)) === END_BYTES - FIELD_HEADER_BYTES;
  if (!isEnd) return 0;
  const low = bytes[at + 4] | (bytes[at + 5] << 8) | (bytes[at + 6] << 16) | (bytes[at + 7] << 24);
  const high = bytes[at + 8] | (bytes[at + 9] << 8) | (bytes[at + 10] << 16) | (bytes[at + 11] << 24);
  return Math.min((high >>> 0) * 2 ** 32 + (low >>> 0), END_MAX);
}
