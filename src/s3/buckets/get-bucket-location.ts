/** GetBucketLocation: there is one region, which has no name in S3's oldest answer. */
import type { Exchange } from "../exchange/exchange.ts";
import { documentText } from "../protocol/xml.ts";
import { demandSight } from "./head-bucket.ts";

export async function getBucketLocation(exchange: Exchange): Promise<void> {
  const { asked, context } = exchange;
  demandSight(exchange);
  await context.buckets.demand(asked.bucket);
  exchange.sendText(documentText("LocationConstraint", {}));
}
