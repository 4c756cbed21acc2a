/**
 * The one table of errors that a client can see: code, HTTP status, whether the same request may succeed
 * later, and a default sentence for a person. docs/api.md lists the same table; a test compares them.
 */

export interface ErrorKind {
  readonly status: number;
  readonly retryable: boolean;
  readonly message: string;
}

export const ERRORS = {
  bad_key: {
    status: 400,
    retryable: false,
    message: "the key is not valid percent-encoded UTF-8 of 1 to 1024 bytes",
  },
  bad_json: { status: 400, retryable: false, message: 'the body is not {"value": <any JSON>}' },
  no_value: { status: 400, retryable: false, message: 'the body has no member "value"' },
  bad_request: { status: 400, retryable: false, message: "the request cannot be understood" },
  unauthorized: { status: 401, retryable: false, message: "a valid Authorization: Bearer key is needed" },
  forbidden: { status: 403, retryable: false, message: "this token does not allow that" },
  foreign_origin: {
    status: 403,
    retryable: false,
    message: "pages of this origin may not write here; -cors allows it, -public-url names the node's own",
  },
  write_once: {
    status: 403,
    retryable: false,
    message: "the key exists already, and with -compat mkv a PUT replaces nothing; delete it first",
  },
  not_found: { status: 404, retryable: false, message: "no such key" },
  method_not_allowed: { status: 405, retryable: false, message: "this method is not allowed here" },
  too_slow: {
    status: 408,
    retryable: true,
    message: "the body came too slowly, or not at all; nothing was stored, send it again",
  },
  exists: { status: 409, retryable: false, message: "the key exists already; PUT replaces it" },
  patch_conflict: {
    status: 409,
    retryable: false,
    message: "the patch does not fit the value that is there",
  },
  conflict: { status: 409, retryable: false, message: "the state of the cluster does not allow this now" },
  place_too_old: {
    status: 410,
    retryable: false,
    message: "the place is too old, or not one of this store: read everything again, then go on from now",
  },
  length_required: {
    status: 411,
    retryable: false,
    message: "send Content-Length or Transfer-Encoding: chunked",
  },
  precondition_failed: {
    status: 412,
    retryable: false,
    message: "a condition does not hold: If-Match, If-None-Match or If-Unmodified-Since",
  },
  too_large: { status: 413, retryable: false, message: "the value is larger than -max-value allows" },
  key_too_long: { status: 414, retryable: false, message: "the key is longer than 1024 bytes" },
  unsupported_encoding: {
    status: 415,
    retryable: false,
    message: "JSON is stored in a form of its own: send it without a Content-Encoding",
  },
  range_not_satisfiable: { status: 416, retryable: false, message: "the range lies outside the value" },
  key_reused: {
    status: 422,
    retryable: false,
    message: "another write of this key came with the same Idempotency-Key; give each write one of its own",
  },
  locked: {
    status: 423,
    retryable: false,
    message: "somebody holds the lock of this key; wait, or name it by ?ID=",
  },
  too_many_requests: { status: 429, retryable: true, message: "too many requests; try again later" },
  corrupt: { status: 500, retryable: false, message: "the stored record is damaged; run minivault verify" },
  internal: { status: 500, retryable: true, message: "an unexpected error; the log has the details" },
  upgrade_first: {
    status: 501,
    retryable: false,
    message: "what is kept here is of an older format, which has no place for this; upgrade it first",
  },
  not_yet: { status: 501, retryable: false, message: "this release cannot do that" },
  overloaded: { status: 503, retryable: true, message: "too much is waiting; try again" },
  unremembered: {
    status: 503,
    retryable: true,
    message:
      "this key has had too many writes with an Idempotency-Key within ten minutes; nothing was changed, try again later, or without one",
  },
  not_leading: {
    status: 503,
    retryable: true,
    message: "this master stands by: another one leads, which can be asked",
  },
  unavailable: { status: 503, retryable: true, message: "this node cannot serve the request now" },
  no_quorum: {
    status: 503,
    retryable: true,
    message: "too few replicas of the key can be reached; nothing was changed, try again",
  },
  clock_ahead: {
    status: 503,
    retryable: true,
    message: "the clock of this node is ahead of the other nodes'; nothing was changed, set it right",
  },
  unknown_outcome: {
    status: 503,
    retryable: false,
    message: "the write may or may not have been done, or may still be; read the key to find out",
  },
  write_stopped: {
    status: 503,
    retryable: false,
    message:
      "writes are stopped, since a sync failed, or the disk cannot be written or is gone; /health says which; mend it, then restart",
  },
  building: {
    status: 503,
    retryable: true,
    message: "the list of all keys is being built; /_stats has the progress, try again",
  },
  stopping: { status: 503, retryable: true, message: "the node is stopping" },
  timeout: { status: 504, retryable: true, message: "the answer took too long" },
  key_refused: {
    status: 507,
    retryable: false,
    message:
      "the index has no place for this key: thousands of stored keys share its hash, or memory is short; use another key",
  },
  disk_full: { status: 507, retryable: true, message: "the disk is full; delete keys or add space" },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERRORS;

/** An error with a code of the table; `message` may say more than the table's sentence. */
export class VaultError extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode, message: string = ERRORS[code].message) {
    super(message);
    this.code = code;
  }
  get status(): number {
    return ERRORS[this.code].status;
  }
}
