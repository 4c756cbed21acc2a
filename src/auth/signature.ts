/**
 * Signatures of the requests between nodes, made with the cluster's key.
 *
 *   Authorization: Minivault-HMAC-SHA256 <session> <time> <sender> <sequence> <audience> <body> <signature>
 *
 *   session     the run of the receiver that it is for, as its last answer told it (answer.ts); "-": not known yet
 *   time        milliseconds on that receiver's own clock when it was signed; at most SIGNATURE_AGE_MS off, either way
 *   sender,     together the nonce: a random name for each start of a process, and a number that it counts up (replay.ts)
 *   sequence
 *   audience    the URL of the node that it is for, so that no other takes it
 *   body        SHA-256 of the body, or "stream": each piece is then signed for itself (signed-stream.ts)
 *   signature   HMAC-SHA256 over all of these, the method, and path with query, each on a line
 *
 * What this gives: only who has the key can send, nothing can be changed on its way, nothing is taken twice,
 * neither after a restart of the receiver nor by another node. No two clocks need to agree, since the time is
 * the receiver's: it counts from its start, and its answers tell it. A request without a session does nothing
 * but bring back an answer with one.
 *
 * Which refusals may be believed: a replay is answered like a stranger, without a signature. Else somebody
 * could repeat a request that was done, and show its sender the refusal.
 */
import { hash, randomBytes, timingSafeEqual } from "node:crypto";
import { type Answer, answerText, type Receiver } from "./answer.ts";
import type { KeyRing, SigningKey } from "./keys.ts";
import { ReplayGuard } from "./replay.ts";

/** How old a signature may be when it comes. */
export const SIGNATURE_AGE_MS = 5 * 60_000;
/** From when it was taken, a signature can be as old as it may be, having been made as early as it may be. */
const FORGET_MS = 2 * SIGNATURE_AGE_MS + 1000;

export const SIGNATURE_SCHEME = "Minivault-HMAC-SHA256";
/** Stands for the hash of a body that is signed piece by piece. */
export const STREAMED_BODY = "stream";
/** Stands for the session of a receiver that has not answered yet. */
export const NO_SESSION = "-";
const SENDER_BYTES = 12;
const SESSION_BYTES = 12;
const HEADER_CHARACTERS_MAX = 1024;
/** SHA-256 in base64url. */
const DIGEST_SYNTAX = /^[A-Za-z0-9_-]{43}$/;
const NUMBER_SYNTAX = /^\d{1,15}$/;
const SENDER_SYNTAX = /^[A-Za-z0-9_-]{16}$/;
const FIELDS = 8;

/** SHA-256 of a body, as it stands in the header. */
export function bodyDigest(body: Uint8Array | string): string {
  return hash("sha256", body, "base64url");
}

export interface Signed {
  /** Value of the Authorization header. */
  header: string;
  /** The signature itself, in base64url: a stream's first link. */
  mac: string;
  key: SigningKey;
  /** What it says of the receiver. */
  session: string;
  time: number;
}

/** Signs requests; one for the whole process, since it counts them. */
export class RequestSigner {
  readonly ring: KeyRing;
  private readonly sender = randomBytes(SENDER_BYTES).toString("base64url");
  private sequence = 0;

  constructor(ring: KeyRing) {
    this.ring = ring;
  }

  /**
   * @param target path and query, as they stand in the request line
   * @param body the whole body, or STREAMED_BODY
   */
  sign(receiver: Receiver, method: string, target: string, body: Uint8Array | typeof STREAMED_BODY): Signed {
    const digest = typeof body === "string" ? body : bodyDigest(body);
    const session = receiver.session ?? NO_SESSION;
    const time = receiver.clock();
    const fields = `${session} ${time} ${this.sender} ${this.sequence++} ${receiver.url} ${digest}`;
    const key = this.ring.signing;
    const mac = key.mac(signedText(method, target, fields));
    return { header: `${SIGNATURE_SCHEME} ${fields} ${mac}`, mac, key, session, time };
  }
}

/** A request whose head is genuine. Its body still has to be checked: `body` says how. */
export interface Genuine {
  /** SHA-256 of the body (base64url), or STREAMED_BODY. */
  body: string;
  mac: string;
  key: SigningKey;
}

