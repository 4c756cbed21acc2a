/**
 * Shard threads. The only importer of Piscina: one pool of exactly one thread for each, since a shard's tasks must all reach the
 * thread that owns it. A task wakes an idle thread, which then works through the arena (batch.ts) until it is empty; while it does, the
 * front only adds to the arena and reads answers from it.
 */

import { MessageChannel } from "node:worker_threads";
import Piscina from "piscina";
import type { SyncMode } from "../engine/shard.ts";
import type { ShardMemory } from "../engine/shard-memory.ts";
import type { StoreIdentity } from "../engine/store-file.ts";
import { etagScratch } from "../format/version.ts";
import { addonDirectory } from "../util/addon.ts";
import { copyOf } from "../util/bytes.ts";
import {
  BatchBuffer,
  BUFFER_BYTES,
  BUFFERS,
  createArena,
  IdleFlag,
  type Operation,
  operationBytes,
} from "./batch.ts";
import type { Task, TaskAnswer } from "./messages.ts";
import { threadOptions } from "./spawn.ts";
import type { WriteDone, WriteResult } from "./vault.ts";

/** Operations and bytes that may wait while the arena is full; beyond, the front answers 503. */
const WAITING_MAX = 16_384;
const WAITING_BYTES_MAX = 64 * 1024 * 1024;
/**
 * More load than the disk or the thread can take: new writes are refused while the queue holds this much work, by the pace of the last
 * batches, or its oldest write has waited so long. Those under way keep the thread busy, so the throughput stays.
 */
const QUEUE_MS_MAX = 500;
/** While the oldest write is younger the pace says nothing: many writes that come at once go faster, in one batch. */
const QUEUE_AGE_MS_MIN = 100;
/** What is kept of the pace with each batch. */
const PACE_DECAY = 7 / 8;
/** A queue below both of these is never refused: one slow sync is no overload. Parts of uploads alone cannot reach the bytes. */
const QUEUE_MIN = 1024;
const QUEUE_BYTES_MIN = 3 * BUFFER_BYTES;

/**
 * Clients that wait for their answers all come back at once, so that front and thread would work by turns. Handing over when a third of
 * what was lately under way has gathered keeps both at work: one batch is received, one is written, one is answered.
 */
const BATCHES_UNDER_WAY = 3;
/** A smaller batch is not worth a sync of its own. */
const SHARE_MIN = 16;
/** Per batch. */
const PEAK_DECAY = 15 / 16;

export interface ThreadSetup {
  dataDirectory: string;
  store: StoreIdentity;
  sync: SyncMode;
  shards: { shard: number; memory: ShardMemory }[];
  warn: (message: string) => void;
  /** The thread died or threw: its state is unknown, the process must end. */
  fatal: (error: Error) => void;
}

interface Waiting {
  operation: Operation;
  bytes: number;
  done: WriteDone;
  sinceMs: number;
}

export class ShardThread {
  private readonly setup: ThreadSetup;
  private readonly pool: Piscina<Task, TaskAnswer>;
  private readonly arena = createArena();
  private readonly idleFlag = new IdleFlag(this.arena);
  private readonly buffers = Array.from(
    { length: BUFFERS },
    (_, number) => new BatchBuffer(this.arena, number),
  );
  private readonly answers = new MessageChannel();
  /** Of each buffer, whom to answer. */
  private readonly callbacks: WriteDone[][] = Array.from({ length: BUFFERS }, () => []);
  /** Buffer to add to, and the one whose answers come next. */
  private filling = 0;
  private reading = 0;
  /** Operations in the arena that are not answered, and how many there were lately. */
  private inArena = 0;
  private arenaBytes = 0;
  /** Of each buffer, since when its first operation waits. */
  private readonly sinceMs = new Float64Array(BUFFERS);
  /** The pace: what was done lately, and in how much busy time. And when answers came last. */
  private paceOperations = 1;
  private paceBytes = 1;
  private paceMs = 0;
  private collectedMs = 0;
  private peak = 0;
  /** Operations at which a buffer is handed over early. */
  private share = SHARE_MIN;
  private tasks = 0;
  private scheduled = false;
  private roomCalls: (() => void)[] = [];
  private waiting: Waiting[] = [];
  private waitingBytes = 0;
  private dead: Error | null = null;
  private drained: (() => void) | null = null;
  private readonly progress = new Float64Array(new SharedArrayBuffer(16));
  private readonly etag = etagScratch();
  private readonly result: WriteResult = {
    error: null,
    detail: "",
    created: false,
    deleted: false,
    etag: null,
    register: null,
  };
  batches = 0;
  batchedWrites = 0;

