/**
 * Threads that sum up bodies while a front receives them. MD5 alone takes about as long as all else that is
 * done for a body, and cannot be divided; beside the front it costs no time.
 */
import { availableParallelism } from "node:os";
import path from "node:path";
import { Worker } from "node:worker_threads";
import { THREAD_CODE } from "../../platform/thread-code.ts";
import type { FrontLog } from "../../server/http/context.ts";
import { threadOf } from "../../shards/thread/spawn.ts";
import { copyInto } from "../../util/bytes.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";
import {
  ABANDONED,
  ENDED,
  FILLING,
  type FoundSums,
  FREE,
  type HashedMessage,
  type HashThreadTask,
  NO_SLOT,
  SlotMemory,
  type WantedSums,
} from "./slots.ts";

/** Smaller bodies are summed up sooner than another thread would be awake. */
export const HASHED_BYTES_MIN = 64 * 1024;
/** Bodies at once, over all threads of all fronts; each may hold CHUNK_BYTES. */
const SLOTS_MAX = 32;
const THREADS_MAX = 4;
/** So much more is worth waking a thread for; the end always is. */
const WAKE_BYTES_MIN = 256 * 1024;

/**
 * How many threads are worth it for a front: with one processor they would only take turns.
 * @param fronts that the node has
 */
export function hashThreads(fronts = 1, processors = availableParallelism()): number {
  if (processors < 2) return 0;
  return Math.ceil(Math.min(THREADS_MAX, Math.ceil(processors / 2)) / fronts);
}

const STOPPED = new Error("the thread that sums bodies up has ended");

export class HashPool {
  private readonly threads: HashThread[];
  private next = 0;

  /** @param fronts that the node has, each with a pool */
  constructor(log: FrontLog, fronts = 1, threads = hashThreads(fronts)) {
    const slots = Math.ceil(SLOTS_MAX / Math.max(1, threads * fronts));
    this.threads = Array.from({ length: threads }, () => new HashThread(slots, log));
  }

  /** Resolves when all threads take bodies. */
  async ready(): Promise<void> {
    await Promise.all(this.threads.map(({ started }) => started));
  }

  /**
   * A place for a body that is summed up as it comes; null: all are taken, or none would do.
   * @param expectedBytes of the body
   */
  open(wanted: WantedSums, expectedBytes: number): HashedBody | null {
    if (!(expectedBytes >= HASHED_BYTES_MIN && expectedBytes <= CHUNK_BYTES)) return null;
    for (let tries = 0; tries < this.threads.length; tries++) {
      this.next = (this.next + 1) % this.threads.length;
      const body = this.threads[this.next].open(wanted);
      if (body !== null) return body;
    }
    return null;
  }

  async close(): Promise<void> {
    await Promise.all(this.threads.map((thread) => thread.close()));
  }
}

/** A thread, seen from the front. */
class HashThread {
  readonly memory: SlotMemory;
  readonly started: Promise<void>;
  private readonly worker: Worker;
  private readonly users: (HashedBody | null)[];
  private isReady = false;
  private isOver = false;

  constructor(slots: number, log: FrontLog) {
    const { words, bodies } = SlotMemory.create(slots);
    this.memory = new SlotMemory(words, bodies);
    this.users = Array.from({ length: slots }, () => null);
    const task: HashThreadTask = { words, bodies };
    const [code, options] = threadOf(path.join(__dirname, "hash-thread.ts"), THREAD_CODE?.hash);
    this.worker = new Worker(code, { ...options, workerData: task });
    // It waits for who asks for it, and nobody for it.
    this.worker.unref();
    this.started = new Promise((resolve) => {
      this.worker.on("message", ({ slot, sums }: HashedMessage) => {
        if (slot === NO_SLOT) {
          this.isReady = true;
          resolve();
        } else this.users[slot]?.found(sums);
      });
      this.worker.on("error", (error) => {
        if (!this.isOver)
          log.error({ error: String(error) }, "a thread that sums up bodies of S3 has failed");
      });
      this.worker.on("exit", () => {
        this.end();
        resolve();
      });
    });
  }

  open(wanted: WantedSums): HashedBody | null {
    if (!this.isReady) return null;
    const { memory, users } = this;
    // The lowest: those that were in use before are in memory.
    const slot = users.findIndex((user, index) => user === null && memory.state(index) === FREE);
    if (slot < 0) return null;
    memory.setWanted(slot, wanted);
    memory.setBytes(slot, 0);
    memory.setState(slot, FILLING);
    const body = new HashedBody(memory, slot, () => {
      users[slot] = null;
    });
    users[slot] = body;
    return body;
  }

  private end(): void {
    this.isReady = false;
    this.isOver = true;
    for (const user of this.users) user?.lost();
  }

  async close(): Promise<void> {
    this.isOver = true;
    await this.worker.terminate();
  }
}

/** A body in its slot. Whoever opened it closes it. */
export class HashedBody {
  private readonly memory: SlotMemory;
  private readonly slot: number;
  private readonly release: () => void;
  private readonly room: Uint8Array;
  private bytes = 0;
  private signalledBytes = 0;
  /** Its sums are on their way. */
  private isAwaited = false;
  private isLost = false;
  private isClosed = false;
  private resolve: (sums: FoundSums) => void = () => {};
  private reject: (error: Error) => void = () => {};

  constructor(memory: SlotMemory, slot: number, release: () => void) {
    this.memory = memory;
    this.slot = slot;
    this.release = release;
    this.room = memory.body(slot);
  }

  /** Copies the next bytes; CHUNK_BYTES at most, together. */
  append(bytes: Uint8Array): void {
    copyInto(this.room, this.bytes, bytes);
    this.bytes += bytes.length;
    this.memory.setBytes(this.slot, this.bytes);
    if (this.bytes - this.signalledBytes < WAKE_BYTES_MIN) return;
    this.signalledBytes = this.bytes;
    this.memory.signal();
  }

  /** All that has come; valid until `close`. */
  whole(): Uint8Array {
    return this.room.subarray(0, this.bytes);
  }

  /** All of it has come. To be called once. Rejects when its thread has ended. */
  end(): Promise<FoundSums> {
    return new Promise((resolve, reject) => {
      if (this.isLost) {
        reject(STOPPED);
        return;
      }
      this.resolve = resolve;
      this.reject = reject;
      this.isAwaited = true;
      this.memory.setState(this.slot, ENDED);
      this.memory.signal();
    });
  }

  /** For its thread: here they are. */
  found(sums: FoundSums): void {
    this.isAwaited = false;
    this.resolve(sums);
    if (this.isClosed) this.release();
  }

  /** For its thread: nobody sums up any more. */
  lost(): void {
    this.isLost = true;
    this.isAwaited = false;
    this.reject(STOPPED);
  }

  /** Idempotent. The slot is another one's when the thread has done with it, too. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    if (this.isAwaited) return;
    if (this.memory.state(this.slot) === FILLING) {
      this.memory.setState(this.slot, ABANDONED);
      this.memory.signal();
    }
    this.release();
  }
}
