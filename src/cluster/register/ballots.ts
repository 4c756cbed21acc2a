/**
 * Where a node's ballots come from. Each is above every ballot that the node gave or saw before, and no other node or start of this node gives
 * the same one: node and incarnation are part of it.
 *
 * Safety needs only that last point. That ballots rise with time is for progress (a low one costs a no and another round), so the persisted ceiling
 * may be written in the background: after a restart with a clock that was set back, the node goes on above what it gave before.
 */
import type { Ballot } from "../../format/record.ts";
import { ballotMillis } from "../../format/version.ts";
import { HybridClock } from "../../util/clock.ts";
import { BALLOT_AHEAD_MS_MAX } from "../../util/limits.ts";

/** How far beyond the last ballot the persisted ceiling is set, so that it is written only every few seconds. */
export const CEILING_STEP_MS = 10_000;

export interface BallotSetup {
  /** The node's number and incarnation, from its STORE file. */
  node: number;
  incarnation: number;
  /** Wall clock in milliseconds since 1970. */
  now: () => number;
  /** The ceiling that was persisted last, in milliseconds since 1970; 0: none. */
  ceilingMillis: number;
  /** Asks for a new ceiling on disk; need not have happened when it returns. */
  persistCeiling: (millis: number) => void;
}

export class BallotSource {
  private readonly setup: BallotSetup;
  private readonly clock: HybridClock;
  private ceilingMillis: number;

  constructor(setup: BallotSetup) {
    this.setup = setup;
    this.clock = new HybridClock(setup.now);
    this.ceilingMillis = setup.ceilingMillis;
    // A ceiling far ahead comes from a clock that was wrong; following it would get this node's ballots refused.
    if (setup.ceilingMillis <= setup.now() + BALLOT_AHEAD_MS_MAX / 2)
      this.clock.observe(
        Math.floor(setup.ceilingMillis / 0x10000),
        (setup.ceilingMillis % 0x10000) * 0x10000,
      );
  }

  /** A ballot never given before. */
  next(): Ballot {
    const { clock, setup } = this;
    clock.tick();
    const ballot = {
      clockLow: clock.low,
      clockHigh: clock.high,
      node: setup.node,
      incarnation: setup.incarnation,
    };
    const millis = ballotMillis(ballot);
    if (millis + CEILING_STEP_MS / 2 > this.ceilingMillis) {
      this.ceilingMillis = millis + CEILING_STEP_MS;
      setup.persistCeiling(this.ceilingMillis);
    }
    return ballot;
  }

  /** Makes sure that later ballots are above one that was seen, unless that one is too far ahead to be believed. */
  observe(ballot: Ballot): void {
    if (ballotMillis(ballot) <= this.setup.now() + BALLOT_AHEAD_MS_MAX)
      this.clock.observe(ballot.clockHigh, ballot.clockLow);
  }
}
