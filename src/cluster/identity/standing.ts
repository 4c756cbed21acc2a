/**
 * Whether this store is the newest of its kind: asked of the other nodes at each start with data, before this
 * node votes or issues a ballot. A directory that was put back from an old copy, or that comes back after
 * another one has served under its URL, looks whole; only others know better.
 *
 *   hello to all others ─► enough have answered, nobody knows more than the own log has ─► proven: it votes
 *        │                 └► one knows a later life, another store, or a longer log ─► old: it synchronises
 *        └► too few for PROOF_WAIT_MS: the master is asked, then it votes and says so
 *
 * A store whose last run may have lost what it acknowledged (run-file.ts) does not prove itself so: it
 * synchronises as soon as enough others are there to take everything over from; where there are too few for
 * PROOF_WAIT_MS, such as after a power loss of all, it votes and says so.
 *
 * Enough: of n replicas with majorities of m, n − m + 1 others. Every life that voted had been admitted by a
 * majority, itself included, so by m − 1 others; and each set of n − m + 1 others has one of those in it.
 */
import { bitOf, countOf, hasMajority, type Placement, type ReplicaGroup } from "../layout/groups.ts";
import { decodeMarks, type Life, lacks, type Marks } from "./life.ts";
import type { Known } from "./lives.ts";

/** How long a store waits for those who could know better. */
export const PROOF_WAIT_MS = 30_000;
const ASK_AGAIN_MS = 300;

const NOT_NEWEST =
  "this data directory is not the newest of this node: it does not vote until it has synchronised from the others";
const MAY_LACK =
  "this replica may lack what it acknowledged last: it does not vote until it has synchronised from the others";

export interface StandingSetup {
  self: string;
  placement: () => Placement | null;
  /** The own life, with the incarnation that counts now. */
  life: () => Life;
  /** Where the own log ended when it was opened, by shard. */
  ends: Marks;
  /**
   * Asks a node what it knows of the own store, and has it admit this life. Rejects when it does not answer.
   */
  hello: (node: string) => Promise<Known>;
  /** What the master said last of the own store; null: it has not answered. */
  master: () => Known | null;
  /** Another life had this incarnation: from now on it is above it, durably. May throw, as `settle`. */
  raise: (above: number) => void;
  /** The store is old: it must synchronise, durably. May throw, as `settle`. */
  demote: () => void;
  /** Why what the last run acknowledged may be lost; null: it is not. */
  doubt: string | null;
  /** Notes durably that this is settled. Throws when it cannot be noted; then it is tried again. */
  settle: () => void;
  /** It may vote now, as far as its data is whole. */
  proven: () => void;
  info: (fields: object, text: string) => void;
  warn: (fields: object, text: string) => void;
  waitMs?: number;
}

export class Standing {
  private readonly setup: StandingSetup;
  private readonly answered = new Set<string>();
  private readonly asking = new Set<string>();
  private readonly startedMs = performance.now();
  private readonly timer: NodeJS.Timeout;
  private over = false;
  /** It must synchronise, whatever others say, and also while the disk does not take that. */
  private isOld = false;
  /** The highest incarnation of another life that is known. */
  private above = 0;
  private said = "";

  constructor(setup: StandingSetup) {
    this.setup = setup;
    this.timer = setInterval(() => this.tick(), ASK_AGAIN_MS);
    this.timer.unref();
    setImmediate(() => this.tick());
  }

  close(): void {
    this.over = true;
    clearInterval(this.timer);
  }

  private tick(): void {
    if (this.over) return;
    const { self, placement, master, doubt } = this.setup;
    const placed = placement();
    if (placed === null) return;
    const known = master();
    if (known !== null) this.judge("the master", known);
    if (doubt !== null && canTakeOver(placed, self, this.answered)) this.markOld({ doubt }, MAY_LACK);
    // Also an old one asks enough of them: its start has to count above the last one that any of them knows.
    if ((doubt === null || this.isOld) && isEnough(placed, self, this.answered)) {
      this.end();
      return;
    }
    const waitMs = this.setup.waitMs ?? PROOF_WAIT_MS;
    if (performance.now() - this.startedMs >= waitMs) {
      if (!this.isOld) this.warnOfFew(known, waitMs);
      this.end();
      return;
    }
    this.askOthers(placed);
  }

