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
  private pieces: Uint8Array[] = [];
  private gathered = 0;
  private begun = false;
  private inFlight = 0;
  private paused = false;
  private over = false;

  /** @param release called once, when the upload is over */
  constructor(thread: ShardThread, operation: Operation, release: () => void) {
    this.thread = thread;
    this.operation = operation;
    this.release = release;
  }

  write(bytes: Uint8Array): boolean {
    if (this.over) return true;
    this.pieces.push(bytes.slice());
    this.gathered += bytes.length;
    // What fits one record goes as one plain write at commit, so nothing is sent before it is known not to.
    if (this.gathered > (this.begun ? PART_BYTES : CHUNK_BYTES)) this.sendPart();
    this.paused = this.inFlight > WINDOW_BYTES;
    return !this.paused;
  }

  private take(): Uint8Array {
    const bytes = this.pieces.length === 1 ? this.pieces[0] : Buffer.concat(this.pieces, this.gathered);
    this.pieces = [];
    this.gathered = 0;
    return bytes;
  }

  private send(op: number, body: Uint8Array, done: WriteDone): boolean {
    this.operation.op = op;
    this.operation.body = body;
    // Its own window bounds what an upload has on its way, so the queue's bound need not.
    return this.thread.submit(this.operation, done, true);
  }

  private sendPart(): void {
    if (!this.begun) {
      this.begun = true;
      this.send(OP_UPLOAD_BEGIN, NOTHING, () => {});
    }
    const bytes = this.take();
    // One part must fit half an arena; a single piece from the socket never comes near it.
    for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
      const part = bytes.subarray(at, at + CHUNK_BYTES);
      this.inFlight += part.length;
      this.send(OP_UPLOAD_PART, part, (result) => this.arrived(part.length, result));
    }
  }

  private arrived(bytes: number, result: WriteResult): void {
    this.inFlight -= bytes;
    if (this.over) return;
    if (result.error !== null) {
      this.onFail(result);
      this.abort();
      return;
    }
    if (this.paused && this.inFlight <= WINDOW_BYTES / 2) {
      this.paused = false;
      this.onDrain();
    }
  }

  commit(done: WriteDone): void {
    if (this.over) return;
    this.over = true;
    this.release();
    const accepted = this.send(this.begun ? OP_UPLOAD_COMMIT : OP_WRITE, this.take(), done);
    if (!accepted)
      setImmediate(() =>
        done({ error: "unavailable", detail: "", created: false, deleted: false, etag: null }),
      );
  }

  abort(): void {
    if (this.over) return;
    this.over = true;
    this.release();
    this.pieces = [];
    if (this.begun) this.send(OP_UPLOAD_ABORT, NOTHING, () => {});
  }
}
