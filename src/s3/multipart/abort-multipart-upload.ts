/** AbortMultipartUpload: removes what has come so far. */

import { WRITE } from "../../auth/tokens.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { demandUpload, removeParts, removeRecord, uploadIdOf } from "./uploads.ts";

export async function abortMultipartUpload(exchange: Exchange): Promise<void> {
  const { asked, front } = exchange;
  exchange.demand(WRITE, exchange.storeKey);
  const id = uploadIdOf(exchange);
  await demandUpload(exchange, id);
  // The parts first: as long as there is a record, it can be aborted again.
  await removeParts(front, id);
  await removeRecord(front, asked.bucket, id);
  exchange.sendEmpty(204);
}
