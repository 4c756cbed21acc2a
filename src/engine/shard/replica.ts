/**
 * The operations of replication on one shard: what register.ts judges, with the batch's records, promises and
 * floors for its state. Like a write each stages what a yes must persist; it is true after the `commit`
 * that follows.
 *
 * What the error of a failed operation says: `disk_full` and `key_refused` had no effect; after any other
 * nobody knows.
 */
import { TYPE_FORGOTTEN, TYPE_PROMISE } from "../../format/offsets.ts";
import { type Ballot, ballotAt, keyOf, recordUnits, typeOf } from "../../format/record.ts";
import { ballotMillis, compareOptionalBallots, higherBallot } from "../../format/version.ts";
import {
  ALREADY,
  canFoldPromise,
  existsIn,
  floorWithout,
  holdsTombstone,
  judgeAccept,
  judgePrepare,
  NO,
  obstacleOf,
  type RegisterState,
  YES,
} from "../../rules/register.ts";
import {
  failed,
  type KeyRef,
  type Outcome,
  type RegisterOutcome,
  succeeded,
  type Write,
} from "../../rules/write.ts";
import { NOTHING } from "../../util/bytes.ts";
import { hash32, hashBOf, indexPartitionOf } from "../../util/hash.ts";
import { type HashPrefix, indexPartitionOfPrefix, startsWith } from "../../util/hash-prefix.ts";
import type { Batch } from "../batch/batch.ts";
import type { Current } from "../batch/current.ts";
import { type IndexPage, SCAN_END } from "../index/reader.ts";
import { isUnprepared, recentOfKey } from "./once.ts";

/** Keys that one step of dropping a partition forgets. */
const DROP_STEP_KEYS = 256;
const NO_STATE: RegisterState = Object.freeze({
  promised: null,
  ballot: null,
  tombstone: false,
  ended: false,
  end: 0,
  operationLow: 0,
  operationHigh: 0,
});
const NOTHING_HELD = {
  ...{ tombstone: false, ended: false, end: 0, remembers: false },
  ...{ operationLow: 0, operationHigh: 0, floor: null, next: -1 },
};
const NO_ENTRIES = { scan: (): IndexPage => ({ slots: [], units: [], tags: [], next: SCAN_END }) };

function answer(verdict: RegisterOutcome["verdict"], ballot: Ballot | null): RegisterOutcome {
  return { verdict, ballot, ...NOTHING_HELD };
}

/** What the shard holds of a key, or null where it cannot tell; then `outcome` says so. */
function registerOf(
  batch: Batch,
  ref: KeyRef,
  current: Current,
  repair: boolean,
  outcome: Outcome,
): RegisterState | null {
  const promised = batch.promisedOf(ref);
  const damaged = current.state === "damaged" || (promised !== null && promised.ballot === null);
  if (damaged && !repair) {
    outcome.register = answer("damaged", null);
    return null;
  }
  const state: RegisterState = {
    promised: promised?.ballot ?? null,
    ballot: null,
    tombstone: false,
    ended: current.ended,
    end: current.end,
    operationLow: 0,
    operationHigh: 0,
  };
  if (current.state === "value" || current.state === "tombstone") {
    const { clockLow, clockHigh, node, incarnation, operationLow, operationHigh } = batch.headOf(current);
    state.ballot = { clockLow, clockHigh, node, incarnation };
    state.tombstone = current.state === "tombstone";
    state.operationLow = operationLow;
    state.operationHigh = operationHigh;
  }
  return state;
}

/** Judges an accept. True: the record is to be staged, and `outcome` says what it takes the place of. */
export function judgeAcceptOf(
  batch: Batch,
  write: Write,
  ballot: Ballot,
  current: Current,
  outcome: Outcome,
): boolean {
  batch.state.clock.observe(ballot.clockHigh, ballot.clockLow);
  const state = registerOf(batch, write, current, write.repair, outcome);
  if (state === null) return false;
  const floor = batch.floorOf(indexPartitionOf(write.hashA), outcome);
  // What takes the place of a damaged record was decided before: a promise above it goes on standing.
  const verdict =
    current.state === "damaged" ? YES : judgeAccept(state, write.repair ? null : floor, ballot, write.ended);
  outcome.created = !existsIn(state);
  outcome.deleted = write.verb === "delete" && !outcome.created;
  if (verdict === NO) {
    outcome.register = answer("no", obstacleOf(state, floor));
    return false;
  }
  const mayForget = verdict === YES && current.isExtended && !write.repair;
  if (mayForget && isUnprepared(batch, write, current)) {
    outcome.register = answer("unprepared", state.ballot);
    return false;
  }
  outcome.register = answer(verdict === ALREADY ? "already" : "yes", state.ballot);
  outcome.register.tombstone = state.tombstone;
  outcome.register.ended = state.ended;
  outcome.register.end = state.end;
  outcome.ballot = ballot;
  return verdict !== ALREADY;
}

