/**
 * The master's table of workers: pure, with the time passed in.
 */

/** Silence, in milliseconds, after which a worker counts as suspect, then as down. */
export const SUSPECT_MS = 3000;
export const DOWN_MS = 10_000;

export type NodeState = "up" | "suspect" | "down";

export interface NodeReport {
  url: string;
  region: string;
  /** Whatever the worker says of its load. */
  load: unknown;
}

export interface NodeRow extends NodeReport {
  state: NodeState;
  /** Milliseconds since it was heard of; null: never (a static worker that has not reported). */
  silentMs: number | null;
  static: boolean;
}

interface Entry extends NodeReport {
  seenMs: number | null;
  static: boolean;
}

export class Registry {
  private readonly nodes = new Map<string, Entry>();

  /** @param staticUrls workers that belong to the cluster whether they report or not */
  constructor(staticUrls: readonly string[]) {
    for (const url of staticUrls)
      this.nodes.set(url, { url, region: "default", load: null, seenMs: null, static: true });
  }

  /** Takes a registration or a heartbeat: an unknown worker is registered, so a restarted master forgets nobody. */
  hear(nowMs: number, report: NodeReport): void {
    this.nodes.set(report.url, {
      ...report,
      seenMs: nowMs,
      static: this.nodes.get(report.url)?.static ?? false,
    });
  }

  /** All workers, by URL. */
  list(nowMs: number): NodeRow[] {
    return [...this.nodes.values()]
      .map(({ seenMs, ...node }) => {
        const silentMs = seenMs === null ? null : nowMs - seenMs;
        const state: NodeState =
          silentMs === null || silentMs >= DOWN_MS ? "down" : silentMs >= SUSPECT_MS ? "suspect" : "up";
        return { ...node, silentMs, state };
      })
      .sort((a, b) => (a.url < b.url ? -1 : 1));
  }
}
