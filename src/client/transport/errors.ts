/**
 * What goes wrong, as classes: what a node has answered, and what became of requests that nobody answered.
 */

/** What is known of a failure. */
export interface FailureFacts {
  /** HTTP status; 0: there was no answer. */
  status: number;
  /** A word of the server's table (docs/api.md), or of the client's own: network, timeout, bad_answer. */
  code: string;
  /** The version that is there, with its quotes, where the answer names one. */
  etag?: string | null;
  cause?: unknown;
}

/** All errors of the client but those of your own signal, whose reason is thrown as it is. */
export class MinivaultError extends Error {
  readonly status: number;
  readonly code: string;
  readonly etag: string | null;

  constructor(message: string, { status, code, etag = null, cause }: FailureFacts) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.status = status;
    this.code = code;
    this.etag = etag;
  }
}

/** 404: there is no such key; reads answer `undefined` instead. */
export class NotFoundError extends MinivaultError {}
/** 409 `exists`: `create` of a key that is there. */
export class ExistsError extends MinivaultError {}
/** 412: a condition does not hold; `etag` is the version that is there, if the node said so. */
export class PreconditionFailedError extends MinivaultError {}
/**
 * 409 and 422 otherwise: a patch that does not fit, or an idempotency key that was used for something else.
 */
export class ConflictError extends MinivaultError {}
/** 401 and 403. */
export class AccessError extends MinivaultError {}
/** 410: a place in the feed that is too old. */
export class PlaceTooOldError extends MinivaultError {}
/** 429, 503 and their like: it was not done, and may be possible later. */
export class UnavailableError extends MinivaultError {}
/** A lock is held by somebody else. */
export class LockedError extends MinivaultError {}
/** It may or may not have been done: the answer was lost, and it was not safe to ask again. */
export class UnknownOutcomeError extends MinivaultError {}
/** No node could be reached, or none has answered in time; nothing was changed. */
export class NetworkError extends MinivaultError {}

type ErrorClass = new (message: string, facts: FailureFacts) => MinivaultError;

const BY_STATUS: Readonly<Record<number, ErrorClass>> = {
  401: AccessError,
  403: AccessError,
  404: NotFoundError,
  408: UnavailableError,
  409: ConflictError,
  410: PlaceTooOldError,
  412: PreconditionFailedError,
  422: ConflictError,
  423: LockedError,
  429: UnavailableError,
  502: UnavailableError,
  503: UnavailableError,
  504: UnavailableError,
  507: UnavailableError,
};

/** The error of an answer, by its status and the server's own word. */
export function errorOf(message: string, facts: FailureFacts): MinivaultError {
  if (facts.code === "exists") return new ExistsError(message, facts);
  if (facts.code === "unknown_outcome") return new UnknownOutcomeError(message, facts);
  return new (BY_STATUS[facts.status] ?? MinivaultError)(message, facts);
}

/** The error of an answer whose body is here. */
export function errorOfAnswer(status: number, etag: string | null, body: string): MinivaultError {
  let message = `the answer was ${status}`;
  let code = "bad_answer";
  try {
    const document = JSON.parse(body);
    if (typeof document.error === "string") message = document.error;
    if (typeof document.code === "string") code = document.code;
  } catch {
    // It is not from a node, but from what stands in between.
  }
  return errorOf(message, { status, code, etag });
}
