/**
 * Judges the signature of a request, in its headers or in its query (a presigned URL): whose it is, and what
 * it says of the body. The body itself is judged as it comes (chunks.ts, payload.ts).
 */
import { timingSafeEqual } from "node:crypto";
import { readHttpDate } from "../../util/http-date.ts";
import { S3Error } from "../protocol/errors.ts";
import {
  ALGORITHM,
  canonicalRequest,
  hmac,
  parametersOf,
  type Scope,
  SERVICE,
  type SignedRequest,
  type SigningKeys,
  stringToSign,
  TERMINATOR,
} from "./canonical.ts";

/** How far a request's time and ours may be apart. */
export const SKEW_MS_MAX = 15 * 60 * 1000;
/** Longest that a presigned URL holds, in seconds: a week. */
const EXPIRES_SECONDS_MAX = 604_800;
/** The body's mode where its bytes are not signed. */
export const UNSIGNED = "UNSIGNED-PAYLOAD";
/** RFC 5322, section 3.3 */
const ZONE = / ([+-])([01]\d|2[0-3])([0-5]\d)$/;
const TIME = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/;

/** What holds of a request that is genuine. */
export interface Genuine<Holder> {
  holder: Holder;
  /** What x-amz-content-sha256 says of the body. */
  payload: string;
  /** For the signatures of a body's pieces, which follow from this one. */
  seed: Seed;
  isPresigned: boolean;
  /** Milliseconds since 1970 */
  timeMs: number;
}

export interface Seed {
  signature: string;
  key: Buffer;
  scope: Scope;
  /** YYYYMMDDTHHMMSSZ */
  time: string;
}

/** What a request says of its signature. */
interface Claim {
  accessKey: string;
  scope: Scope;
  signedHeaders: string[];
  signature: string;
  time: string;
  payload: string;
  /** Null: it is signed in its headers. */
  expiresSeconds: number | null;
}

/** Who an access key belongs to; null: nobody. */
export type FindHolder<Holder> = (accessKey: string) => { holder: Holder; secret: string } | null;

/**
 * Judges a request.
 * @returns null: it is not signed at all
 * @throws S3Error
 */
export function verify<Holder>(
  request: SignedRequest & { headerNames: () => Iterable<string> },
  keys: SigningKeys,
  find: FindHolder<Holder>,
  nowMs: number,
): Genuine<Holder> | null {
  const claim = claimOf(request);
  if (claim === null) return null;
  const found = find(claim.accessKey);
  if (found === null) throw new S3Error("InvalidAccessKeyId");
  const timeMs = demandTime(claim, nowMs);
  demandSigned(request, claim);
  const key = keys.of(found.secret, claim.scope);
  const isGenuine = [false, true].some((asSent) => {
    const canonical = canonicalRequest(request, claim.signedHeaders, claim.payload, asSent);
    return isSame(
      hmac(key, stringToSign(claim.time, claim.scope, canonical)).toString("hex"),
      claim.signature,
    );
  });
  if (!isGenuine) throw new S3Error("SignatureDoesNotMatch");
  const { signature, scope, time, payload, expiresSeconds } = claim;
  return {
    holder: found.holder,
    payload,
    seed: { signature, key, scope, time },
    isPresigned: expiresSeconds !== null,
    timeMs,
  };
}

export function isSame(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}

function claimOf(request: SignedRequest): Claim | null {
  const authorization = request.header("authorization");
  const parameters = new Map(parametersOf(request.query));
  const isPresigned = parameters.has("X-Amz-Algorithm") || parameters.has("X-Amz-Signature");
  if (authorization !== null && isPresigned)
    throw new S3Error("InvalidArgument", "A request is signed in its headers or in its query, not in both.");
  if (isPresigned) return presignedClaim(request, parameters);
  if (authorization !== null) return headerClaim(request, authorization);
  if (parameters.has("Signature") && parameters.has("AWSAccessKeyId"))
    throw new S3Error("InvalidRequest", OLD);
  return null;
}

const OLD = `The way in which this request is signed is not supported: use ${ALGORITHM}.`;

function headerClaim(request: SignedRequest, authorization: string): Claim {
  if (!authorization.startsWith(`${ALGORITHM} `)) {
    if (/^AWS /.test(authorization) || authorization.startsWith("AWS4-"))
      throw new S3Error("InvalidRequest", OLD);
    throw new S3Error("AuthorizationHeaderMalformed");
  }
  const parts = new Map(
    authorization
      .slice(ALGORITHM.length)
      .split(",")
      .map((part) => {
        const at = part.indexOf("=");
        return [part.slice(0, Math.max(0, at)).trim(), part.slice(at + 1).trim()] as const;
      }),
  );
  const [credential, signedHeaders, signature] = ["Credential", "SignedHeaders", "Signature"].map((name) =>
    parts.get(name),
  );
  if (!credential || !signedHeaders || !signature) throw new S3Error("AuthorizationHeaderMalformed");
  const payload = request.header("x-amz-content-sha256");
  if (payload === null) throw new S3Error("InvalidRequest", "The header x-amz-content-sha256 is missing.");
  return {
    ...credentialOf(credential, "AuthorizationHeaderMalformed"),
    signedHeaders: signedHeaders.split(";"),
    signature,
    time: timeOf(request),
    payload,
    expiresSeconds: null,
  };
}

