/**
 * The lock of a state: a value under a key beside it, created only where there is none. So it is held once
 * over all nodes, by what POST promises.
 */
import { READ, type Token } from "../../auth/tokens.ts";
import type { Life } from "../../rules/expiry.ts";
import { plainHead, type WriteResult } from "../../shards/arena/write.ts";
import { NOTHING } from "../../util/bytes.ts";
import { type ErrorCode, VaultError } from "../../util/errors.ts";
import { JSON_TYPE } from "../../util/header-text.ts";
import { KEY_BYTES_MAX } from "../../util/limits.ts";
import { innerText } from "../../value/stored.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import { sendError, statusLine } from "../http/reply.ts";
import { type Current, readCurrent } from "../reads/current.ts";

/** As Terraform's own backends call it. */
const SUFFIX = Buffer.from(".tflock");

/** A lock that somebody holds. */
export interface HeldLock {
  /** null: what is there says none. */
  id: string | null;
  /** What its holder has sent. */
  text: Uint8Array;
  /** With its quotes. */
  etag: string;
}

/** Why nobody knows. */
export interface Unknown {
  code: ErrorCode;
  detail: string;
}

/** The key of a state's lock; null: a key that long has none. */
export function lockKeyOf(key: Uint8Array): Uint8Array | null {
  return key.length + SUFFIX.length > KEY_BYTES_MAX ? null : Buffer.concat([key, SUFFIX]);
}

/** The ID in what a client sends of a lock; null: there is none. */
export function idOf(text: Uint8Array): string | null {
  try {
    const { ID } = JSON.parse(Buffer.from(text).toString("utf8"));
    return typeof ID === "string" && ID !== "" ? ID : null;
  } catch {
    return null;
  }
}

/** Looks who holds a lock; null: nobody. `done` may be called at once. */
export function readLock(
  context: FrontContext,
  lockKey: Uint8Array,
  done: (lock: HeldLock | Unknown | null) => void,
): void {
  readCurrent(context, lockKey, "quorum", (current) => {
    if (current.state === "absent") done(null);
    else if (current.state === "failed") done(current);
    else done(lockOf(current));
  });
}

function lockOf(current: Current & { state: "found" }): HeldLock | Unknown {
  try {
    const bytes = current.view();
    const text = Buffer.from(current.json ? innerText(bytes) : bytes);
    return { id: idOf(text), text, etag: current.etag };
  } catch (error) {
    if (!(error instanceof VaultError)) throw error;
    return { code: error.code, detail: error.message };
  }
}

/** Takes a lock that nobody holds. False: there is no room for more writes; `done` is not called. */
export function createLock(
  context: FrontContext,
  lockKey: Uint8Array,
  text: Uint8Array,
  life: Life,
  done: (result: WriteResult) => void,
): boolean {
  const head = { ...plainHead("post", lockKey), contentType: JSON_TYPE, life };
  return (context.cluster ?? context.vault).submit(head, text, done);
}

/** Gives a lock back, if it is still this one. As `createLock`. */
export function removeLock(
  context: FrontContext,
  lockKey: Uint8Array,
  etag: string,
  done: (result: WriteResult) => void,
): boolean {
  const head = { ...plainHead("delete", lockKey), ifMatch: etag };
  return (context.cluster ?? context.vault).submit(head, NOTHING, done);
}

/** Says who holds it, to those who may read. */
export function sendLocked(res: Res, caller: Token, { id, text }: HeldLock): number {
  if (id === null || !caller.allows(READ)) return sendError(res, "locked");
  const head = `${statusLine(423)}\r\nContent-Type: application/json\r\nCache-Control: no-cache`;
  res.writeStatus(head);
  res.end(text);
  return 423;
}