/** Asks for a promise not to accept anything below `ballot`, and for what is held. */
export function prepare(batch: Batch, ref: KeyRef, ballot: Ballot, repair = false): Outcome {
  const outcome = begin(batch, ref);
  if (outcome.error !== null) return outcome;
  batch.state.clock.observe(ballot.clockHigh, ballot.clockLow);
  const current = batch.currentOf(ref, outcome);
  const state = registerOf(batch, ref, current, repair, outcome);
  if (state === null) return outcome;
  const floor = batch.floorOf(indexPartitionOf(ref.hashA), outcome);
  if (judgePrepare(state, floor, ballot) === NO) {
    outcome.register = answer("no", obstacleOf(state, floor));
    return outcome;
  }
  if (!batch.admitsPromise(ref)) return Object.assign(outcome, failed("key_refused"));
  // Set one by one: behind a spread each would be a call of the runtime.
  const yes = answer("yes", state.ballot);
  yes.tombstone = state.tombstone;
  yes.ended = state.ended;
  yes.end = state.end;
  yes.remembers = current.isExtended && recentOfKey(batch, current) !== null;
  yes.operationLow = state.operationLow;
  yes.operationHigh = state.operationHigh;
  yes.floor = state.ballot === null ? floor : null;
  outcome.register = yes;
  batch.describe(TYPE_PROMISE, false, ballot, 0, 0);
  batch.stage(ref, NOTHING, 0, [], [], current, outcome);
  return outcome;
}

/** Raises this shard's floor of a partition of the index; a lower one than there is changes nothing. */
export function raiseFloor(batch: Batch, partition: number, ballot: Ballot): Outcome {
  const outcome = begin(batch, null);
  if (outcome.error !== null) return outcome;
  const floor = batch.floorOf(partition, outcome);
  outcome.register = answer("yes", higherBallot(floor, ballot));
  if (compareOptionalBallots(ballot, floor) > 0) batch.stageFloor(partition, ballot, outcome);
  return outcome;
}

/**
 * Forgets a key whose record is exactly this tombstone, floor first. "no": it is not; then nothing changes.
 * @param ended the one that says that the value of this ballot has ended
 */
export function dropTombstone(batch: Batch, ref: KeyRef, ballot: Ballot, ended = false): Outcome {
  const outcome = begin(batch, ref);
  if (outcome.error !== null) return outcome;
  const current = batch.currentOf(ref, outcome);
  const state = registerOf(batch, ref, current, false, outcome);
  if (state === null) return outcome;
  if (!holdsTombstone(state, ballot, ended)) {
    outcome.register = answer("no", state.ballot);
    return outcome;
  }
  outcome.register = answer("yes", ballot);
  const partition = indexPartitionOf(ref.hashA);
  const floor = batch.floorOf(partition, outcome);
  const needed = floorWithout(state, floor);
  if (needed !== null && compareOptionalBallots(needed, floor) > 0) {
    if (!batch.stageFloor(partition, needed, outcome)) return outcome;
    try {
      batch.makeRoom(recordUnits(ref.key.length, 0, 0), true);
    } catch (error) {
      return batch.log.failure(error);
    }
  }
  forget(batch, ref, ballot, batch.currentOf(ref, outcome), outcome);
  return outcome;
}

function forget(batch: Batch, ref: KeyRef, ballot: Ballot, current: Current, outcome: Outcome): boolean {
  batch.describe(TYPE_FORGOTTEN, false, ballot, 0, 0);
  return batch.stage(ref, NOTHING, 0, [], [], current, outcome);
}

