/**
 * PUT, POST and DELETE of keys: what can be judged by the headers alone, before any of the body is taken.
 */
import { NO_TRAILER } from "../../format/fields/trailer.ts";
import { NO_LIFE } from "../../rules/expiry.ts";
import { type Allowed, lifeOf } from "../../rules/life.ts";
import type { WriteVerb } from "../../shards/arena/write.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { isHeaderText, isJsonType } from "../../util/header-text.ts";
import { CHUNK_BYTES, CONTENT_TYPE_BYTES_MAX } from "../../util/limits.ts";
import { bytesDeclared, CHUNKED, NO_BODY } from "../http/body-length.ts";
import { type FrontContext, targetOf } from "../http/context.ts";
import type { Handler, Req, Res } from "../http/http.ts";
import { endsByLength, refuse } from "../http/linger.ts";
import { judgeConditions } from "../http/read-headers.ts";
import type { ErrorOptions } from "../http/reply.ts";
import { queryProblem, TARGET_BATCH, TARGET_KEY, TARGET_RESERVED } from "../http/target.ts";
import { HeadLines } from "./head-lines.ts";
import { keptHeaders } from "./kept-headers.ts";
import { adviseWrite, verbIndex, type WriteHeaders, WriteRequest } from "./write-request.ts";

const UPGRADE_FIRST =
  "Content-Encoding, Content-Language, Content-Disposition, Cache-Control and X-Meta headers cannot be kept before the data directory, or the cluster, has been upgraded (minivault upgrade, minivault upgrade-cluster)";

/** Why there is no place for an end of life. */
export const NO_ENDS =
  "values cannot have an end of life (ttl, expires) before the data directory, or the cluster, has been upgraded (minivault upgrade, minivault upgrade-cluster)";

const WITH_KEEP: Allowed = { keep: true, none: false };
const WITHOUT_KEEP: Allowed = { keep: false, none: false };

const DEFAULT_TYPE = "application/octet-stream";
const JSON_TYPE = "application/json";
const EMPTY_VALUE = "with -compat mkv there are no empty values; send a body";

/** What curl's --data sends when nobody chose a type. */
const FORM_SYNTAX = /^application\/x-www-form-urlencoded[ \t]*(;|$)/i;

const NO_BYTES = new ArrayBuffer(0);

/** An error and how to say it. */
export interface Refusal {
  code: ErrorCode;
  options?: ErrorOptions;
}

/** What is wrong with a path that is not a key, for a write. */
export type RefuseOther = (target: number) => Refusal;

/** @param takeReserved takes PUTs of reserved paths; false: it is none of those that it knows */
export function createWrites(
  context: FrontContext,
  refuseOther: RefuseOther,
  takeBatch: Handler,
  takeReserved: (res: Res, req: Req) => boolean,
): { put: Handler; post: Handler; delete: Handler } {
  const lines = new HeadLines();
  const receive = (verb: WriteVerb, res: Res, req: Req): void => {
    const target = targetOf(context, req);
    if (target === TARGET_BATCH && verb === "post") {
      takeBatch(res, req);
      return;
    }
    if (target === TARGET_RESERVED && verb === "put" && takeReserved(res, req)) return;
    lines.read(req);
    const declared = bytesDeclared(lines.contentLength ?? "", lines.transferEncoding ?? "");
    if (endsByLength(context.meter, verbIndex(verb), res, declared, lines.lengthsDiffer)) return;
    const headers: WriteHeaders = {
      verb,
      path: req.getUrl(),
      json: false,
      contentType: "",
      trailer: NO_TRAILER,
      life: NO_LIFE,
      ifMatch: "",
      ifNoneMatch: "",
      declaredBytes: declared,
    };
    const refusal = judge(context, req, target, lines, headers, refuseOther);
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

  return {
    put: (res, req) => receive("put", res, req),
    post: (res, req) => receive("post", res, req),
    delete: (res, req) => receive("delete", res, req),
  };
}

/** What the headers already rule out, or null; fills in kind and type of the value. */
function judge(
  context: FrontContext,
  req: Req,
  target: number,
  lines: HeadLines,
  headers: WriteHeaders,
  refuseOther: RefuseOther,
): Refusal | null {
  if (target !== TARGET_KEY) return refuseOther(target);
  const query = req.getQuery();
  const problem = query ? readQuery(context, query, headers) : null;
  if (problem !== null) return problem;
  if (context.stopping) return { code: "stopping" };
  const { ifMatch, ifNoneMatch, ifUnmodifiedSince } = lines;
  const conditionProblem = judgeConditions(ifMatch, ifNoneMatch, ifUnmodifiedSince, headers);
  if (conditionProblem !== null) return badRequest(conditionProblem);
  if (context.writesOnce && headers.verb === "put") {
    if (headers.declaredBytes === 0) return { code: "length_required", options: { detail: EMPTY_VALUE } };
    headers.ifMatch = "";
    headers.ifNoneMatch = "*";
  }
  return headers.verb === "delete" ? null : judgeBody(context, lines, headers);
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

function judgeBody(context: FrontContext, lines: HeadLines, headers: WriteHeaders): Refusal | null {
  const declared = headers.declaredBytes;
  if (declared === NO_BODY) return { code: "length_required" };
  if (declared === CHUNKED && !isChunkedOnly(lines)) {
    return badRequest("the only Transfer-Encoding understood is chunked");
  }
  if (declared > context.maxValueBytes && declared !== CHUNKED) {
    return { code: "too_large", options: { detail: `values are limited to ${context.maxValueBytes} bytes` } };
  }
  if (lines.contentRange !== "") {
    // RFC 9110, section 14.5: a client that resumes an upload must not replace the value by its tail.
    return badRequest("Content-Range is not supported: send the whole value");
  }
  const typeProblem = readContentType(lines.contentType, headers);
  if (typeProblem !== null) return badRequest(typeProblem);
  const kept = keptHeaders(lines, headers.json);
  if ("code" in kept) {
    const { code, detail } = kept;
    const acceptable = code === "unsupported_encoding" ? [["Accept-Encoding", "identity"] as const] : [];
    return { code, options: { detail, headers: acceptable } };
  }
  if (kept.length > 0 && !(context.cluster ?? context.vault).keepsFields)
    return { code: "upgrade_first", options: { detail: UPGRADE_FIRST } };
  headers.trailer = kept;
  if (declared <= CHUNK_BYTES || declared === CHUNKED) return null;
  const code = adviseWrite(context, { ...headers, key: context.key });
  return code === null ? null : { code };
}

/** Whether the body's one coding is "chunked". */
function isChunkedOnly({ transferEncoding, transferLines }: HeadLines): boolean {
  return transferLines === 1 && transferEncoding?.toLowerCase() === "chunked";
}

function badRequest(detail: string): Refusal {
  return { code: "bad_request", options: { detail } };
}

/** The last Content-Type that was read and had nothing special: mostly it is the next one, too. */
let lastPlainType = DEFAULT_TYPE;

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
  headers.contentType = DEFAULT_TYPE;
  if (header === "" || header === DEFAULT_TYPE) return null;
  if (header === JSON_TYPE || isJsonType(header)) {
    headers.json = true;
    headers.contentType = JSON_TYPE;
    return null;
  }
  if (FORM_SYNTAX.test(header)) return null;
  if (header.length > CONTENT_TYPE_BYTES_MAX)
    return `Content-Type is limited to ${CONTENT_TYPE_BYTES_MAX} bytes`;
  if (!isHeaderText(header)) return "Content-Type holds characters that a header must not have";
  headers.contentType = header;
  lastPlainType = header;
  return null;
}
