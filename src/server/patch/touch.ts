/**
 * `PATCH /key?ttl=…` without a body: the value that there is gets another end of life, or none, and with it a
 * version of its own. Judged where the value lies, so nothing is read here.
 */

import { NO_TRAILER } from "../../format/fields/trailer.ts";
import type { Conditions } from "../../rules/conditions.ts";
import { type Life, NO_LIFE } from "../../rules/expiry.ts";
import { type Allowed, lifeOf, speaksOfLife } from "../../rules/life.ts";
import { parametersOf, queryProblem } from "../../rules/query.ts";
import type { WriteHead } from "../../shards/arena/write.ts";
import { NOTHING } from "../../util/bytes.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { bytesDeclared, NO_BODY } from "../http/body-length.ts";
import { type FrontContext, targetOf } from "../http/context.ts";
import type { Req, Res } from "../http/http.ts";
import { refuse } from "../http/linger.ts";
import { judgeConditions } from "../http/read-headers.ts";
import { sendError, sendWriteResult } from "../http/reply.ts";
import { TARGET_KEY } from "../http/target.ts";
import { OnceKey, problemOf } from "../once/once.ts";
import { OTHER } from "../status/meter.ts";
import type { HeadLines } from "../writes/head-lines.ts";
import { NO_ENDS } from "../writes/writes.ts";

/** With a body: only what begins with it gets an end. */
export const WITHOUT_NONE: Allowed = { keep: false, none: false };
const WITH_NONE: Allowed = { keep: false, none: true };

interface Problem {
  code: ErrorCode;
  detail: string;
}

/** The life that a query asks for; nothing said: for ever. */
export function readLife(context: FrontContext, query: string, allowed: Allowed): Life | Problem {
  const target = context.cluster ?? context.vault;
  const life = lifeOf(query, allowed, target.now());
  if (life === null) return NO_LIFE;
  if (typeof life === "string") return { code: "bad_request", detail: life };
  return target.keepsEnds ? life : { code: "upgrade_first", detail: NO_ENDS };
}

/**
 * Takes a request that only gives a value another end. The function answers false where it is another one.
 */
export function createTouch(context: FrontContext): (res: Res, req: Req, lines: HeadLines) => boolean {
  return (res, req, lines) => {
    const query = req.getQuery() ?? "";
    if (!speaksOfLife(query)) return false;
    const declared = bytesDeclared(lines.contentLength ?? "", lines.transferEncoding ?? "");
    // Whoever takes a body refuses two lengths, and two hosts.
    if ((declared !== NO_BODY && declared !== 0) || lines.problem !== null) return false;
    const isSaid = ["ttl", "expires"].some((name) => parametersOf(query).has(name));
    if (!isSaid || targetOf(context, req) !== TARGET_KEY) return false;
    const conditions: Conditions = { ifMatch: "", ifNoneMatch: "" };
    const { ifMatch, ifNoneMatch, ifUnmodifiedSince, idempotencyKey } = lines;
    const detail =
      queryProblem(query, true) ?? judgeConditions(ifMatch, ifNoneMatch, ifUnmodifiedSince, conditions);
    const life = readLife(context, query, WITH_NONE);
    const problem: Problem | null =
      detail !== null
        ? { code: "bad_request", detail }
        : "code" in life
          ? life
          : context.stopping
            ? { code: "stopping", detail: "" }
            : problemOf(context, idempotencyKey);
    if (problem !== null || "code" in life) {
      const { code, detail: sentence } = problem ?? (life as Problem);
      context.meter.count(OTHER, refuse(res, code, declared, { detail: sentence }));
      return true;
    }
    // uWS says nothing more of a request without a body.
    send(context, res, { ...conditions, life }, idempotencyKey);
    return true;
  };
}

function send(
  context: FrontContext,
  res: Res,
  { ifMatch, ifNoneMatch, life }: Conditions & { life: Life },
  [once]: readonly string[],
): void {
  const { inFlight, meter, cluster, vault } = context;
  const key = { bytes: context.key.bytes.slice(0, context.key.length), length: context.key.length };
  const head: WriteHead = {
    ...{ verb: "touch", key, json: false, contentType: "", trailer: NO_TRAILER, life },
    ...{ ifMatch, ifNoneMatch },
  };
  if (once !== undefined) head.trailer = new OnceKey(once, { ...head, body: NOTHING }).in(NO_TRAILER);
  let isOpen = true;
  const over = (status: number): void => {
    if (status === 0) meter.countAborted(OTHER);
    else meter.count(OTHER, status);
    inFlight.leave();
  };
  inFlight.enter();
  res.onAborted(() => {
    if (isOpen) over(0);
    isOpen = false;
  });
  const isTaken = (cluster ?? vault).submit(head, NOTHING, (result) => {
    if (!isOpen) return;
    isOpen = false;
    res.cork(() => over(sendWriteResult(res, "touch", result, cluster?.region)));
  });
  if (isTaken) return;
  isOpen = false;
  over(sendError(res, "overloaded"));
}
