/** CreateMultipartUpload: notes what the object is to be, and under which conditions. */

import { WRITE } from "../../auth/tokens.ts";
import { algorithmOf } from "../checksum/checksum.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { describedBy } from "../objects/kept.ts";
import { conditionsOf, termsNow } from "../objects/terms.ts";
import { S3Error } from "../protocol/errors.ts";
import { newUploadId, removeUpload, writeRecord } from "./uploads.ts";

const BODY_BYTES_MAX = 64 * 1024;

export async function createMultipartUpload(exchange: Exchange): Promise<void> {
  const { asked, front, context, body } = exchange;
  exchange.demand(WRITE, exchange.storeKey);
  const { contentType, lines } = describedBy(asked.headers);
  const algorithm = algorithmOf(exchange.header("x-amz-checksum-algorithm"));
  const type = exchange.header("x-amz-checksum-type").toUpperCase();
  if (type !== "" && type !== "COMPOSITE" && type !== "FULL_OBJECT")
    throw new S3Error("InvalidArgument", "x-amz-checksum-type is COMPOSITE or FULL_OBJECT.");
  const isFullObject = type === "FULL_OBJECT" || algorithm === "crc64nvme";
  if (type === "COMPOSITE" && (isFullObject || algorithm === null))
    throw new S3Error(
      "InvalidRequest",
      "COMPOSITE needs an algorithm, and not CRC64NVME, which is of all bytes.",
    );
  if (isFullObject && algorithm?.startsWith("sha"))
    throw new S3Error("InvalidRequest", "A SHA of the whole object cannot be put together from its parts.");
  await body.whole(BODY_BYTES_MAX);
  await context.buckets.demand(asked.bucket);
  // They count at the end; what does not hold now need not be sent.
  const conditions = conditionsOf(exchange);
  await termsNow(exchange, conditions);
  const id = newUploadId(front);
  const what = { key: asked.key, contentType, lines, algorithm, isFullObject, conditions };
  await writeRecord(front, asked.bucket, id, { ...what, begunMs: Date.now() });
  // DeleteBucket looks for uploads when the bucket has gone: one that it has not seen finds that out here.
  if (!(await context.buckets.exists(asked.bucket))) {
    await removeUpload(front, asked.bucket, id);
    throw new S3Error("NoSuchBucket");
  }
  const told =
    algorithm === null
      ? []
      : ([
          ["x-amz-checksum-algorithm", algorithm.toUpperCase()],
          ["x-amz-checksum-type", isFullObject ? "FULL_OBJECT" : "COMPOSITE"],
        ] as const);
  exchange.sendXml(
    "InitiateMultipartUploadResult",
    { Bucket: asked.bucket, Key: asked.key, UploadId: id },
    told,
  );
}
