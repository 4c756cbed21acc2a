/** Ballots as words in shared memory. */
import type { Ballot } from "../../format/record.ts";

export const BALLOT_WORDS = 4;
export const BALLOT_BYTES = BALLOT_WORDS * 4;

/** Puts a ballot into four words. */
export function writeBallot(words: Int32Array, at: number, ballot: Ballot): void {
  words[at] = ballot.clockLow;
  words[at + 1] = ballot.clockHigh;
  words[at + 2] = ballot.node;
  words[at + 3] = ballot.incarnation;
}

/** Back from `writeBallot`. */
export function readBallot(words: Int32Array, at: number): Ballot {
  return {
    clockLow: words[at] >>> 0,
    clockHigh: words[at + 1] >>> 0,
    node: words[at + 2] >>> 0,
    incarnation: words[at + 3] >>> 0,
  };
}
