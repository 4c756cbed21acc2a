/**
 * `Idempotency-Key`: what a write is known by when it is sent again, since its answer was lost. The key's
 * record remembers it (rules/recent.ts); here it is only read and hashed.
 */
import { createHash } from "node:crypto";
import { NAME_BYTES, REQUEST_BYTES, TOLD_BYTES_MAX, withOnce } from "../../format/fields/recent.ts";
import type { Life } from "../../rules/expiry.ts";
import type { WriteHead } from "../../shards/arena/write.ts";
import { NOTHING } from "../../util/bytes.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";
import type { FrontContext } from "../http/context.ts";

/** As uWS gives names. */
export const IDEMPOTENCY_KEY = "idempotency-key";
const KEY_CHARACTERS_MAX = 64;
const KEY_SYNTAX = /^[\x20-\x7e]*$/;

const UPGRADE_TO_REMEMBER =
  "an Idempotency-Key cannot be remembered before the data directory, or the cluster, has been upgraded (minivault upgrade, minivault upgrade-cluster)";
export const TOO_LARGE_TO_REMEMBER = `an Idempotency-Key goes with bodies of at most ${CHUNK_BYTES} bytes; send this one without it, with If-Match or If-None-Match to be sure`;

/** What is wrong with a key, or null. */
export function onceProblem(key: string, name = "Idempotency-Key"): string | null {
  if (key === "") return `${name} is empty; it has 1 to ${KEY_CHARACTERS_MAX} characters of printable ASCII`;
  if (!KEY_SYNTAX.test(key)) return `${name} has characters that are not printable ASCII`;
  return key.length <= KEY_CHARACTERS_MAX
    ? null
    : `${name} has ${key.length} characters; at most ${KEY_CHARACTERS_MAX} are allowed`;
}

/** What is wrong with the header's lines, or null. No lines: there is no key. */
function linesProblem(lines: readonly string[]): string | null {
  if (lines.length === 0) return null;
  return lines.length === 1 ? onceProblem(lines[0]) : "Idempotency-Key came more than once";
}

/** What is wrong with the header's lines here, or null. */
export function problemOf(
  context: FrontContext,
  lines: readonly string[],
): { code: ErrorCode; detail: string } | null {
  const detail = linesProblem(lines);
  if (detail !== null) return { code: "bad_request", detail };
  if (lines.length === 0 || remembers(context)) return null;
  return { code: "upgrade_first", detail: UPGRADE_TO_REMEMBER };
}

/** Whether such writes are known at all where this one goes. */
export function remembers({ cluster, vault }: FrontContext): boolean {
  return (cluster ?? vault).remembers;
}

/** What is asked for: two requests are the same where all of this is. */
export interface Asked {
  verb: string;
  contentType: string;
  life: Life;
  trailer: Uint8Array;
  ifMatch: string;
  ifNoneMatch: string;
  body: Uint8Array;
}

/** A write under a key. */
export class OnceKey {
  private readonly bytes: Uint8Array;

  constructor(key: string, { verb, contentType, life, trailer, ifMatch, ifNoneMatch, body }: Asked) {
    const { ttlMs, expiresMs, keep } = life;
    const head = [verb, contentType, ttlMs, expiresMs, keep, ifMatch, ifNoneMatch, trailer.length];
    const request = createHash("sha256")
      .update(`${JSON.stringify(head)}\n`)
      .update(trailer)
      .update(body);
    this.bytes = Buffer.concat([
      createHash("sha256").update(key).digest().subarray(0, NAME_BYTES),
      request.digest().subarray(0, REQUEST_BYTES),
    ]);
  }

  /**
   * The fields of the write, and what it is known by.
   * @param told what it is answered beside its version; longer than TOLD_BYTES_MAX: nothing is remembered
   */
  in(trailer: Uint8Array, told: Uint8Array = NOTHING): Uint8Array {
    const kept = told.length <= TOLD_BYTES_MAX ? told : NOTHING;
    return withOnce(trailer, Buffer.concat([this.bytes, kept]));
  }
}

/** A write that says what it is known by when it comes again. */
export function knownBy(key: string, head: WriteHead, body: Uint8Array): WriteHead {
  return { ...head, trailer: new OnceKey(key, { ...head, body }).in(head.trailer) };
}
