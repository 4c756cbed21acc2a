/**
 * An answer to a GET that is sent piece by piece, as fast as the client takes it. While it waits, for the
 * next piece or for the client, each beat sends something that means nothing, which arms uWS' timer anew. One
 * whose client takes nothing for STALL_MS is cut.
 */
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import { type Paced, STALL_MS } from "../http/pace.ts";
import { sendError } from "../http/reply.ts";
import type { Failure } from "../later/failure.ts";
import { GET } from "../status/meter.ts";
import { leaveFront } from "./line-answer.ts";
import { FIRST_BYTES, writePiece } from "./pieces.ts";

/** White space between two lines, or two elements of an array, means nothing. */
const BLANK = Buffer.from("\n");

export interface StreamOwner {
  /** All that was sent is with the system: there is room for the next piece. */
  onRoom(): void;
  /** The answer is over, in whatever way. */
  onOver?(): void;
  /** What means nothing between two pieces; empty: there is nothing of that kind now. */
  blank?(): Uint8Array;
}

export class StreamedAnswer implements Paced {
  private readonly context: FrontContext;
  private readonly res: Res;
  private readonly head: string;
  private readonly owner: StreamOwner;
  private open = true;
  private started = false;
  private room = true;
  /** Since when there is no room. */
  private waitsSinceMs = 0;

  /**
   * To be made in the request's handler.
   * @param head status and headers
   */
  constructor(context: FrontContext, res: Res, head: string, owner: StreamOwner) {
    this.context = context;
    this.res = res;
    this.head = head;
    this.owner = owner;
    context.inFlight.enter();
    context.pacer.add(this);
    res.onAborted(() => this.finish(0));
    res.onWritable(() => {
      this.drain();
      return true;
    });
  }

  /** The client is there, and the answer not over. */
  get isOpen(): boolean {
    return this.open;
  }

  /** Status and headers are on their way. */
  get begun(): boolean {
    return this.started;
  }

  get hasRoom(): boolean {
    return this.room;
  }

  /** Sends a piece, after status and headers. Nothing is to be sent before there is room again. */
  send(piece: Uint8Array): void {
    if (!this.open) return;
    const rest = this.started ? piece : this.begin(piece);
    if (rest.length > 0) this.noteRoom(writePiece(this.res, rest));
  }

  /** Sends the last piece. @param status what is counted */
  end(piece: Uint8Array, status = 200): void {
    if (!this.open) return;
    this.send(piece);
    this.res.end();
    this.finish(status);
  }

  /** Before the first piece: an answer like any other. */
  refuse({ code, detail }: Failure): void {
    if (this.open) this.res.cork(() => this.finish(sendError(this.res, code, { detail })));
  }

  /** Ends the connection: what was sent is to be taken for cut. */
  cut(): void {
    if (this.open) this.res.close();
  }

  beat(nowMs: number): void {
    if (!this.room && nowMs - this.waitsSinceMs > STALL_MS) this.res.close();
    else if (this.started) this.send(this.blank());
  }

  /** Sends status and headers, with the beginning of the first piece. @returns its rest */
  private begin(piece: Uint8Array): Uint8Array {
    this.started = true;
    const first = piece.subarray(0, FIRST_BYTES);
    this.res.cork(() => {
      this.res.writeStatus(this.head);
      if (first.length > 0) this.noteRoom(this.res.write(first));
    });
    return piece.subarray(first.length);
  }

  private noteRoom(hasRoom: boolean): void {
    if (this.room && !hasRoom) this.waitsSinceMs = performance.now();
    this.room &&= hasRoom;
  }

  /**
   * The system has taken something, which need not be all: what is sent now is kept behind what is left, so a
   * piece each time would pile up.
   */
  private drain(): void {
    const blank = this.blank();
    this.waitsSinceMs = performance.now();
    this.room = blank.length === 0 || this.res.write(blank);
    if (this.room) this.owner.onRoom();
  }

  private blank(): Uint8Array {
    return this.owner.blank?.() ?? BLANK;
  }

  /** @param status 0: the client has gone */
  private finish(status: number): void {
    if (!this.open) return;
    this.open = false;
    leaveFront(this.context, this, GET, status);
    this.owner.onOver?.();
  }
}
