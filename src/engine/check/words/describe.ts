/**
 * Words for people about what is in a slab. Pure.
 */
import {
  TYPE_CHUNK,
  TYPE_ENDED,
  TYPE_FLOOR,
  TYPE_FORGOTTEN,
  TYPE_MANIFEST,
  TYPE_MARK,
  TYPE_PROMISE,
  TYPE_TOMBSTONE,
  TYPE_VALUE,
} from "../../../format/offsets.ts";

const NAMES: Readonly<Record<number, string>> = {
  [TYPE_VALUE]: "value",
  [TYPE_CHUNK]: "chunk",
  [TYPE_MANIFEST]: "manifest",
  [TYPE_TOMBSTONE]: "tombstone",
  [TYPE_PROMISE]: "promise",
  [TYPE_MARK]: "mark",
  [TYPE_FLOOR]: "floor",
  [TYPE_FORGOTTEN]: "forgotten",
  [TYPE_ENDED]: "ended",
};

/** Name of a record's type. */
export function typeName(type: number): string {
  return NAMES[type] ?? "record";
}

/** A key in quotes, control characters escaped; bytes that are not UTF-8 become U+FFFD. */
export function keyText(key: Uint8Array): string {
  return JSON.stringify(Buffer.from(key).toString()).replace(
    /[\u007f-\u009f]/g,
    (c) => `\\u00${c.charCodeAt(0).toString(16)}`,
  );
}
