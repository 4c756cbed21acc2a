/** What other nodes are told of an error. */

import { type ErrorCode, VaultError } from "../../util/errors.ts";
import type { FrontContext } from "../http/context.ts";
import type { ErrorOptions } from "../http/reply.ts";
import { failureOf } from "../later/failure.ts";

/** What a handler's error is answered with; one that it did not mean is logged. */
export function refusalOf(context: FrontContext, error: unknown): { code: ErrorCode; options: ErrorOptions } {
  const { code } = failureOf(context, error, "a request between nodes failed");
  return { code, options: error instanceof VaultError ? { detail: error.message } : {} };
}
