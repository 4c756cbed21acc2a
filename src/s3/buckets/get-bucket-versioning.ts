/** GetBucketVersioning: no bucket keeps versions, which S3 says by an empty document. */
import type { Exchange } from "../exchange/exchange.ts";
import { documentText } from "../protocol/xml.ts";
import { demandSight } from "./head-bucket.ts";

export async function getBucketVersioning(exchange: Exchange): Promise<void> {
  const { asked, context } = exchange;
  demandSight(exchange);
  await context.buckets.demand(asked.bucket);
  exchange.sendText(documentText("VersioningConfiguration", {}));
}
