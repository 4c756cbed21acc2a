/**
 * Counting the answers of one round. Pure state, used again for each round of an operation: no allocation on
 * the way of a plain PUT.
 */
import type { Ballot } from "../../format/record.ts";
import { compareOptionalBallots } from "../../format/version.ts";
import { hasEnded } from "../../rules/expiry.ts";
import { compareRanks } from "../../rules/register.ts";
import { hasMajority, type ReplicaGroup } from "../layout/groups.ts";
import type { AcceptAnswer, Held, LookAnswer, PrepareAnswer, RecallAnswer, RefusalReason } from "./ports.ts";
import { Remembered } from "./remembered.ts";

/** Sets of replicas are bits, as in `ReplicaGroup`. Every asked replica is in exactly one of these. */
export class Tally {
  group: ReplicaGroup;
  pending = 0;
  yes = 0;
  /** It has no effect there and never will have. */
  no = 0;
  /** Those of `no` that had a higher ballot in the way. */
  outvoted = 0;
  /** Refused for now; the same request might still get through as a late duplicate. */
  refused = 0;
  lost = 0;
  /** The reason of the last refusal. */
  reason: RefusalReason | null = null;

  constructor(group: ReplicaGroup) {
    this.group = group;
  }

  start(group: ReplicaGroup): void {
    this.group = group;
    this.pending = this.yes = this.no = this.outvoted = this.refused = this.lost = 0;
    this.reason = null;
  }

  /** Takes an answer's kind. False: this replica has answered already. */
  count(bit: number, answer: PrepareAnswer | AcceptAnswer | LookAnswer | RecallAnswer): boolean {
    if ((this.pending & bit) === 0) return false;
    this.pending &= ~bit;
    if (answer.kind === "yes") this.yes |= bit;
    else if (answer.kind === "no") {
      this.no |= bit;
      this.outvoted |= bit;
    } else if (answer.kind === "lost") this.lost |= bit;
    else {
      this.reason = answer.reason;
      if (isFinal(answer.reason)) this.no |= bit;
      else this.refused |= bit;
    }
    return true;
  }

  get won(): boolean {
    return hasMajority(this.group, this.yes);
  }

  /** Whether a majority of yes can still come. */
  get open(): boolean {
    return hasMajority(this.group, this.yes | this.pending);
  }

  /** Replicas where the request has had an effect, or might have. */
  get touched(): number {
    return this.yes | this.refused | this.lost;
  }
}

/**
 * Whether a refusal holds for late duplicates of the request too. One that was never sent, or that carries an
 * epoch which the replica has left behind, stays refused; so does one that met a full or damaged disk, as
 * those transports that can reach a disk deliver once.
 */
function isFinal(reason: RefusalReason): boolean {
  return reason !== "not_voting" && reason !== "behind_epoch" && reason !== "ahead";
}

/** The highest record among answers, and who holds it. */
export class Highest {
  ballot: Ballot | null = null;
  tombstone = false;
  /** It is a mark that the value has ended. */
  ended = false;
  /** End of life of the value, in ms since 1970; 0: none. */
  end = 0;
  operationLow = 0;
  operationHigh = 0;
  /** Replicas that hold it (with ballot null: that hold nothing). */
  holders = 0;
  /** A value that has ended by the clock, though no mark says so yet. */
  lapsed = false;
  /** What it remembers of recent operations; null: nothing. */
  recent: Uint8Array | null = null;
  /** What the next record has to remember. */
  private memory: Remembered | null = null;
  private readonly ranksEnds: boolean;

  constructor(ranksEnds: boolean) {
    this.ranksEnds = ranksEnds;
  }

  start(): void {
    this.ballot = null;
    this.tombstone = this.ended = this.lapsed = false;
    this.end = this.operationLow = this.operationHigh = 0;
    this.holders = 0;
    this.recent = null;
    this.memory?.start();
  }

  take(bit: number, held: Held): void {
    // Mostly there is none.
    if (held.recent != null) this.remembered.take(bit, held);
    const order = this.holders === 0 ? 1 : this.order(held);
    if (order < 0) return;
    if (order === 0) {
      this.holders |= bit;
      return;
    }
    this.ballot = held.ballot;
    this.tombstone = held.tombstone;
    this.ended = held.ended;
    this.end = held.end;
    this.operationLow = held.operationLow;
    this.operationHigh = held.operationHigh;
    this.holders = bit;
    this.lapsed = false;
    this.recent = held.recent ?? null;
  }

  /** Whether a majority of the group holds it: it is decided. */
  isHeldBy(group: ReplicaGroup): boolean {
    return hasMajority(group, this.holders);
  }

  /** What the answers tell of recent operations. */
  get remembered(): Remembered {
    this.memory ??= new Remembered();
    return this.memory;
  }

  /** Whether they tell of any. */
  get remembers(): boolean {
    return this.memory !== null && this.memory.recent !== null;
  }

  private order(held: Held): number {
    return this.ranksEnds ? compareRanks(held, this) : compareOptionalBallots(held.ballot, this.ballot);
  }

  /** Judges a value by the clock; a value that has lapsed counts as absent from then on. */
  lapse(nowMillis: number): void {
    this.lapsed = this.ballot !== null && !this.tombstone && hasEnded(this.end, nowMillis);
  }

  get exists(): boolean {
    return this.ballot !== null && !this.tombstone && !this.lapsed;
  }
}
