/**
 * The trailer of an extended record: what is kept with a value beside its bytes, as fields of a type. A field
 * that this program does not know is kept, and copied with the record. FORMAT.md has the types.
 */
import { FIELD_HEADER_BYTES, TRAILER_BYTES_MAX } from "../offsets.ts";

export interface Field {
  readonly type: number;
  /** At most 65,535 bytes; of a read one a view. */
  readonly bytes: Uint8Array;
}

export const NO_TRAILER: Uint8Array = new Uint8Array(0);

/** The fields of a trailer in their order. Null: its lengths do not add up. */
export function readFields(trailer: Uint8Array): Field[] | null {
  const fields: Field[] = [];
  for (let at = 0; at < trailer.length; ) {
    if (at + FIELD_HEADER_BYTES > trailer.length) return null;
    const end = at + FIELD_HEADER_BYTES + wordAt(trailer, at + 2);
    if (end > trailer.length) return null;
    fields.push({ type: wordAt(trailer, at), bytes: trailer.subarray(at + FIELD_HEADER_BYTES, end) });
    at = end;
  }
  return fields;
}

/** Whether bytes from elsewhere can be a record's trailer, or say that it has none. */
export function isTrailer(bytes: Uint8Array): boolean {
  return bytes.length <= TRAILER_BYTES_MAX && readFields(bytes) !== null;
}

/** The bytes of the first field of a type: a view; null: there is none. */
export function fieldOf(trailer: Uint8Array, type: number): Uint8Array | null {
  for (let at = 0; at + FIELD_HEADER_BYTES <= trailer.length; ) {
    const end = at + FIELD_HEADER_BYTES + wordAt(trailer, at + 2);
    if (wordAt(trailer, at) === type && end <= trailer.length)
      return trailer.subarray(at + FIELD_HEADER_BYTES, end);
    at = end;
  }
  return null;
}

/** The trailer of these fields; no fields: an empty one. */
export function writeFields(fields: readonly Field[]): Uint8Array {
  const bytes = fields.reduce((sum, field) => sum + FIELD_HEADER_BYTES + field.bytes.length, 0);
  if (bytes > TRAILER_BYTES_MAX) throw new Error(`a trailer of ${bytes} bytes`);
  const trailer = new Uint8Array(bytes);
  let at = 0;
  for (const field of fields) {
    trailer[at] = field.type & 0xff;
    trailer[at + 1] = field.type >>> 8;
    trailer[at + 2] = field.bytes.length & 0xff;
    trailer[at + 3] = field.bytes.length >>> 8;
    trailer.set(field.bytes, at + FIELD_HEADER_BYTES);
    at += FIELD_HEADER_BYTES + field.bytes.length;
  }
  return trailer;
}

function wordAt(bytes: Uint8Array, at: number): number {
  return bytes[at] | (bytes[at + 1] << 8);
}
