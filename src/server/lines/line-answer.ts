/**
 * An answer that takes its time: lines of JSON that tell how far it is, and a last one that tells what became
 * of it. What fails before the first line is an answer like any other.
 */
import { ERRORS } from "../../util/errors.ts";
import { LINES_TYPE } from "../../util/header-text.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import type { Paced } from "../http/pace.ts";
import { sendError, sendJson, statusLine } from "../http/reply.ts";
import type { Failure } from "../later/failure.ts";
import { lineOf, writePiece } from "./pieces.ts";

/** Progress is told so often. */
const PROGRESS_MS = 1000;

/** Status and headers of an answer whose body comes bit by bit. */
export function streamHead(type: string, { varies }: FrontContext, status = 200): string {
  const head = `${statusLine(status)}\r\nContent-Type: ${type}\r\nCache-Control: no-cache`;
  return varies ? `${head}\r\nVary: Authorization` : head;
}

/**
 * An answer that took its time is over: it is neither paced nor waited for any more, and counted.
 * @param status 0: the client has gone
 */
export function leaveFront(
  { meter, pacer, inFlight }: FrontContext,
  answer: Paced,
  verb: number,
  status: number,
): void {
  pacer.delete(answer);
  inFlight.leave();
  if (status === 0) meter.countAborted(verb);
  else meter.count(verb, status);
}

/** Of what takes its time: it stops there. */
export const REVOKED: Failure = {
  code: "unauthorized",
  detail: "the token is not what it was any more, or its time is over: what was done stays",
};

export class LineAnswer implements Paced {
  private readonly context: FrontContext;
  private readonly res: Res;
  private readonly verb: number;
  private readonly progress: (() => object) | null;
  private isOpen = true;
  /** Something was said. */
  begun = false;
  private toldMs = performance.now();

  /**
   * To be made in the request's handler.
   * @param progress what a line says; null: nothing is said before the end, which is an answer like any other
   * @param onGone the client has gone; nothing is to be said any more
   */
  constructor(
    context: FrontContext,
    res: Res,
    verb: number,
    progress: (() => object) | null,
    onGone: () => void = () => {},
  ) {
    this.context = context;
    this.res = res;
    this.verb = verb;
    this.progress = progress;
    context.inFlight.enter();
    context.pacer.add(this);
    res.onAborted(() => {
      this.leave(0);
      onGone();
    });
  }

  get isListened(): boolean {
    return this.isOpen;
  }

  /** Says how far it is, if it is time for that. */
  tell(): void {
    const nowMs = performance.now();
    const { progress, res } = this;
    if (!this.isOpen || progress === null || nowMs - this.toldMs < PROGRESS_MS) return;
    this.toldMs = nowMs;
    res.cork(() => {
      this.begin();
      res.write(lineOf(progress()));
    });
  }

  /** Keeps the connection of a client that waits. */
  beat(): void {
    this.toldMs = 0;
    this.tell();
    if (this.progress !== null) return;
    // Nothing can be said yet, and this arms uWS' timer anew.
    this.res.pause();
    this.res.resume();
  }

  /** The last line. */
  succeed(document: object): number {
    return this.end(200, { success: true, ...document });
  }

  /**
   * Tells why it was not done.
   * @param document what was done all the same; null: nothing
   * @param head the status that is sent, as long as nothing was said and something was done
   */
  fail(
    { code, detail }: Failure,
    document: object | null = null,
    head: number = ERRORS[code].status,
  ): number {
    const { status, message } = ERRORS[code];
    if (!this.isOpen) return status;
    if (this.progress !== null && (document !== null || this.begun))
      return this.end(status, { success: false, ...document, error: detail || message, code }, head);
    this.res.cork(() => sendError(this.res, code, { detail }));
    this.leave(status);
    return status;
  }

  private end(status: number, document: object, head = status): number {
    const { res, progress } = this;
    if (!this.isOpen) return status;
    if (progress === null) res.cork(() => sendJson(res, status, document, false));
    else if (this.begun) {
      writePiece(res, lineOf(document));
      res.end();
    } else
      res.cork(() => {
        this.begin(head);
        res.end(lineOf(document));
      });
    this.leave(status);
    return status;
  }

  /** @param status as long as nothing was said */
  private begin(status = 200): void {
    if (!this.begun) this.res.writeStatus(streamHead(LINES_TYPE, this.context, status));
    this.begun = true;
  }

  /** @param status 0: the client has gone */
  private leave(status: number): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    leaveFront(this.context, this, this.verb, status);
  }
}
