/** HeadBucket: whether it is there, and may be looked into. */

import { LIST, READ } from "../../auth/tokens.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { S3Error } from "../protocol/errors.ts";
import { markerOf } from "../protocol/names.ts";
import { locationOf, REGION } from "./location.ts";

export async function headBucket(exchange: Exchange): Promise<void> {
  const { asked, context, front } = exchange;
  demandSight(exchange);
  if (!(await context.buckets.exists(asked.bucket))) throw new S3Error("NoSuchBucket");
  exchange.sendEmpty(200, [["x-amz-bucket-region", (await locationOf(front, asked.bucket)) || REGION]]);
}

/** The caller may see something of the bucket. */
export function demandSight(exchange: Exchange): void {
  const { caller, bucket } = exchange.asked;
  const isSeen = (caller.allows(READ) || caller.allows(LIST)) && caller.within(markerOf(bucket)).length > 0;
  // Where reads are public, single objects are, and not what is beside them.
  if (!isSeen || caller.name === null) exchange.denied();
}
