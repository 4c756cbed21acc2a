/**
 * How many connections a node takes. Without a descriptor left it could accept nothing and open no file, and
 * uWebSockets.js would ask the kernel again and again, with the whole processor. So some are kept free: a
 * connection beyond that is closed at once, which costs its client a new try and nobody else anything.
 */
import { readdirSync, readFileSync } from "node:fs";

/** Of the descriptors that are free at the start, this part is kept for files and for other nodes, */
const KEPT_SHARE = 1 / 4;
/** but not more than so many. */
const KEPT_MAX = 512;
/** So long a lack of descriptors is told after it was last met. */
const TELL_MS = 10_000;

/** Connections that this process may have at once; null: the system does not say. */
export function connectionsMax(): number | null {
  try {
    const limit = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
    if (limit === undefined) return null;
    const free = Number(limit) - readdirSync("/proc/self/fd").length;
    return Math.max(1, free - Math.min(KEPT_MAX, Math.ceil(free * KEPT_SHARE)));
  } catch {
    return null;
  }
}

/** What the front threads of a process count together: each its own, in its own meter. */
export interface ConnectionCounts {
  /** Open now, in this thread. */
  readonly own: Float64Array;
  /** Of all threads. */
  readonly all: readonly Float64Array[];
  /** When one was last closed for want of descriptors, in milliseconds since 1970; in this thread. */
  readonly refusedMs: Float64Array;
}

export class Connections {
  private readonly counts: ConnectionCounts;
  private readonly max: number | null;
  private readonly onRefusing: (max: number) => void;

  /** @param onRefusing told when connections begin to be closed, and again after a while without */
  constructor(counts: ConnectionCounts, max: number | null, onRefusing: (max: number) => void) {
    this.counts = counts;
    this.max = max;
    this.onRefusing = onRefusing;
  }

  /** One has come. False: it has to be closed. `closed` is to be called for it all the same. */
  opened(): boolean {
    const { own, all, refusedMs } = this.counts;
    own[0]++;
    if (this.max === null || all.reduce((sum, [count]) => sum + count, 0) <= this.max) return true;
    const now = Date.now();
    if (!isRecent(refusedMs[0], now)) this.onRefusing(this.max);
    refusedMs[0] = now;
    return false;
  }

  closed(): void {
    this.counts.own[0]--;
  }
}

/** Whether connections were closed a short while ago. */
export function isRecent(refusedMs: number, nowMs: number): boolean {
  return Math.abs(nowMs - refusedMs) < TELL_MS;
}
