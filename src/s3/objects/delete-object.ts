/** DeleteObject: after it there is none, whether there was one or not. */

import { REMOVE } from "../../auth/tokens.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { S3Error } from "../protocol/errors.ts";
import { removeKey } from "../store/remove.ts";
import type { Terms } from "../store/value-sink.ts";
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

/**
 * Removes a key under these conditions; answers whether it was there. Where nothing is, there is nothing
 * that a condition could protect: S3 calls that a success.
 */
export async function removeUnder(
  exchange: Exchange,
  key: Uint8Array,
  conditions: WriteConditions,
): Promise<boolean> {
  for (let tries = 1; ; tries++) {
    let terms: Terms;
    try {
      terms = await termsNow(exchange, conditions, key);
    } catch (error) {
      // It is not deleted without a term: what comes between has not been looked at.
      if (error instanceof S3Error && error.code === "NoSuchKey") return false;
      throw error;
    }
    try {
      return await removeKey(exchange.front, key, terms.ifMatch);
    } catch (error) {
      const isOutrun = error instanceof S3Error && error.code === "PreconditionFailed" && tries < TRIES_MAX;
      if (!isOutrun) throw error;
    }
  }
}