/** What becomes of a request, as far as its head tells. */
export interface Verdict {
  /**
   * It comes from somebody with the key, and was not here before: its answer, also a refusal, is to be
   * signed. null: nothing must be signed.
   */
  genuine: Genuine | null;
  /** Why it is refused, as a sentence: whoever has no key learns only that. null: it passes. */
  problem: string | null;
}

export interface VerifierOptions {
  /** Why a request for this URL is not for this node, or null. */
  audience: (url: string) => string | null;
  /** A clock that only goes forward, in milliseconds. */
  steadyMs?: () => number;
}

/** Checks signatures, and remembers what it has let pass. One for all requests of a process. */
export class RequestVerifier {
  /** This run of the process, for whoever signs. */
  readonly session = randomBytes(SESSION_BYTES).toString("base64url");
  private readonly ring: KeyRing;
  private readonly audience: (url: string) => string | null;
  private readonly steadyMs: () => number;
  private readonly startMs: number;
  private readonly replays = new ReplayGuard(FORGET_MS);

  constructor(ring: KeyRing, { audience, steadyMs = () => performance.now() }: VerifierOptions) {
    this.ring = ring;
    this.audience = audience;
    this.steadyMs = steadyMs;
    this.startMs = steadyMs();
  }

  /** The clock by which requests are judged: milliseconds since the start. */
  get clock(): number {
    return Math.floor(this.steadyMs() - this.startMs);
  }

  /**
   * Judges a request's head. A request passes at most once.
   * @param header value of its Authorization header
   */
  check(method: string, target: string, header: string): Verdict {
    const parts = header.length > HEADER_CHARACTERS_MAX ? [] : header.split(" ");
    if (parts.length !== FIELDS || parts[0] !== SIGNATURE_SCHEME)
      return stranger("requests between nodes are signed; this one is not, or by another release");
    const [, session, time, sender, sequence, audience, digest, signature] = parts;
    const wellFormed =
      NUMBER_SYNTAX.test(time) &&
      SENDER_SYNTAX.test(sender) &&
      NUMBER_SYNTAX.test(sequence) &&
      (digest === STREAMED_BODY || DIGEST_SYNTAX.test(digest)) &&
      DIGEST_SYNTAX.test(signature);
    if (!wellFormed) return stranger("the signature is malformed");
    const fields = `${session} ${time} ${sender} ${sequence} ${audience} ${digest}`;
    const key = this.ring.find(signedText(method, target, fields), signature);
    if (key === null) return stranger("the signature does not hold: another key, or changed on its way");
    // From here on the sender has the key, and may know more.
    const genuine: Genuine = { body: digest, mac: signature, key };
    if (session !== this.session)
      return { genuine, problem: "the request is not signed for this run of the node; sign it again" };
    const aheadMs = Number(time) - this.clock;
    if (Math.abs(aheadMs) > SIGNATURE_AGE_MS)
      return { genuine, problem: `the request was signed at another time (${Math.round(aheadMs / 1000)} s)` };
    const verdict = this.replays.take(sender, Number(sequence), this.steadyMs());
    if (verdict === "full") return stranger("too many senders at once to tell what is a replay");
    if (verdict !== "new") return stranger("the request was seen before");
    return { genuine, problem: this.audience(audience) };
  }

  /**
   * The signed part of an answer.
   * @param body the whole of it, or STREAMED_BODY
   */
  answer(genuine: Genuine, status: number, body: Uint8Array | string): Answer {
    const { session, clock } = this;
    const digest = body === STREAMED_BODY ? STREAMED_BODY : bodyDigest(body);
    const mac = genuine.key.mac(answerText(genuine.mac, status, clock, session, digest));
    return { header: `${clock} ${session} ${mac}`, mac };
  }
}

function stranger(problem: string): Verdict {
  return { genuine: null, problem };
}

/** Whether a body is the one that was signed. */
export function bodyMatches(genuine: Genuine, body: Uint8Array): boolean {
  if (genuine.body === STREAMED_BODY) return false;
  return timingSafeEqual(hash("sha256", body, "buffer"), Buffer.from(genuine.body, "base64url"));
}

function signedText(method: string, target: string, fields: string): string {
  // No field can hold a line feed: a header, a method and a request target cannot.
  return `${method}\n${target}\n${fields}`;
}
