/**
 * The master's table of workers: pure, with the time passed in (any clock that only goes forward). It says who is there
 * and since when silent; which keys a worker has is not its matter.
 *
 * Bounded: WORKERS_MAX rows, and a worker that has been silent for FORGET_MS is dropped, unless it is static.
 */

/** Silence after which a worker counts as suspect, then as down, then is forgotten. Heartbeats come every second. */
export const SUSPECT_MS = 3000;
export const DOWN_MS = 10_000;
export const FORGET_MS = 10 * 60_000;
/** Most workers that are known at once. */
export const WORKERS_MAX = 1024;

if (!(SUSPECT_MS < DOWN_MS && DOWN_MS < FORGET_MS))
  throw new Error("registry.ts: the times contradict each other");

export type NodeState = "up" | "suspect" | "down";

/** What a worker says of itself. */
export interface NodeReport {
  /** How others reach it: its identity here. */
  url: string;
  region: string;
  /** Whatever the worker says of its load. */
  load: unknown;
}

export interface NodeRow extends NodeReport {
  state: NodeState;
  /** Milliseconds since it was heard of; null: never (a static worker that has not reported). */
  silentMs: number | null;
  /** It belongs to the cluster whether it reports or not. */
  static: boolean;
}

interface Entry extends NodeReport {
  seenMs: number | null;
  static: boolean;
}

export class Registry {
  private readonly workers = new Map<string, Entry>();

  /** @param staticUrls workers that belong to the cluster whether they report or not */
  constructor(staticUrls: readonly string[]) {
    for (const url of staticUrls) {
      this.workers.set(url, { url, region: "default", load: null, seenMs: null, static: true });
    }
  }

  /**
   * Takes a registration or a heartbeat; they do the same, so that a restarted master forgets nobody.
   * "full": the worker is new, and there is no room for it.
   */
  hear(nowMs: number, report: NodeReport): "new" | "known" | "full" {
    let known = this.workers.get(report.url);
    if (known === undefined && this.workers.size >= WORKERS_MAX) this.forget(nowMs);
    else if (known !== undefined && this.isForgotten(known, nowMs)) known = undefined;
    if (known === undefined && this.workers.size >= WORKERS_MAX && !this.workers.has(report.url))
      return "full";
    const { url, region, load } = report;
    this.workers.set(url, { url, region, load, seenMs: nowMs, static: known?.static ?? false });
    return known === undefined || known.seenMs === null ? "new" : "known";
  }

  /** All workers that are not forgotten, by URL. */
  list(nowMs: number): NodeRow[] {
    this.forget(nowMs);
    const rows = [...this.workers.values()].map(({ seenMs, ...worker }) => {
      const silentMs = seenMs === null ? null : nowMs - seenMs;
      return { ...worker, silentMs, state: stateAfter(silentMs) };
    });
    return rows.sort((a, b) => (a.url < b.url ? -1 : 1));
  }

  private forget(nowMs: number): void {
    for (const [url, entry] of this.workers) if (this.isForgotten(entry, nowMs)) this.workers.delete(url);
  }

  private isForgotten(entry: Entry, nowMs: number): boolean {
    return !entry.static && entry.seenMs !== null && nowMs - entry.seenMs >= FORGET_MS;
  }
}

function stateAfter(silentMs: number | null): NodeState {
  if (silentMs === null || silentMs >= DOWN_MS) return "down";
  return silentMs >= SUSPECT_MS ? "suspect" : "up";
}
