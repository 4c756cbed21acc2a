/**
 * Shard threads. The only importer of Piscina: one pool of exactly one thread for each, since a shard's tasks must all
 * reach the thread that owns it. At most one batch is in flight per thread; what arrives meanwhile is the next one.
 */
import Piscina from "piscina";
import type { SyncMode } from "../engine/shard.ts";
import type { ShardMemory } from "../engine/shard-memory.ts";
import type { StoreIdentity } from "../engine/store-file.ts";
import { etagScratch } from "../format/version.ts";
import { addonDirectory } from "../util/addon.ts";
import { HALF_BYTES, Half, type Operation, operationBytes } from "./batch.ts";
import type { Task, TaskAnswer } from "./messages.ts";
import { threadOptions } from "./spawn.ts";
import type { WriteDone, WriteResult } from "./vault.ts";

/** Operations and bytes that may wait while both halves are taken; beyond, the front answers 503. */
const WAITING_MAX = 16_384;
const WAITING_BYTES_MAX = 64 * 1024 * 1024;

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
}

export class ShardThread {
  private readonly setup: ThreadSetup;
  private readonly pool: Piscina<Task, TaskAnswer>;
  private readonly arena = new SharedArrayBuffer(2 * HALF_BYTES);
  private readonly halves: Half[];
  private callbacks: WriteDone[][] = [[], []];
  private filling = 0;
  private inFlight = false;
  private scheduled = false;
  private answering = false;
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
  };
  batches = 0;
  batchedWrites = 0;

  constructor(setup: ThreadSetup) {
    this.setup = setup;
    this.halves = [new Half(this.arena, 0), new Half(this.arena, 1)];
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
    this.report(
      await this.pool.run({
        kind: "open",
        dataDirectory,
        addonDirectory: addonDirectory(),
        store,
        sync,
        arena: this.arena,
        shards,
        progress,
      }),
    );
  }

  /** Bytes read back so far and in all, while `open` runs. */
  get recovered(): { doneBytes: number; totalBytes: number } {
    return { doneBytes: this.progress[0], totalBytes: this.progress[1] };
  }

  get queuedWrites(): number {
    return this.callbacks[0].length + this.callbacks[1].length + this.waiting.length;
  }

  get queuedBytes(): number {
    return this.halves[this.filling].used + this.waitingBytes;
  }

  /**
   * Queues an operation; its arrays are copied before this returns. False: too much is waiting.
   * @param force take it all the same: parts of an upload, which bound themselves
   */
  submit(operation: Operation, done: WriteDone, force = false): boolean {
    if (this.dead !== null) return false;
    const bytes = operationBytes(operation);
    const half = this.halves[this.filling];
    if (!this.answering && this.waiting.length === 0 && half.hasRoom(bytes)) {
      half.push(operation);
      this.callbacks[this.filling].push(done);
      this.schedule();
      return true;
    }
    if (!force && (this.waiting.length >= WAITING_MAX || this.waitingBytes + bytes > WAITING_BYTES_MAX))
      return false;
    const { key, contentType, ifMatch, ifNoneMatch, body } = operation;
    const copy = {
      ...operation,
      key: key.slice(),
      contentType: contentType.slice(),
      ifMatch: ifMatch.slice(),
      ifNoneMatch: ifNoneMatch.slice(),
      body: body.slice(),
    };
    this.waiting.push({ operation: copy, bytes, done });
    this.waitingBytes += bytes;
    return true;
  }

  /** Whether a part of an upload may be sent now: uploads fill at most half of a batch, so that small writes find room beside them. */
  hasRoomForPart(bytes: number): boolean {
    if (this.answering || this.waiting.length > 0) return false;
    return this.halves[this.filling].used + bytes <= HALF_BYTES / 2;
  }

  /** Calls back once, when there may be room. Only to be used after `hasRoomForPart` said no: a batch is then under way. */
  whenRoom(call: () => void): void {
    this.roomCalls.push(call);
  }

  /** Lets every request of this turn of the event loop join the batch before it leaves. */
  private schedule(): void {
    if (this.inFlight || this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      this.send();
    });
  }

  private send(): void {
    const number = this.filling;
    const half = this.halves[number];
    if (this.inFlight || half.count === 0) return;
    this.inFlight = true;
    this.filling = 1 - number;
    this.batches++;
    this.batchedWrites += half.count;
    this.pool.run({ kind: "batch", half: number, count: half.count }).then(
      (answer) => this.finish(number, answer),
      (error) => this.die(error),
    );
    this.admit();
  }

  private finish(number: number, answer: TaskAnswer): void {
    this.report(answer);
    const half = this.halves[number];
    const callbacks = this.callbacks[number];
    this.callbacks[number] = [];
    this.inFlight = false;
    // The next batch leaves before the answers go out, so that disk and network work at the same time. It makes the half
    // just answered the one to fill, so nothing may be pushed to it until its results are read.
    this.answering = true;
    this.send();
    let position = 0;
    for (const done of callbacks) {
      position = half.result(position, this.result, this.etag);
      done(this.result);
    }
    half.clear();
    this.answering = false;
    this.admit();
    const calls = this.roomCalls;
    this.roomCalls = [];
    for (const call of calls) call();
    this.schedule();
    if (this.drained !== null && this.idle) this.drained();
  }

  /** Moves what waits into the half being filled. */
  private admit(): void {
    if (this.answering) return;
    const half = this.halves[this.filling];
    let taken = 0;
    while (taken < this.waiting.length && half.hasRoom(this.waiting[taken].bytes)) {
      const { operation, bytes, done } = this.waiting[taken++];
      half.push(operation);
      this.callbacks[this.filling].push(done);
      this.waitingBytes -= bytes;
    }
    if (taken > 0) this.waiting.splice(0, taken);
  }

  private report(answer: TaskAnswer): void {
    for (const warning of answer.warnings) this.setup.warn(warning);
  }

  private get idle(): boolean {
    return !this.inFlight && this.queuedWrites === 0;
  }

  private die(error: Error): void {
    if (this.dead !== null) return;
    this.dead = error;
    const { result } = this;
    Object.assign(result, { error: "internal", detail: "", created: false, deleted: false, etag: null });
    const all = [...this.callbacks.flat(), ...this.waiting.map((waiting) => waiting.done)];
    this.callbacks = [[], []];
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
    await this.pool.destroy();
  }
}
