/** What can be said of a write before it is done. */
import { etagOf } from "../../format/version.ts";
import { conditionsHold } from "../../rules/conditions.ts";
import type { WriteVerb } from "../../rules/write.ts";
import type { WriteHead } from "../../shards/arena/write.ts";
import type { ErrorCode } from "../../util/errors.ts";
import type { FrontContext } from "../http/context.ts";
import { DELETE, OTHER, POST, PUT } from "../status/meter.ts";

/**
 * Early advice for a large body: what the write would be refused for if it were complete now, or null. The
 * judgement that counts is the vault's, at commit.
 * @param writesOnce a PUT replaces nothing
 */
export function adviseWrite(context: FrontContext, head: WriteHead, writesOnce: boolean): ErrorCode | null {
  // What this node holds is no proof of what the cluster holds.
  if (context.cluster !== null) return null;
  const { vault } = context;
  const found = vault.findResident(head.key);
  // It is not worth waiting for the disk; perhaps the answer is here when the rest of the body comes.
  if (found.state === "cold") vault.warm(() => {});
  // Of what has ended is told once that is on the disk.
  if (found.state === "cold" || found.state === "damaged" || found.state === "ended") return null;
  const exists = found.state === "found";
  if (!conditionsHold(head, exists ? etagOf(found.etag) : null))
    return writesOnce && head.verb === "put" ? "write_once" : "precondition_failed";
  return head.verb === "post" && exists ? "exists" : null;
}

export function verbIndex(verb: WriteVerb): number {
  return verb === "put" ? PUT : verb === "post" ? POST : verb === "delete" ? DELETE : OTHER;
}
