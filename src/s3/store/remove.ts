/** Removing a key of the store. */
import { NO_TRAILER } from "../../format/fields/trailer.ts";
import { NO_LIFE } from "../../rules/expiry.ts";
import type { FrontContext } from "../../server/http/context.ts";
import type { WriteHead, WriteResult } from "../../shards/arena/write.ts";
import { s3ErrorOf } from "../protocol/errors.ts";

const NOTHING = new Uint8Array(0);

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
