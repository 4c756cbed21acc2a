/**
 * `PATCH /key`: reads what there is, applies the change, and writes the result under the condition that the
 * value is still the one that was read; when another write came first, again. So it is atomic over all nodes
 * by what conditional writes promise. Patches of one key that come to this front stand in line, and each
 * builds on the one before it without reading again.
 */

import { withRecent } from "../../format/fields/recent.ts";
import { withoutSums } from "../../format/fields/sums.ts";
import { NO_TRAILER } from "../../format/fields/trailer.ts";
import { etagOf } from "../../format/version.ts";
import { type Conditions, conditionsHold } from "../../rules/conditions.ts";
import { type Life, NO_LIFE } from "../../rules/expiry.ts";
import { PatchConflict, PatchError } from "../../rules/patch/errors.ts";
import { type Change, readPatch } from "../../rules/patch/patch.ts";
import { queryProblem } from "../../rules/query.ts";
import { nameOf } from "../../util/bytes.ts";
import { VaultError } from "../../util/errors.ts";
import { isJsonType } from "../../util/header-text.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";
import { innerText, storedBytes } from "../../value/stored.ts";
import { type FrontContext, targetOf } from "../http/context.ts";
import type { Req, Res } from "../http/http.ts";
import { readConditions } from "../http/read-headers.ts";
import { type Header, REPLAYED, sendError, statusLine } from "../http/reply.ts";
import { TARGET_KEY } from "../http/target.ts";
import { OnceKey, onceLines, problemOf } from "../once/once.ts";
import { readCurrent } from "../reads/current.ts";
import { OTHER } from "../status/meter.ts";
import { type BodyKind, takeWhole } from "../writes/whole-body.ts";
import { type Ending, failed, refuse, replay, toldOf, type Value } from "./ending.ts";
import { Lines } from "./lines.ts";
import { createTouch, readLife, WITHOUT_NONE } from "./touch.ts";

/** Bodies of all patches of a front. */
const PATCHES_BYTES_MAX = 32 * 1024 * 1024;
/** Others may come first so often. */
const ATTEMPTS_MAX = 100;

const CONTENT_TYPE = Buffer.from("content-type");
const MERGE_SYNTAX = /^application\/merge-patch\+json[ \t]*(;|$)/i;
const OPERATIONS_SYNTAX = /^application\/json-patch\+json[ \t]*(;|$)/i;
const BYTES_SYNTAX = /^application\/octet-stream[ \t]*(;|$)/i;
const WRONG_TYPE =
  "a patch is application/merge-patch+json, application/json-patch+json, application/json with increment or append, or, with ?append, application/octet-stream";

/** What is to become of a value; null: there is none, and none begins. */
type Transform = (value: Value | null) => Omit<Value, "etag"> | null;

interface Patch {
  readonly key: Uint8Array;
  readonly conditions: Conditions;
  /** Of a value that begins with it. */
  readonly life: Life;
  readonly transform: Transform;
  /** The value is bytes, and no JSON. */
  readonly isRaw: boolean;
  /** Its `Idempotency-Key`; null: it has none. */
  readonly once: OnceKey | null;
  attempts: number;
}

/** Answers PATCH of a key. */
export function createPatch(context: FrontContext): (res: Res, req: Req) => void {
  const touch = createTouch(context);
  const kind: BodyKind = {
    ...{ name: "a patch", verb: OTHER, bytesMax: CHUNK_BYTES, allBytesMax: PATCHES_BYTES_MAX, bytes: 0 },
  };
  const waiting = new Lines<Value>();
  return (res, req) => {
    if (touch(res, req)) return;
    const isKey = targetOf(context, req) === TARGET_KEY;
    const key = context.key.bytes.slice(0, isKey ? context.key.length : 0);
    const conditions: Conditions = { ifMatch: "", ifNoneMatch: "" };
    const query = req.getQuery() ?? "";
    const isAppend = new URLSearchParams(query).has("append");
    const type = req.getHeader(CONTENT_TYPE);
    const format = formatOf(type);
    const isKnownType = isAppend ? BYTES_SYNTAX.test(type) : format !== null;
    const life = readLife(context, query, WITHOUT_NONE);
    const detail =
      queryProblem(query, true) ?? readConditions(req, conditions) ?? (isKnownType ? null : WRONG_TYPE);
    const lines = onceLines(req);
    const lifeProblem = "code" in life ? life : problemOf(context, lines);
    const problem = detail !== null ? ({ code: "bad_request", detail } as const) : lifeProblem;
    takeWhole(context, res, req, kind, problem, (body, answer) => {
      const end = (ending: Ending): void => answer((to) => send(to, ending, context.cluster?.region));
      let transform: Transform;
      try {
        transform =
          format === null || isAppend ? appendBytes(body) : changeText(readPatch(format, utf8(body)));
      } catch (error) {
        if (!(error instanceof PatchError)) throw error;
        end(failed("bad_request", error.message));
        return;
      }
      const begun = "code" in life ? NO_LIFE : life;
      const asked = { verb: `patch ${isAppend ? "append" : format}`, contentType: type, life: begun };
      const once =
        lines.length === 0
          ? null
          : new OnceKey(lines[0], { ...asked, trailer: NO_TRAILER, ...conditions, body });
      const patch: Patch = { key, conditions, life: begun, transform, isRaw: isAppend, once, attempts: 0 };
      const isTaken = waiting.enter(nameOf(key), (known, leave) => {
        attempt(context, patch, known, (ending) => {
          // What a new value's end is, is not known here.
          const isKnown = ending.error === null && !(ending.created && begun !== NO_LIFE);
          leave(isKnown ? ending.value : null);
          end(ending);
        });
      });
      if (!isTaken) end(failed("overloaded", "too many changes of this key are waiting; try again"));
    });
  };
}

