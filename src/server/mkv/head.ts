/**
 * HEAD of keys as minikeyvalue's clients are used to (`-compat mkv`): `Content-Md5`, in hex, of what there
 * is, and a length of 0 where there is nothing. The hash is made when it is asked for, so values in several
 * records go without.
 */
import { createHash } from "node:crypto";
import type { Found } from "../../shards/vault/vault.ts";
import { VaultError } from "../../util/errors.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";
import { HookedRes, statusOf } from "../access/hooked-res.ts";
import { type FrontContext, targetOf } from "../http/context.ts";
import type { Handler, Res } from "../http/http.ts";
import { TARGET_KEY } from "../http/target.ts";
import { isQuestion, readShown } from "../raw/shown-reads.ts";

/** @param head what answers all other HEADs */
export function createMkvHead(context: FrontContext, head: Handler): Handler {
  return (res, req) => {
    if (targetOf(context, req) !== TARGET_KEY || isQuestion(req.getQuery() ?? "")) {
      head(res, req);
      return;
    }
    let hash: string | null = null;
    const answers = withHash(res, () => hash);
    readShown(context, answers, req, true, (found) => {
      hash = hashOf(found);
      return found;
    });
  };
}

/** Null: the value is too large for that, or cannot be read. */
function hashOf(found: Found): string | null {
  if (found.valueBytes > CHUNK_BYTES) return null;
  try {
    return createHash("md5").update(found.view()).digest("hex");
  } catch (error) {
    if (!(error instanceof VaultError)) throw error;
    return null;
  }
}

function withHash(res: Res, hash: () => string | null): Res {
  let status = 0;
  return new HookedRes(res, {
    afterStatus(line) {
      status = statusOf(line);
      const known = hash();
      if (status === 200 && known !== null) res.writeHeader("Content-Md5", known);
    },
    header: (name, value) => (status === 404 && name === "Content-Length" ? "0" : value),
  });
}
