/**
 * LOCK and UNLOCK of Terraform's http backend, and what a lock means to writes of what it guards.
 *
 * The check of a lock and the write are two steps: whoever takes a lock away from its holder by force may
 * still see a write that was on its way.
 */

import type { Token } from "../../auth/tokens.ts";
import { etagOf } from "../../format/version.ts";
import type { Life } from "../../rules/expiry.ts";
import { parametersOf, queryProblem } from "../../rules/query.ts";
import type { WriteResult } from "../../shards/arena/write.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { type FrontContext, targetOf } from "../http/context.ts";
import type { Req, Res } from "../http/http.ts";
import { sendError, statusLine } from "../http/reply.ts";
import { TARGET_RAW } from "../http/target.ts";
import { readLife, WITHOUT_NONE } from "../patch/touch.ts";
import { OTHER } from "../status/meter.ts";
import type { Manner } from "../writes/manner.ts";
import { type BodyKind, takeWhole } from "../writes/whole-body.ts";
import { createLock, type HeldLock, idOf, lockKeyOf, readLock, removeLock, sendLocked } from "./held-lock.ts";

/** Terraform's are some 200 bytes. */
const LOCK_BYTES_MAX = 64 * 1024;
/** Bodies of all such requests of a front. */
const LOCKS_BYTES_MAX = 8 * 1024 * 1024;
/** A lock may come and go so often while somebody looks. */
const ATTEMPTS_MAX = 100;
const NO_LOCK =
  "the lock that the request names is not held any more; lock again (lock_address and unlock_address are the state's own address)";

/** How a request about a lock ends. */
type Send = (res: Res) => number;

/** One request about a lock. */
interface Request {
  readonly context: FrontContext;
  readonly caller: Token;
  readonly lockKey: Uint8Array;
  readonly life: Life;
  readonly answer: (send: Send) => void;
}

/** Writes that a lock may forbid: to be made in the request's handler. */
export function lockManner(context: FrontContext, query: string): Manner {
  const { caller, key } = context;
  const lockKey = lockKeyOf(key.bytes.slice(0, key.length));
  const id = parametersOf(query).get("ID");
  return {
    ask(allow) {
      if (lockKey === null) allow(null);
      else
        readLock(context, lockKey, (lock) => {
          if (lock === null && id !== null)
            allow((res) => sendError(res, "precondition_failed", { detail: NO_LOCK }));
          else if (lock === null) allow(null);
          else if ("code" in lock) allow((res) => sendError(res, lock.code, { detail: lock.detail }));
          else allow(lock.id !== null && lock.id === id ? null : (res) => sendLocked(res, caller, lock));
        });
    },
  };
}

/** Takes LOCK and UNLOCK; the function answers false where a request is another one. */
export function createLocks(context: FrontContext): (res: Res, req: Req) => boolean {
  const kind: BodyKind = {
    ...{ name: "a lock", verb: OTHER, bytesMax: LOCK_BYTES_MAX, allBytesMax: LOCKS_BYTES_MAX, bytes: 0 },
    mayLack: true,
  };
  return (res, req) => {
    const method = req.getCaseSensitiveMethod();
    if (targetOf(context, req) !== TARGET_RAW || (method !== "LOCK" && method !== "UNLOCK")) return false;
    const { caller, key } = context;
    const lockKey = lockKeyOf(key.bytes.slice(0, key.length));
    const query = req.getQuery() ?? "";
    const life = readLife(context, query, WITHOUT_NONE);
    const detail = query === "" ? null : queryProblem(query, method === "LOCK");
    const problem: { code: ErrorCode; detail: string } | null =
      detail !== null
        ? { code: "bad_request", detail }
        : "code" in life
          ? life
          : lockKey === null
            ? { code: "key_too_long", detail: "a key that is locked leaves room for .tflock" }
            : null;
    const named = parametersOf(query).get("ID");
    takeWhole(context, res, req, kind, problem, (body, answer) => {
      const request = { context, caller, lockKey: lockKey as Uint8Array, life: life as Life, answer };
      const id = idOf(body);
      if (id === null && (method === "LOCK" || body.length > 0))
        answer((to) => sendError(to, "bad_request", { detail: 'the lock is JSON with an "ID"' }));
      else if (method === "LOCK") lock(request, body.slice(), id as string, 1);
      else unlock(request, id ?? named, 1);
    });
    return true;
  };
}

/** Takes the lock, or tells who holds it. Who has it already has it: the answer before was lost. */
function lock(request: Request, text: Uint8Array, id: string, attempt: number): void {
  const { context, caller, lockKey, life, answer } = request;
  const isTaken = createLock(context, lockKey, text, life, (result) => {
    if (result.error !== "exists") {
      answer(ended(result));
      return;
    }
    readLock(context, lockKey, (held) => {
      if (held === null && attempt < ATTEMPTS_MAX) setImmediate(() => lock(request, text, id, attempt + 1));
      else if (held === null) answer((res) => sendError(res, "overloaded"));
      else if ("code" in held) answer((res) => sendError(res, held.code, { detail: held.detail }));
      else if (held.id === id) answer((res) => sendDone(res, held.etag));
      else answer((res) => sendLocked(res, caller, held));
    });
  });
  if (!isTaken) answer((res) => sendError(res, "overloaded"));
}

/** @param id null: whoever holds it (`terraform force-unlock` knows no more) */
function unlock(request: Request, id: string | null, attempt: number): void {
  const { context, caller, lockKey, answer } = request;
  readLock(context, lockKey, (held) => {
    if (held === null) answer((res) => sendDone(res, null));
    else if ("code" in held) answer((res) => sendError(res, held.code, { detail: held.detail }));
    else if (id !== null && held.id !== id) answer((res) => sendLocked(res, caller, held));
    else giveBack(request, held, id, attempt);
  });
}

function giveBack(request: Request, held: HeldLock, id: string | null, attempt: number): void {
  const { context, lockKey, answer } = request;
  const isTaken = removeLock(context, lockKey, held.etag, (result) => {
    if (result.error === "precondition_failed" && attempt < ATTEMPTS_MAX)
      setImmediate(() => unlock(request, id, attempt + 1));
    else answer(ended(result));
  });
  if (!isTaken) answer((res) => sendError(res, "overloaded"));
}

/** The answer to a write that is over; what it says is copied now. */
function ended({ error, detail, etag }: WriteResult): Send {
  if (error !== null) return (res) => sendError(res, error, { detail });
  const version = etag === null ? null : etagOf(etag);
  return (res) => sendDone(res, version);
}

function sendDone(res: Res, etag: string | null): number {
  const version = etag === null ? "" : `\r\nETag: ${etag}`;
  res.writeStatus(`${statusLine(200)}\r\nContent-Type: application/json${version}`);
  res.end(Buffer.from('{"success":true}'));
  return 200;
}
