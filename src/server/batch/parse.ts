/**
 * The operations of a batch, from its text: JSON, `{"operations":[…]}`, or an operation a line (NDJSON). Byte
 * by byte, since a value's own text is kept as it was sent, and an operation at a time, so that a large batch
 * is read in slices between which others are served. Keys and values that stand there letter by letter are
 * views of the text.
 *
 * What is malformed as a whole is thrown before anything of it is done. An operation that could not be done
 * alone either becomes a refusal of its own. The texts of values are only skipped here; whoever stores them
 * checks them.
 */

import { isUtf8 } from "node:buffer";
import { EMPTY_LIST, readTags } from "../../rules/conditions.ts";
import { type Life, NO_LIFE } from "../../rules/expiry.ts";
import { type Allowed, lifeOfTtl } from "../../rules/life.ts";
import { NOTHING } from "../../util/bytes.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { BYTES_TYPE, isHeaderText, isJsonType, JSON_TYPE } from "../../util/header-text.ts";
import { CHUNK_BYTES, CONTENT_TYPE_BYTES_MAX, KEY_BYTES_MAX } from "../../util/limits.ts";
import { storedLength } from "../../value/stored.ts";
import { onceProblem } from "../once/once.ts";
import { type Form, formOfBytes, formOfJson } from "../patch/form.ts";
import { BatchError, elements, lines, nameOf, noObject, Text, Words } from "./text.ts";

export const OPERATIONS_MAX = 10_000;

/** An operation that can be done. */
export interface Operation {
  /** A patch that only gives the value another end is a "touch". */
  verb: "get" | "put" | "post" | "delete" | "patch" | "touch";
  key: Uint8Array;
  /** Of JSON: the value's own text. Of a patch: what a request of its own would have sent. */
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

type Op = Exclude<Operation["verb"], "touch">;

/** The members of an operation: those that most of them have, and the others by name. */
interface Given {
  /** undefined: it was not given. */
  op: unknown;
  /** undefined: it was not given. null: it is no text. Of one that cannot be a key: NOTHING. */
  key: Uint8Array | null | undefined;
  /** Its own text, which is nobody's business here; null: there is none. */
  value: Uint8Array | null;
  more: Map<string, unknown>;
}

/** Never written to. */
const NO_MORE = new Map<string, unknown>();
const OPS: readonly string[] = ["get", "put", "post", "patch", "delete"] satisfies Op[];
const MORE: readonly string[] = ["base64", "type", "ttl", "ifMatch", "ifNoneMatch", "idempotencyKey"];
const MEMBER_WORDS = new Words(["op", "key", "value", ...MORE]);
const OP_WORDS = new Words(OPS);
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
  for (const number of isLines ? lines(text) : elements(text)) {
    if (number > OPERATIONS_MAX) throw new BatchError(`a batch has at most ${OPERATIONS_MAX} operations`);
    yield operationOf(membersOf(text, number));
  }
}

/** Reads the members of an operation. */
function membersOf(text: Text, number: number): Given {
  const given: Given = { op: undefined, key: undefined, value: null, more: NO_MORE };
  text.takeObject(number);
  let name = text.takeName(number, MEMBER_WORDS, true);
  for (; name !== null; name = text.takeName(number, MEMBER_WORDS, false)) {
    if (!text.takeValue()) throw noObject(number);
    if (isGiven(given, name)) throw new BatchError(`${nameOf(number)} has the member "${name}" twice`);
    const { bytes, start, end } = text;
    if (name === "value") given.value = bytes.subarray(start, end);
    else if (name === "key") given.key = keyOf(text, number);
    else {
      const word = name === "op" && text.isPlain ? OP_WORDS.find(bytes, start + 1, end - 1) : null;
      const told = word ?? text.parse(`"${name}" in ${nameOf(number)}`);
      if (name === "op") given.op = told;
      else {
        if (given.more === NO_MORE) given.more = new Map();
        given.more.set(name, told);
      }
    }
  }
  return given;
}

function isGiven({ op, key, value, more }: Given, name: string): boolean {
  if (name === "op") return op !== undefined;
  if (name === "key") return key !== undefined;
  return name === "value" ? value !== null : more.has(name);
}

/** The key that the text has just stepped over; null: it is no text. NOTHING: no key can be that. */
function keyOf(text: Text, number: number): Uint8Array | null {
  const { bytes, start, end } = text;
  if (text.isPlain) return bytes.subarray(start + 1, end - 1);
  const name = text.parse(`"key" in ${nameOf(number)}`);
  if (typeof name !== "string") return null;
  const key = Buffer.from(name, "utf8");
  return key.toString("utf8") === name ? key : NOTHING;
}

