/** Requests of other nodes whose answers may come later, and their bodies on the way in. */
import { bodyMatches } from "../../auth/signature.ts";
import { NOTHING } from "../../util/bytes.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { PEER_RECEIVING_BYTES_MAX, REPLY_AT_ONCE_BYTES } from "../../util/limits.ts";
import { CHUNKED } from "../http/body-length.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import { refuse } from "../http/linger.ts";
import { type ErrorOptions, sendError } from "../http/reply.ts";
import { Download } from "../reads/download.ts";
import type { Admitted } from "./peer-gate.ts";
import { refusalOf } from "./refusal.ts";

/** Bodies that are received whole; those under way are bounded, over all connections. */
export class PeerBodies {
  private readonly context: FrontContext;
  private readonly refused: (reason: string) => void;
  /** Being received, by the lengths that were announced. */
  private bytes = 0;

  /** @param refused told of a body that is not the one that was signed */
  constructor(context: FrontContext, refused: (reason: string) => void) {
    this.context = context;
    this.refused = refused;
  }

  /** Receives a body of at most `most` bytes and hands it to `take` once it is whole and genuine. */
  receive(
    { res, bodyBytes, genuine }: Admitted,
    most: number,
    take: (body: Uint8Array, exchange: Exchange) => void,
  ): void {
    if (bodyBytes === CHUNKED || bodyBytes < 0) {
      refuse(res, "length_required", bodyBytes);
      return;
    }
    if (bodyBytes > most) {
      refuse(res, "too_large", bodyBytes, { detail: `the body is limited to ${most} bytes` });
      return;
    }
    if (this.bytes + bodyBytes > PEER_RECEIVING_BYTES_MAX) {
      refuse(res, "overloaded", bodyBytes, { detail: "too many requests of other nodes are being received" });
      return;
    }
    this.bytes += bodyBytes;
    const exchange = new Exchange(this.context, res);
    exchange.onGone = () => {
      this.bytes -= bodyBytes;
    };
    let gathered: Uint8Array | null = null;
    let gatheredBytes = 0;
    const whole = (body: Uint8Array) => {
      exchange.onGone = () => {};
      this.bytes -= bodyBytes;
      if (genuine !== null && !bodyMatches(genuine, body)) {
        this.refused("another body than the one that was signed");
        exchange.refuse("unauthorized", { detail: "the body is not the one that was signed" });
        return;
      }
      try {
        take(body, exchange);
      } catch (error) {
        exchange.crashed(error);
      }
    };
    if (bodyBytes === 0) {
      // uWS says nothing more of an empty body when its head came in pieces.
      whole(NOTHING);
      return;
    }
    res.onData((chunk, last) => {
      const bytes = new Uint8Array(chunk);
      if (last && gatheredBytes === 0) {
        whole(bytes);
        return;
      }
      gathered ??= Buffer.allocUnsafeSlow(bodyBytes);
      gathered.set(bytes, gatheredBytes);
      gatheredBytes += bytes.length;
      if (last) whole(gathered);
    });
  }
}

/** One request whose answer may come later. */
export class Exchange {
  /** Answered, or the other node has gone. */
  over = false;
  onGone: () => void = () => {};
  /** Called once, when the answer has been sent, or will not be. */
  onOver: () => void = () => {};
  private readonly context: FrontContext;
  private readonly res: Res;

  constructor(context: FrontContext, res: Res) {
    this.context = context;
    this.res = res;
    context.inFlight.enter();
    res.onAborted(() => {
      if (this.over) return;
      this.end();
      this.onGone();
    });
  }

  answer(head: Uint8Array, body: Uint8Array): void {
    if (this.over) return;
    this.over = true;
    this.res.cork(() => {
      this.res.writeStatus(head);
      this.res.beforeBody?.(body);
      if (body.length <= REPLY_AT_ONCE_BYTES) {
        this.res.end(body);
        this.left();
        return;
      }
      // No faster than the other node takes it: what a socket is given at once, it keeps in memory.
      const reader = {
        valueBytes: body.length,
        read: (offset: number) => body.subarray(offset),
        close: () => {},
      };
      new Download(this.context, this.res, reader, body, 0, body.length, () => this.left()).begin();
    });
  }

  /** Lets somebody else answer, at once; what becomes of that answer is their matter. */
  handOver(send: (res: Res) => void): void {
    if (this.over) return;
    this.over = true;
    this.res.cork(() => send(this.res));
    this.left();
  }

  refuse(code: ErrorCode, options: ErrorOptions = {}): void {
    if (this.over) return;
    this.end();
    this.res.cork(() => sendError(this.res, code, options));
  }

  crashed(error: unknown): void {
    const { code, options } = refusalOf(this.context, error);
    this.refuse(code, options);
  }

  private end(): void {
    this.over = true;
    this.left();
  }

  private left(): void {
    this.context.inFlight.leave();
    this.onOver();
  }
}
