/** Answers to writes as minikeyvalue's clients are used to (`-compat mkv`). */

import type { WriteVerb } from "../../rules/write.ts";
import type { WriteResult } from "../../shards/arena/write.ts";
import type { Res } from "../http/http.ts";
import { sendError, sendWriteResult, statusLine } from "../http/reply.ts";

/** As `sendWriteResult`: 403 for a PUT of a key that exists, 204 or 404 for a DELETE. */
export function sendMkvResult(res: Res, verb: WriteVerb, result: WriteResult, region?: string): number {
  const { error, deleted } = result;
  // A PUT has the one condition that there is nothing yet.
  if (verb === "put" && error === "precondition_failed") return sendError(res, "write_once");
  if (verb !== "delete" || error !== null) return sendWriteResult(res, verb, result, region);
  if (!deleted) return sendError(res, "not_found");
  res.writeStatus(statusLine(204));
  res.endWithoutBody();
  return 204;
}
