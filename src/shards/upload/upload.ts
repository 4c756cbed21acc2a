/**
 * The front's end of a body that arrives in pieces. A gathering of one chunk takes them; a full one goes to
 * the shard thread while it has room and little of this upload is on its way; else the caller is told to
 * pause, and what arrives all the same is kept (backlog.ts). So an upload of any size holds its gathering,
 * which is put aside while it stands still and memory is short, and its part of the arena.
 */

import { isDiskFull } from "../../engine/slabs/io.ts";
import type { Ballot } from "../../format/record.ts";
import { isOutvoted } from "../../rules/write.ts";
import { copyOf, NOTHING } from "../../util/bytes.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { GAVE_WAY, type Gathering, type Gatherings } from "../../util/gathering/gatherings.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";
import {
  OP_UPLOAD_ABORT,
  OP_UPLOAD_BEGIN,
  OP_UPLOAD_COMMIT,
  OP_UPLOAD_PART,
  OP_WRITE,
  type Operation,
} from "../arena/operation.ts";
import type { ShardQueue } from "../arena/queue.ts";
import { failedWrite, type Upload, type WriteDone, type WriteResult } from "../arena/write.ts";
import { Backlog } from "./backlog.ts";

/** Bytes on their way to the thread from which on the client is paused. */
const WINDOW_BYTES = 2 * CHUNK_BYTES;

const ignore: WriteDone = () => {};
const NO_MEMORY = new Error("there is no memory for the next bytes");

export class LocalUpload implements Upload {
  onDrain: () => void = () => {};
  onFail: WriteDone = ignore;
  /** Where the fields depend on the moment at which the whole body is there: what they are then. */
  trailerAtEnd: (() => Uint8Array) | null = null;
  private readonly thread: ShardQueue;
  private readonly operation: Operation;
  private trailer: Uint8Array;
  private readonly backlog: Backlog;
  private readonly gathering: Gathering;
  private inFlight = 0;
  /** Bytes that the shard has taken. */
  arrivedBytes = 0;
  private begun = false;
  private paused = false;
  private over = false;
  private written: (() => void) | null = null;
  private committing: WriteDone | null = null;
  /** It stays where its accept is refused for its ballot. */
  private stays = false;
  /** Its accept is with the shard. */
  private isJudged = false;

  private constructor(thread: ShardQueue, operation: Operation, directory: string, gathering: Gathering) {
    this.thread = thread;
    this.operation = operation;
    this.trailer = operation.trailer;
    this.backlog = new Backlog(directory);
    this.gathering = gathering;
  }

  /**
   * Begins one. Null: there are too many, and none of them is slow.
   * @param operation its own copy of the head
   * @param directory where bytes may be kept on disk
   */
  static begin(
    thread: ShardQueue,
    operation: Operation,
    directory: string,
    gatherings: Gatherings,
  ): LocalUpload | null {
    let upload: LocalUpload | null = null;
    const gathering = gatherings.open((error) => upload?.failed(error));
    if (gathering === null) return null;
    upload = new LocalUpload(thread, operation, directory, gathering);
    return upload;
  }

  write(bytes: Uint8Array): boolean {
    if (this.over) return true;
    try {
      if (this.backlog.bytes > 0) this.backlog.append(bytes);
      else this.gather(bytes);
    } catch (error) {
      setImmediate(() => this.failed(error as Error));
      this.paused = true;
    }
    return !this.paused;
  }

  /** The bytes that came cannot be kept. */
  private failed(error: Error): void {
    if (error === GAVE_WAY) this.fail("too_slow", "");
    else this.fail(isDiskFull(error) ? "disk_full" : "internal", error.message);
  }

