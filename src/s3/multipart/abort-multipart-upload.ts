/** AbortMultipartUpload: removes what has come so far. */

import { WRITE } from "../../auth/tokens.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { demandUpload, removeUpload, uploadIdOf } from "./uploads.ts";

export async function abortMultipartUpload(exchange: Exchange): Promise<void> {
  const { asked, front } = exchange;
  exchange.demand(WRITE, exchange.storeKey);
  const id = uploadIdOf(exchange);
  await demandUpload(exchange, id);
  await removeUpload(front, asked.bucket, id);
  exchange.sendEmpty(204);
}
