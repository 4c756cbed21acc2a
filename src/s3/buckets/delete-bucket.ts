/** DeleteBucket: only one that is empty; uploads in parts that are under way in it go with it. */

import { REMOVE } from "../../auth/tokens.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { removeUploads } from "../multipart/uploads.ts";
import { S3Error } from "../protocol/errors.ts";
import { markerOf } from "../protocol/names.ts";
import { removeKey } from "../store/remove.ts";

export async function deleteBucket(exchange: Exchange): Promise<void> {
  const { asked, front, context } = exchange;
  const { bucket } = asked;
  const key = markerOf(bucket);
  exchange.demand(REMOVE, key);
  if (!(await context.buckets.isEmpty(bucket))) throw new S3Error("BucketNotEmpty");
  // An object that comes at this moment keeps the bucket: it is there as long as a key is in it.
  const wasThere = await removeKey(front, key);
  context.buckets.noteGone();
  // Also where it is not there: an earlier request may have gone only so far. A bucket of the same name that
  // is made later must not have them.
  await removeUploads(front, bucket);
  if (!wasThere) throw new S3Error("NoSuchBucket");
  exchange.sendEmpty(204);
}
