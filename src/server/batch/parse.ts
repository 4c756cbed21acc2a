/**
 * The operations of a batch, from its text: JSON, `{"operations":[…]}`, or an operation a line (NDJSON). Byte
 * by byte, since a value's own text is kept as it was sent, and an operation at a time, so that a large batch
 * is read in slices between which others are served.
 *
 * What is malformed as a whole is thrown before anything of it is done. An operation that could not be done
 * alone either becomes a refusal of its own. The texts of values are only skipped here; whoever stores them
 * checks them.
 */

import { isUtf8 } from "node:buffer";
import { readTags } from "../../rules/conditions.ts";
import { type Life, NO_LIFE } from "../../rules/expiry.ts";
import { type Allowed, lifeOfTtl } from "../../rules/life.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { isHeaderText, isJsonType } from "../../util/header-text.ts";
import { CHUNK_BYTES, CONTENT_TYPE_BYTES_MAX, KEY_BYTES_MAX } from "../../util/limits.ts";
import { storedBytes } from "../../value/stored.ts";
import { onceProblem } from "../once/once.ts";

export const OPERATIONS_MAX = 10_000;

/** An operation that can be done. */
export interface Operation {
  verb: "get" | "put" | "post" | "delete";
  key: Uint8Array;
  /** Of put and post: what a request of its own would have sent. */
  body: Uint8Array;
  json: boolean;
  contentType: string;
  life: Life;
  ifMatch: string;
  ifNoneMatch: string;
  /** What it is known by when it comes again; empty: it has no key. */
  once: string;
}

/** One that is refused before it is tried. */
export interface Refused {
  code: ErrorCode;
  detail: string;
}

/** The whole batch is malformed. The message is a sentence for its sender. */
export class BatchError extends Error {}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const LINE_FEED = 0x0a;
const OPEN = { brace: 0x7b, bracket: 0x5b };
const CLOSE = { brace: 0x7d, bracket: 0x5d };

const NOTHING = new Uint8Array(0);
const BYTES_TYPE = "application/octet-stream";
const JSON_TYPE = "application/json";
const VERBS: ReadonlySet<string> = new Set(["get", "put", "post", "delete"]);
const MEMBERS: ReadonlySet<string> = new Set([
  ...["op", "key", "value", "base64", "type", "ttl", "ifMatch", "ifNoneMatch", "idempotencyKey"],
]);
const WITH_KEEP: readonly Allowed[] = [
  { keep: false, none: false },
  { keep: true, none: false },
];
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/**
 * The operations of a body, in order; to be driven to its end before any of them is done.
 * @throws BatchError
 */
export function* operationsOf(bytes: Uint8Array, isLines: boolean): Generator<Operation | Refused> {
  if (!isUtf8(bytes)) throw new BatchError("the batch is not valid UTF-8");
  const text = new Text(bytes);
  let count = 0;
  for (const [start, end] of isLines ? lines(text) : elements(text)) {
    if (++count > OPERATIONS_MAX) throw new BatchError(`a batch has at most ${OPERATIONS_MAX} operations`);
    yield readOperation(text, start, end, `operation ${count}`);
  }
}

type Span = readonly [start: number, end: number];

/** Bytes of JSON, and how to step over what is in them. */
class Text {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  slice(start: number, end: number): string {
    return Buffer.from(this.bytes.buffer, this.bytes.byteOffset + start, end - start).toString("utf8");
  }

  /** Parses what is between two places. */
  parse(start: number, end: number, what: string): unknown {
    try {
      return JSON.parse(this.slice(start, end));
    } catch {
      throw new BatchError(`${what} is not JSON`);
    }
  }

  skipSpace(at: number): number {
    let next = at;
    while (isSpace(this.bytes[next])) next++;
    return next;
  }

