/**
 * A small body that is needed whole before anything is done with it: gathered within bounds, refused when it
 * is too large, too slow or does not come to its end; then handed over, and answered.
 *
 * Invariants: exactly one answer, or none when the client has gone; what is under way ends, whether its
 * client waits or not.
 */

import { stackOf } from "../../platform/system-error.ts";
import { ERRORS, type ErrorCode } from "../../util/errors.ts";
import { CHUNKED, NO_BODY } from "../http/body-length.ts";
import type { FrontContext } from "../http/context.ts";
import type { Req, Res } from "../http/http.ts";
import { LINGER_MS_MAX, LINGER_SILENT_MS_MAX, Linger, lengthToTake, refuse } from "../http/linger.ts";
import { headerLines, headerName } from "../http/read-headers.ts";
import { type Header, sendError, sendErrorAndStayOpen } from "../http/reply.ts";
import { BodyFlow, type BodyTaker } from "./body-flow.ts";
import { ChunkEnd } from "./chunk-end.ts";
import { isIdentity } from "./kept-headers.ts";

const NO_BYTES = new ArrayBuffer(0);
const CONTENT_ENCODING = headerName("content-encoding");
const TRANSFER_ENCODING = headerName("transfer-encoding");
/** uWS takes the chunks off, and nobody what else there is. */
export const OTHER_CODING = "the only Transfer-Encoding understood is chunked";
/** What goes with a 415. */
export const ONLY_IDENTITY: readonly Header[] = [["Accept-Encoding", "identity"]];

const RECEIVING = 0;
const UNDER_WAY = 1;
const ANSWERED = 2;

/** What the bodies of one kind have in common, on one front. */
export interface BodyKind {
  /** For a person: "a batch". */
  readonly name: string;
  /** How it counts. */
  readonly verb: number;
  readonly bytesMax: number;
  /** Of all bodies of this kind that are here. */
  readonly allBytesMax: number;
  /** What they hold now. */
  bytes: number;
  /** A request without a body has an empty one. */
  readonly mayLack?: boolean;
}

/** Does what the body asks for, and calls `answer` once. */
export type Whole = (body: Uint8Array, answer: (send: (res: Res) => number) => void) => void;

/**
 * Takes a request's body; to be called in its handler.
 * @param problem what the headers already rule out, or null
 */
export function takeWhole(
  context: FrontContext,
  res: Res,
  req: Req,
  kind: BodyKind,
  problem: { code: ErrorCode; detail: string } | null,
  whole: Whole,
): void {
  const declared = lengthToTake(context.meter, kind.verb, res, req);
  if (declared === null) return;
  const refusal = problem ?? judge(context, kind, declared) ?? codingProblem(req, kind, declared);
  if (refusal !== null) {
    const { code, detail } = refusal;
    const headers = code === "unsupported_encoding" ? ONLY_IDENTITY : [];
    context.meter.count(kind.verb, refuse(res, code, declared, { detail, headers }));
    return;
  }
  const body = new WholeBody(context, kind, res, declared === CHUNKED, whole);
  res.onAborted(() => body.aborted());
  if (declared === 0 || declared === NO_BODY) body.data(NO_BYTES, true);
  else res.onData((chunk, last) => body.data(chunk, last));
}

function judge(
  context: FrontContext,
  { name, bytesMax, mayLack = false }: BodyKind,
  declared: number,
): { code: ErrorCode; detail: string } | null {
  if (context.stopping) return { code: "stopping", detail: "" };
  if (declared === NO_BODY && !mayLack) return { code: "length_required", detail: "" };
  if (declared > bytesMax && declared !== CHUNKED)
    return { code: "too_large", detail: `${name} has at most ${bytesMax} bytes` };
  return null;
}

/** What is worked with is read as it is. */
function codingProblem(
  req: Req,
  { name }: BodyKind,
  declared: number,
): { code: ErrorCode; detail: string } | null {
  if (declared === CHUNKED && headerLines(req, TRANSFER_ENCODING).toLowerCase() !== "chunked")
    return { code: "bad_request", detail: OTHER_CODING };
  if (isIdentity(headerLines(req, CONTENT_ENCODING))) return null;
  return { code: "unsupported_encoding", detail: `send ${name} as it is, without a Content-Encoding` };
}

class WholeBody implements BodyTaker {
  receivedBytes = 0;
  private readonly context: FrontContext;
  private readonly kind: BodyKind;
  private readonly res: Res;
  private readonly whole: Whole;
  private readonly pieces: Uint8Array[] = [];
  private heldBytes = 0;
  private phase = RECEIVING;
  private hasGone = false;
  private flow: BodyFlow | null = null;
  private linger: Linger | null = null;
  private readonly chunkEnd: ChunkEnd | null;

