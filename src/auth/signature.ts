/**
 * Signatures of the requests between nodes, made with the shared key.
 *
 *   Authorization: Minivault-HMAC-SHA256 <time> <sender> <sequence> <audience> <body> <signature>
 *
 *   time        milliseconds since 1970 when it was signed; at most SIGNATURE_SKEW_MS from the receiver's clock, either way
 *   sender,     together the nonce: a random name for each start of a process, and a number that it counts up (replay.ts)
 *   sequence
 *   audience    the URL of the node that it is for, so that no other takes it
 *   body        SHA-256 of the body, or "stream": each piece is then signed for itself (signed-stream.ts)
 *   signature   HMAC-SHA256 over all of these, the method, and path with query, each on a line
 *
 * What this gives: only who has the key can send, nothing can be changed on its way, nothing is taken twice.
 * What it does not: it hides nothing, and answers are not signed; that is what TLS is for. A receiver that
 * restarts has forgotten what it saw, so a request of the minutes before could be replayed then: the requests
 * themselves (ballots, epochs) bear that.
 */
import { createHmac, createSecretKey, hash, type KeyObject, randomBytes, timingSafeEqual } from "node:crypto";
import { ReplayGuard } from "./replay.ts";

/** How far the clocks of two nodes may be apart. */
export const SIGNATURE_SKEW_MS = 5 * 60_000;
/** From when it was taken, a signature can be as old as it may be, having been made as early as it may be. */
const FORGET_MS = 2 * SIGNATURE_SKEW_MS + 1000;

export const SIGNATURE_SCHEME = "Minivault-HMAC-SHA256";
/** Stands for the hash of a body that is signed piece by piece. */
export const STREAMED_BODY = "stream";
export const MAC_BYTES = 32;
const SENDER_BYTES = 12;
const HEADER_CHARACTERS_MAX = 1024;
/** SHA-256 in base64url. */
const DIGEST_SYNTAX = /^[A-Za-z0-9_-]{43}$/;
const NUMBER_SYNTAX = /^\d{1,15}$/;
const SENDER_SYNTAX = /^[A-Za-z0-9_-]{16}$/;

/** The signing key: never the shared key itself, which clients send as it is. */
export function signingKey(sharedKey: string): KeyObject {
  if (sharedKey === "") throw new Error("the shared key is empty");
  return createSecretKey(
    createHmac("sha256", sharedKey).update("minivault: requests between nodes").digest(),
  );
}

/** SHA-256 of a body, as it stands in the header. */
export function bodyDigest(body: Uint8Array): string {
  return hash("sha256", body, "base64url");
}

export interface Signed {
  /** Value of the Authorization header. */
  header: string;
  /** The signature itself: a stream's first link. */
  mac: Buffer;
}

/** Signs requests; one for the whole process, since it counts them. */
export class RequestSigner {
  readonly key: KeyObject;
  private readonly sender = randomBytes(SENDER_BYTES).toString("base64url");
  private readonly now: () => number;
  private sequence = 0;

  /** @param now wall clock in milliseconds since 1970 */
  constructor(sharedKey: string, now: () => number = Date.now) {
    this.key = signingKey(sharedKey);
    this.now = now;
  }

  /**
   * @param audience URL of the node that it is for
   * @param target path and query, as they stand in the request line
   * @param body the whole body, or STREAMED_BODY
   */
  sign(audience: string, method: string, target: string, body: Uint8Array | typeof STREAMED_BODY): Signed {
    const digest = typeof body === "string" ? body : bodyDigest(body);
    const fields = `${Math.floor(this.now())} ${this.sender} ${this.sequence++} ${audience} ${digest}`;
    const mac = macOf(this.key, method, target, fields);
    return { header: `${SIGNATURE_SCHEME} ${fields} ${mac.toString("base64url")}`, mac };
  }
}

/** A request whose head is genuine. Its body still has to be checked: `body` says how. */
export interface Genuine {
  /** SHA-256 of the body (base64url), or STREAMED_BODY. */
  body: string;
  mac: Buffer;
}

/** Checks signatures, and remembers what it has let pass. */
export class RequestVerifier {
  key: KeyObject;
  private readonly audience: () => string | null;
  private readonly wallMs: () => number;
  private readonly steadyMs: () => number;
  private readonly replays: ReplayGuard;

  /**
   * @param audience URL under which other nodes know this one, once it is known; null: requests for any node
   * are taken
   * @param wallMs wall clock, milliseconds since 1970
   * @param steadyMs a clock that only goes forward
   */
  constructor(
    sharedKey: string,
    audience: () => string | null,
    wallMs: () => number = Date.now,
    steadyMs: () => number = () => performance.now(),
  ) {
    this.key = signingKey(sharedKey);
    this.audience = audience;
    this.wallMs = wallMs;
    this.steadyMs = steadyMs;
    this.replays = new ReplayGuard(FORGET_MS);
  }

  /** Takes another shared key in place of the one before. */
  renew(sharedKey: string): void {
    this.key = signingKey(sharedKey);
  }

  /**
   * Judges a request's head. Answers why it is refused, as a sentence: whoever has no key learns only that. A
   * request passes at most once.
   * @param header value of its Authorization header
   */
  check(method: string, target: string, header: string): Genuine | string {
    const parts = header.length > HEADER_CHARACTERS_MAX ? [] : header.split(" ");
    if (parts.length !== 7 || parts[0] !== SIGNATURE_SCHEME)
      return "requests between nodes are signed; this one is not";
    const [, time, sender, sequence, audience, digest, signature] = parts;
    const wellFormed =
      NUMBER_SYNTAX.test(time) &&
      SENDER_SYNTAX.test(sender) &&
      NUMBER_SYNTAX.test(sequence) &&
      (digest === STREAMED_BODY || DIGEST_SYNTAX.test(digest)) &&
      DIGEST_SYNTAX.test(signature);
    if (!wellFormed) return "the signature is malformed";
    const mac = macOf(this.key, method, target, `${time} ${sender} ${sequence} ${audience} ${digest}`);
    if (!timingSafeEqual(Buffer.from(mac.toString("base64url")), Buffer.from(signature)))
      return "the signature does not hold: another key, or changed on its way";
    // From here on the sender has the key, and may know more.
    const aheadMs = Number(time) - this.wallMs();
    if (Math.abs(aheadMs) > SIGNATURE_SKEW_MS)
      return `the request is too old, or the clocks of the two nodes differ (by ${Math.round(aheadMs / 1000)} s)`;
    const own = this.audience();
    if (own !== null && audience !== own)
      return `the request is signed for ${audience}, this node is ${own} (-public-url)`;
    const verdict = this.replays.take(sender, Number(sequence), this.steadyMs());
    if (verdict === "full") return "too many senders at once to tell what is a replay";
    if (verdict !== "new") return "the request was seen before";
    return { body: digest, mac };
  }
}

/** Whether a body is the one that was signed. */
export function bodyMatches(genuine: Genuine, body: Uint8Array): boolean {
  if (genuine.body === STREAMED_BODY) return false;
  return timingSafeEqual(hash("sha256", body, "buffer"), Buffer.from(genuine.body, "base64url"));
}

function macOf(key: KeyObject, method: string, target: string, fields: string): Buffer {
  // No field can hold a line feed: a header, a method and a request target cannot.
  return createHmac("sha256", key).update(`${method}\n${target}\n${fields}`).digest();
}
