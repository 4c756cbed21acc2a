/**
 * What can go wrong on the way to another node, and the one thing that matters then: whether it may have been
 * done all the same.
 */
import type { ExchangeError, NodeAnswer } from "../link/exchange.ts";

/**
 * overloaded: too much waits already; down: known to be; timeout, failed: it did not answer; refused: it said
 * no.
 */
export type PeerErrorCode =
  | "peer_overloaded"
  | "peer_down"
  | "peer_timeout"
  | "peer_failed"
  | "peer_refused"
  | "peer_closed";

export class PeerError extends Error {
  readonly code: PeerErrorCode;
  /** not_sent: surely not executed, so it may be sent again. unknown: it may have been, or may still be. */
  readonly outcome: "not_sent" | "unknown";
  /** What the node answered, where it did. */
  readonly status: number;
  constructor(code: PeerErrorCode, outcome: "not_sent" | "unknown", message: string, status = 0) {
    super(message);
    this.code = code;
    this.outcome = outcome;
    this.status = status;
  }
}

/** For what comes, or still waits, when this node stops. */
export function closedError(): PeerError {
  return new PeerError("peer_closed", "not_sent", "this node is stopping");
}

/** An exchange that failed before its answer. */
export function failedError(error: ExchangeError): PeerError {
  return new PeerError("peer_failed", error.sent ? "unknown" : "not_sent", error.message);
}

/**
 * An answer other than 200. Only an internal error (and what we do not know) leaves open whether something
 * was done.
 */
export function refusedError({ status, body }: NodeAnswer): PeerError {
  const known = status === 503 || (status >= 400 && status < 500);
  const text = body.length <= 1024 ? body.toString() : "";
  return new PeerError(
    "peer_refused",
    known ? "not_sent" : "unknown",
    `the node answered ${status} ${text}`,
    status,
  );
}
