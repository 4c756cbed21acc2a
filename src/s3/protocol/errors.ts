/**
 * The errors of S3 that clients see: code, HTTP status and a sentence; and which of them an error of the
 * vault is to a client of S3.
 */
import { ERRORS, type ErrorCode, VaultError } from "../../util/errors.ts";

interface Kind {
  readonly status: number;
  readonly message: string;
}

const S3_ERRORS = {
  AccessDenied: { status: 403, message: "Access Denied" },
  AuthorizationHeaderMalformed: { status: 400, message: "The Authorization header cannot be understood." },
  AuthorizationQueryParametersError: {
    status: 400,
    message: "The query parameters of the signature cannot be understood.",
  },
  BadDigest: { status: 400, message: "The Content-MD5 or checksum is not that of what came." },
  BucketAlreadyOwnedByYou: { status: 409, message: "The bucket is there already, and it is yours." },
  BucketNotEmpty: { status: 409, message: "The bucket is not empty." },
  ConditionalRequestConflict: {
    status: 409,
    message: "Another write came between; nothing was changed, try again.",
  },
  EntityTooLarge: { status: 400, message: "The object is larger than -max-value allows." },
  EntityTooSmall: { status: 400, message: "A part that is not the last one is smaller than 5 MiB." },
  IncompleteBody: { status: 400, message: "The body is not as long as was announced." },
  InsufficientStorage: { status: 507, message: "The disk is full; delete objects or add space." },
  InternalError: { status: 500, message: "An unexpected error; the log has the details." },
  InvalidAccessKeyId: { status: 403, message: "No such access key." },
  InvalidArgument: { status: 400, message: "An argument is not valid." },
  InvalidBucketName: { status: 400, message: "The bucket's name is not valid." },
  InvalidDigest: { status: 400, message: "The Content-MD5 or checksum is none." },
  InvalidLocationConstraint: { status: 400, message: "The location is none that a region's name can be." },
  InvalidPart: { status: 400, message: "A part was not found, or its ETag is another one." },
  InvalidPartOrder: { status: 400, message: "The parts are not in rising order." },
  InvalidRange: { status: 416, message: "The range lies outside the object." },
  InvalidRequest: { status: 400, message: "The request is not valid." },
  InvalidURI: { status: 400, message: "The path cannot be understood." },
  KeyTooLongError: { status: 400, message: "The key is too long." },
  MalformedXML: { status: 400, message: "The XML is not well-formed, or not what is expected here." },
  MetadataTooLarge: { status: 400, message: "The metadata headers are larger than 2 KiB." },
  MethodNotAllowed: { status: 405, message: "This method is not allowed here." },
  MissingContentLength: { status: 411, message: "The request needs a Content-Length." },
  NoSuchBucket: { status: 404, message: "The bucket does not exist." },
  NoSuchKey: { status: 404, message: "The key does not exist." },
  NoSuchUpload: {
    status: 404,
    message: "The upload does not exist: it was completed or aborted, or has ended.",
  },
  NotImplemented: { status: 501, message: "This release cannot do that." },
  NotModified: { status: 304, message: "Not modified." },
  PreconditionFailed: { status: 412, message: "A condition of the request does not hold." },
  RequestTimeout: { status: 400, message: "The body came too slowly, or not at all." },
  RequestTimeTooSkewed: {
    status: 403,
    message: "The request's time and the server's differ by more than 15 minutes.",
  },
  ServiceUnavailable: { status: 503, message: "This cannot be served now; try again." },
  SignatureDoesNotMatch: {
    status: 403,
    message: "The signature is not what the secret key of this access key makes of the request.",
  },
  SlowDown: { status: 503, message: "Too many requests; try again later." },
  XAmzContentSHA256Mismatch: { status: 400, message: "The x-amz-content-sha256 is not that of the body." },
} as const satisfies Record<string, Kind>;

export type S3Code = keyof typeof S3_ERRORS;

/** A refusal with a code of the table; `message` may say more than the table's sentence. */
export class S3Error extends Error {
  readonly code: S3Code;
  /** More headers of its answer. */
  readonly headers: readonly (readonly [string, string])[];

  constructor(
    code: S3Code,
    message: string = S3_ERRORS[code].message,
    headers: readonly (readonly [string, string])[] = [],
  ) {
    super(message === "" ? S3_ERRORS[code].message : message);
    this.code = code;
    this.headers = headers;
  }

  get status(): number {
    return S3_ERRORS[this.code].status;
  }
}

const CODES: Partial<Record<ErrorCode, S3Code>> = {
  bad_key: "InvalidURI",
  bad_request: "InvalidRequest",
  corrupt: "InternalError",
  disk_full: "InsufficientStorage",
  forbidden: "AccessDenied",
  internal: "InternalError",
  key_refused: "InsufficientStorage",
  key_too_long: "KeyTooLongError",
  length_required: "MissingContentLength",
  not_found: "NoSuchKey",
  not_yet: "NotImplemented",
  overloaded: "SlowDown",
  precondition_failed: "PreconditionFailed",
  too_large: "EntityTooLarge",
  too_many_requests: "SlowDown",
  too_slow: "RequestTimeout",
  unauthorized: "AccessDenied",
  upgrade_first: "NotImplemented",
};

/** What an error of the vault is to a client of S3. */
export function s3ErrorOf(code: ErrorCode, detail = ""): S3Error {
  return new S3Error(CODES[code] ?? "ServiceUnavailable", detail === "" ? ERRORS[code].message : detail);
}

/** The same of whatever was thrown; null: it is none that a client should hear of. */
export function knownError(error: unknown): S3Error | null {
  if (error instanceof S3Error) return error;
  return error instanceof VaultError ? s3ErrorOf(error.code, error.message) : null;
}
