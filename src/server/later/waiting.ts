/** A request that waits for its answer, which may have gone by then, and whose errors nobody else catches. */
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import { sendError } from "../http/reply.ts";
import { HEAD } from "../status/meter.ts";
import { failureOf } from "./failure.ts";

/** A request that is answered later. */
export class Waiting {
  private readonly context: FrontContext;
  private readonly res: Res;
  private readonly verb: number;
  private readonly onAborted: () => void;
  private open = true;

  /** @param onAborted called when the client leaves before `resume` */
  constructor(context: FrontContext, res: Res, verb: number, onAborted: () => void) {
    this.context = context;
    this.res = res;
    this.verb = verb;
    this.onAborted = onAborted;
  }

  /** To be called in the request's handler. */
  begin(): void {
    this.context.inFlight.enter();
    this.res.onAborted(() => {
      if (!this.open) return;
      this.open = false;
      this.onAborted();
      this.context.meter.countAborted(this.verb);
      this.context.inFlight.leave();
    });
  }

  /** Whether the client is still there. */
  get isOpen(): boolean {
    return this.open;
  }

  /**
   * Answers, if the client is still there: `answer` runs once, and sends everything or keeps the request
   * going by itself.
   */
  resume(answer: () => void): void {
    this.attempt(() => {
      answer();
      return true;
    });
  }

  /** Like `resume`; where `answer` says false it has sent nothing, and the request goes on waiting. */
  attempt(answer: () => boolean): void {
    if (!this.open) return;
    this.open = false;
    const { context, res, verb } = this;
    let isAnswered = true;
    try {
      res.cork(() => {
        isAnswered = answer();
      });
    } catch (error) {
      const { code, detail } = failureOf(context, error, "a value could not be sent");
      context.meter.count(verb, sendError(res, code, { detail, head: verb === HEAD }));
    }
    if (isAnswered) context.inFlight.leave();
    else this.open = true;
  }
}
