/**
 * Workers that are there and belong to no layout yet: who may be taken in, who has to wait, and why not.
 *
 * Only an empty store may join a cluster: keys that it does not know of would come into it behind its back.
 * Nobody joins whom the master and another node cannot reach (admission.ts).
 */
import { featuresOf } from "../../cluster/layout/features.ts";
import type { Candidate, Heartbeat, Tried } from "../../cluster/membership/messages.ts";
import type { Decisions } from "../layout/decisions.ts";
import type { NodeRow, Registry } from "../registry/registry.ts";
import { Admission, MASTER } from "./admission.ts";

/** Workers that one node is asked to try at a time. */
const CANDIDATES_MAX = 16;

/** What all heartbeats of so long a time are told of the others is the same. */
export const LOOK_MS = 200;

export class Applicants {
  private readonly registry: Registry;
  private readonly decisions: Decisions;
  private readonly admission: Admission;
  /** Since when a worker could join, by URL. */
  private readonly waiting = new Map<string, number>();
  private wishing: { atMs: number; rows: NodeRow[] } | null = null;

  constructor(registry: Registry, decisions: Decisions, log: { warn(fields: object, text: string): void }) {
    this.registry = registry;
    this.decisions = decisions;
    this.admission = new Admission((fields, text) => log.warn(fields, text));
  }

  /** Looks who waits. */
  look(nowMs: number): void {
    const rows = this.wish(nowMs);
    this.admission.keepOnly(new Set(rows.map((row) => row.url)));
    const free = rows.filter((row) => !this.decisions.isPlanned(row.url) && this.isReached(nowMs, row));
    const urls = new Set(free.map((row) => row.url));
    for (const url of this.waiting.keys()) if (!urls.has(url)) this.waiting.delete(url);
    for (const url of urls) if (!this.waiting.has(url)) this.waiting.set(url, nowMs);
  }

  /** Whether a worker could join. */
  isWaiting(url: string): boolean {
    return this.waiting.has(url);
  }

  /** Since when the first and the last of them have been waiting; null: nobody waits. */
  get waitingSince(): { firstMs: number; lastMs: number } | null {
    if (this.waiting.size === 0) return null;
    const times = [...this.waiting.values()];
    return { firstMs: Math.min(...times), lastMs: Math.max(...times) };
  }

  /** Workers that are there, belong to no other layout that we know, and are nobody's copy. */
  present(nowMs: number): NodeRow[] {
    return this.registry
      .list(nowMs)
      .filter((row) => row.state === "up" && row.store !== "" && !this.decisions.hasLeft(row.url, row.store))
      .filter((row) => this.decisions.isMember(row.url) || this.twinOf(nowMs, row) === null);
  }

  /** Those of them that wait. */
  ready(nowMs: number): NodeRow[] {
    return this.present(nowMs).filter((row) => this.waiting.has(row.url));
  }

  /** Why a worker that reports is not taken in, or null. */
  refusal(nowMs: number, { url, store, empty, features = 1 }: Heartbeat): string | null {
    const { decisions } = this;
    if (store === "" || decisions.isMember(url)) return null;
    const twin = this.twinOf(nowMs, { url, store });
    if (twin !== null)
      return `its data directory is a copy of that of ${twin}: start it with an empty one of its own`;
    if (decisions.hasLeft(url, store))
      return "it has left the cluster; with an empty data directory it can join again";
    if (!this.isAble({ features }))
      return `the cluster has feature level ${featuresOf(decisions.layout)}, and it can do ${features}: start it with the release that the others have, after minivault upgrade on its data directory`;
    if (!this.mayHoldKeys({ url, store, empty }))
      return "its data directory holds keys that are not this cluster's; start it with an empty one";
    const holders = decisions.layout === null && !empty ? this.tooManyHolders(nowMs) : null;
    if (holders !== null || this.isReached(nowMs, { url, store })) return holders;
    return this.admission.problem(url, store);
  }

  /** Why a worker cannot be reached; null: nobody has failed to reach it. */
  unreachedText({ url, store }: Candidate): string | null {
    return this.admission.problem(url, store);
  }

  /** Why one that is there cannot be reached; null: nobody has failed to reach one. */
  unreached(nowMs: number): string | null {
    for (const { url, store } of this.present(nowMs)) {
      const problem = this.admission.problem(url, store);
      if (problem !== null) return `${url}: ${problem}`;
    }
    return null;
  }

  /** A cluster can begin with the keys of one worker: why it cannot with those that are there, or null. */
  tooManyHolders(nowMs: number): string | null {
    const holders = this.present(nowMs).filter((row) => !row.empty);
    if (holders.length < 2) return null;
    return `a cluster can begin with the keys of one worker, but ${holders.length} hold keys: ${holders.map((row) => row.url).join(", ")}`;
  }

  /** Workers that want to be taken in, and that somebody is to try to reach. */
  untried(nowMs: number, by: string): Candidate[] {
    // Each heartbeat asks.
    if (this.wishing === null || nowMs - this.wishing.atMs >= LOOK_MS || by === MASTER)
      this.wishing = { atMs: nowMs, rows: this.wish(nowMs) };
    return this.wishing.rows
      .filter(({ url, store }) => url !== by && this.admission.lacks(url, store, by))
      .slice(0, CANDIDATES_MAX)
      .map(({ url, store }) => ({ url, store }));
  }

  /** Somebody has tried to reach a worker. */
  tried({ url, store, problem }: Tried, by: string): void {
    this.admission.note(url, store, by, problem);
  }

  isReached(nowMs: number, { url, store }: Candidate): boolean {
    const trusted = this.trusted(nowMs);
    if (this.decisions.layout !== null && trusted.length === 0) return false;
    return this.admission.isReached(url, store, trusted);
  }

  /** Whose word counts beside the master's: voters; while there is no layout, others that it has reached. */
  private trusted(nowMs: number): string[] {
    const counts =
      this.decisions.layout === null
        ? ({ url, store }: NodeRow) => !this.admission.lacks(url, store, MASTER)
        : ({ url, voting }: NodeRow) => voting && this.decisions.isMember(url);
    const rows = this.registry.list(nowMs).filter((row) => row.state === "up" && counts(row));
    return rows.map(({ url }) => url);
  }

  /** Those who want to come in and may. */
  private wish(nowMs: number): NodeRow[] {
    return this.present(nowMs).filter(
      (row) => !this.decisions.isMember(row.url) && this.mayHoldKeys(row) && this.isAble(row),
    );
  }

  /** Another worker with the same store, which came first: its URL, or null. */
  private twinOf(nowMs: number, { url, store }: { url: string; store: string }): string | null {
    if (store === "") return null;
    // A member that is down may come back at any time.
    const member = this.decisions.urlOf(store);
    if (member !== null && member !== url) return member;
    const isTwin = (row: NodeRow) => row.url !== url && row.store === store && row.state !== "down";
    const twins = this.registry.list(nowMs).filter(isTwin);
    const first = twins.find((row) => this.decisions.isMember(row.url) || row.url < url);
    return first?.url ?? null;
  }

  /** Whether it can do what the cluster relies on. */
  private isAble({ features = 1 }: Pick<Heartbeat, "features">): boolean {
    return features >= featuresOf(this.decisions.layout);
  }

  /** Keys that a cluster does not know of do not come into it behind its back; its own may come back. */
  private mayHoldKeys({ url, store, empty }: Pick<Heartbeat, "url" | "store" | "empty">): boolean {
    return empty || this.decisions.layout === null || this.decisions.mayReturn(url, store);
  }
}
