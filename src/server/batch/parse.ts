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
import { EMPTY_LIST, readTags } from "../../rules/conditions.ts";
import { type Life, NO_LIFE } from "../../rules/expiry.ts";
import { type Allowed, lifeOfTtl } from "../../rules/life.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { isHeaderText, isJsonType } from "../../util/header-text.ts";
import { CHUNK_BYTES, CONTENT_TYPE_BYTES_MAX, KEY_BYTES_MAX } from "../../util/limits.ts";
import { storedBytes } from "../../value/stored.ts";
import { onceProblem } from "../once/once.ts";
import { type Form, formOfBytes, formOfJson } from "../patch/form.ts";
import { BatchError, elements, lines, members, type Span, Text } from "./text.ts";

export const OPERATIONS_MAX = 10_000;

/** An operation that can be done. */
export interface Operation {
  /** A patch that only gives the value another end is a "touch". */
  verb: "get" | "put" | "post" | "delete" | "patch" | "touch";
  key: Uint8Array;
  /** Of put and post: what is to be stored. Of a patch: what a request of its own would have sent. */
  body: Uint8Array;
  /** Of a patch; otherwise null. */
  form: Form | null;
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

const NOTHING = new Uint8Array(0);
const BYTES_TYPE = "application/octet-stream";
const JSON_TYPE = "application/json";
const OPS: ReadonlySet<string> = new Set(["get", "put", "post", "patch", "delete"]);
const MEMBERS: ReadonlySet<string> = new Set([
  ...["op", "key", "value", "base64", "type", "ttl", "ifMatch", "ifNoneMatch", "idempotencyKey"],
]);
/** What a ttl may be beside a time. */
const LIVES: Readonly<Record<string, Allowed>> = {
  put: { keep: true, none: false },
  post: { keep: false, none: false },
  patch: { keep: false, none: false },
  touch: { keep: false, none: true },
};
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
  const verb = verbOf(given);
  const name = given.get("key") as string;
  const key = Buffer.from(name, "utf8");
  if (name === "" || !isWellFormed(name)) return { code: "bad_key", detail: "" };
  if (key.length > KEY_BYTES_MAX) return { code: "key_too_long", detail: "" };
  const ifMatch = tagsOf(given, "ifMatch");
  const ifNoneMatch = tagsOf(given, "ifNoneMatch");
  if (ifMatch === null || ifNoneMatch === null)
    return { code: "bad_request", detail: 'ifMatch and ifNoneMatch are "*" or entity tags' };
  const life = given.has("ttl") ? lifeOfTtl(String(given.get("ttl")), LIVES[verb]) : NO_LIFE;
  if (typeof life === "string") return { code: "bad_request", detail: life };
  const body = value === null ? rawBody(given) : textOf(text, value, verb);
  if (body.length > CHUNK_BYTES)
    return {
      code: "too_large",
      detail: `a value in a batch has at most ${CHUNK_BYTES} bytes; send it alone`,
    };
  const about = { verb, key, body, life, ifMatch, ifNoneMatch, json: value !== null };
  return {
    ...about,
    ...typeOf(verb, value !== null, given.get("type") as string | undefined),
    once: (given.get("idempotencyKey") as string | undefined) ?? "",
  };
}

/** As the headers are read; null: it is no list of tags. */
function tagsOf(given: ReadonlyMap<string, unknown>, name: "ifMatch" | "ifNoneMatch"): string | null {
  const text = given.get(name) as string | undefined;
  return text === undefined ? "" : readTags(text || EMPTY_LIST, name === "ifNoneMatch");
}

function verbOf(given: ReadonlyMap<string, unknown>): Operation["verb"] {
  const op = given.get("op") as Exclude<Operation["verb"], "touch">;
  return op === "patch" && !given.has("value") && !given.has("base64") ? "touch" : op;
}

function typeOf(
  verb: Operation["verb"],
  json: boolean,
  given: string | undefined,
): Pick<Operation, "contentType" | "form"> {
  // As a request without a body has none.
  if (verb === "touch") return { contentType: "", form: null };
  if (verb !== "patch") return { contentType: json ? JSON_TYPE : (given ?? BYTES_TYPE), form: null };
  const contentType = given ?? (json ? JSON_TYPE : BYTES_TYPE);
  return { contentType, form: json ? formOfJson(contentType) : formOfBytes(contentType) };
}

/** What is wrong with an operation's members, or null. */
function problemOf(given: ReadonlyMap<string, unknown>): string | null {
  const op = given.get("op");
  if (typeof op !== "string" || !OPS.has(op)) return '"op" is get, put, post, patch or delete';
  for (const [name, value] of given) {
    if (!MEMBERS.has(name)) return `the member ${JSON.stringify(name)} is not supported`;
    if (name === "ttl" && typeof value === "number") continue;
    if (name !== "value" && typeof value !== "string") return `"${name}" is not a text`;
  }
  if (!given.has("key")) return 'there is no "key"';
  const hasValue = given.has("value");
  const hasBytes = given.has("base64");
  const isPatch = op === "patch";
  const stores = op === "put" || op === "post";
  if (isPatch ? hasValue && hasBytes : stores && hasValue === hasBytes)
    return 'give "value", or "base64" and "type": one of them';
  if (!isPatch && !stores && (hasValue || hasBytes)) return `${op} takes no value`;
  if (isPatch && !hasValue && !hasBytes && !given.has("ttl"))
    return 'a patch has "value" (a change of JSON), or "base64" (to be put behind bytes), or only a "ttl"';
  if (given.has("ttl") && !stores && !isPatch) return `${op} takes no ttl`;
  if (given.has("type") && !hasBytes && !(isPatch && hasValue)) return '"type" belongs to "base64"';
  if (hasBytes && !BASE64.test(given.get("base64") as string)) return '"base64" is not base64';
  const type = given.get("type") as string | undefined;
  if (type !== undefined && (type.length > CONTENT_TYPE_BYTES_MAX || !isHeaderText(type)))
    return '"type" is no content type';
  const typeProblem = isPatch ? patchTypeProblem(type, hasValue) : null;
  if (typeProblem !== null) return typeProblem;
  if (!isPatch && type !== undefined && isJsonType(type)) return 'JSON is given as "value", not as "base64"';
  const once = given.get("idempotencyKey") as string | undefined;
  if (once === undefined) return null;
  return op === "get" ? "get takes no idempotencyKey" : onceProblem(once, "idempotencyKey");
}

function patchTypeProblem(type: string | undefined, isJson: boolean): string | null {
  if (type === undefined || (isJson ? formOfJson(type) : formOfBytes(type)) !== null) return null;
  return isJson
    ? '"type" of a patch is application/merge-patch+json, application/json-patch+json, or application/json with increment or append'
    : '"base64" of a patch is put behind bytes: its "type" is application/octet-stream';
}

function isWellFormed(text: string): boolean {
  return Buffer.from(text, "utf8").toString("utf8") === text;
}

function rawBody(given: ReadonlyMap<string, unknown>): Uint8Array {
  const text = given.get("base64") as string | undefined;
  return text === undefined ? NOTHING : Buffer.from(text, "base64");
}

/** A patch is its own text; a value has its stored form. */
function textOf(text: Text, [start, end]: Span, verb: Operation["verb"]): Uint8Array {
  const own = text.bytes.subarray(start, end);
  return verb === "patch" ? own : storedBytes(own);
}