/**
 * One step of forgetting every key and promise of a partition. The floor stays. The caller goes on from
 * `next` until that is -1; after a restart in between from 0. Damaged records are left: nobody knows whose
 * they are.
 */
export function dropPartition(batch: Batch, prefix: HashPrefix, from: number): Outcome {
  const { promises } = batch.state.replication;
  // What this batch has staged is not in the index yet.
  batch.commit();
  const outcome = begin(batch, null);
  if (outcome.error !== null) return outcome;
  // First the keys with records, then those with a promise only.
  const lone = from >= SCAN_END;
  const page = (lone ? (promises ?? NO_ENTRIES) : batch.state.index).scan(
    indexPartitionOfPrefix(prefix),
    lone ? from - SCAN_END : from,
    DROP_STEP_KEYS,
  );
  outcome.register = answer("yes", null);
  outcome.register.next = page.next + (lone ? SCAN_END : 0);
  if (outcome.register.next === 2 * SCAN_END) outcome.register.next = -1;
  for (let i = 0; i < page.slots.length; i++) {
    const map = batch.state.lookup.mapOf(page.slots[i]);
    const unit = page.units[i];
    if (typeOf(map, unit) === TYPE_FORGOTTEN || !batch.state.lookup.check(map, unit)) continue;
    const key = keyOf(map, unit);
    const hashA = hash32(key, 0);
    if (!startsWith(hashA, prefix)) continue;
    const ref = { key, hashA, hashB: hashBOf(key, key.length, batch.state.store.keyHash) };
    try {
      batch.makeRoom(recordUnits(key.length, 0, 0), true);
    } catch (error) {
      batch.fail(batch.log.failure(error));
      return batch.log.failure(error);
    }
    if (!forget(batch, ref, ballotAt(map, unit), batch.currentOf(ref, outcome), outcome)) return outcome;
  }
  return outcome;
}

/**
 * One step of making old promises for absent keys of a partition of the index part of its floor: once that
 * is durable, a promise at or under it says nothing any more, also after a restart. The caller goes on from
 * `next` until that is -1. Damaged ones are left.
 * @param now cluster time, as a ballot
 */
export function foldPromises(batch: Batch, partition: number, from: number, now: Ballot): Outcome {
  const { replication } = batch.state;
  // What this batch has staged is not in the index yet.
  batch.commit();
  const outcome = begin(batch, null);
  if (outcome.error !== null) return outcome;
  const page = (replication.promises ?? NO_ENTRIES).scan(partition, from, DROP_STEP_KEYS);
  outcome.register = answer("yes", null);
  outcome.register.next = page.next === SCAN_END ? -1 : page.next;
  let floor: Ballot | null = null;
  const lone: KeyRef[] = [];
  for (let i = 0; i < page.slots.length; i++) {
    const map = batch.state.lookup.mapOf(page.slots[i]);
    const unit = page.units[i];
    if (!batch.state.lookup.check(map, unit)) continue;
    const key = keyOf(map, unit).slice();
    const ref = { key, hashA: hash32(key, 0), hashB: hashBOf(key, key.length, batch.state.store.keyHash) };
    const promised = ballotAt(map, unit);
    const isLone = batch.currentOf(ref).state === "absent";
    if (!isLone || !canFoldPromise({ ...NO_STATE, promised }, ballotMillis(now))) continue;
    floor = higherBallot(floor, promised);
    lone.push(ref);
  }
  if (floor === null) return outcome;
  if (compareOptionalBallots(floor, batch.floorOf(partition, outcome)) > 0) {
    if (!batch.stageFloor(partition, floor, outcome)) return outcome;
    batch.commit();
    if (outcome.error !== null) return outcome;
  }
  for (const { key, hashA, hashB } of lone) replication.dropPromise(key, hashA, hashB);
  return outcome;
}

/** A fresh outcome, once there is room for a small record; else why there is not. */
function begin(batch: Batch, ref: KeyRef | null): Outcome {
  if (batch.log.writesStopped) return batch.log.stoppedOutcome;
  try {
    batch.makeRoom(recordUnits(ref?.key.length ?? 2, 0, 0), ref === null);
  } catch (error) {
    return batch.log.failure(error);
  }
  return succeeded();
}
