/**
 * The rules by which a replica answers for one key: prepare, accept, and what a collected tombstone leaves
 * behind. Pure: state in, verdict out; whoever calls persists what a yes changed before the yes is sent.
 *
 * The key is a register in the sense of CASPaxos (Rystsov, 2018), with writes that skip the first phase: a
 * ballot is used for one value ever, by one coordinator, so an accept without a prepare is the accept of a
 * proposal that depends on nothing.
 *
 *   prepare(p)  yes only if p is above `promised` and above `ballot`
 *   accept(b)   yes if b is `ballot` (it is held already); otherwise only if b ≥ `promised` and b > `ballot`
 *   accept(b⁺)  the same for the mark that the value at b has ended, which ranks just above b
 *   absent key  has the partition's floor for both: nothing at or under it
 *
 * A value may have an end of life. That it has come is not a matter of anybody's clock: it is the record b⁺,
 * of the same ballot, a tombstone that ranks above b and below every other ballot. So b that comes late at a
 * holder of b⁺ is held already, and b⁺ takes the place of b as any accept does: not under a promise above it.
 *
 * Invariants: `promised` and `ballot` of a key never fall, and a key that loses them (tombstone collected,
 * promise folded) leaves a floor that is at least as high. So a no to a ballot is a no for ever, which is
 * what the coordinator's "every replica said no" stands on. A no carries the ballot that was in the way.
 */
import type { Ballot } from "../format/record.ts";
import {
  ballotMillis,
  compareBallots,
  compareOptionalBallots,
  higherBallot,
  isFromSecondClock,
} from "../format/version.ts";
import { BALLOT_AHEAD_MS_MAX, PROMISE_FOLD_MS } from "../util/limits.ts";

/** What a replica keeps for one key. */
export interface RegisterState {
  /** Highest ballot promised, or null. At or below `ballot` it says nothing more. */
  promised: Ballot | null;
  /** Ballot of the value or tombstone, or null: the key is absent (it may carry a promise all the same). */
  ballot: Ballot | null;
  /** The record at `ballot` is a tombstone, or says that the value has ended. */
  tombstone: boolean;
  /** It says that the value at `ballot` has ended. */
  ended: boolean;
  /** End of life of the value at `ballot`, in ms since 1970; 0: none. */
  end: number;
  /** The record remembers recent operations. */
  remembers?: boolean;
  /** Operation that made the record at `ballot`; kept when it is written again at a higher ballot. */
  operationLow: number;
  operationHigh: number;
}

/** Answers of a judge. */
export const YES = 1;
/** Yes, and there is nothing to store: this very ballot is held already. */
export const ALREADY = 2;
export const NO = 0;
export type Verdict = typeof YES | typeof ALREADY | typeof NO;

/** Where a record stands in the order of all records of its key. */
export interface Rank {
  readonly ballot: Ballot | null;
  readonly ended: boolean;
}

/** Less than 0: `a` ranks below `b`; 0: the same rank; an absent record is below every other. */
export function compareRanks(a: Rank, b: Rank): number {
  const order = compareOptionalBallots(a.ballot, b.ballot);
  if (order !== 0 || a.ballot === null) return order;
  return Number(a.ended) - Number(b.ended);
}

/**
 * Whether a ballot is too far in the future to be taken: the answer is its own kind of no. This bounds what
 * one bad clock can do to the keys of others, and nothing else: what is near to something that the key has
 * here is taken, and so is what follows a record that is itself far ahead. What others have decided (repair,
 * the confirmation of a read) is not judged by it at all.
 * @param obstacle the highest that the key has here, as `obstacleOf` says
 * @param nowMillis cluster time
 */
export function isAhead(ballot: Ballot, obstacle: Ballot | null, nowMillis: number): boolean {
  const known = obstacle === null ? nowMillis : Math.max(nowMillis, ballotMillis(obstacle));
  return ballotMillis(ballot) > known + BALLOT_AHEAD_MS_MAX && !isFromSecondClock(ballot);
}

