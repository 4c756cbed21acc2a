/**
 * The master's table of workers: pure, with the time passed in (any clock that only goes forward). It says
 * who is there and since when silent; which keys a worker has is not its matter.
 *
 * Bounded: WORKERS_MAX rows, and a worker that has been silent for FORGET_MS is dropped, unless it is static
 * or kept (a member of the layout).
 */
import { DOWN_MS, type Heartbeat, type Liveness, SUSPECT_MS } from "../../cluster/membership/messages.ts";

/** Silence after which a worker that belongs to nothing is forgotten. */
export const FORGET_MS = 10 * 60_000;
/** Most workers that are known at once. */
export const WORKERS_MAX = 1024;

if (!(DOWN_MS < FORGET_MS)) throw new Error("registry.ts: the times contradict each other");

/** Times of one registry; shorter ones in tests. */
export interface RegistryTimes {
  suspectMs: number;
  downMs: number;
  forgetMs: number;
}

export const REGISTRY_TIMES: RegistryTimes = {
  suspectMs: SUSPECT_MS,
  downMs: DOWN_MS,
  forgetMs: FORGET_MS,
};

export interface NodeRow extends Heartbeat {
  state: Liveness;
  /**
   * Milliseconds since it was heard of; null: not since the start (a worker that is known from -volumes or
   * from the disk).
   */
  silentMs: number | null;
  /** It belongs to the cluster whether it reports or not. */
  static: boolean;
}

interface Entry extends Heartbeat {
  /** When it was heard of; null: never. */
  heardMs: number | null;
  /** Silence is counted from here. Null: down since ever. */
  sinceMs: number | null;
  static: boolean;
}

/** A row as the disk keeps it. */
export type KnownNode = Pick<Heartbeat, "url" | "region" | "host" | "store">;

export class Registry {
  private readonly workers = new Map<string, Entry>();
  private readonly times: RegistryTimes;
  private readonly isKept: (url: string) => boolean;

  /**
   * @param staticUrls workers that belong to the cluster whether they report or not
   * @param isKept whether a silent worker must not be forgotten
   */
  constructor(
    staticUrls: readonly string[],
    times: RegistryTimes = REGISTRY_TIMES,
    isKept: (url: string) => boolean = () => false,
  ) {
    this.times = times;
    this.isKept = isKept;
    for (const url of staticUrls) {
      this.workers.set(url, {
        ...blank({ url, region: "default", host: "", store: "" }),
        heardMs: null,
        sinceMs: null,
        static: true,
      });
    }
  }

  /** Takes workers over from before a restart: suspect until they report, down when they do not. */
  restore(nowMs: number, nodes: readonly KnownNode[]): void {
    for (const node of nodes) {
      const isStatic = this.workers.get(node.url)?.static ?? false;
      this.workers.set(node.url, {
        ...blank(node),
        heardMs: null,
        sinceMs: nowMs - this.times.suspectMs,
        static: isStatic,
      });
    }
  }

  /**
   * Takes a registration or a heartbeat; they do the same, so that a restarted master forgets nobody.
   * "full": the worker is new, and there is no room for it.
   */
  hear(nowMs: number, report: Heartbeat): "new" | "known" | "full" {
    let known = this.workers.get(report.url);
    if (known === undefined && this.workers.size >= WORKERS_MAX) this.forget(nowMs);
    else if (known !== undefined && this.isForgotten(known, nowMs)) known = undefined;
    if (known === undefined && this.workers.size >= WORKERS_MAX && !this.workers.has(report.url))
      return "full";
    const { url, region, host, store, epoch, empty, voting, rank, progress, load, features = 1 } = report;
    this.workers.set(url, {
      ...{ url, region, host, store, epoch, empty, voting, rank, progress, load, features },
      heardMs: nowMs,
      sinceMs: nowMs,
      static: known?.static ?? false,
    });
    return known === undefined || known.sinceMs === null ? "new" : "known";
  }

  /** All workers that are not forgotten, by URL. */
  list(nowMs: number): NodeRow[] {
    this.forget(nowMs);
    const rows = [...this.workers.values()].map((entry) => this.row(entry, nowMs));
    return rows.sort((a, b) => (a.url < b.url ? -1 : 1));
  }

  /** One worker, or null. */
  find(nowMs: number, url: string): NodeRow | null {
    const entry = this.workers.get(url);
    return entry === undefined || this.isForgotten(entry, nowMs) ? null : this.row(entry, nowMs);
  }

  /** Drops a worker that is known to be gone for good; a static one only goes down. */
  drop(url: string): void {
    const entry = this.workers.get(url);
    if (entry?.static) entry.sinceMs = null;
    else this.workers.delete(url);
  }

  private row({ heardMs, sinceMs, ...worker }: Entry, nowMs: number): NodeRow {
    const silentMs = sinceMs === null ? Number.POSITIVE_INFINITY : nowMs - sinceMs;
    const { suspectMs, downMs } = this.times;
    const state = silentMs >= downMs ? "down" : silentMs >= suspectMs ? "suspect" : "up";
    return { ...worker, silentMs: heardMs === null ? null : nowMs - heardMs, state };
  }

  private forget(nowMs: number): void {
    for (const [url, entry] of this.workers) if (this.isForgotten(entry, nowMs)) this.workers.delete(url);
  }

  private isForgotten(entry: Entry, nowMs: number): boolean {
    return (
      !entry.static &&
      entry.sinceMs !== null &&
      nowMs - entry.sinceMs >= this.times.forgetMs &&
      !this.isKept(entry.url)
    );
  }
}

function blank(node: KnownNode): Heartbeat {
  return { ...node, epoch: 0, empty: false, voting: false, rank: 0, progress: null, load: null };
}
