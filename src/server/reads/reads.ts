/**
 * GET and HEAD of keys. The common GET (no condition, no range, a value that fits one answer) makes seven
 * calls into uWS and allocates nothing of its own; everything else leaves that path early.
 */
import { etagOf } from "../../format/version.ts";
import {
  ifRangeHolds,
  isModifiedSince,
  lastModifiedSeconds,
  matchHolds,
  noneMatchHolds,
} from "../../rules/conditions.ts";
import { queryProblem } from "../../rules/query.ts";
import { parseRange, RANGE_PART, RANGE_UNSATISFIABLE } from "../../rules/range.ts";
import type { Found } from "../../shards/vault/vault.ts";
import { VaultError } from "../../util/errors.ts";
import { CHUNK_BYTES, REPLY_AT_ONCE_BYTES } from "../../util/limits.ts";
import { VARY } from "../access/gate.ts";
import { type FrontContext, targetOf } from "../http/context.ts";
import type { Handler, Req, Res } from "../http/http.ts";
import { isPlainRead, PLAIN_READ, type ReadHeaders, readHeaders } from "../http/read-headers.ts";
import { endHead, type Header, sendError } from "../http/reply.ts";
import { TARGET_KEY, TARGET_RAW, TARGET_RESERVED, TARGET_ROOT } from "../http/target.ts";
import { Waiting } from "../later/waiting.ts";
import { GET, HEAD } from "../status/meter.ts";
import { ColdRead } from "./cold-reads.ts";
import { Download } from "./download.ts";
import { beginFound, beginNotModified, beginPart, clock, type ValueFacts } from "./value-head.ts";

/** One GET in so many is timed: reading the clock twice costs as much as finding the key. */
const TIMED_ONE_IN = 64;

/** Answers a path that is not a key. */
export type AnswerOther = (res: Res, req: Req, target: number, head: boolean) => number;

/** Answers a request whose query makes it another one than that of a value; false: it does not. */
export type AnswerQuery = (res: Res, req: Req, query: string, target: number, head: boolean) => boolean;

export function createReads(
  context: FrontContext,
  answerOther: AnswerOther,
  answerQuery: AnswerQuery,
): { get: Handler; head: Handler } {
  const { vault, meter, key } = context;
  let untilTimed = 1;

  const answer = (res: Res, req: Req): void => {
    const target = targetOf(context, req);
    if (target !== TARGET_KEY) {
      answerNoKey(context, res, req, target, false, answerOther, answerQuery);
      return;
    }
    const query = req.getQuery();
    if (query && (answerQuery(res, req, query, target, false) || rejectQuery(context, res, query, false)))
      return;
    const found = vault.findResident(key);
    if (found.state !== "found") {
      const { state } = found;
      if (state === "cold" || state === "ended") ColdRead.begin(context, res, req, GET, state, answerCold);
      else sendMissing(context, res, GET, state);
      return;
    }
    const isPlain = isPlainRead(req);
    if (!isPlain || found.valueBytes > REPLY_AT_ONCE_BYTES) {
      answerFound(context, res, found, isPlain ? PLAIN_READ : readHeaders(req, false));
      return;
    }
    // The view first: it may find the record damaged, and then nothing may have been written.
    const body = found.view();
    beginFound(res, found, context);
    res.end(body);
    meter.count(GET, 200);
  };

  const answerCold = (res: Res, found: Found, headers: ReadHeaders): void => {
    if (found.state !== "found") sendMissing(context, res, GET, found.state);
    else answerFound(context, res, found, headers);
  };

  const get: Handler = (res, req) => {
    if (--untilTimed > 0) {
      answer(res, req);
      return;
    }
    untilTimed = TIMED_ONE_IN;
    const startMs = performance.now();
    answer(res, req);
    meter.readTook(performance.now() - startMs);
  };

  return { get, head: headOf(context, answerOther, answerQuery) };
}

/** HEAD of keys. */
function headOf(context: FrontContext, answerOther: AnswerOther, answerQuery: AnswerQuery): Handler {
  const { vault, key } = context;
  return (res, req) => {
    const target = targetOf(context, req);
    if (target !== TARGET_KEY) {
      answerNoKey(context, res, req, target, true, answerOther, answerQuery);
      return;
    }
    const query = req.getQuery();
    if (query && (answerQuery(res, req, query, target, true) || rejectQuery(context, res, query, true)))
      return;
    const found = vault.findResident(key);
    const { state } = found;
    if (state === "cold" || state === "ended")
      ColdRead.begin(context, res, req, HEAD, state, (_, warm, headers) =>
        answerHead(context, res, warm, headers),
      );
    else answerHead(context, res, found, readHeaders(req, true));
  };
}

/** Answers a GET or HEAD of a path that is not a key. */
export function answerNoKey(
  context: FrontContext,
  res: Res,
  req: Req,
  target: number,
  head: boolean,
  answerOther: AnswerOther,
  answerQuery: AnswerQuery,
): void {
  const query = req.getQuery();
  const isAsked = query || target === TARGET_RESERVED || target >= TARGET_RAW;
  if (isAsked && answerQuery(res, req, query ?? "", target, head)) return;
  // "/" with a query is, or will be, more than a greeting.
  if (target === TARGET_ROOT && query && rejectQuery(context, res, query, head)) return;
  context.meter.count(head ? HEAD : GET, answerOther(res, req, target, head));
}

/** Answers a GET or HEAD of a key that is absent, or damaged. */
export function sendMissing(context: FrontContext, res: Res, verb: number, state: Found["state"]): void {
  const code = state === "absent" ? "not_found" : "corrupt";
  const options = { head: verb === HEAD, ...(context.varies ? { headers: VARY } : {}) };
  context.meter.count(verb, sendError(res, code, options));
}