  constructor(context: FrontContext, kind: BodyKind, res: Res, isChunked: boolean, whole: Whole) {
    this.context = context;
    this.kind = kind;
    this.res = res;
    this.whole = whole;
    this.chunkEnd = isChunked ? new ChunkEnd(() => this.extended()) : null;
    if (isChunked) this.flow = new BodyFlow(res, context.pacer, this);
    context.inFlight.enter();
  }

  get isReceiving(): boolean {
    return this.phase === RECEIVING;
  }

  /** A piece of the body. `chunk` is only valid during the call. */
  data(chunk: ArrayBuffer, last: boolean): void {
    if (this.phase !== RECEIVING) {
      this.linger?.drop(chunk.byteLength, last);
      return;
    }
    const { kind } = this;
    this.receivedBytes += chunk.byteLength;
    if (!last) this.chunkEnd?.data(new Uint8Array(chunk));
    if (this.receivedBytes > kind.bytesMax)
      this.fail("too_large", `${kind.name} has at most ${kind.bytesMax} bytes`, last);
    else if (kind.bytes + chunk.byteLength > kind.allBytesMax)
      this.fail("overloaded", "too much of this kind is being received; try again", last);
    else {
      kind.bytes += chunk.byteLength;
      this.heldBytes += chunk.byteLength;
      this.pieces.push(new Uint8Array(chunk.slice(0)));
      if (!last) this.flow ??= new BodyFlow(this.res, this.context.pacer, this);
      else if (this.chunkEnd === null) this.begin();
      else this.beginSoon();
    }
  }

  aborted(): void {
    this.hasGone = true;
    if (this.phase === ANSWERED) {
      this.linger?.aborted();
      return;
    }
    this.context.meter.countAborted(this.kind.verb);
    if (this.phase !== RECEIVING) return;
    this.phase = ANSWERED;
    this.release();
    this.context.inFlight.leave();
  }

  stalled(): void {
    if (this.phase !== RECEIVING) return;
    const detail = `the body stopped coming, or nearly, after ${this.receivedBytes} bytes; nothing was done, send it again`;
    this.fail("too_slow", detail, false, LINGER_SILENT_MS_MAX);
  }

  private extended(): void {
    if (this.phase !== RECEIVING) return;
    const detail = "chunk extensions are not supported: send the chunks without them, or Content-Length";
    this.fail("bad_request", detail, false, LINGER_SILENT_MS_MAX);
  }

  /** The end of a chunked body is believed once all that came with it is read, as by WriteRequest. */
  private beginSoon(): void {
    this.chunkEnd?.stop();
    setImmediate(() => {
      if (this.phase === RECEIVING) this.begin();
    });
  }

  private begin(): void {
    this.phase = UNDER_WAY;
    this.flow?.end();
    this.chunkEnd?.stop();
    const bytes = this.pieces.length === 1 ? this.pieces[0] : Buffer.concat(this.pieces);
    this.pieces.length = 0;
    try {
      this.whole(bytes, (send) => this.answer(send));
    } catch (error) {
      this.context.log.error({ error: stackOf(error) }, "a request failed");
      this.answer((res) => sendError(res, "internal"));
    }
  }

  private answer(send: (res: Res) => number): void {
    if (this.phase !== UNDER_WAY) return;
    this.phase = ANSWERED;
    this.release();
    if (!this.hasGone) this.res.cork(() => this.context.meter.count(this.kind.verb, send(this.res)));
    this.context.inFlight.leave();
  }

  /** Refuses the request with its body half received. */
  private fail(code: ErrorCode, detail: string, last: boolean, lingerMs = LINGER_MS_MAX): void {
    this.flow?.setPaused(false);
    this.phase = ANSWERED;
    this.release();
    this.res.cork(() => {
      if (last) sendError(this.res, code, { detail });
      else {
        this.linger = new Linger(this.res, lingerMs);
        sendErrorAndStayOpen(this.res, code, { detail });
      }
    });
    this.context.meter.count(this.kind.verb, ERRORS[code].status);
    this.context.inFlight.leave();
  }

  private release(): void {
    this.flow?.end();
    this.chunkEnd?.stop();
    this.pieces.length = 0;
    this.kind.bytes -= this.heldBytes;
    this.heldBytes = 0;
  }
}
