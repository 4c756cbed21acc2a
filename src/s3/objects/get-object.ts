/** GetObject and HeadObject: an object, or a range of it, if its conditions hold. */

import { READ } from "../../auth/tokens.ts";
import { ifRangeHolds } from "../../rules/conditions.ts";
import { parseRange, RANGE_PART, RANGE_UNSATISFIABLE } from "../../rules/range.ts";
import type { Res } from "../../server/http/http.ts";
import { Download } from "../../server/reads/download.ts";
import { pieceReady, type Range } from "../../server/transfer/find.ts";
import { copyOf } from "../../util/bytes.ts";
import { isHeaderText } from "../../util/header-text.ts";
import { REPLY_AT_ONCE_BYTES } from "../../util/limits.ts";
import { begin, type Lines } from "../exchange/answer.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { S3Error } from "../protocol/errors.ts";
import { demandConditions, lastModified } from "../protocol/etag.ts";
import { factsAt, type ObjectFacts, type OpenObject, openObject } from "../store/objects.ts";
import { headersOf, OVERRIDES } from "./kept.ts";

/** What is sent of an object. */
interface Part extends Range {
  status: 200 | 206;
}

export async function getObject(exchange: Exchange): Promise<void> {
  const { front, isHead } = exchange;
  const key = exchange.storeKey;
  exchange.demand(READ, key);
  if (isHead) {
    const facts = (await factsAt(front, key)) ?? (await missing(exchange));
    const part = judge(exchange, facts);
    exchange.send((res) => {
      begin(res, part.status, exchange.requestId, linesOf(exchange, facts, part));
      res.writeHeader("Content-Length", String(part.end - part.start));
      res.endWithoutBody();
      return part.status;
    });
    return;
  }
  const object =
    (await openObject(front, key, (facts) => judge(exchange, facts))) ?? (await missing(exchange));
  const { reader, start, end } = object;
  try {
    if (end > start) await pieceReady(reader, start);
    sendPart(exchange, object);
  } catch (error) {
    reader.close();
    throw error;
  }
}

/** @throws S3Error which of both is missing */
async function missing({ asked, context, isHead }: Exchange): Promise<never> {
  if (!isHead) await context.buckets.demand(asked.bucket);
  throw new S3Error("NoSuchKey");
}

/** Judges conditions and range. */
function judge(exchange: Exchange, { etag, versionMs, valueBytes }: ObjectFacts): Part {
  const [ifMatch, ifNoneMatch, ifModifiedSince, ifUnmodifiedSince] = [
    ...["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"],
  ].map((name) => exchange.header(name));
  try {
    demandConditions({ ifMatch, ifNoneMatch, ifModifiedSince, ifUnmodifiedSince }, etag, versionMs);
  } catch (error) {
    if (error instanceof S3Error && error.code === "NotModified")
      throw new S3Error("NotModified", "", [
        ["ETag", `"${etag}"`],
        ["Last-Modified", lastModified(versionMs).toUTCString()],
      ]);
    throw error;
  }
  const ifRange = exchange.header("if-range");
  const holds = ifRange === "" || ifRangeHolds(ifRange, `"${etag}"`, versionMs, Date.now());
  const { kind, start, end } = parseRange(holds ? exchange.header("range") : "", valueBytes);
  if (kind === RANGE_UNSATISFIABLE)
    throw new S3Error("InvalidRange", "", [["Content-Range", `bytes */${valueBytes}`]]);
  return { status: kind === RANGE_PART ? 206 : 200, start, end };
}

function linesOf(exchange: Exchange, facts: ObjectFacts, { status, start, end }: Part): Lines {
  const showsChecksum = exchange.header("x-amz-checksum-mode").toUpperCase() === "ENABLED" && status === 200;
  const lines = new Map<string, string>([["content-type", facts.contentType]]);
  for (const [name, value] of headersOf(facts, showsChecksum)) lines.set(name, value);
  for (const [parameter, value] of exchange.asked.query) {
    const header = OVERRIDES.get(parameter);
    if (header === undefined) continue;
    if (exchange.asked.caller.name === null)
      throw new S3Error("InvalidRequest", "Only a signed request may say what the answer's headers are.");
    if (!isHeaderText(value)) throw new S3Error("InvalidArgument", `${parameter} is no header's text.`);
    lines.set(header, value);
  }
  if (status === 206) lines.set("Content-Range", `bytes ${start}-${end - 1}/${facts.valueBytes}`);
  return [...lines];
}

function sendPart(exchange: Exchange, object: OpenObject & Part): void {
  const { front, requestId, asked } = exchange;
  const { status, start, end, reader } = object;
  const lines = linesOf(exchange, object, object);
  // Read before the status is written: it may turn out to be damaged.
  const first = end > start ? reader.read(start) : new Uint8Array(0);
  const sendHead = (res: Res): void => begin(res, status, requestId, lines);
  if (!exchange.isWaiting) {
    reader.close();
    return;
  }
  if (end - start <= REPLY_AT_ONCE_BYTES && first.length >= end - start) {
    const bytes = copyOf(first, 0, end - start);
    reader.close();
    exchange.send((res) => {
      sendHead(res);
      res.end(bytes);
      return status;
    });
    return;
  }
  exchange.handOver((res) => {
    sendHead(res);
    new Download(front, res, reader, first, start, end, (complete) => {
      if (complete) exchange.count(status);
      else front.meter.countAborted(asked.verb);
    }).begin();
  });
}
