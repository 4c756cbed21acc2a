/**
 * What a write has taken the place of, by what the replicas say: whether the key had a value is the
 * difference between 201 and 200. Pure.
 */
import type { Ballot } from "../../../format/record.ts";
import { compareOptionalBallots } from "../../../format/version.ts";
import { hasMajority, type ReplicaGroup } from "../../layout/groups.ts";
import type { Replaced } from "../../register/ports.ts";

export class Replacement {
  /** As far as known; null: nothing. */
  previous: Ballot | null = null;
  existed = false;
  /** Replicas that replaced `previous`. */
  private replicas = 0;
  private readonly isBlind: boolean;

  /** @param isBlind of a plain write; a conditional one knows what is there from promises */
  constructor(isBlind: boolean) {
    this.isBlind = isBlind;
  }

  /**
   * A replica has replaced this. The highest record counts; of one ballot, that its value had ended ranks
   * above it.
   */
  learn(bit: number, { previous, existed }: Replaced): void {
    if (!this.isBlind) return;
    const order =
      this.replicas === 0
        ? 1
        : compareOptionalBallots(previous, this.previous) || Number(this.existed) - Number(existed);
    if (order === 0) this.replicas |= bit;
    if (order <= 0) return;
    this.know(previous, existed);
    this.replicas = bit;
  }

  /** What was there is known from promises. */
  know(previous: Ballot | null, existed: boolean): void {
    this.previous = previous;
    this.existed = existed;
  }

  /**
   * Certain only when a majority replaced that same one, so that it was decided: a record that only one
   * replica had may be of a write that began after a later one than this had ended.
   */
  isCertain(group: ReplicaGroup): boolean {
    return hasMajority(group, this.replicas);
  }
}
