/**
 * A body that flows in over a while: paused and resumed as its taker asks, kept alive while it moves, or
 * while the client waits for us, and given up when it does not move. What WriteRequest and PeerUpload share;
 * a body that comes in one piece needs none of it.
 */
import { NarrowReceive } from "../../platform/receive-buffers.ts";
import type { Res } from "../http/http.ts";
import type { Paced, Pacer } from "../http/pace.ts";

/** Beats are every 3 s (pace.ts): 1 KiB/s. */
const BYTES_PER_BEAT_MIN = 3 * 1024;
/**
 * A body that is slower in so many beats, one after the other, is given up, with an answer: uWS' own timer
 * would close the connection without a word.
 */
export const SLOW_BEATS_MAX = 3;
/** What comes of a body although it is paused, before something is done about it: two of uWS' reads. */
const READ_ON_BYTES = 1024 * 1024;

/** Whoever takes the body. */
export interface BodyTaker {
  /** Bytes of the body so far, in all. */
  readonly receivedBytes: number;
  /** The body is still coming. If not, the client waits for us, not we for it. */
  readonly isReceiving: boolean;
  /** Another number than SLOW_BEATS_MAX. */
  readonly slowBeatsMax?: number;
  /** The client is too slow, or sends nothing any more: the request is to be refused. */
  stalled(): void;
}

export class BodyFlow implements Paced {
  private readonly res: Res;
  private readonly pacer: Pacer;
  private readonly taker: BodyTaker;
  private paused = false;
  private pacedBytes = 0;
  private slowBeats = -1;
  /** Paused: what may come before receive buffers are narrowed. */
  private readOnAtBytes = 0;
  private narrow: NarrowReceive | null = null;

  constructor(res: Res, pacer: Pacer, taker: BodyTaker) {
    this.res = res;
    this.pacer = pacer;
    this.taker = taker;
    pacer.add(this);
  }

  setPaused(paused: boolean): void {
    // uWS reads on within one turn although it was paused, and arms its timer anew with what it reads: paused
    // again, it is off again. To resume what is not paused, however, would leave the socket deaf.
    if (!this.taker.isReceiving || (!paused && !this.paused)) return;
    if (!this.paused) this.readOnAtBytes = this.taker.receivedBytes + READ_ON_BYTES;
    else if (paused && this.taker.receivedBytes >= this.readOnAtBytes) this.readsOn();
    this.paused = paused;
    if (paused) this.res.pause();
    else {
      this.narrow?.relax();
      this.res.resume();
    }
  }

  /** uWS reads on. The client may not have sent much just now: then this is done again. */
  private readsOn(): void {
    this.readOnAtBytes = this.taker.receivedBytes + READ_ON_BYTES;
    this.narrow ??= new NarrowReceive();
    this.narrow.step();
  }

  beat(): void {
    const { receivedBytes, isReceiving, slowBeatsMax = SLOW_BEATS_MAX } = this.taker;
    const moved = receivedBytes - this.pacedBytes;
    this.pacedBytes = receivedBytes;
    // Paused: uWS' timer is off, and reading again would defeat the back-pressure.
    if (this.paused) {
      this.slowBeats = 0;
      return;
    }
    // The first beat may come at once.
    if (!isReceiving || moved >= BYTES_PER_BEAT_MIN) this.slowBeats = 0;
    else if (++this.slowBeats >= slowBeatsMax) {
      this.taker.stalled();
      return;
    }
    this.res.pause();
    this.res.resume();
  }

  /** The request is answered, or its client has gone. Idempotent. */
  end(): void {
    this.narrow?.widen();
    this.pacer.delete(this);
  }
}