  constructor(setup: ThreadSetup) {
    this.setup = setup;
    this.pool = new Piscina<Task, TaskAnswer>({
      ...threadOptions(),
      minThreads: 1,
      maxThreads: 1,
      concurrentTasksPerWorker: 1,
      // The default parks an idle thread in Atomics.wait, which would freeze compaction and sealing.
      atomics: "disabled",
      recordTiming: false,
    });
    // A thread's uncaught error surfaces in the task that was running, or here when none was.
    this.pool.on("error", (error: Error) => this.die(error));
  }

  /** Starts the thread and reads its shards back. */
  async open(): Promise<void> {
    const { dataDirectory, store, sync, shards } = this.setup;
    const progress = this.progress.buffer as SharedArrayBuffer;
    const answers = this.answers.port2;
    this.answers.port1.on("message", () => this.collect());
    this.report(
      await this.pool.run(
        {
          kind: "open",
          dataDirectory,
          addonDirectory: addonDirectory(),
          store,
          sync,
          arena: this.arena,
          answers,
          shards,
          progress,
        },
        { transferList: [answers] },
      ),
    );
  }

  /** Bytes read back so far and in all, while `open` runs. */
  get recovered(): { doneBytes: number; totalBytes: number } {
    return { doneBytes: this.progress[0], totalBytes: this.progress[1] };
  }

  get queuedWrites(): number {
    return this.callbacks.reduce((sum, callbacks) => sum + callbacks.length, this.waiting.length);
  }

  get queuedBytes(): number {
    return this.arenaBytes + this.waitingBytes;
  }

  /**
   * Queues an operation; its arrays are copied before this returns. False: too much is waiting.
   * @param force take it all the same: parts of an upload, which bound themselves
   */
  submit(operation: Operation, done: WriteDone, force = false): boolean {
    if (this.dead !== null || (!force && this.overloaded)) return false;
    const bytes = operationBytes(operation);
    if (this.waiting.length === 0 && this.add(operation, bytes, done)) {
      this.schedule();
      return true;
    }
    if (!force && (this.waiting.length >= WAITING_MAX || this.waitingBytes + bytes > WAITING_BYTES_MAX))
      return false;
    const { key, contentType, ifMatch, ifNoneMatch, body } = operation;
    const copy = {
      ...operation,
      key: copyOf(key),
      contentType: copyOf(contentType),
      ifMatch: copyOf(ifMatch),
      ifNoneMatch: copyOf(ifNoneMatch),
      body: copyOf(body),
    };
    this.waiting.push({ operation: copy, bytes, done, sinceMs: performance.now() });
    this.waitingBytes += bytes;
    return true;
  }

  /** Whether a write that came now would wait too long. The oldest one is in the buffer that is answered next. */
  private get overloaded(): boolean {
    const operations = this.inArena + this.waiting.length;
    const bytes = this.queuedBytes;
    if (this.inArena === 0 || (operations < QUEUE_MIN && bytes < QUEUE_BYTES_MIN)) return false;
    const ageMs = performance.now() - this.sinceMs[this.reading];
    if (ageMs < QUEUE_AGE_MS_MIN) return false;
    // The lower one: after a change from large values to small ones, or back, only one of them is near the truth.
    const workMs = Math.min(operations / this.paceOperations, bytes / this.paceBytes) * this.paceMs;
    return ageMs > QUEUE_MS_MAX || workMs > QUEUE_MS_MAX;
  }

  /** Learns from batches that have just been answered. */
  private measurePace(operations: number, bytes: number, sinceMs: number): void {
    const nowMs = performance.now();
    const busyMs = nowMs - Math.max(sinceMs, this.collectedMs);
    this.collectedMs = nowMs;
    this.paceOperations = this.paceOperations * PACE_DECAY + operations;
    this.paceBytes = this.paceBytes * PACE_DECAY + bytes;
    this.paceMs = this.paceMs * PACE_DECAY + busyMs;
  }

  /**
   * Adds an operation to the buffer being filled, or to the next one; false when the arena is full.
   * @param sinceMs since when it waits; 0: it has just come
   */
  private add(operation: Operation, bytes: number, done: WriteDone, sinceMs = 0): boolean {
    for (;;) {
      const buffer = this.buffers[this.filling];
      if (buffer.hasRoom(bytes)) {
        if (buffer.push(operation)) {
          const filled = this.callbacks[this.filling].push(done);
          if (filled === 1) this.sinceMs[this.filling] = sinceMs || performance.now();
          this.inArena++;
          this.arenaBytes += bytes;
          if (filled >= this.share) this.handOver();
          return true;
        }
      } else buffer.close();
      // Closed, by the thread or just now. The next one is free unless its answers are still to come, or to be read.
      const next = (this.filling + 1) % BUFFERS;
      if (this.buffers[next].closed) return false;
      this.filling = next;
    }
  }

