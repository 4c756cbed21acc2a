/**
 * The end of a request that was refused while its body was still coming. Closing at once would make the
 * kernel send a reset, which can destroy the answer before the client has read it; so the answer goes out,
 * and the rest of the body is received and thrown away: until it ends, or the client goes away, or
 * LINGER_BYTES_MAX, or LINGER_MS_MAX. Clients that look at the answer early (curl, undici, Go) stop sending
 * by themselves.
 */
import type { ErrorCode } from "../../util/errors.ts";
import type { Meter } from "../status/meter.ts";
import { BAD_LENGTH, declaredBytes, framingProblem } from "./body-length.ts";
import type { Req, Res } from "./http.ts";
import { type ErrorOptions, sendError, sendErrorAndStayOpen } from "./reply.ts";

/** Thrown-away bytes after which the connection is closed hard. */
export const LINGER_BYTES_MAX = 256 * 1024 * 1024;
/** Time after which the connection is closed hard: a client that trickles must not hold it for hours. */
export const LINGER_MS_MAX = 30_000;
/** The same for a client that sends nothing any more: it only has to read the answer. */
export const LINGER_SILENT_MS_MAX = 2000;
/** A declared body up to this size is left to uWS, which swallows it; the connection stays usable. */
export const SWALLOW_BYTES_MAX = 64 * 1024;

/** An answered request whose body still comes. */
export class Linger {
  private readonly res: Res;
  private readonly timer: NodeJS.Timeout;
  private droppedBytes = 0;
  private closing = false;
  private open = true;

  /** @param longestMs when the connection is closed at the latest */
  constructor(res: Res, longestMs = LINGER_MS_MAX) {
    this.res = res;
    this.timer = setTimeout(() => this.close(), longestMs);
    this.timer.unref();
  }

  /** Counts a piece of the body; closes the connection when it was the last, or one too many. */
  drop(bytes: number, last: boolean): void {
    this.droppedBytes += bytes;
    if (this.closing || (!last && this.droppedBytes <= LINGER_BYTES_MAX)) return;
    this.closing = true;
    // Later: when the whole request came in one piece, the answer is still in uWS' cork buffer now.
    setImmediate(() => this.close());
  }

  private close(): void {
    if (this.open) this.res.close();
  }

  /** The connection is gone. */
  aborted(): void {
    this.open = false;
    clearTimeout(this.timer);
  }
}

/**
 * Refuses a request in its handler, before any of its body was taken. `declaredBytes`: the Content-Length, or
 * Infinity for a chunked body. Answers the status.
 */
export function refuse(res: Res, code: ErrorCode, declaredBytes: number, options: ErrorOptions = {}): number {
  if (declaredBytes <= SWALLOW_BYTES_MAX) return sendError(res, code, options);
  lingerOn(res);
  return sendErrorAndStayOpen(res, code, options);
}

/** Lets a body that is still to come go by; in its request's handler, which answers and stays open. */
export function lingerOn(res: Res): void {
  const linger = new Linger(res);
  res.onAborted(() => linger.aborted());
  res.onData((chunk, last) => linger.drop(chunk.byteLength, last));
}

/** The same, and the connection closes: nobody can be sure where the body ends. */
export function lingerAndClose(res: Res, bodyBytes: number): void {
  const linger = new Linger(res, LINGER_SILENT_MS_MAX);
  res.onAborted(() => linger.aborted());
  // uWS says nothing of an empty body.
  if (bodyBytes <= 0) linger.drop(0, true);
  else res.onData((chunk, last) => linger.drop(chunk.byteLength, last));
}

/**
 * Whether a request ends here for its framing, to be asked in its handler before anything is done.
 * @param verb as the meter counts it
 * @param declared by the first header
 * @param problem two lengths or an empty one, or two hosts: the sentence; null: neither
 */
export function endsByLength(
  meter: Meter,
  verb: number,
  res: Res,
  declared: number,
  problem: string | null,
): boolean {
  if (declared === BAD_LENGTH) {
    // uWS notices after this handler; until then nothing may happen.
    res.onAborted(nothingBegun);
    return true;
  }
  if (problem === null) return false;
  lingerAndClose(res, declared);
  meter.count(verb, sendErrorAndStayOpen(res, "bad_request", { detail: problem }));
  return true;
}

/** The length of a request's body as its headers tell it; null: the request ends here for it. */
export function lengthToTake(meter: Meter, verb: number, res: Res, req: Req): number | null {
  const declared = declaredBytes(req);
  return endsByLength(meter, verb, res, declared, framingProblem(req)) ? null : declared;
}

function nothingBegun(): void {
  // The client of a request that nothing was done for has gone.
}