  /** The place behind the value that begins here, as far as its brackets and quotes tell. */
  skipValue(at: number): number {
    const { bytes } = this;
    let depth = 0;
    let next = at;
    while (next < bytes.length) {
      const byte = bytes[next];
      if (byte === QUOTE) next = this.skipString(next);
      else if (byte === OPEN.brace || byte === OPEN.bracket) {
        depth++;
        next++;
      } else if (byte === CLOSE.brace || byte === CLOSE.bracket) {
        if (depth === 0) return next;
        depth--;
        next++;
      } else if (depth === 0 && (byte === COMMA || isSpace(byte))) return next;
      else {
        next++;
        continue;
      }
      if (depth === 0) return next;
    }
    return next;
  }

  private skipString(at: number): number {
    const { bytes } = this;
    for (let next = at + 1; next < bytes.length; next++) {
      if (bytes[next] === BACKSLASH) next++;
      else if (bytes[next] === QUOTE) return next + 1;
    }
    return bytes.length;
  }
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === LINE_FEED || byte === 0x0d || byte === 0x09;
}

function* lines(text: Text): Generator<Span> {
  const { bytes } = text;
  for (let at = 0; at < bytes.length; ) {
    const found = bytes.indexOf(LINE_FEED, at);
    const end = found < 0 ? bytes.length : found;
    const start = text.skipSpace(at);
    if (start < end) yield [start, end];
    at = end + 1;
  }
}

/** The elements of "operations" in the object that the whole text is. */
function* elements(text: Text): Generator<Span> {
  const all = text.skipSpace(0);
  let operations: Span | null = null;
  for (const [name, span] of members(text, all, text.bytes.length, "the batch")) {
    if (name === "operations" && operations === null) operations = span;
    else if (name !== "atomic") throw new BatchError(`the batch has a member ${JSON.stringify(name)}`);
    else if (text.parse(span[0], span[1], '"atomic"') !== false)
      throw new BatchError("a batch is not atomic: each operation is done as if it were sent alone");
  }
  if (operations === null || text.bytes[operations[0]] !== OPEN.bracket)
    throw new BatchError('the body is {"operations": […]}, or, as application/x-ndjson, an operation a line');
  yield* items(text, operations);
}

function* items(text: Text, [start, end]: Span): Generator<Span> {
  const bad = new BatchError('"operations" is not a JSON array');
  let at = text.skipSpace(start + 1);
  if (text.bytes[at] === CLOSE.bracket && at + 1 === end) return;
  for (;;) {
    const to = text.skipValue(at);
    if (to === at) throw bad;
    yield [at, to];
    at = text.skipSpace(to);
    if (text.bytes[at] === CLOSE.bracket && at + 1 === end) return;
    if (text.bytes[at] !== COMMA) throw bad;
    at = text.skipSpace(at + 1);
  }
}

/** The members of the object between two places, where nothing but it may be. */
function* members(text: Text, start: number, end: number, what: string): Generator<[string, Span]> {
  const bad = new BatchError(`${what} is not a JSON object`);
  const { bytes } = text;
  if (bytes[start] !== OPEN.brace) throw bad;
  let at = text.skipSpace(start + 1);
  if (bytes[at] === CLOSE.brace) at++;
  else
    for (;;) {
      if (bytes[at] !== QUOTE) throw bad;
      const nameEnd = text.skipValue(at);
      const name = text.parse(at, nameEnd, `a name in ${what}`) as string;
      at = text.skipSpace(nameEnd);
      if (bytes[at] !== COLON) throw bad;
      at = text.skipSpace(at + 1);
      const valueEnd = text.skipValue(at);
      if (valueEnd === at) throw bad;
      yield [name, [at, valueEnd]];
      at = text.skipSpace(valueEnd);
      if (bytes[at] === CLOSE.brace) {
        at++;
        break;
      }
      if (bytes[at] !== COMMA) throw bad;
      at = text.skipSpace(at + 1);
    }
  if (text.skipSpace(at) < end) throw bad;
}

