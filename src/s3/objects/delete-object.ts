/** DeleteObject: after it there is none, whether there was one or not. */
import type { Exchange } from "../exchange/exchange.ts";
import { REMOVE } from "../exchange/needs.ts";
import { S3Error } from "../protocol/errors.ts";
import { removeKey } from "../store/remove.ts";
import { conditionsOf, termsNow } from "./terms.ts";

const TRIES_MAX = 20;

export async function deleteObject(exchange: Exchange): Promise<void> {
  const { asked, context, front } = exchange;
  const key = exchange.storeKey;
  exchange.demand(REMOVE, key);
  const conditions = conditionsOf(exchange);
  for (let tries = 1; ; tries++) {
    const { ifMatch } = await termsNow(exchange, conditions);
    try {
      const wasThere = await removeKey(front, key, ifMatch);
      if (!wasThere && !context.buckets.isKnown(asked.bucket)) await context.buckets.demand(asked.bucket);
      break;
    } catch (error) {
      const isOutrun = error instanceof S3Error && error.code === "PreconditionFailed" && tries < TRIES_MAX;
      if (!isOutrun) throw error;
    }
  }
  exchange.sendEmpty(204);
}
