/**
 * Where a node's ballots come from. No ballot is given twice, by any node or start of a node: node and
 * incarnation are part of it, and the upper bits of the incarnation tell the clocks of one start apart.
 *
 * Safety needs only that. That ballots rise with time is for progress: a low one costs a no and another
 * round, and one that is far ahead of cluster time is refused by the others (rules of the register). So there
 * are two clocks:
 *
 * - the ordinary one follows cluster time and whatever it sees up to `FOLLOW_MS_MAX` beyond that. When it
 *   finds itself further ahead, because the clocks of the cluster were set back, it starts over under a
 *   number of its own.
 * - the second one is for keys whose newest record is further ahead, from a time when clocks were wrong: one
 *   more than the highest of these that it has met. Ordinary ballots never read it, so such a key has strange
 *   versions and nothing else does. ("One more than the key's highest" alone would give one ballot to two
 *   values.)
 */
import type { Ballot } from "../../format/record.ts";
import {
  ballotMillis,
  compareOptionalBallots,
  INCARNATION_CLOCK_SHIFT,
  SECOND_CLOCK,
} from "../../format/version.ts";
import { HybridClock } from "../../util/clock.ts";
import { BALLOT_AHEAD_MS_MAX } from "../../util/limits.ts";

/**
 * How far beyond the last ballot the persisted ceiling is set, so that it is written only every few seconds.
 */
export const CEILING_STEP_MS = 10_000;
/**
 * How far beyond cluster time ordinary ballots follow what they see; the rest of what replicas bear is for
 * what nodes measure differently.
 */
export const FOLLOW_MS_MAX = BALLOT_AHEAD_MS_MAX - 10_000;

export interface BallotSetup {
  /** The node's number and incarnation, from its STORE file. */
  node: number;
  incarnation: number;
  /** Cluster time in milliseconds since 1970. */
  now: () => number;
  /** The ceiling that was persisted last, in milliseconds since 1970; 0: none. */
  ceilingMillis: number;
  /** Asks for a new ceiling on disk; need not have happened when it returns. */
  persistCeiling: (millis: number) => void;
}

export class BallotSource {
  private readonly setup: BallotSetup;
  private clock: HybridClock;
  /** The ordinary clock's number. */
  private clockNumber = 0;
  private readonly second = new HybridClock(() => 0);
  private ceilingMillis: number;

  constructor(setup: BallotSetup) {
    this.setup = setup;
    if (setup.incarnation >= 1 << INCARNATION_CLOCK_SHIFT)
      throw new Error(`a store that was started ${setup.incarnation} times gives no ballots any more`);
    this.clock = new HybridClock(setup.now);
    this.ceilingMillis = setup.ceilingMillis;
    // A ceiling far ahead comes from a clock that was wrong; following it would get this node's ballots
    // refused.
    if (setup.ceilingMillis <= setup.now() + FOLLOW_MS_MAX)
      this.clock.observe(
        Math.floor(setup.ceilingMillis / 0x10000),
        (setup.ceilingMillis % 0x10000) * 0x10000,
      );
  }

  /**
   * A ballot never given before.
   * @param above what it must be above, as far as the operation knows
   * @param count so many are drawn; the highest is answered, and `lowerBallot` tells the others
   */
  next(above: Ballot | null = null, count = 1): Ballot {
    const { second, setup } = this;
    if (above !== null) {
      if (!this.follows(above)) {
        second.observe(above.clockHigh, above.clockLow);
        second.tick(count);
        return this.ballotOf(second, SECOND_CLOCK);
      }
      this.clock.observe(above.clockHigh, above.clockLow);
    }
    this.clock.tick(count);
    if (millisOf(this.clock) > setup.now() + FOLLOW_MS_MAX && this.clockNumber < SECOND_CLOCK - 1) {
      this.clockNumber++;
      this.clock = new HybridClock(setup.now);
      this.ceilingMillis = 0;
      this.clock.tick(count);
    }
    const millis = millisOf(this.clock);
    if (millis + CEILING_STEP_MS / 2 > this.ceilingMillis) {
      this.ceilingMillis = millis + CEILING_STEP_MS;
      setup.persistCeiling(this.ceilingMillis);
    }
    return this.ballotOf(this.clock, this.clockNumber);
  }

  private ballotOf(clock: HybridClock, number: number): Ballot {
    const { node, incarnation } = this.setup;
    return {
      clockLow: clock.low,
      clockHigh: clock.high,
      node,
      incarnation: ((number << INCARNATION_CLOCK_SHIFT) | incarnation) >>> 0,
    };
  }

  /**
   * Makes sure that later ballots are above one that was seen, unless that one is too far ahead to be
   * believed.
   */
  observe(ballot: Ballot): void {
    if (this.follows(ballot)) this.clock.observe(ballot.clockHigh, ballot.clockLow);
  }

  /** The time that ordinary ballots have at least, in ms since 1970: cluster time, or what they have met. */
  get millis(): number {
    return Math.max(this.setup.now(), millisOf(this.clock));
  }

  private follows(ballot: Ballot): boolean {
    return ballotMillis(ballot) <= this.setup.now() + FOLLOW_MS_MAX;
  }
}

/** The ballot that was drawn so many before this one, together with it. */
export function lowerBallot(ballot: Ballot, count: number): Ballot {
  const low = ballot.clockLow - count;
  return low >= 0
    ? { ...ballot, clockLow: low }
    : { ...ballot, clockLow: low + 2 ** 32, clockHigh: ballot.clockHigh - 1 };
}

/** Whether all of so many ballots that were drawn together, this one being the highest, are above another. */
export function areAbove(ballot: Ballot | null, count: number, other: Ballot | null): boolean {
  if (count === 1 || ballot === null) return true;
  return compareOptionalBallots(lowerBallot(ballot, count - 1), other) > 0;
}

function millisOf({ high, low }: HybridClock): number {
  return high * 0x10000 + Math.floor(low / 0x10000);
}
