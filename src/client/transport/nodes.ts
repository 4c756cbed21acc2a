/**
 * The nodes that a client knows, and which of them is asked: the nearest that is not known to be down. How
 * far each is says a probe now and then, while the client is used; nothing here keeps a process from ending.
 */

/** Distances are measured anew after so long. */
const PROBE_MS = 60_000;
const PROBE_TIMEOUT_MS = 2000;
/** A node that has failed is not asked again for so long, doubled with each failure in a row. */
const DOWN_MS_MIN = 500;
const DOWN_MS_MAX = 30_000;

export type Fetch = (url: string, options: RequestInit) => Promise<Response>;

/** One of several nodes. */
export interface Node {
  /** Without a slash at its end. */
  readonly url: string;
  /** Milliseconds to an answer; null: not measured. */
  distanceMs: number | null;
  downUntilMs: number;
  failures: number;
}

export class Nodes {
  private readonly nodes: readonly Node[];
  private readonly fetch: Fetch;
  private readonly now: () => number;
  private probedMs = Number.NEGATIVE_INFINITY;

  /** @param now milliseconds on a clock that only goes forward */
  constructor(urls: readonly string[], fetch: Fetch, now: () => number = () => performance.now()) {
    if (urls.length === 0) throw new TypeError("name the url of a node, or several");
    this.nodes = urls.map((url) => ({
      ...{ url: baseOf(url), distanceMs: null, downUntilMs: 0, failures: 0 },
    }));
    this.fetch = fetch;
    this.now = now;
  }

  /**
   * The one to ask.
   * @param tried those that this request has been sent to: only asked again when there is no other
   */
  choose(tried: ReadonlySet<Node>): Node {
    if (this.nodes.length > 1) this.probe();
    const nowMs = this.now();
    const rank = (node: Node): number => (tried.has(node) ? 2 : 0) + (node.downUntilMs > nowMs ? 1 : 0);
    let best = this.nodes[0];
    for (const node of this.nodes) {
      const difference = rank(node) - rank(best) || distanceOf(node) - distanceOf(best);
      if (difference < 0) best = node;
    }
    return best;
  }

  /** It has answered. */
  answered(node: Node): void {
    node.failures = 0;
    node.downUntilMs = 0;
  }

  /** It could not be reached, or cannot serve now. */
  failed(node: Node): void {
    const downMs = Math.min(DOWN_MS_MAX, DOWN_MS_MIN * 2 ** node.failures);
    node.failures++;
    node.downUntilMs = this.now() + downMs;
  }

  private probe(): void {
    const nowMs = this.now();
    if (nowMs - this.probedMs < PROBE_MS) return;
    this.probedMs = nowMs;
    for (const node of this.nodes) void this.measure(node);
  }

  private async measure(node: Node): Promise<void> {
    const startMs = this.now();
    try {
      const signal = AbortSignal.timeout(PROBE_TIMEOUT_MS);
      const answer = await this.fetch(`${node.url}/health/live`, { signal });
      const distanceMs = this.now() - startMs;
      await answer.arrayBuffer();
      node.distanceMs = answer.ok ? distanceMs : Number.POSITIVE_INFINITY;
    } catch {
      this.failed(node);
    }
  }
}

/** One that was not measured stands behind those that were. */
function distanceOf({ distanceMs }: Node): number {
  return distanceMs ?? 1e9;
}

function baseOf(url: string): string {
  if (!/^https?:\/\/[^/]/i.test(url))
    throw new TypeError(`${url} is no URL of a node, such as http://localhost:3000`);
  return url.replace(/\/+$/, "");
}