/** Answers a HEAD. */
export function answerHead(
  context: FrontContext,
  res: Res,
  found: Found,
  headers: ReadHeaders,
  more: readonly Header[] = [],
): void {
  const { meter } = context;
  if (found.state !== "found") {
    sendMissing(context, res, HEAD, found.state);
    return;
  }
  if (!meetsConditions(context, res, found, headers, true)) return;
  beginFound(res, found, context);
  for (const [name, value] of more) res.writeHeader(name, value);
  res.writeHeader("Accept-Ranges", "bytes");
  endHead(res, found.valueBytes);
  meter.count(HEAD, 200);
}

/** Answers 400 for a query with something wrong in it. */
function rejectQuery(context: FrontContext, res: Res, query: string, head: boolean): boolean {
  const problem = queryProblem(query);
  if (problem === null) return false;
  context.meter.count(head ? HEAD : GET, sendError(res, "bad_request", { detail: problem, head }));
  return true;
}

/** Judges the conditions in the order of RFC 9110, section 13.2.2. False: answered. */
export function meetsConditions(
  context: FrontContext,
  res: Res,
  found: Found,
  { ifMatch, ifNoneMatch, ifModifiedSince, problem }: ReadHeaders,
  head: boolean,
): boolean {
  if (ifMatch === "" && ifNoneMatch === "" && ifModifiedSince === "" && problem === null) return true;
  const verb = head ? HEAD : GET;
  if (problem !== null) {
    context.meter.count(verb, sendError(res, "bad_request", { detail: problem, head }));
    return false;
  }
  const etag = etagOf(found.etag);
  if (!matchHolds(ifMatch, etag)) {
    const headers = [["ETag", found.etag]] as const;
    context.meter.count(verb, sendError(res, "precondition_failed", { head, headers }));
    return false;
  }
  const nowMs = clock.now();
  const isNews =
    ifNoneMatch === ""
      ? isModifiedSince(ifModifiedSince, lastModifiedSeconds(found.versionMs, nowMs), nowMs)
      : noneMatchHolds(ifNoneMatch, etag);
  if (isNews) return true;
  beginNotModified(res, found, context);
  res.endWithoutBody();
  context.meter.count(verb, 304);
  return false;
}

/** What is to be sent of a value: all of it (`partial` false), or `start` to `end`. */
export interface Part {
  partial: boolean;
  start: number;
  end: number;
}

/** Reads the Range header. Null: answered, as it asks for nothing that is there. */
export function rangeOf(
  context: FrontContext,
  res: Res,
  found: Found,
  { range, ifRange }: ReadHeaders,
): Part | null {
  const wanted = range !== "" && (ifRange === "" || isOfVersion(found, ifRange));
  const { kind, start, end } = parseRange(wanted ? range : "", found.valueBytes);
  if (kind !== RANGE_UNSATISFIABLE) return { partial: kind === RANGE_PART, start, end };
  const headers = [
    ["ETag", found.etag],
    ["Content-Range", `bytes */${found.valueBytes}`],
  ] as const;
  context.meter.count(GET, sendError(res, "range_not_satisfiable", { headers }));
  return null;
}

function isOfVersion({ etag, versionMs }: Found, ifRange: string): boolean {
  return ifRangeHolds(ifRange, etagOf(etag), versionMs, Date.now());
}

/** What the headers of an answer say of a value. */
type Head = ValueFacts & Pick<Found, "valueBytes">;

/** Writes status and headers for a part of a value. */
export function rangeHead(
  context: FrontContext,
  res: Res,
  found: Head,
  { partial, start, end }: Part,
  more: readonly Header[],
): void {
  if (partial) {
    beginPart(res, found, context);
    res.writeHeader("Accept-Ranges", "bytes");
    res.writeHeader("Content-Range", `bytes ${start}-${end - 1}/${found.valueBytes}`);
  } else {
    beginFound(res, found, context);
    res.writeHeader("Accept-Ranges", "bytes");
  }
  for (const [name, value] of more) res.writeHeader(name, value);
}

/** Answers a GET: with the value, or the part of it that was asked for, if its conditions hold. */
export function answerFound(
  context: FrontContext,
  res: Res,
  found: Found,
  headers: ReadHeaders,
  more: readonly Header[] = [],
): void {
  if (!meetsConditions(context, res, found, headers, false)) return;
  const part = rangeOf(context, res, found, headers);
  if (part === null) return;
  const { partial, start, end } = part;
  const status = partial ? 206 : 200;
  if (end - start <= REPLY_AT_ONCE_BYTES && found.valueBytes <= CHUNK_BYTES) {
    const body = found.view(start, end);
    rangeHead(context, res, found, part, more);
    res.end(body);
    context.meter.count(GET, status);
    return;
  }
  const reader = found.open();
  const send = (head: Head): void => {
    let first: Uint8Array;
    try {
      first = reader.read(start);
    } catch (error) {
      reader.close();
      if (!(error instanceof VaultError)) throw error;
      context.meter.count(GET, sendError(res, error.code, { detail: error.message }));
      return;
    }
    rangeHead(context, res, head, part, more);
    new Download(context, res, reader, first, start, end, (complete) => {
      if (complete) context.meter.count(GET, status);
      else context.meter.countAborted(GET);
    }).begin();
  };
  // What was found is only good for now.
  let head: Head | null = null;
  const waiting = new Waiting(context, res, GET, () => reader.close());
  if (reader.ready?.(start, () => waiting.resume(() => send(head as Head))) !== false) {
    send(found);
    return;
  }
  const { contentType, trailer, isBare, end: endOfLife, valueBytes, versionMs } = found;
  head = { contentType, trailer, isBare, end: endOfLife, valueBytes, versionMs, etag: found.etag.slice() };
  waiting.begin();
}