function operationOf(given: Given): Operation | Refused {
  const problem = problemOf(given);
  if (problem !== null) return { code: "bad_request", detail: problem };
  const { value, more } = given;
  const verb = verbOf(given);
  const key = given.key as Uint8Array;
  if (key.length === 0)
    return { code: "bad_key", detail: `a key is text of 1 to ${KEY_BYTES_MAX} bytes of UTF-8` };
  if (key.length > KEY_BYTES_MAX) return { code: "key_too_long", detail: "" };
  const ifMatch = tagsOf(more, "ifMatch");
  const ifNoneMatch = tagsOf(more, "ifNoneMatch");
  if (ifMatch === null || ifNoneMatch === null)
    return { code: "bad_request", detail: 'ifMatch and ifNoneMatch are "*" or entity tags' };
  const life = more.has("ttl") ? lifeOfTtl(String(more.get("ttl")), LIVES[verb]) : NO_LIFE;
  if (typeof life === "string") return { code: "bad_request", detail: life };
  const json = value !== null;
  const body = value ?? (more.has("base64") ? Buffer.from(textOf(more, "base64"), "base64") : NOTHING);
  if ((json && verb !== "patch" ? storedLength(body) : body.length) > CHUNK_BYTES)
    return {
      code: "too_large",
      detail: `a value in a batch has at most ${CHUNK_BYTES} bytes; send it alone`,
    };
  // As a request without a body has none.
  const type = (more.get("type") as string | undefined) ?? (json ? JSON_TYPE : BYTES_TYPE);
  const contentType = verb === "touch" ? "" : type;
  const form = verb === "patch" ? formOf(json, contentType) : null;
  const once = textOf(more, "idempotencyKey");
  return { verb, key, body, form, json, contentType, life, ifMatch, ifNoneMatch, once };
}

/** As the headers are read; null: it is no list of tags. */
function tagsOf(more: Given["more"], name: "ifMatch" | "ifNoneMatch"): string | null {
  const text = more.get(name) as string | undefined;
  return text === undefined ? "" : readTags(text || EMPTY_LIST, name === "ifNoneMatch");
}

/** A member that is a text, or is not given. */
function textOf(more: Given["more"], name: string): string {
  return (more.get(name) as string | undefined) ?? "";
}

function verbOf({ op, value, more }: Given): Operation["verb"] {
  return op === "patch" && value === null && !more.has("base64") ? "touch" : (op as Op);
}

function formOf(json: boolean, contentType: string): Form | null {
  return json ? formOfJson(contentType) : formOfBytes(contentType);
}

/** What is wrong with an operation's members, or null. */
function problemOf({ op, key, value, more }: Given): string | null {
  if (typeof op !== "string" || !OPS.includes(op)) return '"op" is get, put, post, patch or delete';
  if (key === undefined) return 'there is no "key"';
  if (key === null) return '"key" is not a text';
  const hasValue = value !== null;
  const stores = op === "put" || op === "post";
  // Nearly all of them end here.
  if (more.size === 0 && op !== "patch" && stores === hasValue) return null;
  for (const [name, given] of more) {
    if (!MORE.includes(name)) return `the member ${JSON.stringify(name)} is not supported`;
    if (typeof given !== "string" && !(name === "ttl" && typeof given === "number"))
      return `"${name}" is not a text`;
  }
  const hasBytes = more.has("base64");
  const isPatch = op === "patch";
  if (isPatch ? hasValue && hasBytes : stores && hasValue === hasBytes)
    return 'give "value", or "base64" and "type": one of them';
  if (!isPatch && !stores && (hasValue || hasBytes)) return `${op} takes no value`;
  if (isPatch && !hasValue && !hasBytes && !more.has("ttl"))
    return 'a patch has "value" (a change of JSON), or "base64" (to be put behind bytes), or only a "ttl"';
  if (more.has("ttl") && !stores && !isPatch) return `${op} takes no ttl`;
  if (more.has("type") && !hasBytes && !(isPatch && hasValue)) return '"type" belongs to "base64"';
  if (!BASE64.test(textOf(more, "base64"))) return '"base64" is not base64';
  const type = more.get("type") as string | undefined;
  if (type !== undefined && (type.length > CONTENT_TYPE_BYTES_MAX || !isHeaderText(type)))
    return '"type" is no content type';
  const typeProblem = isPatch ? patchTypeProblem(type, hasValue) : null;
  if (typeProblem !== null) return typeProblem;
  if (!isPatch && type !== undefined && isJsonType(type)) return 'JSON is given as "value", not as "base64"';
  if (!more.has("idempotencyKey")) return null;
  if (op === "get") return "get takes no idempotencyKey";
  return onceProblem(textOf(more, "idempotencyKey"), "idempotencyKey");
}

function patchTypeProblem(type: string | undefined, isJson: boolean): string | null {
  if (type === undefined || formOf(isJson, type) !== null) return null;
  return isJson
    ? '"type" of a patch is application/merge-patch+json, application/json-patch+json, or application/json with increment or append'
    : '"base64" of a patch is put behind bytes: its "type" is application/octet-stream';
}