/** The form of a patch of JSON; null: it is none. */
function formatOf(type: string): "merge" | "operations" | "command" | null {
  if (MERGE_SYNTAX.test(type)) return "merge";
  if (OPERATIONS_SYNTAX.test(type)) return "operations";
  return isJsonType(type) ? "command" : null;
}

function utf8(body: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    throw new PatchError("the patch is not valid UTF-8");
  }
}

function changeText(change: Change): Transform {
  return (value) => {
    if (value !== null && !value.json) throw new PatchConflict("the value is no JSON");
    const text = change(value === null ? null : Buffer.from(value.bytes).toString("utf8"));
    if (text === null) return null;
    const trailer = value?.trailer ?? NO_TRAILER;
    return { json: true, contentType: "application/json", trailer, bytes: Buffer.from(text, "utf8") };
  };
}

function appendBytes(body: Uint8Array): Transform {
  return (value) => {
    if (value === null) return null;
    if (value.json)
      throw new PatchConflict('the value is JSON: {"append": …} as application/json adds to it');
    return { ...value, bytes: Buffer.concat([value.bytes, body]) };
  };
}

function attempt(
  context: FrontContext,
  patch: Patch,
  known: Value | null,
  done: (end: Ending) => void,
): void {
  patch.attempts++;
  if (known !== null) {
    change(context, patch, known, done);
    return;
  }
  readCurrent(context, patch.key, "quorum", (current) => {
    if (current.state === "failed") {
      done(failed(current.code, current.detail));
      return;
    }
    let value: Value | null = null;
    if (current.state === "found") {
      const { etag, json, contentType, valueBytes } = current;
      // What the key remembers is its own affair, and sums over the value are of what it was.
      const trailer = withoutSums(withRecent(current.trailer, null));
      if (valueBytes > CHUNK_BYTES) {
        const detail = `a value that is changed in place has at most ${CHUNK_BYTES} bytes`;
        refuse(context, patch, failed("too_large", detail), done);
        return;
      }
      try {
        const bytes = current.view().slice();
        value = { etag, json, contentType, trailer, bytes: json ? innerText(bytes) : bytes };
      } catch (error) {
        if (!(error instanceof VaultError)) throw error;
        done(failed(error.code, error.message));
        return;
      }
    }
    change(context, patch, value, done);
  });
}

function change(context: FrontContext, patch: Patch, value: Value | null, done: (end: Ending) => void): void {
  const { key, conditions, transform } = patch;
  const etag = value?.etag ?? null;
  if (!conditionsHold(conditions, etag)) {
    refuse(context, patch, failed("precondition_failed", "", etag), done);
    return;
  }
  let next: ReturnType<Transform>;
  try {
    next = transform(value);
  } catch (error) {
    if (!(error instanceof PatchConflict)) throw error;
    refuse(context, patch, failed("patch_conflict", error.message, etag), done);
    return;
  }
  if (next === null) {
    refuse(context, patch, failed("not_found"), done);
    return;
  }
  const { json, contentType, trailer, bytes } = next;
  const body = json ? storedBytes(bytes) : bytes;
  if (body.length > Math.min(CHUNK_BYTES, context.maxValueBytes)) {
    const detail = `the changed value would have more than ${CHUNK_BYTES} bytes`;
    refuse(context, patch, failed("too_large", detail, etag), done);
    return;
  }
  const known = json ? bytes : Buffer.from(String(bytes.length));
  const fields = patch.once === null ? trailer : patch.once.in(trailer, known);
  const head = {
    ...{ verb: "put" as const, key: { bytes: key, length: key.length }, json, contentType, trailer: fields },
    life: value === null ? patch.life : NO_LIFE,
    ...(etag === null ? { ifMatch: "", ifNoneMatch: "*" } : { ifMatch: etag, ifNoneMatch: "" }),
  };
  const isTaken = (context.cluster ?? context.vault).submit(head, body, (result) => {
    const newer = result.etag === null ? null : etagOf(result.etag);
    if (result.replayed === true) replay(context, patch, result, done);
    else if (result.error === null && newer !== null)
      done({
        error: null,
        created: value === null,
        etag: newer,
        value: { ...next, etag: newer },
        told: toldOf(json, known),
        replicas: result.replicas,
      });
    else if (result.error === "precondition_failed" && patch.attempts < ATTEMPTS_MAX)
      // Another write came first. Later, or a vault that answers at once would call itself for ever.
      setImmediate(() => attempt(context, patch, null, done));
    else if (result.error === "precondition_failed")
      done(failed("overloaded", "others changed the value each time; nothing was changed, try again"));
    else done(failed(result.error ?? "internal", result.detail, newer));
  });
  if (!isTaken) done(failed("overloaded"));
}

function send(res: Res, ending: Ending, region: string | undefined): number {
  if (ending.error !== null) {
    const { error, detail, etag } = ending;
    const headers: Header[] = etag === null ? [] : [["ETag", etag]];
    return sendError(res, error, { detail, headers });
  }
  const { created, etag, value, told, replicas } = ending;
  const status = created ? 201 : 200;
  res.writeStatus(`${statusLine(status)}\r\nContent-Type: application/json\r\nETag: ${etag}`);
  if (value === null) res.writeHeader(REPLAYED, "true");
  if (region !== undefined) {
    res.writeHeader("X-Minivault-Replicas", String(replicas ?? 0));
    res.writeHeader("X-Minivault-Region", region);
  }
  const head = `{"success":true,"created":${created}${told.length === 0 ? "" : ","}`;
  res.end(Buffer.concat([Buffer.from(head), told, Buffer.from("}")]));
  return status;
}
