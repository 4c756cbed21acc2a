/** What can be said of a write before it is done. */
import { etagOf } from "../../format/version.ts";
import { conditionsHold } from "../../rules/conditions.ts";
import type { WriteVerb } from "../../rules/write.ts";
import type { WriteHead } from "../../shards/arena/write.ts";
import type { Found } from "../../shards/vault/vault.ts";
import { type ErrorCode, VaultError } from "../../util/errors.ts";
import type { FrontContext } from "../http/context.ts";
import type { ErrorOptions } from "../http/reply.ts";
import { DELETE, OTHER, POST, PUT } from "../status/meter.ts";

/** Why a write is refused, and the version that is in its way. */
export interface Advice {
  code: ErrorCode;
  options: ErrorOptions;
}

/**
 * Early advice for a large body: what the write would be refused for if it were complete now, or null. The
 * judgement that counts is the vault's, at commit.
 * @param writesOnce a PUT replaces nothing
 */
export function adviseWrite(context: FrontContext, head: WriteHead, writesOnce: boolean): Advice | null {
  // What this node holds is no proof of what the cluster holds.
  if (context.cluster !== null) return null;
  const { vault } = context;
  let found: Found;
  try {
    found = vault.findResident(head.key);
  } catch (error) {
    // What cannot be looked at now is the vault's to judge.
    if (error instanceof VaultError) return null;
    throw error;
  }
  // It is not worth waiting for the disk; perhaps the answer is here when the rest of the body comes.
  if (found.state === "cold") vault.warm(() => {});
  // Of what has ended is told once that is on the disk.
  if (found.state === "cold" || found.state === "damaged" || found.state === "ended") return null;
  const etag = found.state === "found" ? etagOf(found.etag) : null;
  const options: ErrorOptions = etag === null ? {} : { headers: [["ETag", etag]] };
  if (!conditionsHold(head, etag))
    return { code: writesOnce && head.verb === "put" ? "write_once" : "precondition_failed", options };
  return head.verb === "post" && etag !== null ? { code: "exists", options } : null;
}

export function verbIndex(verb: WriteVerb): number {
  return verb === "put" ? PUT : verb === "post" ? POST : verb === "delete" ? DELETE : OTHER;
}
