/**
 * Replicas that cannot know: a new or emptied disk, damage that took records, a directory put back from an
 * old copy. Such a replica does not vote (neither prepare, accept nor look) for a partition until it has
 * synchronised. The rules, and why they are right:
 *
 * What was lost is votes: promises, and records that this replica was counted for. Any of them can be one
 * half of a majority. So
 *
 * 1. It waits REJOIN_WAIT_MS from its start. A coordinator counts answers only until OPERATION_MS_MAX after
 *    an operation began, by its own monotonic clock; so after the wait nobody counts a lost vote together
 *    with a vote that another replica is yet to give. Every lost vote that had mattered has its other half on
 *    another replica already. (This is the one place where safety rests on time: on clocks that run at about
 *    the same rate, not on clocks that agree. Where that is too little, replace the node: a change of layout
 *    needs no wait, as its epoch keeps the votes apart.)
 * 2. It reads each key of the partition, keys with only a promise and the floor included, from voting
 *    replicas that make a majority of the whole set (itself not counted; of both sets while the layout
 *    moves). Every majority that it was a part of has another member among those.
 * 3. It takes the highest record and the highest promise (`mergeForRejoin`). One case is not decided by that:
 *    the ballots differ and a promise is above them all. Whoever holds that promise may have seen the lower
 *    record only, on the strength of a lost promise for the other; taking the higher record would make a
 *    majority for it behind the back of that one. Then the key is settled first (`Coordinator.settle`: a full
 *    round at a ballot above that promise, by the replicas that vote) and read again. When the highest record
 *    is at or above every promise, no live proposal is below it; when all ballots are the same, every promise
 *    was given by one who reported that record. In both cases holding it takes nothing back. A promise that
 *    this replica still has of its own, from an old disk, would only keep the record out: then the key is
 *    settled, too.
 * 4. It votes again once all of that is on disk. Writes decided meanwhile it may have missed like any replica
 *    that was away.
 *
 * With two of three replicas in this state nobody can rejoin: data may be lost, and an operator must decide.
 *
 * A new owner in a move has lost no votes: it needs no wait. It votes as soon as it has the floor from a
 * majority of the previous set, and then takes the highest record of each key from a majority of that set
 * (`mergeForMove`), also one below its floor: the floor may come from other keys.
 *
 * A key that remembers recent operations, though its highest record does not, is settled first as well: that
 * record is of a write that had not asked, and would become the decided one without what it has to remember
 * (register/remembered.ts).
 *
 * "Highest" and "the same" go by rank: the mark that a value has ended is above that value. Whoever holds a
 * promise above both may have judged by the value.
 *
 * Until it is done, a replica that synchronises confirms no tombstone (tombstones.ts): what it has been told
 * of a key may be older than the tombstone.
 */

import type { Ballot } from "../../format/record.ts";
import { compareOptionalBallots, higherBallot } from "../../format/version.ts";
import { compareRanks, type Rank, type RegisterState } from "../../rules/register.ts";
import { REJOIN_WAIT_MS } from "../../util/limits.ts";
import { hasMajority, hasPreviousMajority, type ReplicaGroup } from "../layout/groups.ts";

/**
 * Whether a replica that does not vote has waited long enough to begin to synchronise. Both in monotonic ms
 * of this start of the process.
 */
export function mayRejoin(startedMs: number, nowMs: number): boolean {
  return nowMs - startedMs >= REJOIN_WAIT_MS;
}

/**
 * Whether these replicas (bits), which vote, are enough for the replica `self` (a bit) to synchronise from.
 */
export function areRejoinSources(group: ReplicaGroup, self: number, sources: number): boolean {
  return hasMajority(group, sources & ~self);
}

/**
 * Whether these replicas (bits) are enough for a new owner to synchronise from. It may itself be one of them
 * where it was an owner before.
 */
export function areMoveSources(group: ReplicaGroup, sources: number): boolean {
  return hasPreviousMajority(group, sources);
}

