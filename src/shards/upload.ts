/**
 * The front's end of a body that arrives in pieces. One buffer of a chunk gathers them; a full one goes to the shard thread while it has room and
 * little of this upload is on its way; else the caller is told to pause, and what arrives all the same is kept (backlog.ts). So
 * an upload of any size holds its buffer and its part of the arena.
 */

import { isDiskFull } from "../engine/io.ts";
import type { Ballot } from "../format/record.ts";
import type { ErrorCode } from "../util/errors.ts";
import { LeftMemory } from "../util/left-memory.ts";
import { CHUNK_BYTES } from "../util/limits.ts";
import { Backlog } from "./backlog.ts";
import {
  OP_UPLOAD_ABORT,
  OP_UPLOAD_BEGIN,
  OP_UPLOAD_COMMIT,
  OP_UPLOAD_PART,
  OP_WRITE,
  type Operation,
  setBallot,
} from "./batch.ts";
import type { ShardQueue } from "./queue.ts";
import type { Upload, WriteDone, WriteResult } from "./vault.ts";

/** The buffer starts with this and grows with what arrives, up to a chunk. */
const BUFFER_BYTES = 64 * 1024;
/** Bytes on their way to the thread from which on the client is paused. */
const WINDOW_BYTES = 2 * CHUNK_BYTES;

/** Of buffers that have grown to a chunk. */
const memory = new LeftMemory();

const NOTHING = new Uint8Array(0);
const ignore: WriteDone = () => {};

export class LocalUpload implements Upload {
  onDrain: () => void = () => {};
  onFail: WriteDone = ignore;
  private readonly thread: ShardQueue;
  private readonly operation: Operation;
  private readonly release: () => void;
  private readonly backlog: Backlog;
  private buffer: Uint8Array = new Uint8Array(BUFFER_BYTES);
  private filled = 0;
  private inFlight = 0;
  private begun = false;
  private paused = false;
  private over = false;
  private committing: WriteDone | null = null;

  /**
   * @param operation its own copy of the head
   * @param directory where bytes may be kept on disk
   * @param release called once, when the upload is over
   */
  constructor(thread: ShardQueue, operation: Operation, directory: string, release: () => void) {
    this.thread = thread;
    this.operation = operation;
    this.backlog = new Backlog(directory);
    this.release = release;
  }

  write(bytes: Uint8Array): boolean {
    if (this.over) return true;
    try {
      if (this.backlog.bytes > 0) this.backlog.append(bytes);
      else this.gather(bytes);
    } catch (error) {
      setImmediate(() => this.fail(isDiskFull(error) ? "disk_full" : "internal", (error as Error).message));
      this.paused = true;
    }
    return !this.paused;
  }

  private gather(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      // A full buffer is only sent when more follows: what fits one record goes as one plain write at commit.
      if (this.filled === CHUNK_BYTES && !this.sendBuffer()) {
        this.backlog.append(bytes.subarray(at));
        this.paused = true;
        return;
      }
      this.reserve(bytes.length - at);
      const length = Math.min(bytes.length - at, this.buffer.length - this.filled);
      this.buffer.set(bytes.subarray(at, at + length), this.filled);
      this.filled += length;
      at += length;
    }
    if (this.inFlight >= WINDOW_BYTES) this.paused = true;
  }

  /** Makes room in the buffer for what has arrived, not for what was announced. */
  private reserve(bytes: number): void {
    let length = this.buffer.length;
    while (length < CHUNK_BYTES && length - this.filled < bytes) length *= 2;
    if (length === this.buffer.length) return;
    const larger = memory.take(length);
    larger.set(this.buffer.subarray(0, this.filled));
    this.buffer = larger;
  }

  /** Sends the full buffer on, if there is room; if not, `pump` runs when there may be. */
  private sendBuffer(): boolean {
    if (this.inFlight >= WINDOW_BYTES) return false;
    if (!this.thread.hasRoomForPart(this.filled)) {
      this.thread.whenRoom(() => this.pump());
      return false;
    }
    if (!this.begun) {
      this.begun = true;
      this.send(OP_UPLOAD_BEGIN, NOTHING, ignore);
    }
    const bytes = this.filled;
    this.inFlight += bytes;
    this.send(OP_UPLOAD_PART, this.buffer.subarray(0, bytes), (result) => this.arrived(bytes, result));
    // To receive the whole body, in one turn of the event loop, may take as long as to write it.
    this.thread.wake();
    this.filled = 0;
    return true;
  }

  private send(op: number, body: Uint8Array, done: WriteDone): boolean {
    this.operation.op = op;
    this.operation.body = body;
    return this.thread.submit(this.operation, done, true);
  }

  private arrived(bytes: number, result: WriteResult): void {
    this.inFlight -= bytes;
    if (this.over) return;
    if (result.error !== null) this.finish(result);
    else this.pump();
  }

  /** Moves on with what waits, then lets the client go on, or commits. */
  private pump(): void {
    if (this.over) return;
    try {
      while (this.backlog.bytes > 0) {
        if (this.filled === CHUNK_BYTES && !this.sendBuffer()) return;
        this.reserve(this.backlog.bytes);
        this.filled += this.backlog.take(this.buffer, this.filled);
      }
    } catch (error) {
      this.fail(isDiskFull(error) ? "disk_full" : "internal", (error as Error).message);
      return;
    }
    if (this.committing !== null) this.sendCommit(this.committing);
    else if (this.paused && this.inFlight < WINDOW_BYTES) {
      this.paused = false;
      this.onDrain();
    }
  }

  commit(done: WriteDone): void {
    if (this.over || this.committing !== null) return;
    this.committing = done;
    this.pump();
  }

  /** As `commit`, for a value of replication: the shard judges it as an accept. */
  accept(ballot: Ballot, done: WriteDone): void {
    setBallot(this.operation, ballot);
    this.commit(done);
  }

  private sendCommit(done: WriteDone): void {
    const rest = this.buffer.subarray(0, this.filled);
    if (!this.send(this.begun ? OP_UPLOAD_COMMIT : OP_WRITE, rest, done)) {
      this.fail("unavailable", "");
      return;
    }
    this.end();
  }

  private fail(error: ErrorCode, detail: string): void {
    this.finish({ error, detail, created: false, deleted: false, etag: null });
  }

  /** The upload has failed: says so to whoever waits. */
  private finish(result: WriteResult): void {
    if (this.over) return;
    const tell = this.committing ?? this.onFail;
    this.abort();
    tell(result);
  }

  abort(): void {
    if (this.over) return;
    this.end();
    if (this.begun) this.send(OP_UPLOAD_ABORT, NOTHING, ignore);
  }

  private end(): void {
    this.over = true;
    if (this.buffer.length === CHUNK_BYTES) memory.leave(this.buffer);
    this.buffer = NOTHING;
    this.filled = 0;
    this.backlog.close();
    this.release();
  }
}
