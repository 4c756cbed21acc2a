/**
 * Which of the changes that replicas report are decided. A version is decided once a majority of its key's
 * replicas holds it; what is not known to be after UNDECIDED_MS is settled by a quorum read of the key, which
 * answers with what is decided, that version or another one.
 *
 * Of one key, what is told never goes back: two majorities have a replica in common, which reports in the
 * order of its log; and what a read says while something newer was told is left out.
 */
import type { ChangeEvent } from "../../shards/feed/change.ts";
import type { ReplicaGroup } from "../layout/groups.ts";
import { hasMajority } from "../layout/groups.ts";

/** A change of a replica that is not known to be decided for so long is read. */
export const UNDECIDED_MS = 100;
/** Reads at once. */
const READS_MAX = 64;
/**
 * How long a deletion of which a read finds nothing may be one that only a minority has heard of: such a one
 * gets around meanwhile. After that it is one that all have heard of, and forgotten.
 */
export const FORGOTTEN_MS = 30_000;
/** Keys whose latest told version is kept, so that a slow replica's report of it costs no read. */
const TOLD_MAX = 100_000;

/** A change with a version. */
export interface Change {
  event: ChangeEvent;
  key: string;
  etag: string;
  /** Its JSON. */
  text: string;
}

/** What a quorum read finds where there is no value. */
export interface Absence {
  event: "absent";
  /**
   * Version of the deletion, or of the value that has ended; null: those that were asked have heard of none,
   * or all have forgotten it.
   */
  etag: string | null;
}

/** Orders the changes of one key: a value's end comes after the value, under the same version. */
export function rankOf({ etag, event }: Pick<Change, "etag" | "event">): string {
  return event === "expire" ? `${etag}+` : etag;
}

/** Reports of a replica that came together; over when none of them is open any more. */
export interface Batch {
  open: number;
}

export interface DecisionsSetup {
  groupOf: (key: string) => ReplicaGroup;
  /** What a quorum read finds; null: nobody can know now. */
  read: (key: string) => Promise<Change | Absence | null>;
  tell: (change: Change) => void;
  now: () => number;
}

interface PendingKey {
  highest: Change;
  /** Replicas that hold it, by the bits of the key's group. */
  holders: number;
  sinceMs: number;
  /** When `highest` was first reported. */
  reportedMs: number;
  /** A read is under way, which began when `highest` had this rank. */
  reading: string | null;
  /** Told meanwhile. */
  told: string;
  readonly batches: Set<Batch>;
}

export class Decisions {
  private readonly setup: DecisionsSetup;
  private readonly pending = new Map<string, PendingKey>();
  private readonly told = new Map<string, string>();
  private reads = 0;

  constructor(setup: DecisionsSetup) {
    this.setup = setup;
  }

  get count(): number {
    return this.pending.size;
  }

  /**
   * A replica reports a change.
   * @param votes whether what it holds counts
   */
  report(node: string, votes: boolean, change: Change, batch: Batch): void {
    const { key } = change;
    const rank = rankOf(change);
    if ((this.told.get(key) ?? "") >= rank) return;
    let pending = this.pending.get(key);
    if (pending === undefined) {
      const sinceMs = this.setup.now();
      const batches = new Set<Batch>();
      const reportedMs = sinceMs;
      pending = { highest: change, holders: 0, sinceMs, reportedMs, reading: null, told: "", batches };
      this.pending.set(key, pending);
    }
    if (rank > rankOf(pending.highest)) {
      pending.highest = change;
      pending.holders = 0;
      pending.reportedMs = this.setup.now();
    }
    if (!pending.batches.has(batch)) {
      pending.batches.add(batch);
      batch.open++;
    }
    if (rank !== rankOf(pending.highest)) return;
    const group = this.setup.groupOf(key);
    const index = group.nodes.indexOf(node);
    if (votes && index >= 0) pending.holders |= 1 << index;
    if (!hasMajority(group, pending.holders)) return;
    this.learn(pending.highest);
    if (pending.reading === null) this.settle(pending);
  }

  /** A version is known to be decided. */
  learn(change: Change): void {
    const { key } = change;
    const rank = rankOf(change);
    const pending = this.pending.get(key);
    const before = this.told.get(key) ?? "";
    if (rank <= before || (pending !== undefined && rank <= pending.told)) return;
    if (pending !== undefined) pending.told = rank;
    this.told.delete(key);
    this.told.set(key, rank);
    if (this.told.size > TOLD_MAX) this.told.delete(this.told.keys().next().value as string);
    this.setup.tell(change);
  }

  private settle(pending: PendingKey): void {
    this.pending.delete(pending.highest.key);
    for (const batch of pending.batches) batch.open--;
  }

  /** Has read what waits for too long. To be called now and then. */
  sweep(): void {
    const nowMs = this.setup.now();
    for (const pending of this.pending.values()) {
      if (this.reads >= READS_MAX) return;
      if (pending.reading === null && nowMs - pending.sinceMs >= UNDECIDED_MS) void this.read(pending);
    }
  }

  private async read(pending: PendingKey): Promise<void> {
    const { key } = pending.highest;
    const rank = rankOf(pending.highest);
    this.reads++;
    pending.reading = rank;
    const found = await this.setup.read(key);
    this.reads--;
    pending.reading = null;
    pending.sinceMs = this.setup.now();
    if (found === null || this.pending.get(key) !== pending) return;
    const { highest } = pending;
    if (found.event !== "absent") this.learn(found);
    else if (highest.event !== "put" && rankOf(highest) === rank) {
      const isForgotten = found.etag === null && this.setup.now() - pending.reportedMs >= FORGOTTEN_MS;
      if (found.etag === highest.etag || isForgotten) this.learn(highest);
      else if (found.etag === null) return;
    }
    // What was reported meanwhile the read may not have seen.
    if (rankOf(highest) === rank || pending.told >= rankOf(highest)) this.settle(pending);
  }
}