/**
 * Judges prepare(p). After a yes the caller persists `promised = p` and answers with ballot, tombstone and
 * operation of the state.
 * @param state what is kept for the key; null: nothing
 * @param floor floor of the key's partition; null: none yet
 */
export function judgePrepare(
  state: RegisterState | null,
  floor: Ballot | null,
  p: Ballot,
): typeof YES | typeof NO {
  const obstacle = obstacleOf(state, floor);
  return obstacle === null || compareBallots(p, obstacle) > 0 ? YES : NO;
}

/**
 * Judges accept(b), or accept(b⁺). After YES the caller persists the record with ballot b; a promise at or
 * below b is then void.
 * @param ended it is b⁺
 */
export function judgeAccept(
  state: RegisterState | null,
  floor: Ballot | null,
  b: Ballot,
  ended = false,
): Verdict {
  if (state === null || state.ballot === null) {
    if (floor !== null && compareBallots(b, floor) <= 0) return NO;
  } else {
    const order = compareBallots(b, state.ballot);
    if (order === 0 && (!ended || state.tombstone)) return ALREADY;
    if (order < 0) return NO;
  }
  return state === null || state.promised === null || compareBallots(b, state.promised) >= 0 ? YES : NO;
}

/** The highest ballot that stands in a new one's way: what a no carries. */
export function obstacleOf(state: RegisterState | null, floor: Ballot | null): Ballot | null {
  if (state === null) return floor;
  return higherBallot(state.promised, state.ballot ?? floor);
}

/** Whether the key has a value. */
export function existsIn(state: RegisterState | null): boolean {
  return state !== null && state.ballot !== null && !state.tombstone;
}

/**
 * Whether the replica holds exactly this tombstone, so that it may be collected here.
 * @param ended it is b⁺; the value itself, whose end is not marked yet, is something else
 */
export function holdsTombstone(state: RegisterState | null, ballot: Ballot, ended = false): boolean {
  return (
    state?.ballot != null &&
    state.tombstone &&
    state.ended === ended &&
    compareBallots(state.ballot, ballot) === 0
  );
}

/**
 * A replica's part of "all replicas confirm that very tombstone": it holds it, or it has nothing of the key
 * and a floor that keeps out all that the tombstone does (it has collected it already). Not while its promise
 * is far ahead of cluster time: that would become part of the floor (`floorWithout`), and so stand in the way
 * of all keys of the partition.
 * @param nowMillis cluster time
 */
export function confirmsTombstone(
  state: RegisterState | null,
  floor: Ballot | null,
  ballot: Ballot,
  ended: boolean,
  nowMillis: number,
): boolean {
  if (state === null || state.ballot === null) return floor !== null && compareBallots(floor, ballot) >= 0;
  const { promised } = state;
  const isAheadOfTime = promised !== null && ballotMillis(promised) > nowMillis + BALLOT_AHEAD_MS_MAX;
  return holdsTombstone(state, ballot, ended) && !isAheadOfTime;
}

/**
 * The floor that must be on disk before a tombstone (or a lone promise) of the key is forgotten: at least its
 * ballot, so that no late copy of an older value comes back, and at least its promise, so that the promise is
 * still kept.
 */
export function floorWithout(state: RegisterState, floor: Ballot | null): Ballot | null {
  return higherBallot(floor, higherBallot(state.ballot, state.promised));
}

/**
 * Whether a promise for an absent key is old enough to become part of the floor. That needs no agreement with
 * anybody: the floor refuses at least what the promise refused, and by then its own accept comes too late
 * anyway.
 * @param nowMillis cluster time
 */
export function canFoldPromise(state: RegisterState, nowMillis: number): boolean {
  return (
    state.ballot === null &&
    state.promised !== null &&
    ballotMillis(state.promised) + PROMISE_FOLD_MS < nowMillis
  );
}

/**
 * Whether a promise, if any stands, is above a ballot. A damaged one is over with the record in its key's
 * place.
 */
export function isPromisedAbove(promised: Ballot | null, ballot: Ballot): boolean {
  return promised !== null && compareBallots(promised, ballot) > 0;
}
