/** What waits for a shard thread while its arena is full, and what is refused at once. */
import { BUFFER_BYTES } from "./arena.ts";
import { copyOperation, type Operation } from "./operation.ts";
import type { WriteDone } from "./write.ts";

/**
 * More load than the disk or the thread can take: new writes are refused while the queue holds this much
 * work, by the pace of the last batches, or its oldest write has waited so long. Those under way keep the
 * thread busy, so the throughput stays.
 */
const QUEUE_MS_MAX = 500;
/**
 * While the oldest write is younger the pace says nothing: many writes that come at once go faster, in one
 * batch.
 */
const QUEUE_AGE_MS_MIN = 100;
/** What is kept of the pace with each batch. */
const PACE_DECAY = 7 / 8;
/**
 * A queue below both of these is never refused: one slow sync is no overload. Parts of uploads alone cannot
 * reach the bytes.
 */
const QUEUE_MIN = 1024;
const QUEUE_BYTES_MIN = 3 * BUFFER_BYTES;

/** How fast the thread works. */
export class Pace {
  /** What was done lately, and in how much busy time. */
  private operations = 1;
  private bytes = 1;
  private ms = 0;
  /** When answers came last. */
  private measuredMs = 0;

  /** Learns from batches that have just been answered, and the first of which has waited since `sinceMs`. */
  measure(operations: number, bytes: number, sinceMs: number): void {
    const nowMs = performance.now();
    const busyMs = nowMs - Math.max(sinceMs, this.measuredMs);
    this.measuredMs = nowMs;
    this.operations = this.operations * PACE_DECAY + operations;
    this.bytes = this.bytes * PACE_DECAY + bytes;
    this.ms = this.ms * PACE_DECAY + busyMs;
  }

  /** Whether a write would wait too long behind so much, the oldest of which has waited since `sinceMs`. */
  isTooSlow(operations: number, bytes: number, sinceMs: number): boolean {
    if (operations < QUEUE_MIN && bytes < QUEUE_BYTES_MIN) return false;
    const ageMs = performance.now() - sinceMs;
    if (ageMs < QUEUE_AGE_MS_MIN) return false;
    // The lower one: after a change from large values to small ones, or back, only one of them is near the
    // truth.
    const workMs = Math.min(operations / this.operations, bytes / this.bytes) * this.ms;
    return ageMs > QUEUE_MS_MAX || workMs > QUEUE_MS_MAX;
  }
}

/** Operations and bytes that may wait while the arena is full; beyond, the front answers 503. */
const WAITING_MAX = 16_384;
const WAITING_BYTES_MAX = 64 * 1024 * 1024;

interface Waiting {
  operation: Operation;
  bytes: number;
  done: WriteDone;
  sinceMs: number;
}

/** Operations for which the arena has no room, first come first served. */
export class WaitingList {
  private list: Waiting[] = [];
  bytes = 0;

  get length(): number {
    return this.list.length;
  }

  /** Copies an operation. False: too much is waiting, and it is not one that is to be taken all the same. */
  add(operation: Operation, bytes: number, done: WriteDone, force: boolean): boolean {
    if (!force && (this.list.length >= WAITING_MAX || this.bytes + bytes > WAITING_BYTES_MAX)) return false;
    this.list.push({ operation: copyOperation(operation), bytes, done, sinceMs: performance.now() });
    this.bytes += bytes;
    return true;
  }

  /** Gives away as many as `take` takes; answers how many. */
  move(take: (waiting: Waiting) => boolean): number {
    let taken = 0;
    while (taken < this.list.length && take(this.list[taken])) this.bytes -= this.list[taken++].bytes;
    if (taken > 0) this.list.splice(0, taken);
    return taken;
  }

  /** Forgets them all; answers whom to tell. */
  clear(): WriteDone[] {
    this.bytes = 0;
    return this.list.splice(0).map(({ done }) => done);
  }
}
