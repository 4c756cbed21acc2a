/** GetBucketLocation: as the bucket's maker has said it; none is the oldest region of S3. */
import type { Exchange } from "../exchange/exchange.ts";
import { documentText } from "../protocol/xml.ts";
import { demandSight } from "./head-bucket.ts";
import { locationOf } from "./location.ts";

export async function getBucketLocation(exchange: Exchange): Promise<void> {
  const { asked, context } = exchange;
  demandSight(exchange);
  await context.buckets.demand(asked.bucket);
  const location = await locationOf(exchange.front, asked.bucket);
  exchange.sendText(documentText("LocationConstraint", location === "" ? {} : { "#text": location }));
}