  private gather(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      // A full chunk is only sent when more follows: what fits one record goes as one plain write at commit.
      if (this.gathering.bytes === CHUNK_BYTES && !this.sendChunk()) {
        this.backlog.append(bytes.subarray(at));
        this.paused = true;
        return;
      }
      const length = Math.min(bytes.length - at, CHUNK_BYTES - this.gathering.bytes);
      if (!this.gathering.append(bytes.subarray(at, at + length))) throw NO_MEMORY;
      at += length;
    }
    if (this.inFlight >= WINDOW_BYTES) this.paused = true;
  }

  /** Sends the full chunk on, if there is room; if not, `pump` runs when there may be. */
  private sendChunk(): boolean {
    const { gathering } = this;
    const { bytes } = gathering;
    if (this.inFlight >= WINDOW_BYTES) return false;
    if (!this.thread.hasRoomForPart(bytes)) {
      this.thread.whenRoom(() => this.pump());
      return false;
    }
    if (!this.begun) {
      this.begun = true;
      this.send(OP_UPLOAD_BEGIN, NOTHING, ignore);
    }
    const chunk = gathering.whole();
    this.inFlight += bytes;
    this.send(OP_UPLOAD_PART, chunk, (result) => this.arrived(bytes, result));
    // To receive the whole body, in one turn of the event loop, may take as long as to write it.
    this.thread.wake();
    gathering.empty();
    return true;
  }

  private send(op: number, body: Uint8Array, done: WriteDone): boolean {
    this.operation.op = op;
    this.operation.body = body;
    // Only the end of an upload tells of them, whichever that is.
    this.operation.trailer = op === OP_UPLOAD_COMMIT || op === OP_WRITE ? this.trailer : NOTHING;
    return this.thread.submit(this.operation, done, true);
  }

  private arrived(bytes: number, result: WriteResult): void {
    this.inFlight -= bytes;
    this.arrivedBytes += bytes;
    if (this.over) return;
    if (result.error !== null) this.finish(result);
    else {
      this.pump();
      this.checkWritten();
    }
  }

  /** Moves on with what waits, then lets the client go on, or commits. */
  private pump(): void {
    if (this.over || this.isJudged) return;
    const { gathering } = this;
    try {
      while (this.backlog.bytes > 0) {
        if (gathering.bytes === CHUNK_BYTES && !this.sendChunk()) return;
        if (!gathering.fill(this.backlog.bytes, (target, offset) => this.backlog.take(target, offset)))
          throw NO_MEMORY;
      }
      if (this.committing !== null) this.sendCommit(this.committing);
    } catch (error) {
      this.failed(error as Error);
      return;
    }
    if (this.committing === null && this.paused && this.inFlight < WINDOW_BYTES) {
      this.paused = false;
      this.onDrain();
    }
  }

  commit(done: WriteDone): void {
    if (this.over || this.committing !== null) return;
    if (this.trailerAtEnd !== null) this.trailer = this.trailerAtEnd();
    this.committing = done;
    this.pump();
  }

  /**
   * Calls back once its full chunks are on the disk, so that at most one is left to write when it is
   * accepted; not if it fails or is aborted before. To be called when all bytes have come.
   */
  whenWritten(done: () => void): void {
    this.written = done;
    this.checkWritten();
  }

  private checkWritten(): void {
    if (this.over || this.inFlight > 0 || this.backlog.bytes > 0) return;
    const { written } = this;
    this.written = null;
    written?.();
  }

  /**
   * As `commit`, for a value of replication: the shard judges it as an accept.
   * @param trailer fields to be kept with the value
   * @param stays where it is refused for its ballot (`isOutvoted`) it may come again, or is to be aborted
   */
  accept(ballot: Ballot, trailer: Uint8Array, done: WriteDone, stays = false): void {
    this.stays = stays;
    if (this.over) {
      setImmediate(() => done(failedWrite("too_slow", "")));
      return;
    }
    this.operation.ballot = ballot;
    this.trailer = copyOf(trailer);
    this.commit(done);
  }

  private sendCommit(done: WriteDone): void {
    const { begun, stays, gathering } = this;
    const told: WriteDone = stays ? (result) => this.judged(result, done) : done;
    if (!this.send(begun ? OP_UPLOAD_COMMIT : OP_WRITE, gathering.whole(), told)) {
      this.fail("unavailable", "");
      return;
    }
    if (!stays) this.end();
    // The shard has that now, too.
    else if (begun) gathering.empty();
    this.isJudged = stays;
  }

  private judged(result: WriteResult, done: WriteDone): void {
    if (this.over) return;
    this.isJudged = false;
    this.committing = null;
    if (!isOutvoted(result)) this.end();
    done(result);
  }

  private fail(error: ErrorCode, detail: string): void {
    this.finish(failedWrite(error, detail));
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
    this.gathering.close();
    this.backlog.close();
  }
}
