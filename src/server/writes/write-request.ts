/**
 * One write request from its headers to its answer: receives the body, hands it to the vault, answers.
 *
 *                      one piece ──────────────────────────► submit ─┐
 *   onData ─► received ┤ up to CHUNK_BYTES ─► gathered ─► submit ────┤─► done ─► answer
 *                      └ more ─► upload.write … (pause/resume) ─► commit ┘
 *
 * Invariants: exactly one answer, or none when the client has gone; a body that is not committed leaves
 * nothing in the vault; what is gathered over all connections holds at most RECEIVING_BYTES_MAX of memory
 * (gatherings.ts).
 */

import { isDiskFull } from "../../engine/slabs/io.ts";
import { stackOf } from "../../platform/system-error.ts";
import type { Conditions } from "../../rules/conditions.ts";
import type { Life } from "../../rules/expiry.ts";
import type { WriteVerb } from "../../rules/write.ts";
import type { Upload, WriteHead, WriteResult } from "../../shards/arena/write.ts";
import { NOTHING } from "../../util/bytes.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { GAVE_WAY, type Gathering } from "../../util/gathering/gatherings.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import { LINGER_MS_MAX, LINGER_SILENT_MS_MAX, Linger } from "../http/linger.ts";
import { type ErrorOptions, sendError, sendErrorAndStayOpen, sendWriteResult } from "../http/reply.ts";
import { parseTarget } from "../http/target.ts";
import { knownBy, TOO_LARGE_TO_REMEMBER } from "../once/once.ts";
import { adviseWrite, verbIndex } from "./advice.ts";
import { BodyFlow, type BodyTaker } from "./body-flow.ts";
import { ChunkEnd } from "./chunk-end.ts";
import type { Manner } from "./manner.ts";

/** What the headers said. Strings only: the request itself is gone when the body comes. */
export interface WriteHeaders extends Conditions {
  verb: WriteVerb;
  path: string;
  json: boolean;
  contentType: string;
  /** Headers to be kept with the value, as the fields of a record's trailer. */
  trailer: Uint8Array;
  /** How long the value is to live. */
  life: Life;
  /** Its `Idempotency-Key`; empty: it has none. */
  once: string;
  /** Content-Length, or Infinity for a chunked body. */
  declaredBytes: number;
  /** null: it is a write of ours. */
  manner: Manner | null;
}

/** The body is coming. */
const RECEIVING = 0;
/** The vault has the whole body; its answer is awaited. */
const COMMITTING = 1;
/** The answer is given; when it was an early refusal, the rest of the body is being dropped. */
const ANSWERED = 2;
/** The client has gone. */
const GONE = 3;
/** The whole body is here; whether the write may be done is being asked. */
const ASKING = 4;

export class WriteRequest implements BodyTaker {
  private readonly context: FrontContext;
  private readonly res: Res;
  private readonly headers: WriteHeaders;
  private readonly startMs = performance.now();
  private phase = RECEIVING;
  receivedBytes = 0;
  private gathered: Gathering | null = null;
  private upload: Upload | null = null;
  /** From when it is clear that the body does not come in one piece. */
  private flow: BodyFlow | null = null;
  private linger: Linger | null = null;
  /** Of a chunked body. */
  private readonly chunkEnd: ChunkEnd | null = null;

  constructor(context: FrontContext, res: Res, headers: WriteHeaders) {
    this.context = context;
    this.res = res;
    this.headers = headers;
    context.inFlight.enter();
    if (headers.declaredBytes !== Number.POSITIVE_INFINITY) return;
    // Nothing says whether anything of it has come.
    this.keepAlive();
    this.chunkEnd = new ChunkEnd(() => this.extended());
  }

  /** A piece of the body. `chunk` is only valid during the call. */
  data(chunk: ArrayBuffer, last: boolean): void {
    if (this.phase !== RECEIVING) {
      this.linger?.drop(chunk.byteLength, last);
      return;
    }
    const bytes = new Uint8Array(chunk);
    if (last && this.chunkEnd !== null) this.endSoon(bytes.slice());
    else this.takeSafely(bytes, last);
  }

  /**
   * The end of a chunked body is believed once uWS has read what came with it: it takes trailers (RFC 9112,
   * 7.1.2) for another request, answers that with an error and closes, and what was answered with an error
   * must not be stored.
   */
  private endSoon(bytes: Uint8Array): void {
    this.chunkEnd?.stop();
    setImmediate(() => {
      if (this.phase === RECEIVING) this.res.cork(() => this.takeSafely(bytes, true));
    });
  }

  private takeSafely(bytes: Uint8Array, last: boolean): void {
    try {
      this.take(bytes, last);
    } catch (error) {
      this.crashed(error, last);
    }
  }

