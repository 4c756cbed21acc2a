/** What other nodes are told of an error. */

import { stackOf } from "../../platform/system-error.ts";
import { ERRORS, type ErrorCode, VaultError } from "../../util/errors.ts";
import type { FrontContext } from "../http/context.ts";
import type { ErrorOptions } from "../http/reply.ts";

/** What a handler's error is answered with; one that it did not mean is logged. */
export function refusalOf(context: FrontContext, error: unknown): { code: ErrorCode; options: ErrorOptions } {
  const isMeant = error instanceof VaultError;
  const code = isMeant ? error.code : "internal";
  if (ERRORS[code].status === 500)
    context.log.error({ error: stackOf(error) }, "a request between nodes failed");
  return { code, options: isMeant ? { detail: error.message } : {} };
}
