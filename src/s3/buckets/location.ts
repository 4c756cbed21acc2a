/**
 * Where a bucket is, as its maker has said it: there is one place, and any name of it will do. It is kept as
 * the value of the key that says that the bucket was made, and told to programs that compare it.
 */
import type { FrontContext } from "../../server/http/context.ts";
import { piecesOf } from "../../server/transfer/outgoing.ts";
import { S3Error } from "../protocol/errors.ts";
import { markerOf } from "../protocol/names.ts";
import { readDocument, textOf } from "../protocol/xml.ts";
import { openObject, whole } from "../store/objects.ts";

/** The region of buckets whose makers have named none. */
export const REGION = "us-east-1";
/** Type of the key that says that a bucket was made. */
export const MARKER_TYPE = "application/x-directory";
const LOCATION_BYTES_MAX = 63;
const LOCATION = /^[A-Za-z0-9-]+$/;

/**
 * The location that the body of CreateBucket names; empty: none.
 * @throws S3Error
 */
export function locationIn(body: Uint8Array): string {
  if (body.length === 0) return "";
  const location =
    textOf(readDocument(body, "CreateBucketConfiguration"), "LocationConstraint")?.trim() ?? "";
  if (location === "" || isLocation(location)) return location;
  throw new S3Error("InvalidLocationConstraint");
}

function isLocation(text: string): boolean {
  return text.length <= LOCATION_BYTES_MAX && LOCATION.test(text);
}

/** The location that a bucket was made with; empty: none. */
export async function locationOf(context: FrontContext, bucket: string): Promise<string> {
  const marker = await openObject(context, markerOf(bucket), whole);
  if (marker === null) return "";
  // Other clients may store there what they like.
  if (marker.contentType !== MARKER_TYPE || marker.valueBytes > LOCATION_BYTES_MAX) {
    marker.reader.close();
    return "";
  }
  const pieces: Uint8Array[] = [];
  for await (const piece of piecesOf(marker)) pieces.push(piece);
  const text = Buffer.concat(pieces).toString("utf8");
  return isLocation(text) ? text : "";
}