  private take(bytes: Uint8Array, last: boolean): void {
    if (bytes.length === 0 && !last) {
      // Headers that came alone. From now on the client's pace counts.
      this.keepAlive();
      return;
    }
    this.receivedBytes += bytes.length;
    if (!last) this.chunkEnd?.data(bytes);
    if (this.receivedBytes > this.context.maxValueBytes) {
      this.fail("too_large", "", last);
    } else if (this.headers.verb === "delete") {
      // What comes with it means nothing, but it must be whole: what is refused for its framing has not been
      // done.
      if (last) this.submit(NOTHING);
      else this.keepAlive();
    } else if (last && this.receivedBytes === bytes.length && bytes.length <= CHUNK_BYTES) {
      this.submit(bytes);
    } else if (this.upload === null && this.fitsOneRecord()) {
      if (!this.gather(bytes)) this.fail("overloaded", "too many bodies are being received; try again", last);
      else if (last) this.submit((this.gathered as Gathering).whole());
    } else if (this.upload !== null || this.openUpload(last)) {
      this.stream(bytes, last);
    }
  }

  /** The connection is gone, at any stage. */
  aborted(): void {
    if (this.phase === ANSWERED) {
      this.linger?.aborted();
      return;
    }
    // While committing there is nothing to take back: the write happens, and nobody hears of it.
    if (this.phase === RECEIVING || this.phase === ASKING) this.upload?.abort();
    this.phase = GONE;
    this.release();
    this.context.meter.countAborted(verbIndex(this.headers.verb));
    this.context.inFlight.leave();
  }

  private fitsOneRecord(): boolean {
    if (this.receivedBytes > CHUNK_BYTES) return false;
    return (
      this.headers.declaredBytes <= CHUNK_BYTES || this.headers.declaredBytes === Number.POSITIVE_INFINITY
    );
  }

  /** Keeps a piece for later. False: there is no room for more bodies. */
  private gather(bytes: Uint8Array): boolean {
    this.keepAlive();
    this.gathered ??= this.context.vault.gatherings.open(
      (error) => this.lost(error),
      this.headers.declaredBytes,
    );
    return this.gathered?.append(bytes) ?? false;
  }

  /** What was gathered cannot be kept any longer. */
  private lost(error: Error): void {
    if (this.phase !== RECEIVING) return;
    if (error === GAVE_WAY) this.fail("too_slow", "", false);
    else this.fail(isDiskFull(error) ? "disk_full" : "internal", error.message, false);
  }

  /** Begins a body of any size, with what was gathered so far. False: answered. */
  private openUpload(last: boolean): boolean {
    this.keepAlive();
    const head = this.head();
    const { manner, once } = this.headers;
    const writesOnce = manner === null && this.context.writesOnce;
    const tooLarge = { code: "bad_request", options: { detail: TOO_LARGE_TO_REMEMBER } } as const;
    const refusal = once === "" ? adviseWrite(this.context, head, writesOnce) : tooLarge;
    if (refusal !== null) {
      this.fail(refusal.code, refusal.options, last);
      return false;
    }
    const upload = (this.context.cluster ?? this.context.vault).upload(head);
    if (upload === null) {
      this.fail("overloaded", "", last);
      return false;
    }
    this.upload = upload;
    upload.onDrain = () => this.flow?.setPaused(false);
    upload.onFail = (result) => this.uploadFailed(result);
    return true;
  }

  private stream(bytes: Uint8Array, last: boolean): void {
    const upload = this.upload as Upload;
    let more = true;
    if (this.gathered !== null) {
      more = upload.write(this.gathered.whole());
      this.releaseGathered();
    }
    if (this.phase === RECEIVING) more = upload.write(bytes) && more;
    // The upload may have failed inside `write`.
    if (this.phase !== RECEIVING) return;
    if (last) {
      // uWS reads on within one turn although it was paused. The next request must not find the socket deaf.
      this.flow?.setPaused(false);
      this.chunkEnd?.stop();
      // The pacer keeps the connection: what a fast client sent ahead of the disk may take longer than uWS'
      // timer.
      this.releaseGathered();
      const { manner } = this.headers;
      if (manner === null) this.commit(upload);
      else this.ask(manner, () => this.commit(upload));
    } else if (!more) {
      this.flow?.setPaused(true);
    }
  }

  private commit(upload: Upload): void {
    this.phase = COMMITTING;
    upload.commit((result) => this.done(result));
  }

  /** Goes on when the write may be done, and is answered otherwise. */
  private ask(manner: Manner, goOn: () => void): void {
    this.phase = ASKING;
    this.keepAlive();
    manner.ask((refusal) => {
      if (this.phase !== ASKING) return;
      this.res.cork(() => {
        try {
          if (refusal === null) goOn();
          else this.refused(refusal);
        } catch (error) {
          this.crashed(error, true);
        }
      });
    });
  }

  private refused(send: (res: Res) => number): void {
    this.phase = ANSWERED;
    this.upload?.abort();
    this.release();
    this.settle(send(this.res));
  }

