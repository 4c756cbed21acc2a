/**
 * What the promises of one round tell of recent operations: that of the highest record that remembers any
 * counts (FORMAT.md, "Recent operations"). Above it there may be records without the field. They are writes
 * that had not asked, and reached a few replicas that had not heard of the key's being guarded; a majority
 * refuses them, so none of them was decided before what the field remembers was.
 */
import { untilOf } from "../../format/fields/recent.ts";
import type { Ballot } from "../../format/record.ts";
import { carried, moved } from "../../rules/recent.ts";
import { compareRanks, type Rank } from "../../rules/register.ts";
import type { Held } from "./ports.ts";

const NOTHING: Rank = Object.freeze({ ballot: null, ended: false });

export class Remembered {
  /** The field that counts; null: none of the records has one. */
  recent: Uint8Array | null = null;
  /** The record whose it is. */
  rank: Rank = NOTHING;
  /** By replica, as bits: up to when it refuses who has not asked, in ms since 1970. */
  private readonly guards: { bit: number; until: number }[] = [];

  start(): void {
    this.recent = null;
    this.rank = NOTHING;
    this.guards.length = 0;
  }

  take(bit: number, { ballot, ended, recent }: Held): void {
    if (recent == null) return;
    this.guards.push({ bit, until: untilOf(recent) });
    if (this.recent !== null && compareRanks({ ballot, ended }, this.rank) <= 0) return;
    this.recent = recent;
    this.rank = { ballot, ended };
  }

  /** Replicas that are guarded at least until then, as bits. */
  guardedUntil(millis: number): number {
    return this.guards.reduce((set, { bit, until }) => (until >= millis ? set | bit : set), 0);
  }

  /**
   * What the next record has to remember.
   * @param to the version that the highest value gets and that changes nothing else; null: it is replaced
   */
  carried(nowMs: number, to: Ballot | null = null): Uint8Array | null {
    const { rank } = this;
    const kept = carried(this.recent, nowMs, true);
    return kept === null || to === null || rank.ballot === null ? kept : moved(kept, rank.ballot, to);
  }
}
