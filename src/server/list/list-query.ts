/**
 * What a list is asked for: the query's parameters, and the cursor, which holds the place and nothing else.
 * Pure.
 */
import { justAfter, type KeyRange, rangeOf } from "../../engine/catalog/runs/listing.ts";
import { flagOf, noFlag, parametersOf } from "../../rules/query.ts";
import { hash32 } from "../../util/hash.ts";
import { KEY_BYTES_MAX, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX } from "../../util/limits.ts";

/** Longest query: a cursor, two keys and a delimiter, percent-encoded. */
const QUERY_CHARACTERS_MAX = 14 * 1024;
/** What the other parameters do not go with. */
const OTHERS = ["watch", "changes", "wait"];
const FLAGS = ["list", "reverse", "values", "count", "dry-run", "all"] as const;
const TEXTS = ["start", "after", "end", "delimiter", "prefix", "cursor", "limit", "consistency"] as const;

export interface ListQuery {
  range: KeyRange;
  limit: number;
  values: boolean;
  count: boolean;
  consistency: "quorum" | "one" | null;
  /** Ties cursors to the list that they are of. */
  tie: number;
}

type Flag = (typeof FLAGS)[number];
type Text = (typeof TEXTS)[number];

export type Parameters = Partial<Record<Flag, boolean>> & Partial<Record<Text, string>>;

/** Whether a query asks for a list. */
export function isListQuery(query: string): boolean {
  // Percent-encoded it is the same, to access and to us.
  if (query.includes("%")) return parametersOf(query).has("list");
  return /(?:^|&)list(?:=|&|$)/.test(query);
}

/** Reads the parameters that lists and deletes know; a text says what is wrong with them. */
export function readParameters(query: string): Parameters | string {
  if (query.length > QUERY_CHARACTERS_MAX)
    return `the query is limited to ${QUERY_CHARACTERS_MAX} characters`;
  const parameters: Parameters = {};
  for (const part of query.split("&")) {
    const at = part.indexOf("=");
    const name = decode(at < 0 ? part : part.slice(0, at));
    if (name === null) continue;
    if (OTHERS.includes(name)) return `list and ${name} do not go together`;
    const isFlag = (FLAGS as readonly string[]).includes(name);
    if (!isFlag && !(TEXTS as readonly string[]).includes(name)) continue;
    if (name in parameters) return `the parameter ${name} is given twice`;
    const value = at < 0 ? "" : decode(part.slice(at + 1));
    if (value === null) return `the parameter ${name} is not percent-encoded UTF-8`;
    const said = flagOf(value);
    if (!isFlag) parameters[name as Text] = value;
    else if (said === null) return noFlag(name);
    else parameters[name as Flag] = said;
  }
  return parameters;
}

/** Null: not percent-encoded UTF-8. */
function decode(text: string): string | null {
  // What uWS puts in the place of bytes that are no UTF-8.
  if (text.includes("\ufffd")) return null;
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch {
    return null;
  }
}

/** Reads a list's query; a text says what is wrong with it. */
export function readListQuery(prefix: Uint8Array, query: string): ListQuery | string {
  const parameters = readParameters(query);
  if (typeof parameters === "string") return parameters;
  const { limit = String(LIST_LIMIT_DEFAULT), consistency = null, cursor, reverse = false } = parameters;
  if (parameters.list === false) return "list is false; leave it out to read a key";
  if (!/^\d{1,5}$/.test(limit) || Number(limit) < 1 || Number(limit) > LIST_LIMIT_MAX)
    return `limit is a number from 1 to ${LIST_LIMIT_MAX}`;
  if (consistency !== null && consistency !== "quorum" && consistency !== "one")
    return "consistency is quorum or one";
  if (parameters.count === true && parameters.values === true) return "count and values do not go together";
  const range = boundedRange(prefix, parameters, reverse);
  if (typeof range === "string") return range;
  const tie = tieOf(prefix, range);
  if (cursor !== undefined && !applyCursor(range, cursor, tie))
    return "the cursor is none of this list: send prefix, delimiter and reverse as for the page before";
  const { values = false, count = false } = parameters;
  return { range, limit: Number(limit), values, count, consistency, tie };
}

/** The range that prefix, bounds and delimiter leave; a text says what is wrong with them. */
export function boundedRange(
  prefix: Uint8Array,
  parameters: Parameters,
  reverse: boolean,
): KeyRange | string {
  for (const name of ["start", "after", "end", "delimiter"] as const) {
    const value = parameters[name];
    if (value === undefined) continue;
    if (value === "") return `${name} is empty; leave it out`;
    if (Buffer.byteLength(value) > KEY_BYTES_MAX)
      return `${name} is longer than a key: ${KEY_BYTES_MAX} bytes`;
  }
  const { start, after, end, delimiter } = parameters;
  const range = rangeOf(prefix, reverse, delimiter === undefined ? null : bytesOf(delimiter));
  if (start !== undefined) range.low = higher(range.low, bytesOf(start));
  if (after !== undefined) range.low = higher(range.low, justAfter(bytesOf(after)));
  if (end !== undefined) range.high = lower(range.high, bytesOf(end));
  return range;
}

/** In memory of its own: a range is copied to other threads. */
function bytesOf(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text));
}

export function higher(a: Uint8Array, b: Uint8Array): Uint8Array {
  return Buffer.compare(a, b) < 0 ? b : a;
}

function lower(a: Uint8Array | null, b: Uint8Array): Uint8Array {
  return a !== null && Buffer.compare(a, b) < 0 ? a : b;
}

/** Of a cursor: version, then its checksum; then the place. */
const CURSOR_VERSION = 1;
const CURSOR_HEAD_BYTES = 5;

function tieOf(prefix: Uint8Array, { delimiter, reverse }: KeyRange): number {
  const parts = [Buffer.from([prefix.length & 255, prefix.length >>> 8, reverse ? 1 : 0]), prefix];
  return hash32(Buffer.concat([...parts, delimiter ?? new Uint8Array(0)]), 0);
}

/** The cursor for what is left of a list. */
export function cursorOf(left: KeyRange, tie: number): string {
  const place = (left.reverse ? left.high : left.low) ?? new Uint8Array(0);
  const bytes = Buffer.alloc(CURSOR_HEAD_BYTES + place.length);
  bytes[0] = CURSOR_VERSION;
  bytes.writeInt32LE(hash32(place, tie), 1);
  bytes.set(place, CURSOR_HEAD_BYTES);
  return bytes.toString("base64url");
}

/** Narrows a range to what a cursor leaves of it. False: it is not one of this list. */
function applyCursor(range: KeyRange, cursor: string, tie: number): boolean {
  if (!/^[\w-]+$/.test(cursor)) return false;
  const bytes = Buffer.from(cursor, "base64url");
  if (bytes.length < CURSOR_HEAD_BYTES || bytes[0] !== CURSOR_VERSION) return false;
  const place = new Uint8Array(bytes.subarray(CURSOR_HEAD_BYTES));
  if (bytes.readInt32LE(1) !== hash32(place, tie)) return false;
  if (range.reverse) range.high = lower(range.high, place);
  else range.low = higher(range.low, place);
  return true;
}
