/** DeleteObject: after it there is none, whether there was one or not. */
import { NO_TRAILER } from "../../format/fields/trailer.ts";
import { NO_LIFE } from "../../rules/expiry.ts";
import type { FrontContext } from "../../server/http/context.ts";
import type { WriteHead, WriteResult } from "../../shards/arena/write.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { REMOVE } from "../exchange/needs.ts";
import { S3Error, s3ErrorOf } from "../protocol/errors.ts";
import { conditionsOf, termsNow } from "./terms.ts";

const NOTHING = new Uint8Array(0);
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

/**
 * Removes a key of the store; answers whether it was there.
 * @param ifMatch a version, or empty
 */
export async function removeKey(
  { cluster, vault }: FrontContext,
  key: Uint8Array,
  ifMatch = "",
): Promise<boolean> {
  const head: WriteHead = {
    ...{ verb: "delete", key: { bytes: key, length: key.length }, json: false, contentType: "" },
    ...{ trailer: NO_TRAILER, life: NO_LIFE, ifMatch, ifNoneMatch: "" },
  };
  const { error, detail, deleted } = await new Promise<Pick<WriteResult, "error" | "detail" | "deleted">>(
    (resolve) => {
      const isTaken = (cluster ?? vault).submit(head, NOTHING, ({ error, detail, deleted }) =>
        resolve({ error, detail, deleted }),
      );
      if (!isTaken) resolve({ error: "overloaded", detail: "", deleted: false });
    },
  );
  if (error !== null) throw s3ErrorOf(error, detail);
  return deleted;
}
