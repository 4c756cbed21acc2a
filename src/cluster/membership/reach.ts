/**
 * Whether a node can be reached under its public URL: the master asks workers to try it of one that wants to
 * join, and tries itself (master/outreach.ts).
 */
import { askOnce } from "../link/ask-once.ts";
import type { NodeHttpOptions } from "../link/node-http.ts";
import { PEER_LAYOUT_PATH } from "../link/paths.ts";
import { type Candidate, readMember, type Tried } from "./messages.ts";

const ASK_MS = 2000;
/** Who could not be reached is tried again after so long. */
const TRY_AGAIN_MS = 2000;
/** Tries that are under way or remembered. */
const TRIES_MAX = 64;

export type ReachOptions = Pick<NodeHttpOptions, "signer" | "tls">;

/** Tries it over a connection of its own. Answers what went wrong, for a person, or null. */
export async function reach({ url, store }: Candidate, options: ReachOptions): Promise<string | null> {
  try {
    const answer = await askOnce({ ...options, url }, PEER_LAYOUT_PATH, ASK_MS);
    if (answer.status === 401) return "status 401: is the key the same?";
    if (answer.status !== 200) return `status ${answer.status}: it is no worker of minivault`;
    const document = readMember(answer.body.toString());
    if (document.url !== url) return `${document.url} answers there`;
    return document.store === store ? null : "a worker with another data directory answers there";
  } catch (error) {
    return (error as Error).message;
  }
}

/** What a worker has tried for its masters. */
export class Tries {
  private readonly options: ReachOptions;
  private readonly changed: () => void;
  private readonly known = new Map<string, Tried & { atMs: number; isOver: boolean }>();

  /** @param changed there is something new to tell */
  constructor(options: ReachOptions, changed: () => void) {
    this.options = options;
    this.changed = changed;
  }

  /** These are asked for; what is known of others is forgotten. */
  ask(candidates: readonly Candidate[]): void {
    const wanted = new Map(candidates.slice(0, TRIES_MAX).map((candidate) => [candidate.url, candidate]));
    for (const url of this.known.keys()) if (!wanted.has(url)) this.known.delete(url);
    const nowMs = performance.now();
    for (const candidate of wanted.values()) {
      const before = this.known.get(candidate.url);
      const isSame = before?.store === candidate.store;
      if (isSame && (!before.isOver || before.problem === null || nowMs - before.atMs < TRY_AGAIN_MS))
        continue;
      const tried = { ...candidate, problem: before?.problem ?? null, atMs: nowMs, isOver: false };
      this.known.set(candidate.url, tried);
      void reach(candidate, this.options).then((problem) => {
        if (this.known.get(candidate.url) !== tried) return;
        this.known.set(candidate.url, { ...tried, problem, atMs: performance.now(), isOver: true });
        this.changed();
      });
    }
  }

  /** What has come of it. */
  get results(): Tried[] {
    return [...this.known.values()]
      .filter(({ isOver }) => isOver)
      .map(({ url, store, problem }) => ({ url, store, problem }));
  }
}
