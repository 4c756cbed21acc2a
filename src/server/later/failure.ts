/** What a client is told of an error that came up where its request was served, in its handler or later. */
import { isOutOfDescriptors, stackOf } from "../../platform/system-error.ts";
import { ERRORS, type ErrorCode, VaultError } from "../../util/errors.ts";
import type { FrontContext } from "../http/context.ts";

/** Why something was not done, or not all of it. */
export interface Failure {
  code: ErrorCode;
  /** Empty: the code's own sentence says it. */
  detail: string;
}

/**
 * A damaged record found late, a data file that cannot be opened now, or a bug. What is no fault of the
 * moment is logged.
 * @param what for the log: what has failed
 */
export function failureOf({ log }: Pick<FrontContext, "log">, error: unknown, what: string): Failure {
  const known = error instanceof VaultError ? error.code : "internal";
  // A file that no thread has opened yet has to be opened first: another try may find a descriptor.
  const code = isOutOfDescriptors(error) ? "overloaded" : known;
  if (ERRORS[code].status === 500) log.error({ error: stackOf(error) }, what);
  return { code, detail: known === "overloaded" ? (error as VaultError).message : "" };
}

/**
 * Takes the next step of a request outside its handler: what is thrown there nobody else would catch, so it
 * is this request's answer.
 */
export function guarded(
  context: FrontContext,
  step: () => void,
  refuse: (code: ErrorCode, detail: string) => void,
): void {
  try {
    step();
  } catch (error) {
    const { code, detail } = failureOf(context, error, "a value could not be read");
    refuse(code, detail);
  }
}
