/** DeleteObject: after it there is none, whether there was one or not. */
import type { Exchange } from "../exchange/exchange.ts";
import { REMOVE } from "../exchange/needs.ts";
import { S3Error } from "../protocol/errors.ts";
import { removeKey } from "../store/remove.ts";
import { conditionsOf, termsNow, type WriteConditions } from "./terms.ts";

const TRIES_MAX = 20;

export async function deleteObject(exchange: Exchange): Promise<void> {
  const { asked, context } = exchange;
  const key = exchange.storeKey;
  exchange.demand(REMOVE, key);
  const conditions = conditionsOf(exchange);
  const wasThere = await removeUnder(exchange, key, conditions);
  if (!wasThere && !context.buckets.isKnown(asked.bucket)) await context.buckets.demand(asked.bucket);
  exchange.sendEmpty(204);
}

/** Removes a key under these conditions; answers whether it was there. */
export async function removeUnder(
  exchange: Exchange,
  key: Uint8Array,
  conditions: WriteConditions,
): Promise<boolean> {
  for (let tries = 1; ; tries++) {
    const { ifMatch } = await termsNow(exchange, conditions, key);
    try {
      return await removeKey(exchange.front, key, ifMatch);
    } catch (error) {
      const isOutrun = error instanceof S3Error && error.code === "PreconditionFailed" && tries < TRIES_MAX;
      if (!isOutrun) throw error;
    }
  }
}
