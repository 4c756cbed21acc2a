/** Errors that come together, by why they come. */
import type { ErrorCode } from "../../util/errors.ts";

/** A path that is no key. */
export const KEY_ERRORS: readonly ErrorCode[] = ["bad_key", "key_too_long"];

/** Whatever reads what a node, or a cluster, holds. */
export const READ_ERRORS: readonly ErrorCode[] = [
  "corrupt",
  "overloaded",
  "unavailable",
  "no_quorum",
  "stopping",
];

/** That a value has ended is written down before it is told. */
export const ENDING_ERRORS: readonly ErrorCode[] = ["write_stopped", "unknown_outcome", "disk_full"];

/** A write, once its request is in order. */
export const STORE_ERRORS: readonly ErrorCode[] = [
  ...READ_ERRORS,
  ...ENDING_ERRORS,
  ...(["clock_ahead", "key_refused"] as const),
];

/** A request with a body, which a page of another origin must not send. */
export const BODY_ERRORS: readonly ErrorCode[] = ["bad_request", "foreign_origin", "too_slow"];

/** Lists of keys, and what is made of them. */
export const LIST_ERRORS: readonly ErrorCode[] = [...READ_ERRORS, ...ENDING_ERRORS, "building", "not_yet"];