  private warnOfFew(known: Known | null, waitMs: number): void {
    const { doubt, warn } = this.setup;
    warn(
      { waitMs, master: known === null ? "has not answered" : "knows nothing newer" },
      doubt === null
        ? "too few of the other nodes answer to tell whether this data directory is the newest: it counts as that; if it was put back from an old copy, empty it, so that it synchronises"
        : `too few of the other nodes can make up for what this one may have lost, so it goes on with what it has: ${doubt}`,
    );
  }

  private askOthers({ layout: { nodes, previous } }: Placement): void {
    const { self } = this.setup;
    for (const { id } of [...nodes, ...(previous?.nodes ?? [])])
      if (id !== self && !this.answered.has(id) && !this.asking.has(id)) void this.ask(id);
  }

  private async ask(node: string): Promise<void> {
    this.asking.add(node);
    try {
      const known = await this.setup.hello(node);
      if (this.over) return;
      this.judge(node, known);
      if (known.forgetful) return;
      this.answered.add(node);
      this.asking.delete(node);
      this.tick();
      return;
    } catch {
      // Not there yet: it is asked again.
    } finally {
      this.asking.delete(node);
    }
  }

  /** Takes in what somebody knows. */
  private judge(from: string, known: Known): void {
    const { life, ends } = this.setup;
    const reason = whyOld(life(), ends, known);
    if (reason === null) return;
    this.above = Math.max(this.above, known.incarnation);
    this.markOld({ from, reason }, NOT_NEWEST);
  }

  private markOld(fields: object, text: string): void {
    if (!this.isOld) this.setup.warn(fields, text);
    this.isOld = true;
  }

  private end(): void {
    if (this.over) return;
    const { life, raise, demote, settle, proven, warn } = this.setup;
    try {
      if (this.above >= life().incarnation) raise(this.above);
      if (this.isOld) demote();
      settle();
    } catch (error) {
      const reason = (error as Error).message;
      if (reason !== this.said)
        warn({ reason }, "this run cannot be noted on the disk: it does not vote yet");
      this.said = reason;
      return;
    }
    this.close();
    proven();
  }
}

/** What makes a store old, for a person; null: what is known of it is what it has. */
export function whyOld({ incarnation }: Life, ends: Marks, known: Known): string | null {
  if (known.incarnation >= incarnation)
    return `start ${known.incarnation} of it is known, and this would be start ${incarnation}`;
  if (known.doubt) return "another data directory has served under its URL since";
  const marks = known.marks === null ? null : decodeMarks(known.marks);
  return marks !== null && lacks(ends, marks)
    ? "it lacks records that it is known to have acknowledged"
    : null;
}

/** Whether these nodes are enough to prove that nobody knows better, for every partition of the node. */
export function isEnough(placement: Placement, self: string, answered: ReadonlySet<string>): boolean {
  return placement.groups.every((group) => {
    const own = bitOf(group, self);
    if (own === 0) return true;
    const set = group.nodes.reduce(
      (bits, node, index) => (answered.has(node) ? bits | (1 << index) : bits),
      0,
    );
    return provesAmong(group.current, own, set) && provesAmong(group.previous, own, set);
  });
}

/** Whether these nodes are enough to take everything over from, for every partition of the node. */
function canTakeOver(placement: Placement, self: string, answered: ReadonlySet<string>): boolean {
  return placement.groups.every((group) => {
    const own = bitOf(group, self);
    if (own === 0) return true;
    const others = group.nodes.reduce(
      (bits, node) => (answered.has(node) ? bits | bitOf(group, node) : bits),
      0,
    );
    return hasMajority(group, others & ~own);
  });
}

function provesAmong(whole: ReplicaGroup["current"], own: number, set: number): boolean {
  if ((whole & own) === 0) return true;
  const replicas = countOf(whole);
  const majority = Math.floor(replicas / 2) + 1;
  const needed = Math.min(replicas - majority + 1, replicas - 1);
  return countOf(set & whole & ~own) >= needed;
}
