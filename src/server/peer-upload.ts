/**
 * A value that another node streams here: checked piece by piece where there is a key, handed to a sink with back-pressure, committed only
 * after the last check.
 *
 * Invariants: exactly one answer, or none when the other node has gone; a body that breaks off, or is not what was signed, is aborted.
 */
import type { KeyObject } from "node:crypto";
import type { PeerSink } from "../cluster/peer-handler.ts";
import type { ErrorCode } from "../util/errors.ts";
import { StreamVerifier } from "../util/signed-stream.ts";
import type { FrontContext } from "./context.ts";
import type { Res } from "./http.ts";
import { Linger } from "./linger.ts";
import type { Paced } from "./pace.ts";
import { sendError, sendErrorAndStayOpen, statusLine } from "./reply.ts";

/** A stream slower than this is closed by uWS' timer; a faster one is kept alive. */
const BYTES_PER_BEAT_MIN = 3 * 1024;
const HEAD = Buffer.from(`${statusLine(200)}\r\nContent-Type: application/octet-stream`);

const RECEIVING = 0;
const COMMITTING = 1;
const ANSWERED = 2;
const GONE = 3;

export class PeerUpload implements Paced {
  private readonly context: FrontContext;
  private readonly res: Res;
  private readonly sink: PeerSink;
  /** null: there is no key. */
  private readonly verifier: StreamVerifier | null;
  private phase = RECEIVING;
  private valueBytes = 0;
  private receivedBytes = 0;
  private pacedBytes = 0;
  private wantsMore = true;
  private paused = false;
  private linger: Linger | null = null;

  /** @param signed the key, and the signature of the request's head */
  constructor(
    context: FrontContext,
    res: Res,
    sink: PeerSink,
    signed: { key: KeyObject; mac: Buffer } | null,
  ) {
    this.context = context;
    this.res = res;
    this.sink = sink;
    this.verifier = signed === null ? null : new StreamVerifier(signed.key, signed.mac);
    sink.onDrain = () => {
      this.wantsMore = true;
      this.setPaused(false);
    };
    sink.onFail = (code, detail) => {
      if (this.phase === RECEIVING) this.fail(code, detail, false);
    };
    context.inFlight.enter();
    context.pacer.add(this);
  }

  /** A piece of the body. `chunk` is only valid during the call. */
  data(chunk: ArrayBuffer, last: boolean): void {
    if (this.phase !== RECEIVING) {
      this.linger?.drop(chunk.byteLength, last);
      return;
    }
    try {
      this.take(new Uint8Array(chunk), last);
    } catch (error) {
      this.context.log.error(
        { error: error instanceof Error ? error.stack : String(error) },
        "a value of another node could not be taken",
      );
      if (this.phase === RECEIVING) this.fail("internal", "", last);
    }
  }

  private take(bytes: Uint8Array, last: boolean): void {
    this.receivedBytes += bytes.length;
    const isGenuine = this.verifier === null ? this.write(bytes) : this.verifier.feed(bytes, this.write);
    // The sink may have failed inside `write`.
    if (this.phase !== RECEIVING) return;
    if (this.valueBytes > this.context.maxValueBytes) {
      this.fail("too_large", "", last);
    } else if (!isGenuine || (last && this.verifier?.complete === false)) {
      this.context.log.error({}, "a value of another node was not what was signed");
      this.fail("unauthorized", "the body is not the one that was signed", last);
    } else if (last) {
      // uWS reads on within one turn although it was paused. The next request must not find the socket deaf.
      this.setPaused(false);
      this.phase = COMMITTING;
      this.sink.commit((answer) => this.done(answer));
    } else if (!this.wantsMore) {
      this.setPaused(true);
    }
  }

  private readonly write = (bytes: Uint8Array): boolean => {
    this.valueBytes += bytes.length;
    if (bytes.length > 0 && this.phase === RECEIVING && this.valueBytes <= this.context.maxValueBytes)
      this.wantsMore = this.sink.write(bytes);
    return true;
  };

  /** The connection is gone, at any stage. */
  aborted(): void {
    if (this.phase === ANSWERED) {
      this.linger?.aborted();
      return;
    }
    // While committing there is nothing to take back: the write happens, and nobody hears of it.
    if (this.phase === RECEIVING) this.sink.abort();
    this.phase = GONE;
    this.context.pacer.delete(this);
    this.context.inFlight.leave();
  }

  beat(): void {
    const moved = this.receivedBytes - this.pacedBytes;
    this.pacedBytes = this.receivedBytes;
    // While committing the client waits for us, not we for it.
    if (this.paused || (this.phase === RECEIVING && moved < BYTES_PER_BEAT_MIN)) return;
    this.res.pause();
    this.res.resume();
  }

  private setPaused(paused: boolean): void {
    // uWS reads on within one turn although it was paused, and arms its timer anew with what it reads: paused again, it is off again. To
    // resume what is not paused, however, would leave the socket deaf.
    if (this.phase !== RECEIVING || (!paused && !this.paused)) return;
    this.paused = paused;
    if (paused) this.res.pause();
    else this.res.resume();
  }

  private done(answer: Uint8Array): void {
    if (this.phase !== COMMITTING) return;
    this.phase = ANSWERED;
    this.context.pacer.delete(this);
    this.res.cork(() => {
      this.res.writeStatus(HEAD);
      this.res.end(answer);
    });
    this.context.inFlight.leave();
  }

  private fail(code: ErrorCode, detail: string, last: boolean): void {
    // Reading must go on: what is still coming is dropped.
    this.setPaused(false);
    this.phase = ANSWERED;
    this.sink.abort();
    this.context.pacer.delete(this);
    this.res.cork(() => {
      if (last) {
        sendError(this.res, code, { detail });
        return;
      }
      this.linger = new Linger(this.res);
      sendErrorAndStayOpen(this.res, code, { detail });
    });
    this.context.inFlight.leave();
  }
}
