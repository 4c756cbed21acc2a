/** A value's weight as a field of a record's trailer: 2 bytes, low one first. */
import { FIELD_WEIGHT } from "../offsets.ts";
import { type Field, fieldOf } from "./trailer.ts";

/** @param weight 0 to 65,535 */
export function weightField(weight: number): Field {
  return { type: FIELD_WEIGHT, bytes: Uint8Array.of(weight & 0xff, weight >>> 8) };
}

/** The weight in a value's trailer; null: it has none. */
export function weightOf(trailer: Uint8Array): number | null {
  const bytes = fieldOf(trailer, FIELD_WEIGHT);
  return bytes === null ? null : bytes[0] | (bytes[1] << 8);
}
