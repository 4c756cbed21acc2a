/** Removing a key of the store. */
import type { FrontContext } from "../../server/http/context.ts";
import { plainHead, type WriteResult } from "../../shards/arena/write.ts";
import { NOTHING } from "../../util/bytes.ts";
import { s3ErrorOf } from "../protocol/errors.ts";

/**
 * Removes a key of the store; answers whether it was there.
 * @param ifMatch a version, or empty
 */
export async function removeKey(
  { cluster, vault }: FrontContext,
  key: Uint8Array,
  ifMatch = "",
): Promise<boolean> {
  const head = { ...plainHead("delete", key), ifMatch };
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
