/** Reading an object into another value: for CopyObject and UploadPartCopy. */
import { createHash } from "node:crypto";
import { READ } from "../../auth/tokens.ts";
import type { Range } from "../../server/transfer/find.ts";
import { piecesOf } from "../../server/transfer/outgoing.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { S3Error } from "../protocol/errors.ts";
import { demandConditions } from "../protocol/etag.ts";
import { type Place, placeIn, storeKey } from "../protocol/names.ts";
import { type ObjectFacts, type OpenObject, openObject } from "../store/objects.ts";
import type { ValueSink } from "../store/value-sink.ts";

/**
 * Opens what x-amz-copy-source names, under its conditions. Whoever has it reads it or closes its reader.
 * @param rangeOf which bytes of it
 * @throws S3Error
 */
export async function openSource(
  exchange: Exchange,
  rangeOf: (facts: ObjectFacts) => Range,
): Promise<OpenObject & { storeKey: Uint8Array }> {
  const { bucket, key } = sourceOf(exchange.header("x-amz-copy-source"));
  const name = storeKey(bucket, key);
  exchange.demand(READ, name);
  const object = await openObject(exchange.front, name, (facts) => {
    demandSourceConditions(exchange, facts);
    return rangeOf(facts);
  });
  if (object === null) {
    await exchange.context.buckets.demand(bucket);
    throw new S3Error("NoSuchKey");
  }
  return { ...object, storeKey: name };
}

function demandSourceConditions(exchange: Exchange, { etag, versionMs }: ObjectFacts): void {
  const [ifMatch, ifNoneMatch, ifModifiedSince, ifUnmodifiedSince] = [
    ...["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"],
  ].map((condition) => exchange.header(`x-amz-copy-source-${condition}`));
  const conditions = { ifMatch, ifNoneMatch, ifModifiedSince, ifUnmodifiedSince };
  try {
    demandConditions(conditions, etag, versionMs);
  } catch (error) {
    // A copy has no answer of its own for what has not changed.
    if (error instanceof S3Error && error.code === "NotModified") throw new S3Error("PreconditionFailed");
    throw error;
  }
}

/** Bucket and key in the text of x-amz-copy-source. */
function sourceOf(header: string): Place {
  const [path, query] = header.split("?");
  if (query !== undefined && query !== "versionId=null")
    throw new S3Error("NotImplemented", "There are no versions here.");
  const place = placeIn(path);
  if (place.bucket === "" || place.key === "")
    throw new S3Error("InvalidArgument", "x-amz-copy-source is /bucket/key, percent-encoded.");
  return place;
}

/** Reads them into a value, as fast as that takes them. Answers their MD5. */
export async function copyInto(
  source: OpenObject,
  sink: ValueSink,
  each: (piece: Uint8Array) => void = () => {},
): Promise<Buffer> {
  const md5 = createHash("md5");
  let drained = (): void => {};
  sink.onDrain = () => drained();
  for await (const piece of piecesOf(source)) {
    md5.update(piece);
    each(piece);
    const room = new Promise<void>((resolve) => {
      drained = resolve;
    });
    if (!sink.take(piece)) await room;
  }
  return md5.digest();
}
