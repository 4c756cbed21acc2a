/** PutObject: an object as it comes, whole or in signed chunks. */

import { WRITE } from "../../auth/tokens.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";
import type { Exchange } from "../exchange/exchange.ts";
import type { Sums } from "../exchange/payload.ts";
import { S3Error } from "../protocol/errors.ts";
import { NO_TERMS, ValueSink } from "../store/value-sink.ts";
import { checksumLines, demandFields, describedBy, trailerOf } from "./kept.ts";
import { commitUnder, conditionsOf, nameEtags, termsNow } from "./terms.ts";

export async function putObject(exchange: Exchange): Promise<void> {
  const { asked, front, body, context } = exchange;
  const key = exchange.storeKey;
  exchange.demand(WRITE, key);
  demandFields(front);
  const { contentType, lines } = describedBy(asked.headers);
  const conditions = conditionsOf(exchange);
  demandLength(exchange);
  const { expectedBytes } = body.payload;
  body.payload.wantsMd5 = true;
  const isLargeWithTag = nameEtags(conditions) && expectedBytes > CHUNK_BYTES;
  const terms = { ...NO_TERMS, ifNoneMatch: conditions.ifNoneMatch };
  if (isLargeWithTag) {
    await putUnderTag(exchange);
    return;
  }
  const sink = new ValueSink(front, { key, contentType }, expectedBytes, terms);
  try {
    const received = receiveInto(exchange, sink);
    if (!context.buckets.isKnown(asked.bucket)) await context.buckets.demand(asked.bucket);
    const { md5, checksum } = await received;
    const sum = { md5: md5 as Buffer, parts: 0 };
    await commitUnder(exchange, sink, trailerOf(lines, sum, checksum), conditions, terms);
    exchange.sendEmpty(200, [["ETag", `"${sum.md5.toString("hex")}"`], ...checksumLines(checksum)]);
  } finally {
    sink.close();
  }
}

/** A large value whose condition has to be known before its bytes: they wait meanwhile. */
async function putUnderTag(exchange: Exchange): Promise<void> {
  const { asked, front, body, context } = exchange;
  const { contentType, lines } = describedBy(asked.headers);
  const conditions = conditionsOf(exchange);
  const early: Uint8Array[] = [];
  let sink: ValueSink | null = null;
  const received = body.receive((piece) => {
    if (sink !== null) return sink.take(piece);
    early.push(piece.slice());
    return false;
  });
  try {
    await context.buckets.demand(asked.bucket);
    const terms = await termsNow(exchange, conditions);
    sink = new ValueSink(front, { key: exchange.storeKey, contentType }, body.payload.expectedBytes, terms);
    follow(exchange, sink);
    let hasRoom = true;
    for (const piece of early.splice(0)) hasRoom = sink.take(piece) && hasRoom;
    if (hasRoom) body.resume();
    const { md5, checksum } = await received;
    const sum = { md5: md5 as Buffer, parts: 0 };
    await commitUnder(exchange, sink, trailerOf(lines, sum, checksum), conditions, terms);
    exchange.sendEmpty(200, [["ETag", `"${sum.md5.toString("hex")}"`], ...checksumLines(checksum)]);
  } finally {
    sink?.close();
  }
}

/** Lets a sink say when it has room, and when it has failed. */
function follow({ body }: Exchange, sink: ValueSink): void {
  sink.onDrain = () => body.resume();
  sink.onFail = (error) => body.fail(error);
}

/** Begins to receive the body into a value. */
export function receiveInto(exchange: Exchange, sink: ValueSink): Promise<Sums> {
  follow(exchange, sink);
  const { body, context } = exchange;
  body.payload.sumElsewhere(context.hashing);
  const received = body
    .receive((piece) => sink.take(piece))
    .then((sums) => {
      if (sums.held !== null) sink.lend(sums.held);
      return sums;
    });
  // It may fail before anybody waits for it.
  received.catch(() => {});
  return received;
}

/** @throws S3Error */
export function demandLength({ asked, body, front }: Exchange): void {
  if (asked.sentBytes < 0) throw new S3Error("MissingContentLength");
  const { expectedBytes } = body.payload;
  if (Number.isFinite(expectedBytes) && expectedBytes > front.maxValueBytes)
    throw new S3Error("EntityTooLarge", `Objects are limited to ${front.maxValueBytes} bytes.`);
}
