/**
 * The front's end of a body that arrives in pieces. Gathers pieces, sends them on to the shard thread, and tells the caller to pause while
 * too much is on its way, so that an upload of any size holds a few MiB.
 */
import { CHUNK_BYTES } from "../util/limits.ts";
import {
  OP_UPLOAD_ABORT,
  OP_UPLOAD_BEGIN,
  OP_UPLOAD_COMMIT,
  OP_UPLOAD_PART,
  OP_WRITE,
  type Operation,
} from "./batch.ts";
import type { ShardThread } from "./pool.ts";
import type { Upload, WriteDone, WriteResult } from "./vault.ts";

/** Pieces are sent on in parts of about this size. */
const PART_BYTES = 512 * 1024;
/** Bytes on their way to the thread above which the client is paused. */
const WINDOW_BYTES = 2 * 1024 * 1024;

const NOTHING = new Uint8Array(0);

export class LocalUpload implements Upload {
  onDrain: () => void = () => {};
  onFail: WriteDone = () => {};
  private readonly thread: ShardThread;
  private readonly operation: Operation;
  private readonly release: () => void;
  /**
   * What the window does not let through yet. uWS reads on within one turn of the event loop although it was paused, until it
   * has the client's data faster than it comes: so a piece costs one copy here, and the rest happens when the window opens.
   */
  private pieces: Uint8Array[] = [];
  private gathered = 0;
  private begun = false;
  private inFlight = 0;
  private paused = false;
  private committed: WriteDone | null = null;
  private over = false;

  /** @param release called once, when the upload is over */
  constructor(thread: ShardThread, operation: Operation, release: () => void) {
    this.thread = thread;
    this.operation = operation;
    this.release = release;
  }

  write(bytes: Uint8Array): boolean {
    if (this.over || this.committed !== null) return true;
    this.pieces.push(bytes.slice());
    this.gathered += bytes.length;
    // What fits one record goes as one plain write at commit, so nothing is sent before it is known not to.
    if (this.begun || this.gathered > CHUNK_BYTES) this.sendParts();
    this.paused = this.inFlight >= WINDOW_BYTES;
    return !this.paused;
  }

  /** Takes the oldest gathered bytes, at most so many. */
  private take(most: number): Uint8Array {
    const taken: Uint8Array[] = [];
    let bytes = 0;
    while (bytes < most && this.pieces.length > 0) {
      const piece = this.pieces[0];
      const room = most - bytes;
      if (piece.length > room) this.pieces[0] = piece.subarray(room);
      else this.pieces.shift();
      taken.push(piece.length > room ? piece.subarray(0, room) : piece);
      bytes += taken[taken.length - 1].length;
    }
    this.gathered -= bytes;
    return taken.length === 1 ? taken[0] : Buffer.concat(taken, bytes);
  }

  private send(op: number, body: Uint8Array, done: WriteDone): boolean {
    this.operation.op = op;
    this.operation.body = body;
    // Its own window bounds what an upload has on its way, so the queue's bound need not.
    return this.thread.submit(this.operation, done, true);
  }

  /** Sends whole parts as far as the window allows. */
  private sendParts(): void {
    if (!this.begun) {
      this.begun = true;
      this.send(OP_UPLOAD_BEGIN, NOTHING, () => {});
    }
    while (this.gathered >= PART_BYTES && this.inFlight < WINDOW_BYTES) {
      const part = this.take(PART_BYTES);
      this.inFlight += part.length;
      this.send(OP_UPLOAD_PART, part, (result) => this.arrived(part.length, result));
    }
  }

  private arrived(bytes: number, result: WriteResult): void {
    this.inFlight -= bytes;
    if (this.over) return;
    if (result.error !== null) {
      if (this.committed === null) {
        this.onFail(result);
        this.abort();
      } else {
        // The thread remembers why, and says it once more at the commit.
        this.drop();
        this.sendCommit(this.committed);
      }
      return;
    }
    this.sendParts();
    if (this.committed !== null) {
      if (this.gathered < PART_BYTES) this.sendCommit(this.committed);
    } else if (this.paused && this.inFlight <= WINDOW_BYTES / 2) {
      this.paused = false;
      this.onDrain();
    }
  }

  commit(done: WriteDone): void {
    if (this.over || this.committed !== null) return;
    this.committed = done;
    // Otherwise the window is full, and the last part to fit it sends the commit.
    if (!this.begun || this.gathered < PART_BYTES) this.sendCommit(done);
  }

  private sendCommit(done: WriteDone): void {
    this.over = true;
    this.release();
    const accepted = this.send(this.begun ? OP_UPLOAD_COMMIT : OP_WRITE, this.take(this.gathered), done);
    if (!accepted)
      setImmediate(() =>
        done({ error: "unavailable", detail: "", created: false, deleted: false, etag: null }),
      );
  }

  private drop(): void {
    this.pieces = [];
    this.gathered = 0;
  }

  abort(): void {
    if (this.over || this.committed !== null) return;
    this.over = true;
    this.release();
    this.drop();
    if (this.begun) this.send(OP_UPLOAD_ABORT, NOTHING, () => {});
  }
}
