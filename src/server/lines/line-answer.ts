/**
 * An answer that takes its time: lines of JSON that tell how far it is, and a last one that tells what became
 * of it. What fails before the first line is an answer like any other.
 */
import type { ErrorCode } from "../../util/errors.ts";
import { ERRORS } from "../../util/errors.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import type { Paced } from "../http/pace.ts";
import { sendError, statusLine } from "../http/reply.ts";

export const LINES_TYPE = "application/x-ndjson";
/** Progress is told so often. */
const PROGRESS_MS = 1000;

/** Why something was not done, or not all of it. */
export interface Failure {
  code: ErrorCode;
  detail: string;
}

export class LineAnswer implements Paced {
  private readonly context: FrontContext;
  private readonly res: Res;
  private readonly verb: number;
  private readonly progress: () => object;
  private isOpen = true;
  private begun = false;
  private toldMs = performance.now();

  /**
   * To be made in the request's handler.
   * @param progress what a line says
   * @param onGone the client has gone; nothing is to be said any more
   */
  constructor(
    context: FrontContext,
    res: Res,
    verb: number,
    progress: () => object,
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
    if (!this.isOpen || nowMs - this.toldMs < PROGRESS_MS) return;
    this.toldMs = nowMs;
    this.res.cork(() => {
      this.begin();
      this.res.write(Buffer.from(`${JSON.stringify(this.progress())}\n`));
    });
  }

  /** Keeps the connection of a client that waits. */
  beat(): void {
    this.toldMs = 0;
    this.tell();
  }

  /** The last line. */
  succeed(document: object): number {
    return this.end(200, { success: true, ...document });
  }

  /**
   * Tells why it was not done.
   * @param document what was done all the same; null: nothing
   */
  fail({ code, detail }: Failure, document: object | null = null): number {
    const { status, message } = ERRORS[code];
    if (!this.isOpen) return status;
    if (document !== null || this.begun)
      return this.end(status, { success: false, ...document, error: detail || message, code });
    this.res.cork(() => sendError(this.res, code, { detail }));
    this.leave(status);
    return status;
  }

  private end(status: number, document: object): number {
    if (!this.isOpen) return status;
    this.res.cork(() => {
      this.begin(status);
      this.res.end(Buffer.from(`${JSON.stringify(document)}\n`));
    });
    this.leave(status);
    return status;
  }

  /** @param status as long as nothing was said */
  private begin(status = 200): void {
    if (this.begun) return;
    this.begun = true;
    const head = `${statusLine(status)}\r\nContent-Type: ${LINES_TYPE}\r\nCache-Control: no-cache`;
    this.res.writeStatus(this.context.varies ? `${head}\r\nVary: Authorization` : head);
  }

  /** @param status 0: the client has gone */
  private leave(status: number): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    const { meter, pacer, inFlight } = this.context;
    pacer.delete(this);
    inFlight.leave();
    if (status === 0) meter.countAborted(this.verb);
    else meter.count(this.verb, status);
  }
}