  /** Closes the buffer being filled before the thread asks for it, if the next one is empty: see BATCHES_UNDER_WAY. */
  private handOver(): void {
    const next = (this.filling + 1) % BUFFERS;
    if (this.callbacks[next].length > 0 || this.buffers[next].closed) return;
    this.buffers[this.filling].close();
    this.filling = next;
    this.wake();
  }

  /** Whether a part of an upload may be sent now: uploads fill at most half of a batch, so that small writes find room beside them. */
  hasRoomForPart(bytes: number): boolean {
    const buffer = this.buffers[this.filling];
    return this.waiting.length === 0 && (buffer.closed || buffer.used + bytes <= BUFFER_BYTES / 2);
  }

  /** Calls back once, when there may be room. Only to be used after `hasRoomForPart` said no: answers are then to come. */
  whenRoom(call: () => void): void {
    this.roomCalls.push(call);
  }

  /** Wakes the thread if it is idle, after every request of this turn of the event loop had its chance to join the batch. */
  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      this.wake();
    });
  }

  /** Gives the thread a task, unless it is working through the arena already. */
  private wake(): void {
    if (this.dead !== null || !this.idleFlag.reset()) return;
    this.tasks++;
    this.pool.run({ kind: "serve" }).then(
      (answer) => {
        this.tasks--;
        this.report(answer);
        this.checkDrained();
      },
      (error) => this.die(error),
    );
  }

  /** Reads the answers of all buffers that have them. */
  private collect(): void {
    this.peak = Math.max(this.inArena, this.peak * PEAK_DECAY);
    this.share = Math.max(SHARE_MIN, this.peak / BATCHES_UNDER_WAY);
    const sinceMs = this.sinceMs[this.reading];
    let operations = 0;
    let bytes = 0;
    while (this.buffers[this.reading].done) {
      const number = this.reading;
      const buffer = this.buffers[number];
      const callbacks = this.callbacks[number];
      this.callbacks[number] = [];
      this.reading = (number + 1) % BUFFERS;
      // Nothing was added since the thread closed it: it is this one's turn to be left behind.
      if (this.filling === number) this.filling = this.reading;
      this.batches++;
      this.batchedWrites += callbacks.length;
      this.inArena -= callbacks.length;
      this.arenaBytes -= buffer.used;
      operations += callbacks.length;
      bytes += buffer.used;
      let position = 0;
      for (const done of callbacks) {
        position = buffer.result(position, this.result, this.etag);
        done(this.result);
      }
      buffer.clear();
    }
    if (operations > 0) this.measurePace(operations, bytes, sinceMs);
    this.admit();
    const calls = this.roomCalls;
    this.roomCalls = [];
    for (const call of calls) call();
    this.checkDrained();
  }

  /** Moves what waits into the arena. */
  private admit(): void {
    let taken = 0;
    while (taken < this.waiting.length) {
      const { operation, bytes, done, sinceMs } = this.waiting[taken];
      if (!this.add(operation, bytes, done, sinceMs)) break;
      this.waitingBytes -= bytes;
      taken++;
    }
    if (taken === 0) return;
    this.waiting.splice(0, taken);
    this.schedule();
  }

  private report(answer: TaskAnswer): void {
    for (const warning of answer.warnings) this.setup.warn(warning);
  }

  private get idle(): boolean {
    return this.tasks === 0 && this.queuedWrites === 0;
  }

  private checkDrained(): void {
    if (this.drained !== null && this.idle) this.drained();
  }

  private die(error: Error): void {
    if (this.dead !== null) return;
    this.dead = error;
    const { result } = this;
    Object.assign(result, { error: "internal", detail: "", created: false, deleted: false, etag: null });
    const all = [...this.callbacks.flat(), ...this.waiting.map((waiting) => waiting.done)];
    for (const callbacks of this.callbacks) callbacks.length = 0;
    this.waiting = [];
    for (const done of all) done(result);
    this.setup.fatal(error);
  }

  /** Waits for what is queued, then closes the shards and ends the thread. */
  async close(): Promise<void> {
    if (this.dead === null && !this.idle)
      await new Promise<void>((resolve) => {
        this.drained = resolve;
      });
    if (this.dead === null) this.report(await this.pool.run({ kind: "close" }));
    this.dead ??= new Error("closed");
    this.answers.port1.close();
    await this.pool.destroy();
  }
}
