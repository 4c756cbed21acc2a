/**
 * A value on its way out, piece by piece, as fast as the client takes it. Nothing but the end is copied into
 * memory of our own: what the socket does not take stays in the map until it does.
 *
 * Meanwhile the file may be cut or the disk fail. The kernel then sends less, but what this process reads
 * itself, for TLS, or to send it with other bytes, would be zeros. So the reader is asked before and after
 * each send; and an end that is read here, which could not be called back, leaves from a checked copy.
 */
import type { ValueReader } from "../../shards/vault/vault.ts";
import { copyOf } from "../../util/bytes.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import { type Paced, STALL_MS } from "../http/pace.ts";

/** Bytes that one client may get before the others have their turn. */
const TURN_BYTES = 2 * 1024 * 1024;
/** So much of the end, with TLS or where there is no more, is sent from a copy: uWS gathers up to 16 KiB. */
const LAST_BYTES = 16 * 1024;

export class Download implements Paced {
  private readonly context: FrontContext;
  private readonly res: Res;
  private readonly reader: ValueReader;
  private readonly onEnd: (complete: boolean) => void;
  /** Range of the value to send. */
  private readonly start: number;
  private readonly end: number;
  /** The piece being sent, and where in the value it begins. */
  private piece: Uint8Array;
  private pieceOffset: number;
  private open = true;
  /** The next piece is being read from the disk, or comes from another node. */
  private waiting = false;
  private progressOffset = -1;
  private progressMs = 0;

  /**
   * Status and headers are written already. `first` is the piece at `start`: whoever read it knew before the
   * status that the value is readable. `onEnd` is called once, and says whether the client got everything.
   */
  constructor(
    context: FrontContext,
    res: Res,
    reader: ValueReader,
    first: Uint8Array,
    start: number,
    end: number,
    onEnd: (complete: boolean) => void,
  ) {
    this.context = context;
    this.res = res;
    this.reader = reader;
    this.piece = first;
    this.pieceOffset = start;
    this.start = start;
    this.end = end;
    this.onEnd = onEnd;
  }

  /** Begins to send. To be called in the request's handler. */
  begin(): void {
    this.context.inFlight.enter();
    this.pump();
    if (!this.open) return;
    this.res.onAborted(() => this.finish(false));
    this.res.onWritable(() => this.pump());
  }

  /**
   * Sends until the socket is full (false), the turn is over, the next piece must be waited for, or nothing
   * is left (true).
   */
  private pump(): boolean {
    if (!this.open || this.waiting) return true;
    const turnEnd = this.res.getWriteOffset() + TURN_BYTES;
    for (;;) {
      const offset = this.start + this.res.getWriteOffset();
      if (offset >= this.pieceOffset + this.piece.length && !this.nextPiece(offset)) return true;
      const bytes = this.bytesAt(offset);
      if (bytes === null) return true;
      const [taken, complete] = this.res.tryEnd(bytes, this.end - this.start);
      if (complete) {
        this.finish(true);
        return true;
      }
      if (!this.holds(offset, offset)) return true;
      if (!taken) {
        this.context.pacer.add(this);
        return false;
      }
      if (this.res.getWriteOffset() >= turnEnd) {
        setImmediate(this.nextTurn);
        return true;
      }
    }
  }

  /** What to send next; null: it cannot be read any more. */
  private bytesAt(offset: number): Uint8Array | null {
    const from = offset - this.pieceOffset;
    let upTo = Math.min(this.piece.length, this.end - this.pieceOffset);
    if (this.reader.holds === undefined) return this.piece.subarray(from, upTo);
    const isLast = this.pieceOffset + upTo === this.end && upTo - from <= LAST_BYTES;
    if (this.context.encrypts && this.pieceOffset + upTo === this.end && !isLast) upTo -= LAST_BYTES;
    const bytes = isLast ? copyOf(this.piece, from, upTo) : this.piece.subarray(from, upTo);
    return this.holds(offset, this.pieceOffset + upTo) ? bytes : null;
  }

  private holds(from: number, to: number): boolean {
    if (this.reader.holds?.(from, to) !== false) return true;
    this.breakOff("the disk cannot give it", from);
    return false;
  }

  private readonly pieceRead = () => {
    this.waiting = false;
    this.nextTurn();
  };

  private readonly nextTurn = () => {
    if (this.open) this.res.cork(() => this.pump());
  };

  /**
   * False: the piece is being read; or the value is damaged here, then the client sees a cut connection,
   * never wrong bytes or a full length.
   */
  private nextPiece(offset: number): boolean {
    if (this.reader.ready?.(offset, this.pieceRead) === false) {
      this.waiting = true;
      // It may take longer than uWS' timer.
      this.context.pacer.add(this);
      return false;
    }
    try {
      this.piece = this.reader.read(offset);
      this.pieceOffset = offset;
      return true;
    } catch (error) {
      this.breakOff(String(error), offset);
      return false;
    }
  }

  private breakOff(error: string, offset: number): void {
    this.context.log.error({ error, offset }, "a value broke off while it was being sent");
    this.res.close();
    this.finish(false);
  }

  /**
   * Tries again: that arms uWS' timer anew, and notices a reader that is too slow to make the socket
   * writable.
   */
  beat(nowMs: number): void {
    this.res.cork(() => this.pump());
    if (!this.open) return;
    const offset = this.res.getWriteOffset();
    if (offset !== this.progressOffset) {
      this.progressOffset = offset;
      this.progressMs = nowMs;
    } else if (nowMs - this.progressMs > STALL_MS) this.res.close();
  }

  private finish(complete: boolean): void {
    if (!this.open) return;
    this.open = false;
    this.context.pacer.delete(this);
    this.reader.close();
    this.context.inFlight.leave();
    this.onEnd(complete);
  }
}
