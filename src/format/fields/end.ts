/**
 * The end of a value's life as a field of a record's trailer: always the first one, so that it is found
 * without a search.
 */
import { endOf } from "../end.ts";
import {
  END_BYTES,
  FIELD_CHECKSUM,
  FIELD_END,
  FIELD_HEADER_BYTES,
  FIELD_MD5,
  FIELD_METADATA,
} from "../offsets.ts";
import { NO_TRAILER, readFields, writeFields } from "./trailer.ts";

/** Fields that only describe a value. */
const DESCRIBING: ReadonlySet<number> = new Set([FIELD_METADATA, FIELD_MD5, FIELD_CHECKSUM]);

/** A trailer that says this end beside all else; `end` 0: none. The given one is left as it is. */
export function withEnd(trailer: Uint8Array, end: number): Uint8Array {
  const rest = endOf(trailer) === 0 ? trailer : trailer.subarray(END_BYTES);
  if (end === 0) return rest.length === trailer.length ? trailer : rest.slice();
  const whole = new Uint8Array(END_BYTES + rest.length);
  const view = new DataView(whole.buffer);
  view.setUint16(0, FIELD_END, true);
  view.setUint16(2, END_BYTES - FIELD_HEADER_BYTES, true);
  view.setUint32(FIELD_HEADER_BYTES, end % 2 ** 32, true);
  view.setUint32(FIELD_HEADER_BYTES + 4, Math.floor(end / 2 ** 32), true);
  whole.set(rest, END_BYTES);
  return whole;
}

/**
 * What an ended record keeps of the trailer of its value: the end, and what this program does not know; not
 * what only describes the value.
 */
export function endedTrailer(trailer: Uint8Array): Uint8Array {
  if (trailer.length === END_BYTES) return trailer;
  const fields = readFields(trailer);
  if (fields === null) return NO_TRAILER;
  return writeFields(fields.filter(({ type }) => !DESCRIBING.has(type)));
}
