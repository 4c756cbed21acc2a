/** What a failure says of what was asked for. */
import { type MinivaultError, NetworkError, UnknownOutcomeError } from "./errors.ts";

/** Words of refusals after which nothing was done, and which may be others in a moment. */
const NOT_DONE: ReadonlySet<string> = new Set([
  ...["overloaded", "no_quorum", "clock_ahead", "stopping", "building", "too_many_requests", "too_slow"],
  "unremembered",
]);
/** Words of refusals of a write for its idempotency key. */
const FORGETTING: ReadonlySet<string> = new Set(["upgrade_first", "unremembered"]);
/** Statuses that may be others in a moment. */
const PASSING: ReadonlySet<number> = new Set([408, 429, 500, 502, 503, 504]);
/** Words of failures that stay what they are. */
const LASTING: ReadonlySet<string> = new Set(["corrupt", "write_stopped", "upgrade_first"]);
/** Statuses that say nothing of an earlier attempt: this one was not let in. */
const SHUT: ReadonlySet<number> = new Set([401, 403, 408, 429]);

/**
 * undone: nothing was done, and it may be in a moment; unclear: it may have been done; lasting: it will be
 * answered the same again.
 */
export type Verdict = "undone" | "unclear" | "lasting";

/** What a failure is known by: an error, or the result of an operation in a batch. */
export type Failure = Pick<MinivaultError, "status" | "code">;

export function verdictOf(failure: Failure): Verdict {
  const { status, code } = failure;
  if (failure instanceof NetworkError || NOT_DONE.has(code)) return "undone";
  if (failure instanceof UnknownOutcomeError || code === "unknown_outcome") return "unclear";
  return PASSING.has(status) && !LASTING.has(code) ? "unclear" : "lasting";
}

/** It was refused for its idempotency key alone, which the node cannot keep. */
export function isForgetting({ code }: Failure): boolean {
  return FORGETTING.has(code);
}

/** Whether another node may do better. */
export function isNodes({ status }: Failure): boolean {
  return status === 0 || status === 502 || status === 503 || status === 504;
}

/** Whether the write was judged by what is there: then no earlier attempt at it has had an effect. */
function isJudged({ status }: Failure): boolean {
  return status >= 400 && status < 500 && !SHUT.has(status);
}

/** What is true of a write of which an earlier attempt may have been done. */
export function afterUnclear(error: MinivaultError): MinivaultError {
  if (error instanceof UnknownOutcomeError || isJudged(error)) return error;
  const facts = { status: error.status, code: "unknown_outcome", cause: error };
  return new UnknownOutcomeError(`${error.message}; an earlier attempt may have been done`, facts);
}

/** The same of a result. */
export function isUnknownAfterUnclear(failure: Failure): boolean {
  return failure.status >= 400 && failure.code !== "unknown_outcome" && !isJudged(failure);
}