/** The time of a request that is signed in its headers, in the form that is signed. */
function timeOf(request: SignedRequest): string {
  const time = request.header("x-amz-date");
  if (time !== null) return time;
  const seconds = dateSeconds(request.header("date") ?? "");
  if (seconds === null)
    throw new S3Error("AccessDenied", "A signed request needs the header x-amz-date, or Date.");
  return new Date(seconds * 1000).toISOString().replace(/[-:]|\.\d+/g, "");
}

/** Seconds since 1970 of a Date of HTTP, or of one with a zone in digits, as botocore sends it. */
function dateSeconds(text: string): number | null {
  const zone = ZONE.exec(text);
  if (zone === null) return readHttpDate(text, Date.now());
  const [found, sign, hours, minutes] = zone;
  const seconds = readHttpDate(`${text.slice(0, -found.length)} GMT`, Date.now());
  const aheadSeconds = Number(`${sign}1`) * (Number(hours) * 3600 + Number(minutes) * 60);
  return seconds === null ? null : seconds - aheadSeconds;
}

function presignedClaim(request: SignedRequest, parameters: ReadonlyMap<string, string>): Claim {
  const malformed = (what: string): S3Error => new S3Error("AuthorizationQueryParametersError", what);
  const of = (name: string): string => parameters.get(name) ?? "";
  const [algorithm, credential, time] = [of("X-Amz-Algorithm"), of("X-Amz-Credential"), of("X-Amz-Date")];
  const [expires, signedHeaders] = [of("X-Amz-Expires"), of("X-Amz-SignedHeaders")];
  const signature = of("X-Amz-Signature");
  if (algorithm !== ALGORITHM) throw malformed(`X-Amz-Algorithm is ${ALGORITHM}.`);
  if (!credential || !time || !signedHeaders || !signature)
    throw malformed("X-Amz-Credential, -Date, -Expires, -SignedHeaders and -Signature come together.");
  const expiresSeconds = /^\d{1,7}$/.test(expires) ? Number(expires) : Number.NaN;
  if (!(expiresSeconds >= 1 && expiresSeconds <= EXPIRES_SECONDS_MAX))
    throw new S3Error(
      "AccessDenied",
      `X-Amz-Expires is a number of seconds from 1 to ${EXPIRES_SECONDS_MAX}.`,
    );
  return {
    ...credentialOf(credential, "AuthorizationQueryParametersError"),
    signedHeaders: signedHeaders.split(";"),
    signature,
    time,
    payload: parameters.get("X-Amz-Content-Sha256") ?? request.header("x-amz-content-sha256") ?? UNSIGNED,
    expiresSeconds,
  };
}

function credentialOf(
  credential: string,
  code: "AuthorizationHeaderMalformed" | "AuthorizationQueryParametersError",
): Pick<Claim, "accessKey" | "scope"> {
  // An access key may hold slashes.
  const match = /^(.+)\/(\d{8})\/([^/]+)\/([^/]+)\/([^/]+)$/.exec(credential);
  if (match === null) throw new S3Error(code, "The credential is accesskey/YYYYMMDD/region/s3/aws4_request.");
  const [, accessKey, date, region, service, terminator] = match;
  if (service !== SERVICE || terminator !== TERMINATOR)
    throw new S3Error(code, `The credential's scope ends with ${SERVICE}/${TERMINATOR}.`);
  return { accessKey, scope: { date, region, service } };
}

/** The request's time; throws where it is not now. */
function demandTime({ time, scope, expiresSeconds }: Claim, nowMs: number): number {
  const match = TIME.exec(time);
  if (match === null) throw new S3Error("AccessDenied", "The request's time is none: YYYYMMDDTHHMMSSZ.");
  const [year, month, day, hour, minute, second] = match.slice(1).map(Number);
  const timeMs = Date.UTC(year, month - 1, day, hour, minute, second);
  if (!time.startsWith(scope.date))
    throw new S3Error("SignatureDoesNotMatch", "The request's date is not that of its credential.");
  if (expiresSeconds === null) {
    if (Math.abs(nowMs - timeMs) > SKEW_MS_MAX) throw new S3Error("RequestTimeTooSkewed");
  } else if (timeMs - nowMs > SKEW_MS_MAX) throw new S3Error("AccessDenied", "Request is not yet valid.");
  else if (nowMs > timeMs + expiresSeconds * 1000) throw new S3Error("AccessDenied", "Request has expired");
  return timeMs;
}

/** What would change a request's meaning must be signed. */
function demandSigned(request: { headerNames: () => Iterable<string> }, { signedHeaders }: Claim): void {
  if (!signedHeaders.includes("host"))
    throw new S3Error("AccessDenied", "The header host has to be among those that are signed.");
  for (const name of request.headerNames())
    if (name.startsWith("x-amz-") && !signedHeaders.includes(name))
      throw new S3Error("AccessDenied", `The header ${name} was sent and not signed.`);
}
