/** CreateBucket: writes the key that says that it was made, and where its maker wants it. */

import { WRITE } from "../../auth/tokens.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { S3Error } from "../protocol/errors.ts";
import { isNewBucketName, markerOf } from "../protocol/names.ts";
import { ValueSink } from "../store/value-sink.ts";
import { locationIn, MARKER_TYPE } from "./location.ts";

const BODY_BYTES_MAX = 64 * 1024;

export async function createBucket(exchange: Exchange): Promise<void> {
  const { asked, front, context, body } = exchange;
  const { bucket } = asked;
  if (!isNewBucketName(bucket)) throw new S3Error("InvalidBucketName");
  const key = markerOf(bucket);
  exchange.demand(WRITE, key);
  if (asked.headers.get("x-amz-bucket-object-lock-enabled")?.toLowerCase() === "true")
    throw new S3Error("NotImplemented", "There is no object lock here.");
  const location = Buffer.from(locationIn(await body.whole(BODY_BYTES_MAX)));
  const sink = new ValueSink(front, { key, contentType: MARKER_TYPE }, location.length);
  try {
    if (location.length > 0) sink.take(location);
    await sink.commit(new Uint8Array(0), { ifMatch: "", ifNoneMatch: "*" });
  } catch (error) {
    // Whoever makes it twice has it; as in the oldest region of S3.
    if (!(error instanceof S3Error) || error.code !== "PreconditionFailed") throw error;
  } finally {
    sink.close();
  }
  context.buckets.note(bucket);
  exchange.sendEmpty(200, [["Location", `/${bucket}`]]);
}