function readOperation(text: Text, start: number, end: number, what: string): Operation | Refused {
  let value: Span | null = null;
  const given = new Map<string, unknown>();
  for (const [name, span] of members(text, start, end, what)) {
    if (given.has(name)) throw new BatchError(`${what} has the member "${name}" twice`);
    // A value's text is nobody's business here.
    if (name === "value") value = span;
    given.set(name, name === "value" ? undefined : text.parse(span[0], span[1], `"${name}" in ${what}`));
  }
  const problem = problemOf(given);
  if (problem !== null) return { code: "bad_request", detail: problem };
  const verb = given.get("op") as Operation["verb"];
  const name = given.get("key") as string;
  const key = Buffer.from(name, "utf8");
  if (name === "" || !isWellFormed(name)) return { code: "bad_key", detail: "" };
  if (key.length > KEY_BYTES_MAX) return { code: "key_too_long", detail: "" };
  const ifMatch = readTags((given.get("ifMatch") as string | undefined) ?? "", false);
  const ifNoneMatch = readTags((given.get("ifNoneMatch") as string | undefined) ?? "", true);
  if (ifMatch === null || ifNoneMatch === null)
    return { code: "bad_request", detail: 'ifMatch and ifNoneMatch are "*" or entity tags' };
  const life = given.has("ttl")
    ? lifeOfTtl(String(given.get("ttl")), WITH_KEEP[verb === "put" ? 1 : 0])
    : NO_LIFE;
  if (typeof life === "string") return { code: "bad_request", detail: life };
  const body = value === null ? rawBody(given) : jsonBody(text, value);
  if (body.length > CHUNK_BYTES)
    return {
      code: "too_large",
      detail: `a value in a batch has at most ${CHUNK_BYTES} bytes; send it alone`,
    };
  const contentType = (given.get("type") as string | undefined) ?? BYTES_TYPE;
  return {
    ...{ verb, key, body, life, ifMatch, ifNoneMatch },
    json: value !== null,
    contentType: value === null ? contentType : JSON_TYPE,
    once: (given.get("idempotencyKey") as string | undefined) ?? "",
  };
}

/** What is wrong with an operation's members, or null. */
function problemOf(given: ReadonlyMap<string, unknown>): string | null {
  const op = given.get("op");
  if (typeof op !== "string" || !VERBS.has(op)) return '"op" is get, put, post or delete';
  for (const [name, value] of given) {
    if (!MEMBERS.has(name)) return `the member ${JSON.stringify(name)} is not supported`;
    if (name === "ttl" && typeof value === "number") continue;
    if (name !== "value" && typeof value !== "string") return `"${name}" is not a text`;
  }
  if (!given.has("key")) return 'there is no "key"';
  const hasValue = given.has("value");
  const hasBytes = given.has("base64");
  const stores = op === "put" || op === "post";
  if (stores && hasValue === hasBytes) return 'give "value", or "base64" and "type": one of them';
  if (!stores && (hasValue || hasBytes)) return `${op} takes no value`;
  if (given.has("ttl") && !stores) return `${op} takes no ttl`;
  if (given.has("type") && !hasBytes) return '"type" belongs to "base64"';
  if (hasBytes && !BASE64.test(given.get("base64") as string)) return '"base64" is not base64';
  const type = given.get("type") as string | undefined;
  if (type !== undefined && (type.length > CONTENT_TYPE_BYTES_MAX || !isHeaderText(type)))
    return '"type" is no content type';
  if (type !== undefined && isJsonType(type)) return 'JSON is given as "value", not as "base64"';
  const once = given.get("idempotencyKey") as string | undefined;
  if (once === undefined) return null;
  return op === "get" ? "get takes no idempotencyKey" : onceProblem(once, "idempotencyKey");
}

function isWellFormed(text: string): boolean {
  return Buffer.from(text, "utf8").toString("utf8") === text;
}

function rawBody(given: ReadonlyMap<string, unknown>): Uint8Array {
  const text = given.get("base64") as string | undefined;
  return text === undefined ? NOTHING : Buffer.from(text, "base64");
}

function jsonBody(text: Text, [start, end]: Span): Uint8Array {
  return storedBytes(text.bytes.subarray(start, end));
}
