/**
 * `POST /_batch`: takes the body whole, reads its operations in slices, has them done, and answers their
 * results in order.
 *
 * Invariants: exactly one answer, or none when the client has gone; nothing is done of a batch that is
 * malformed or did not come whole; one that did is done to its end, whether its client waits or not; bodies
 * that are here, of all batches, hold at most BATCHES_BYTES_MAX.
 */
import type { Token } from "../../auth/tokens.ts";
import { ERRORS, type ErrorCode } from "../../util/errors.ts";
import { BAD_LENGTH, CHUNKED, declaredBytes, NO_BODY } from "../http/body-length.ts";
import type { FrontContext } from "../http/context.ts";
import type { Req, Res } from "../http/http.ts";
import { LINGER_MS_MAX, LINGER_SILENT_MS_MAX, Linger, refuse } from "../http/linger.ts";
import { sendError, sendErrorAndStayOpen, statusLine } from "../http/reply.ts";
import { POST } from "../status/meter.ts";
import { BodyFlow, type BodyTaker } from "../writes/body-flow.ts";
import { ChunkEnd } from "../writes/chunk-end.ts";
import { BatchError, type Operation, operationsOf, type Refused } from "./parse.ts";
import { runBatch } from "./run.ts";

const BATCH_BYTES_MAX = 16 * 1024 * 1024;
/** Bodies of all batches of a front. */
const BATCHES_BYTES_MAX = 64 * 1024 * 1024;
/** How long operations are read before others get their turn, in milliseconds. */
const SLICE_MS = 2;

const CONTENT_TYPE = Buffer.from("content-type");
const JSON_SYNTAX = /^application\/json[ \t]*(;|$)/i;
const LINES_SYNTAX = /^application\/(?:x-)?ndjson[ \t]*(;|$)/i;
const NO_BYTES = new ArrayBuffer(0);

const RECEIVING = 0;
const RUNNING = 1;
const ANSWERED = 2;

/** What the batches of one front share. */
export interface Batches {
  bytes: number;
}

/** Answers POST /_batch. */
export function createBatch(context: FrontContext): (res: Res, req: Req) => void {
  const batches: Batches = { bytes: 0 };
  return (res, req) => {
    const declared = declaredBytes(req);
    if (declared === BAD_LENGTH) {
      // uWS notices after this handler; until then nothing may happen.
      res.onAborted(() => {});
      return;
    }
    const type = req.getHeader(CONTENT_TYPE);
    const isLines = LINES_SYNTAX.test(type);
    const [code, detail] = judge(context, declared, isLines || JSON_SYNTAX.test(type));
    if (code !== null) {
      context.meter.count(POST, refuse(res, code, declared, { detail }));
      return;
    }
    const batch = new BatchRequest(context, batches, res, isLines, declared === CHUNKED);
    res.onAborted(() => batch.aborted());
    if (declared === 0) batch.data(NO_BYTES, true);
    else res.onData((chunk, last) => batch.data(chunk, last));
  };
}

/** What the headers already rule out. */
function judge(context: FrontContext, declared: number, isKnownType: boolean): [ErrorCode | null, string] {
  if (context.stopping) return ["stopping", ""];
  if (declared === NO_BODY) return ["length_required", ""];
  if (declared > BATCH_BYTES_MAX && declared !== CHUNKED)
    return ["too_large", `a batch has at most ${BATCH_BYTES_MAX} bytes`];
  if (!isKnownType)
    return ["bad_request", "a batch is application/json, or application/x-ndjson with an operation a line"];
  return [null, ""];
}

class BatchRequest implements BodyTaker {
  receivedBytes = 0;
  private readonly context: FrontContext;
  private readonly batches: Batches;
  private readonly res: Res;
  private readonly isLines: boolean;
  private readonly caller: Token;
  private readonly pieces: Uint8Array[] = [];
  private heldBytes = 0;
  private phase = RECEIVING;
  private hasGone = false;
  private flow: BodyFlow | null = null;
  private linger: Linger | null = null;
  private readonly chunkEnd: ChunkEnd | null;

