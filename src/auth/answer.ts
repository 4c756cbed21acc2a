/**
 * Signatures of the answers between nodes: an answer says what was done, and who believes a forged "nothing
 * was done" loses a write. Every answer to a genuine request carries
 *
 *   Minivault-Answer: <clock> <session> <mac>
 *
 *   clock     milliseconds on the answering node's own clock
 *   session   its run
 *   mac       HMAC-SHA256, with the key of the request, over the request's MAC, the status, clock and session, and the hash of the body
 *             ("stream" in its place: the pieces of the body are then signed for themselves, beginning with this MAC)
 *
 * The request's MAC stands for all of the request, its nonce included, so no answer fits another request.
 * Clock and session are what the next request to that node is signed for (Receiver).
 */
import { MAC_CHARACTERS, type SigningKey } from "./keys.ts";

export const ANSWER_HEADER = "minivault-answer";
const SYNTAX = new RegExp(`^(\\d{1,15}) ([A-Za-z0-9_-]{16}) ([A-Za-z0-9_-]{${MAC_CHARACTERS}})$`);

export interface Answer {
  /** Value of the header. */
  header: string;
  /** The signature itself, in base64url: a stream's first link. */
  mac: string;
}

/** A genuine answer's own part. */
export interface Told {
  clock: number;
  session: string;
  mac: string;
}

/** What the MAC of an answer covers. Its first line is no method, so it is never the text of a request. */
export function answerText(
  requestMac: string,
  status: number,
  clock: number,
  session: string,
  bodyDigest: string,
): string {
  return `answer\n${requestMac}\n${status}\n${clock} ${session}\n${bodyDigest}`;
}

/**
 * Reads an answer's header. Null: the answer does not come from who got the request.
 * @param bodyDigest of the body that came, or STREAMED_BODY
 */
export function readTold(
  request: { mac: string; key: SigningKey },
  status: number,
  header: string,
  bodyDigest: string,
): Told | null {
  const match = SYNTAX.exec(header);
  if (match === null) return null;
  const [, digits, session, mac] = match;
  const clock = Number(digits);
  return request.key.holds(answerText(request.mac, status, clock, session, bodyDigest), mac)
    ? { clock, session, mac }
    : null;
}

/** What is known of a node that requests are signed for. */
export class Receiver {
  readonly url: string;
  /** Its run; null: it has not answered yet. */
  session: string | null = null;
  private aheadMs = 0;
  private readonly steadyMs: () => number;

  /** @param steadyMs a clock that only goes forward, in milliseconds */
  constructor(url: string, steadyMs: () => number = () => performance.now()) {
    this.url = url;
    this.steadyMs = steadyMs;
  }

  /** A genuine answer has come. */
  learn({ clock, session }: Told): void {
    this.session = session;
    this.aheadMs = clock - this.steadyMs();
  }

  /** What its clock shows, as far as it is known: a little less, by the answer's way. */
  clock(): number {
    return this.session === null ? 0 : Math.max(0, Math.floor(this.steadyMs() + this.aheadMs));
  }
}
