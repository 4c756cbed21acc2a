/**
 * Metadata as a field of a record's trailer: headers that came with a value and go back with it, a line each.
 */

import { bufferOf } from "../../util/bytes.ts";
import { isHeaderText } from "../../util/header-text.ts";
import { FIELD_METADATA } from "../offsets.ts";
import { fieldOf, NO_TRAILER, writeFields } from "./trailer.ts";

/** A header, its name in small letters. */
export type MetadataLine = readonly [name: string, value: string];

/** Begins the names of a client's own. */
export const META_PREFIX = "x-meta-";
/** The headers that are kept besides; others in a record are not sent. */
const NAMES: ReadonlySet<string> = new Set([
  "content-encoding",
  "content-language",
  "content-disposition",
  "cache-control",
  "expires",
]);
const TOKEN = /^[!#$%&'*+.^_`|~0-9a-z-]+$/;

/** Whether a name is one that a record's metadata may have. */
export function isMetadataName(name: string): boolean {
  return (
    NAMES.has(name) || (name.length > META_PREFIX.length && name.startsWith(META_PREFIX) && TOKEN.test(name))
  );
}

/** The trailer of a value with these headers, which are header text; none: an empty one. */
export function metadataTrailer(lines: readonly MetadataLine[]): Uint8Array {
  if (lines.length === 0) return NO_TRAILER;
  const text = lines.map(([name, value]) => `${name}: ${value}\n`).join("");
  return writeFields([{ type: FIELD_METADATA, bytes: Buffer.from(text, "latin1") }]);
}

/**
 * The headers in a value's trailer. A store written by other hands must not be able to add others, so what is
 * none of ours is left out.
 */
export function metadataOf(trailer: Uint8Array): MetadataLine[] {
  const field = fieldOf(trailer, FIELD_METADATA);
  if (field === null) return [];
  const lines: MetadataLine[] = [];
  for (const line of bufferOf(field).toString("latin1").split("\n")) {
    const colon = line.indexOf(": ");
    const name = line.slice(0, Math.max(0, colon));
    const value = line.slice(colon + 2);
    const isEmpty = value === "" && name.startsWith(META_PREFIX);
    if (colon > 0 && isMetadataName(name) && (isEmpty || isHeaderText(value))) lines.push([name, value]);
  }
  return lines;
}