  constructor(context: FrontContext, batches: Batches, res: Res, isLines: boolean, isChunked: boolean) {
    this.context = context;
    this.batches = batches;
    this.res = res;
    this.isLines = isLines;
    this.caller = context.caller;
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
    this.receivedBytes += chunk.byteLength;
    if (!last) this.chunkEnd?.data(new Uint8Array(chunk));
    if (this.receivedBytes > BATCH_BYTES_MAX)
      this.fail("too_large", `a batch has at most ${BATCH_BYTES_MAX} bytes`, last);
    else if (this.batches.bytes + chunk.byteLength > BATCHES_BYTES_MAX)
      this.fail("overloaded", "too many batches are being received; try again", last);
    else {
      this.batches.bytes += chunk.byteLength;
      this.heldBytes += chunk.byteLength;
      this.pieces.push(new Uint8Array(chunk.slice(0)));
      if (last) this.run();
      else this.flow ??= new BodyFlow(this.res, this.context.pacer, this);
    }
  }

  aborted(): void {
    this.hasGone = true;
    if (this.phase === ANSWERED) {
      this.linger?.aborted();
      return;
    }
    this.context.meter.countAborted(POST);
    if (this.phase !== RECEIVING) return;
    this.phase = ANSWERED;
    this.release();
    this.context.inFlight.leave();
  }

  stalled(): void {
    if (this.phase !== RECEIVING) return;
    const detail = `the batch stopped coming, or nearly, after ${this.receivedBytes} bytes; nothing of it was done, send it again`;
    this.fail("too_slow", detail, false, LINGER_SILENT_MS_MAX);
  }

  private extended(): void {
    if (this.phase !== RECEIVING) return;
    const detail = "chunk extensions are not supported: send the chunks without them, or Content-Length";
    this.fail("bad_request", detail, false, LINGER_SILENT_MS_MAX);
  }

  private run(): void {
    this.phase = RUNNING;
    this.flow?.end();
    this.chunkEnd?.stop();
    const bytes = this.pieces.length === 1 ? this.pieces[0] : Buffer.concat(this.pieces);
    this.pieces.length = 0;
    this.read(operationsOf(bytes, this.isLines), []);
  }

  /** Reads operations for a moment; has them done when it has all. */
  private read(source: Generator<Operation | Refused>, operations: (Operation | Refused)[]): void {
    const untilMs = performance.now() + SLICE_MS;
    try {
      for (let next = source.next(); !next.done; next = source.next()) {
        operations.push(next.value);
        if (performance.now() > untilMs) {
          setImmediate(() => this.read(source, operations));
          return;
        }
      }
    } catch (error) {
      if (!(error instanceof BatchError)) this.logCrash(error);
      const [code, detail] =
        error instanceof BatchError ? (["bad_request", error.message] as const) : CRASHED;
      this.answer(() => sendError(this.res, code, { detail }));
      return;
    }
    runBatch(this.context, this.caller, operations).then(
      (results) => this.answer(() => this.send(results)),
      (error) => {
        this.logCrash(error);
        this.answer(() => sendError(this.res, "internal"));
      },
    );
  }

  private send(results: readonly string[]): number {
    const type = this.isLines ? "application/x-ndjson" : "application/json";
    const lines = [statusLine(200), `Content-Type: ${type}`, "Cache-Control: no-store"];
    this.res.writeStatus(lines.join("\r\n"));
    const body = this.isLines
      ? results.map((result) => `${result}\n`).join("")
      : `{"success":true,"results":[${results.join(",")}]}\n`;
    this.res.end(Buffer.from(body, "utf8"));
    return 200;
  }

  private answer(send: () => number): void {
    this.phase = ANSWERED;
    this.release();
    if (!this.hasGone) this.res.cork(() => this.context.meter.count(POST, send()));
    this.context.inFlight.leave();
  }

  /** Refuses the batch with its body half received. */
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
    this.context.meter.count(POST, ERRORS[code].status);
    this.context.inFlight.leave();
  }

  private release(): void {
    this.flow?.end();
    this.chunkEnd?.stop();
    this.pieces.length = 0;
    this.batches.bytes -= this.heldBytes;
    this.heldBytes = 0;
  }

  private logCrash(error: unknown): void {
    this.context.log.error(
      { error: error instanceof Error ? error.stack : String(error) },
      "a batch could not be done",
    );
  }
}

const CRASHED = ["internal", ""] as const;
