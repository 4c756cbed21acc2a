/**
 * Changes in place: reads what there is, applies the change, and writes the result under the condition that
 * the value is still the one that was read; when another write came first, again. So a change is atomic over
 * all nodes by what conditional writes promise. Changes of one key that come to this front stand in line, and
 * each builds on the one before it without reading again.
 */

import { withRecent } from "../../format/fields/recent.ts";
import { withoutSums } from "../../format/fields/sums.ts";
import { NO_TRAILER } from "../../format/fields/trailer.ts";
import { etagOf } from "../../format/version.ts";
import { type Conditions, conditionsHold } from "../../rules/conditions.ts";
import { type Life, NO_LIFE } from "../../rules/expiry.ts";
import { PatchConflict, PatchError } from "../../rules/patch/errors.ts";
import { type Change, readPatch } from "../../rules/patch/patch.ts";
import { nameOf } from "../../util/bytes.ts";
import { VaultError } from "../../util/errors.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";
import { innerText, storedBytes } from "../../value/stored.ts";
import type { FrontContext } from "../http/context.ts";
import { OnceKey } from "../once/once.ts";
import { readCurrent } from "../reads/current.ts";
import { type Ending, failed, refuse, replay, toldOf, type Value } from "./ending.ts";
import type { Form } from "./form.ts";
import { Lines } from "./lines.ts";

/** Others may come first so often. */
const ATTEMPTS_MAX = 100;

/** What is asked of one value. */
export interface Asked extends Conditions {
  readonly key: Uint8Array;
  readonly form: Form;
  /** As it was sent. */
  readonly contentType: string;
  readonly body: Uint8Array;
  /** Of a value that begins with it. */
  readonly life: Life;
  /** Its `Idempotency-Key`; empty: it has none. */
  readonly once: string;
}

/** What is to become of a value; null: there is none, and none begins. */
type Transform = (value: Value | null) => Omit<Value, "etag"> | null;

interface Patch {
  readonly key: Uint8Array;
  readonly conditions: Conditions;
  readonly life: Life;
  readonly transform: Transform;
  /** The value is bytes, and no JSON. */
  readonly isRaw: boolean;
  readonly once: OnceKey | null;
  attempts: number;
}

/** Makes changes; the function calls `done` once, which may be at once. */
export type MakeChange = (asked: Asked, done: (ending: Ending) => void) => void;

/** Of one front, for all that change values in place: they stand in the same lines. */
export function createChanges(context: FrontContext): MakeChange {
  const waiting = new Lines<Value>();
  return (asked, done) => {
    const { key, life } = asked;
    let patch: Patch;
    try {
      patch = patchOf(asked);
    } catch (error) {
      done(error instanceof PatchError ? failed("bad_request", error.message) : unexpected(context, error));
      return;
    }
    const isTaken = waiting.enter(nameOf(key), (known, leave) => {
      attempt(context, patch, known, (ending) => {
        // What a new value's end is, is not known here.
        const isKnown = ending.error === null && !(ending.created && life !== NO_LIFE);
        leave(isKnown ? ending.value : null);
        done(ending);
      });
    });
    if (!isTaken) done(failed("overloaded", "too many changes of this key are waiting; try again"));
  };
}

/** @throws PatchError */
function patchOf({ key, form, contentType, body, life, ifMatch, ifNoneMatch, once }: Asked): Patch {
  const isRaw = form === "append";
  const transform = isRaw ? appendBytes(body) : changeText(readPatch(form, utf8(body)));
  const conditions = { ifMatch, ifNoneMatch };
  const asked = { verb: `patch ${form}`, contentType, life, trailer: NO_TRAILER, ...conditions, body };
  const onceKey = once === "" ? null : new OnceKey(once, asked);
  return { key, conditions, life, transform, isRaw, once: onceKey, attempts: 0 };
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

/** A bug: the client gets a 500, and the process lives. */
function unexpected({ log }: FrontContext, error: unknown): Ending {
  log.error({ error: error instanceof Error ? error.stack : String(error) }, "a change in place failed");
  return failed("internal");
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
    // Whoever stands in line behind this one waits for its end.
    if (!(error instanceof PatchConflict)) done(unexpected(context, error));
    else refuse(context, patch, failed("patch_conflict", error.message, etag), done);
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
