/** What is asked of a value, and what it makes of one. */

import { NO_TRAILER } from "../../format/fields/trailer.ts";
import type { Conditions } from "../../rules/conditions.ts";
import type { Life } from "../../rules/expiry.ts";
import { PatchConflict, PatchError } from "../../rules/patch/errors.ts";
import { type Change, readPatch } from "../../rules/patch/patch.ts";
import { JSON_TYPE } from "../../util/header-text.ts";
import { OnceKey } from "../once/once.ts";
import type { Ending, Value } from "./ending.ts";
import type { Form } from "./form.ts";

const NOT_BEGUN =
  'an end of life goes with a change that can begin a value ({"increment": n, "initial": m}); what is there keeps its own, and gets another one by a PATCH with a ttl alone';

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

/**
 * Makes changes; the function calls `done` once, which may be at once.
 * @param stays another node has handed it on: it is made here, whoever else might be better
 */
export type MakeChange = (asked: Asked, done: (ending: Ending) => void, stays?: boolean) => void;

/** What is to become of a value; null: there is none, and none begins. */
type Transform = (value: Value | null) => Omit<Value, "etag"> | null;

/** One change, until it has ended. */
export interface Patch {
  readonly asked: Asked;
  readonly key: Uint8Array;
  readonly transform: Transform;
  /** The value is bytes, and no JSON. */
  readonly isRaw: boolean;
  readonly once: OnceKey | null;
  /** It is not handed on. */
  readonly stays: boolean;
  readonly done: (ending: Ending) => void;
  /** How often it was written, or tried to. */
  attempts: number;
}

/** A patch, and what it makes of the value before it. */
export interface Step {
  readonly patch: Patch;
  readonly next: Omit<Value, "etag">;
}

/** @throws PatchError */
export function patchOf(asked: Asked, stays: boolean, done: Patch["done"]): Patch {
  const { key, form, contentType, body, life, ifMatch, ifNoneMatch, once: name } = asked;
  const isRaw = form === "append";
  const transform = isRaw ? appendBytes(body) : changeText(readPatch(form, utf8(body)));
  if ((life.ttlMs > 0 || life.expiresMs > 0) && !canBegin(transform)) throw new PatchError(NOT_BEGUN);
  const trailer = NO_TRAILER;
  const verb = `patch ${form}`;
  const once =
    name === "" ? null : new OnceKey(name, { verb, contentType, life, trailer, ifMatch, ifNoneMatch, body });
  return { asked, key, transform, isRaw, once, stays, done, attempts: 0 };
}

/** Whether there is a value afterwards where there was none. */
function canBegin(transform: Transform): boolean {
  try {
    return transform(null) !== null;
  } catch {
    // Of one that begins beyond its bounds it is a conflict, and only where there is none.
    return true;
  }
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
    return { json: true, contentType: JSON_TYPE, trailer, bytes: Buffer.from(text, "utf8") };
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
