/**
 * PUT, POST and DELETE of keys: what can be judged by the headers alone, before any of the body is taken.
 */

import { NO_TRAILER } from "../../format/fields/trailer.ts";
import { NO_LIFE } from "../../rules/expiry.ts";
import { type Allowed, lifeOf } from "../../rules/life.ts";
import { queryProblem } from "../../rules/query.ts";
import type { WriteVerb } from "../../rules/write.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { BYTES_TYPE, isHeaderText, isJsonType, JSON_TYPE } from "../../util/header-text.ts";
import { CHUNK_BYTES, CONTENT_TYPE_BYTES_MAX } from "../../util/limits.ts";
import { bytesDeclared, CHUNKED, NO_BODY } from "../http/body-length.ts";
import { type FrontContext, targetOf } from "../http/context.ts";
import type { Handler, Req, Res } from "../http/http.ts";
import { endsByLength, refuse } from "../http/linger.ts";
import { judgeConditions } from "../http/read-headers.ts";
import type { ErrorOptions } from "../http/reply.ts";
import { TARGET_KEY } from "../http/target.ts";
import { problemOf, TOO_LARGE_TO_REMEMBER } from "../once/once.ts";
import { adviseWrite, verbIndex } from "./advice.ts";
import { HeadLines } from "./head-lines.ts";
import { keptHeaders } from "./kept-headers.ts";
import { ONLY_IDENTITY, OTHER_CODING } from "./whole-body.ts";
import { type WriteHeaders, WriteRequest } from "./write-request.ts";

const UPGRADE_FIRST =
  "Content-Encoding, Content-Language, Content-Disposition, Cache-Control and X-Meta headers cannot be kept before the data directory, or the cluster, has been upgraded (minivault upgrade, minivault upgrade-cluster)";

/** Why there is no place for an end of life. */
export const NO_ENDS =
  "values cannot have an end of life (ttl, expires) before the data directory, or the cluster, has been upgraded (minivault upgrade, minivault upgrade-cluster)";

const WITH_KEEP: Allowed = { keep: true, none: false };
const WITHOUT_KEEP: Allowed = { keep: false, none: false };

const EMPTY_VALUE = "with -compat mkv there are no empty values; send a body";

/** What curl's --data sends when nobody chose a type. */
const FORM_SYNTAX = /^application\/x-www-form-urlencoded[ \t]*(;|$)/i;

const NO_BYTES = new ArrayBuffer(0);

/** An error and how to say it. */
export interface Refusal {
  code: ErrorCode;
  options?: ErrorOptions;
}

/**
 * What is wrong with a path that is not a key, for a write.
 * @param method left out: one of those that write keys
 */
export type RefuseOther = (target: number, method?: string) => Refusal;

/** What the headers already rule out, or null; fills in kind and type of the value. */
export type Judge = (req: Req, target: number, lines: HeadLines, headers: WriteHeaders) => Refusal | null;

/** Takes a write whose path was parsed just now. */
export type Receive = (verb: WriteVerb, res: Res, req: Req, target: number, judge: Judge) => void;

/** Takes writes from their headers on. */
export function createReceive(context: FrontContext): Receive {
  const lines = new HeadLines();
  return (verb, res, req, target, judge) => {
    lines.read(req);
    const declared = bytesDeclared(lines.contentLength ?? "", lines.transferEncoding ?? "");
    if (endsByLength(context.meter, verbIndex(verb), res, declared, lines.problem)) return;
    const headers: WriteHeaders = {
      verb,
      path: req.getUrl(),
      json: false,
      contentType: "",
      trailer: NO_TRAILER,
      life: NO_LIFE,
      ifMatch: "",
      ifNoneMatch: "",
      once: "",
      declaredBytes: declared,
      manner: null,
    };
    const refusal = judge(req, target, lines, headers);
    if (refusal !== null) {
      const status = refuse(res, refusal.code, declared, refusal.options);
      context.meter.count(verbIndex(verb), status);
      return;
    }
    const request = new WriteRequest(context, res, headers);
    res.onAborted(() => request.aborted());
    // uWS says nothing more of an empty body, or of none, when the head came in pieces.
    if (declared === 0 || declared === NO_BODY) request.data(NO_BYTES, true);
    else res.onData((chunk, last) => request.data(chunk, last));
  };
}

/** Takes what is not a write of a key; false: it is none of those that it knows. */
export type TakeOther = (verb: "put" | "post" | "delete", res: Res, req: Req, target: number) => boolean;

export function createWrites(
  context: FrontContext,
  receive: Receive,
  refuseOther: RefuseOther,
  takeOther: TakeOther,
): { put: Handler; post: Handler; delete: Handler } {
  const judge: Judge = (req, target, lines, headers) => {
    if (target !== TARGET_KEY) return refuseOther(target);
    const problem = judgeHead(context, req, lines, headers);
    if (problem !== null) return problem;
    if (context.writesOnce && headers.verb === "put") {
      if (headers.declaredBytes === 0) return { code: "length_required", options: { detail: EMPTY_VALUE } };
      headers.ifMatch = "";
      headers.ifNoneMatch = "*";
    }
    return headers.verb === "delete" ? null : judgeBody(context, lines, headers, readContentType);
  };
  const take = (verb: "put" | "post" | "delete", res: Res, req: Req): void => {
    const target = targetOf(context, req);
    if (target === TARGET_KEY || !takeOther(verb, res, req, target)) receive(verb, res, req, target, judge);
  };
  return {
    put: (res, req) => take("put", res, req),
    post: (res, req) => take("post", res, req),
    delete: (res, req) => take("delete", res, req),
  };
}

