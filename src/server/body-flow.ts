/**
 * A body that flows in over a while: paused and resumed as its taker asks, and kept alive while it moves, or while the client waits for us. What WriteRequest
 * and PeerUpload share; a body that comes in one piece needs none of it.
 */
import type { Res } from "./http.ts";
import type { Paced, Pacer } from "./pace.ts";

/** A body slower than this for 10 s is closed by uWS' timer; a faster one is kept alive. */
const BYTES_PER_BEAT_MIN = 3 * 1024;

/** Whoever takes the body. */
export interface BodyTaker {
  /** Bytes of the body so far, in all. */
  readonly receivedBytes: number;
  /** The body is still coming. If not, the client waits for us, not we for it. */
  readonly isReceiving: boolean;
}

export class BodyFlow implements Paced {
  private readonly res: Res;
  private readonly pacer: Pacer;
  private readonly taker: BodyTaker;
  private paused = false;
  private pacedBytes = 0;

  constructor(res: Res, pacer: Pacer, taker: BodyTaker) {
    this.res = res;
    this.pacer = pacer;
    this.taker = taker;
    pacer.add(this);
  }

  setPaused(paused: boolean): void {
    // uWS reads on within one turn although it was paused, and arms its timer anew with what it reads: paused again, it is off again. To
    // resume what is not paused, however, would leave the socket deaf.
    if (!this.taker.isReceiving || (!paused && !this.paused)) return;
    this.paused = paused;
    if (paused) this.res.pause();
    else this.res.resume();
  }

  beat(): void {
    const { receivedBytes, isReceiving } = this.taker;
    const moved = receivedBytes - this.pacedBytes;
    this.pacedBytes = receivedBytes;
    // Paused: uWS' timer is off, and reading again would defeat the back-pressure.
    if (this.paused || (isReceiving && moved < BYTES_PER_BEAT_MIN)) return;
    this.res.pause();
    this.res.resume();
  }

  /** The request is answered, or its client has gone. Idempotent. */
  end(): void {
    this.pacer.delete(this);
  }
}