/** The floor that a replica needs before it votes: the highest among the sources and its own. */
export function mergeFloors(floors: readonly (Ballot | null)[]): Ballot | null {
  return floors.reduce(higherBallot, null);
}

export type Merge =
  /** Hold the record of `sources[from]` (-1: none) and this promise. */
  | { kind: "take"; from: number; promised: Ballot | null }
  /** Settle the key, then read it again. */
  | { kind: "settle" };

/** What a source says of a key: its state, and the floor of the partition there. */
export interface SourceState {
  readonly state: RegisterState | null;
  readonly floor: Ballot | null;
}

/** The rank of a key without a record. */
const NOTHING: Rank = Object.freeze({ ballot: null, ended: false });

/**
 * A promise that says more than the record beside it. One for an absent key may have become part of the
 * floor.
 */
function openPromise({ state, floor }: SourceState): Ballot | null {
  if (state === null || state.ballot === null) return higherBallot(state?.promised ?? null, floor);
  return compareOptionalBallots(state.promised, state.ballot) > 0 ? state.promised : null;
}

/** What a replica that rejoins makes of a key, from what it has and what its sources say of it. */
export function mergeForRejoin(own: RegisterState | null, sources: readonly SourceState[]): Merge {
  let from = -1;
  let highest: Rank = NOTHING;
  let promised: Ballot | null = null;
  let same = true;
  let remembers = false;
  for (let index = 0; index < sources.length; index++) {
    const held = sources[index].state ?? NOTHING;
    const order = compareRanks(held, highest);
    remembers ||= sources[index].state?.remembers === true;
    if (index > 0 && order !== 0) same = false;
    if (order > 0) {
      highest = held;
      from = index;
    }
    promised = higherBallot(promised, openPromise(sources[index]));
  }
  if (!same && compareOptionalBallots(promised, highest.ballot) > 0) return { kind: "settle" };
  if (remembers && from >= 0 && sources[from].state?.remembers !== true) return { kind: "settle" };
  // A promise that the others have perhaps not heard of would keep the record out.
  const isOutranked = compareOptionalBallots(own?.promised ?? null, highest.ballot) > 0;
  if (isOutranked && compareRanks(highest, own ?? NOTHING) > 0) return { kind: "settle" };
  return { kind: "take", from, promised };
}

/**
 * What a new owner makes of a key. "nothing": it holds that much already. `take` leaves its own promise as it
 * is.
 */
export function mergeForMove(
  own: RegisterState | null,
  sources: readonly SourceState[],
): { kind: "take"; from: number } | { kind: "settle" | "nothing" } {
  let from = -1;
  let highest: Rank & Pick<RegisterState, "remembers"> = own ?? NOTHING;
  let remembers = own?.remembers === true;
  for (let index = 0; index < sources.length; index++) {
    const held: typeof highest = sources[index].state ?? NOTHING;
    remembers ||= held.remembers === true;
    if (compareRanks(held, highest) > 0) {
      highest = held;
      from = index;
    }
  }
  if (remembers && highest.remembers !== true) return { kind: "settle" };
  if (from < 0) return { kind: "nothing" };
  // An own promise above the record must be kept: somebody is about to write there, or was.
  return compareOptionalBallots(own?.promised ?? null, highest.ballot) > 0
    ? { kind: "settle" }
    : { kind: "take", from };
}

/**
 * Whether a record that the replica still has of its own must go: it is not above the floor, and all sources
 * have nothing of the key, so its tombstone was collected. Otherwise an own record stays if it is higher than
 * what `mergeForRejoin` says.
 */
export function wasCollected(
  own: RegisterState,
  sources: readonly SourceState[],
  floor: Ballot | null,
): boolean {
  return (
    sources.every(({ state }) => state === null || state.ballot === null) &&
    compareOptionalBallots(own.ballot, floor) <= 0
  );
}
