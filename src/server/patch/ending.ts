/**
 * How a change in place ends: with a value, or why not; and of one with an `Idempotency-Key` that comes
 * again: as it ended the first time.
 */
import { NO_TRAILER } from "../../format/fields/trailer.ts";
import { etagOf } from "../../format/version.ts";
import { NO_TAG } from "../../rules/conditions.ts";
import { plainHead, type WriteResult } from "../../shards/arena/write.ts";
import { NOTHING } from "../../util/bytes.ts";
import { type ErrorCode, VaultError } from "../../util/errors.ts";
import { innerText } from "../../value/stored.ts";
import type { FrontContext } from "../http/context.ts";
import type { OnceKey } from "../once/once.ts";
import { readCurrent } from "../reads/current.ts";

/** A key's value. */
export interface Value {
  /** With its quotes. */
  etag: string;
  json: boolean;
  contentType: string;
  /** What else is kept with it; a change leaves it as it is. */
  trailer: Uint8Array;
  /** JSON: the value's own text. */
  bytes: Uint8Array;
}

export interface Failed {
  readonly error: ErrorCode;
  readonly detail: string;
  readonly etag: string | null;
}

interface Done {
  readonly error: null;
  readonly created: boolean;
  readonly etag: string;
  /** It was changed before, under the same `Idempotency-Key`. */
  readonly replayed: boolean;
  /** What is answered of the value: `"value":…` or `"bytes":…`; empty: nobody knows any more. */
  readonly told: Uint8Array;
  readonly replicas: number | undefined;
}

/** How a patch ended. */
export type Ending = Failed | Done;

/** What is known of a patch when it comes again. */
interface Known {
  readonly key: Uint8Array;
  /** The value is bytes, and no JSON. */
  readonly isRaw: boolean;
  /** Its `Idempotency-Key`; null: it has none. */
  readonly once: OnceKey | null;
}

export function failed(error: ErrorCode, detail = "", etag: string | null = null): Failed {
  return { error, detail, etag };
}

/** What is answered of a value: `told` is its JSON text, or a length. */
export function toldOf(json: boolean, told: Uint8Array): Uint8Array {
  return told.length === 0 ? told : Buffer.concat([Buffer.from(json ? '"value":' : '"bytes":'), told]);
}

/**
 * Refuses a patch by what is there. One with an `Idempotency-Key` may have been done before, and what is
 * there may be its own work: that is asked by a write whose condition never holds.
 */
export function refuse(context: FrontContext, patch: Known, why: Failed, done: (end: Ending) => void): void {
  const { key, once } = patch;
  if (once === null) {
    done(why);
    return;
  }
  const head = { ...plainHead("put", key), trailer: once.in(NO_TRAILER), ifMatch: NO_TAG };
  const isTaken = (context.cluster ?? context.vault).submit(head, NOTHING, (result) => {
    if (result.replayed === true) replay(context, patch, result, done);
    else if (result.error === "precondition_failed") done(why);
    else done(failed(result.error ?? "internal", result.detail));
  });
  if (!isTaken) done(failed("overloaded"));
}

/** Answers a patch that was done before as it was answered then, as far as that is known. */
export function replay(
  context: FrontContext,
  { key, isRaw }: Known,
  { created, etag: bytes, detail, replicas }: WriteResult,
  done: (end: Ending) => void,
): void {
  const etag = bytes === null ? "" : etagOf(bytes);
  const end = (known: Uint8Array): void =>
    done({ error: null, created, etag, replayed: true, told: toldOf(!isRaw, known), replicas });
  if (detail !== "") {
    end(Buffer.from(detail, "latin1"));
    return;
  }
  // It was too long to be remembered; it may still be there.
  readCurrent(context, key, "quorum", (current) => {
    let known: Uint8Array = NOTHING;
    try {
      if (current.state === "found" && current.etag === etag && current.json)
        known = innerText(current.view().slice());
    } catch (error) {
      if (!(error instanceof VaultError)) throw error;
    }
    end(known);
  });
}

/** The ETag of the version that was drawn so many before this one, together with it. */
export function lowerEtag(etag: string, count: number): string {
  const clock = BigInt(`0x${etag.slice(1, 17)}`) - BigInt(count);
  return `"${clock.toString(16).padStart(16, "0")}${etag.slice(17)}`;
}