  private submit(body: Uint8Array): void {
    const { manner } = this.headers;
    if (manner === null) {
      this.submitNow(body);
      return;
    }
    // What has come is only there during the call.
    const kept = body.slice();
    this.ask(manner, () => this.submitNow(kept));
  }

  private submitNow(body: Uint8Array): void {
    this.phase = COMMITTING;
    const target = this.context.cluster ?? this.context.vault;
    const { once } = this.headers;
    const head = once === "" ? this.head() : knownBy(once, this.head(), body);
    const accepted = target.submit(head, body, (result) => this.done(result));
    this.release();
    if (accepted) return;
    this.phase = ANSWERED;
    this.settle(sendError(this.res, "overloaded"));
  }

  /** Sends the answer of `corked`; runs inside its cork. */
  answer(result: WriteResult): void {
    const { answerWrite, cluster } = this.context;
    const { verb, manner } = this.headers;
    const send = manner === null ? answerWrite : sendWriteResult;
    this.settle(send(this.res, verb, result, cluster?.region));
  }

  /** The vault's answer to the whole write. */
  private done(result: WriteResult): void {
    if (this.phase !== COMMITTING) return;
    this.phase = ANSWERED;
    this.release();
    try {
      corked.request = this;
      corked.result = result;
      this.res.cork(answerCorked);
    } catch (error) {
      // The vault answers a whole batch in one loop: what goes wrong here must not keep the others waiting.
      this.context.log.error({ error: String(error) }, "an answer could not be sent");
    }
  }

  /** The client has stopped sending in the middle of the body, or nearly. */
  stalled(): void {
    if (this.phase !== RECEIVING) return;
    const { declaredBytes } = this.headers;
    const whole = Number.isFinite(declaredBytes) ? ` of the ${declaredBytes} announced` : "";
    this.fail(
      "too_slow",
      `the body stopped coming, or nearly, after ${this.receivedBytes} bytes${whole}; nothing was stored, send it again`,
      false,
      LINGER_SILENT_MS_MAX,
    );
  }

  /** The chunks of the body have extensions. */
  private extended(): void {
    if (this.phase !== RECEIVING) return;
    this.fail(
      "bad_request",
      "chunk extensions are not supported: send the chunks without them, or Content-Length",
      false,
      LINGER_SILENT_MS_MAX,
    );
  }

  /** The vault gave up on an upload before its end. */
  private uploadFailed(result: WriteResult): void {
    if (this.phase !== RECEIVING && this.phase !== ASKING) return;
    this.fail(result.error ?? "internal", result.detail, this.phase === ASKING);
  }

  /** Refuses the request with its body half received. */
  private fail(code: ErrorCode, about: string | ErrorOptions, last: boolean, lingerMs = LINGER_MS_MAX): void {
    const options = typeof about === "string" ? { detail: about } : about;
    // Reading must go on: what is still coming is dropped.
    this.flow?.setPaused(false);
    this.phase = ANSWERED;
    this.upload?.abort();
    this.release();
    this.res.cork(() => {
      if (last) this.settle(sendError(this.res, code, options));
      else {
        this.linger = new Linger(this.res, lingerMs);
        this.settle(sendErrorAndStayOpen(this.res, code, options));
      }
    });
  }

  /** A bug, or a vault that throws: the client gets a 500, and the process lives. */
  private crashed(error: unknown, last: boolean): void {
    this.context.log.error({ error: stackOf(error) }, "a write failed");
    this.fail("internal", "", last);
  }

  private settle(status: number): void {
    const { meter, inFlight } = this.context;
    meter.count(verbIndex(this.headers.verb), status);
    meter.writeTook(performance.now() - this.startMs);
    inFlight.leave();
  }

  /** The vault's view of the request; made anew, because the key scratch has served others meanwhile. */
  private head(): WriteHead {
    const { verb, path, json, contentType, trailer, life, ifMatch, ifNoneMatch } = this.headers;
    const key = this.context.key;
    parseTarget(path, key);
    return { verb, key, json, contentType, trailer, life, ifMatch, ifNoneMatch };
  }

  get isReceiving(): boolean {
    return this.phase === RECEIVING;
  }

  private keepAlive(): void {
    this.flow ??= new BodyFlow(this.res, this.context.pacer, this);
  }

  private release(): void {
    this.flow?.end();
    this.chunkEnd?.stop();
    this.releaseGathered();
  }

  private releaseGathered(): void {
    this.gathered?.close();
    this.gathered = null;
  }
}

/** `cork` runs its callback at once, so one function serves all: a closure for each showed in profiles. */
const corked: { request: WriteRequest | null; result: WriteResult | null } = { request: null, result: null };

function answerCorked(): void {
  const { request, result } = corked;
  if (request !== null && result !== null) request.answer(result);
}
