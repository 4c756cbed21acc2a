/**
 * The body of a request on its way in: decoded and judged as it comes, handed on piece by piece, paused while
 * its taker has no room, given up when it does not move. After a failure the rest is read and thrown away, so
 * that the client sees the answer.
 */

import { stackOf } from "../../platform/system-error.ts";
import { CHUNKED } from "../../server/http/body-length.ts";
import type { FrontContext } from "../../server/http/context.ts";
import type { Res } from "../../server/http/http.ts";
import { LINGER_MS_MAX, LINGER_SILENT_MS_MAX, Linger } from "../../server/http/linger.ts";
import { BodyFlow, type BodyTaker } from "../../server/writes/body-flow.ts";
import { ChunkEnd } from "../../server/writes/chunk-end.ts";
import { knownError, S3Error } from "../protocol/errors.ts";
import type { S3Counters } from "../store/s3-memory.ts";
import type { Payload, Sums } from "./payload.ts";

const NO_BYTES = new ArrayBuffer(0);

/** Bodies that are gathered whole, of all requests of a node. */
const WHOLE_BYTES_MAX = 64 * 1024 * 1024;

/** Nobody has asked for it yet. */
const UNTOUCHED = 0;
const RECEIVING = 1;
/** All of it has come, or the client has gone. */
const OVER = 2;
/** It failed, and may still be coming. */
const FAILED = 3;

/** Takes views of the pieces; false: pause until `resume`. What it throws fails the request. */
export type TakePiece = (piece: Uint8Array) => boolean;

export class Body implements BodyTaker {
  receivedBytes = 0;
  readonly payload: Payload;
  private readonly context: FrontContext;
  private readonly res: Res;
  private readonly sentBytes: number;
  private readonly counters: S3Counters;
  private phase = UNTOUCHED;
  private isSilent = false;
  private flow: BodyFlow | null = null;
  private linger: Linger | null = null;
  private chunkEnd: ChunkEnd | null = null;
  private take: TakePiece = () => true;
  private hasRoom = true;
  private resolve: (sums: Sums) => void = () => {};
  private reject: (error: unknown) => void = () => {};

  /** @param sentBytes as declared; at most 0: there is none; Infinity: nobody knows */
  constructor(context: FrontContext, res: Res, payload: Payload, sentBytes: number, counters: S3Counters) {
    this.counters = counters;
    this.context = context;
    this.res = res;
    this.payload = payload;
    this.sentBytes = sentBytes;
  }

  get isReceiving(): boolean {
    return this.phase === RECEIVING;
  }

  /** Whether somebody has asked for it. */
  get isTouched(): boolean {
    return this.phase !== UNTOUCHED;
  }

  /** Whether more of it comes, although nobody wants it any more. */
  get isLeft(): boolean {
    return this.phase === FAILED || this.phase === RECEIVING;
  }

  /**
   * Begins to take it. To be called in the request's handler. Resolves when all of it is there and right;
   * what `held` then has was not given to `take`.
   */
  receive(take: TakePiece): Promise<Sums> {
    this.take = take;
    this.phase = RECEIVING;
    const whole = new Promise<Sums>((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    // It may fail before anybody waits for it.
    whole.catch(() => {});
    if (this.sentBytes === CHUNKED) {
      this.flow = new BodyFlow(this.res, this.context.pacer, this);
      this.chunkEnd = new ChunkEnd(() => this.extended());
    }
    // uWS says nothing more of an empty body, or of none.
    if (this.sentBytes <= 0) this.data(NO_BYTES, true);
    else this.res.onData((chunk, last) => this.data(chunk, last));
    return whole;
  }

  /** All of a body that is small. */
  async whole(bytesMax: number): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    let bytes = 0;
    const { counters } = this;
    try {
      await this.receive((piece) => {
        bytes += piece.length;
        const allBytes = counters.addWhole(piece.length);
        if (bytes > bytesMax) throw new S3Error("MalformedXML", `The body is longer than ${bytesMax} bytes.`);
        if (allBytes > WHOLE_BYTES_MAX) throw new S3Error("SlowDown");
        pieces.push(piece.slice());
        return true;
      });
    } finally {
      counters.addWhole(-bytes);
    }
    return Buffer.concat(pieces);
  }

  /** There is room again. */
  resume(): void {
    this.hasRoom = true;
    this.flow?.setPaused(false);
  }

  private data(chunk: ArrayBuffer, last: boolean): void {
    if (this.phase !== RECEIVING) {
      this.linger?.drop(chunk.byteLength, last);
      return;
    }
    const bytes = new Uint8Array(chunk);
    this.receivedBytes += bytes.length;
    if (!last) this.chunkEnd?.data(bytes);
    if (!last || this.chunkEnd === null) this.feed(bytes, last);
    else {
      // The end of a chunked body is believed once uWS has read what came with it, as by WriteRequest.
      const copy = bytes.slice();
      this.chunkEnd.stop();
      setImmediate(() => {
        if (this.phase === RECEIVING) this.feed(copy, true);
      });
    }
  }

  private feed(bytes: Uint8Array, last: boolean): void {
    try {
      this.payload.feed(bytes, (piece) => {
        if (!this.take(piece)) this.hasRoom = false;
      });
      // What takes the pieces may have failed meanwhile.
      if (this.phase !== RECEIVING) return;
      if (last) this.complete(this.payload.finish());
      else {
        this.flow ??= new BodyFlow(this.res, this.context.pacer, this);
        if (!this.hasRoom) this.flow.setPaused(true);
      }
    } catch (error) {
      if (knownError(error) === null) this.context.log.error({ error: stackOf(error) }, "a request failed");
      this.fail(error, last);
    }
  }

  private complete(sums: Sums | Promise<Sums>): void {
    // uWS reads on within one turn although it was paused. The next request must not find the socket deaf.
    this.flow?.setPaused(false);
    this.chunkEnd?.stop();
    this.phase = OVER;
    if (sums instanceof Promise) sums.then(this.resolve, this.reject);
    else this.resolve(sums);
  }

  /** Gives it up. */
  fail(error: unknown, last = false): void {
    if (this.phase !== RECEIVING) return;
    // Reading must go on: what is still coming is dropped.
    this.flow?.setPaused(false);
    this.end();
    this.phase = last ? OVER : FAILED;
    this.reject(error);
  }

  /** The client has stopped sending in the middle of it, or nearly. */
  stalled(): void {
    this.isSilent = true;
    this.fail(new S3Error("RequestTimeout"));
  }

  private extended(): void {
    this.isSilent = true;
    this.fail(new S3Error("InvalidRequest", "Chunk extensions are not supported: send Content-Length."));
  }

  /** The request was answered although more of it is coming. */
  dropRest(): void {
    this.phase = FAILED;
    this.linger = new Linger(this.res, this.isSilent ? LINGER_SILENT_MS_MAX : LINGER_MS_MAX);
  }

  /** The connection is gone. */
  aborted(): void {
    this.linger?.aborted();
    this.fail(new S3Error("IncompleteBody"), true);
    this.end();
  }

  /** The request is answered. Idempotent. */
  end(): void {
    this.flow?.end();
    this.chunkEnd?.stop();
    this.payload.close();
  }
}