/** What query and conditions rule out; fills them in. */
export function judgeHead(
  context: FrontContext,
  req: Req,
  lines: HeadLines,
  headers: WriteHeaders,
): Refusal | null {
  const { ifMatch, ifNoneMatch, ifUnmodifiedSince } = lines;
  const query = req.getQuery();
  const problem = query ? readQuery(context, query, headers) : null;
  if (problem !== null) return problem;
  if (context.stopping) return { code: "stopping" };
  const conditionProblem = judgeConditions(ifMatch, ifNoneMatch, ifUnmodifiedSince, headers);
  if (conditionProblem !== null) return badRequest(conditionProblem);
  return lines.idempotencyKey.length === 0 ? null : readOnce(context, lines, headers);
}

/** What is wrong with an `Idempotency-Key`, or null; fills it in. */
function readOnce(
  context: FrontContext,
  { idempotencyKey }: HeadLines,
  headers: WriteHeaders,
): Refusal | null {
  const problem = problemOf(context, idempotencyKey);
  if (problem !== null) return { code: problem.code, options: { detail: problem.detail } };
  const { declaredBytes } = headers;
  const isLarge = declaredBytes > CHUNK_BYTES && declaredBytes !== CHUNKED;
  if (isLarge) return badRequest(TOO_LARGE_TO_REMEMBER);
  headers.once = idempotencyKey[0];
  return null;
}

/** What is wrong with a query, or null; fills in how long the value is to live. */
function readQuery(context: FrontContext, query: string, headers: WriteHeaders): Refusal | null {
  const { verb } = headers;
  const problem = queryProblem(query, verb !== "delete");
  if (problem !== null) return badRequest(problem);
  if (verb === "delete") return null;
  const target = context.cluster ?? context.vault;
  const life = lifeOf(query, verb === "put" ? WITH_KEEP : WITHOUT_KEEP, target.now());
  if (life === null) return null;
  if (typeof life === "string") return badRequest(life);
  headers.life = life;
  return target.keepsEnds ? null : { code: "upgrade_first", options: { detail: NO_ENDS } };
}

/**
 * What the headers of a body rule out; fills in what is to be kept of them.
 * @param readType decides kind and stored type of the body, and answers what is wrong, or null
 */
export function judgeBody(
  context: FrontContext,
  lines: HeadLines,
  headers: WriteHeaders,
  readType: typeof readContentType,
): Refusal | null {
  const declared = headers.declaredBytes;
  if (declared === NO_BODY) return { code: "length_required" };
  if (declared === CHUNKED && !isChunkedOnly(lines)) {
    return badRequest(OTHER_CODING);
  }
  if (declared > context.maxValueBytes && declared !== CHUNKED) {
    return { code: "too_large", options: { detail: `values are limited to ${context.maxValueBytes} bytes` } };
  }
  if (lines.contentRange !== "") {
    // RFC 9110, section 14.5: a client that resumes an upload must not replace the value by its tail.
    return badRequest("Content-Range is not supported: send the whole value");
  }
  const typeProblem = readType(lines.contentType, headers);
  if (typeProblem !== null) return badRequest(typeProblem);
  const kept = keptHeaders(lines, headers.json);
  if ("code" in kept) {
    const { code, detail } = kept;
    const acceptable = code === "unsupported_encoding" ? ONLY_IDENTITY : [];
    return { code, options: { detail, headers: acceptable } };
  }
  if (kept.length > 0 && !(context.cluster ?? context.vault).keepsFields)
    return { code: "upgrade_first", options: { detail: UPGRADE_FIRST } };
  headers.trailer = kept;
  if (declared <= CHUNK_BYTES || declared === CHUNKED) return null;
  const writesOnce = headers.manner === null && context.writesOnce;
  return adviseWrite(context, { ...headers, key: context.key }, writesOnce);
}

/** Whether the body's one coding is "chunked". */
function isChunkedOnly({ transferEncoding, transferLines }: HeadLines): boolean {
  return transferLines === 1 && transferEncoding?.toLowerCase() === "chunked";
}

export function badRequest(detail: string): Refusal {
  return { code: "bad_request", options: { detail } };
}

/** The last Content-Type that was read and had nothing special: mostly it is the next one, too. */
let lastPlainType = BYTES_TYPE;

/** Decides kind and stored type of a body. Answers what is wrong, or null. */
export function readContentType(
  header: string,
  headers: { json: boolean; contentType: string },
): string | null {
  if (header === lastPlainType) {
    headers.json = false;
    headers.contentType = header;
    return null;
  }
  headers.json = false;
  headers.contentType = BYTES_TYPE;
  if (header === "" || header === BYTES_TYPE) return null;
  if (header === JSON_TYPE || isJsonType(header)) {
    headers.json = true;
    headers.contentType = JSON_TYPE;
    return null;
  }
  const problem = readRawType(header, headers);
  if (problem === null && headers.contentType === header) lastPlainType = header;
  return problem;
}

/** The same for a body that is kept as it is, also where it is JSON. */
export function readRawType(header: string, headers: { json: boolean; contentType: string }): string | null {
  headers.json = false;
  headers.contentType = BYTES_TYPE;
  if (header === "" || FORM_SYNTAX.test(header)) return null;
  if (header.length > CONTENT_TYPE_BYTES_MAX)
    return `Content-Type is limited to ${CONTENT_TYPE_BYTES_MAX} bytes`;
  if (!isHeaderText(header)) return "Content-Type holds characters that a header must not have";
  headers.contentType = header;
  return null;
}
