/**
 * A batch: what was staged since the last commit, the promises and floors included. Writes are judged against
 * the newest state of their key, so also against what is staged; `commit` writes, syncs and only then
 * publishes.
 *
 *   stage ► staged records ► commit: flush ► fdatasync ► publish in the index ► outcomes are true
 *
 * A failed write fails the staged operations and leaves the shard as it was.
 */

import { endAt, endOf } from "../../format/end.ts";
import type { ChunkRef } from "../../format/manifest.ts";
import { TYPE_CHUNK, TYPE_ENDED, TYPE_FLOOR, TYPE_PROMISE, UNIT_BYTES } from "../../format/offsets.ts";
import {
  type Ballot,
  ballotAt,
  emptyHead,
  isExtended,
  keyEquals,
  type RecordHead,
  type RecordSource,
  readHead,
  recordUnits,
  typeOf,
} from "../../format/record.ts";
import { isIndexed } from "../../format/record-types.ts";
import type { Frame } from "../../format/write-record.ts";
import { failed, type KeyRef, type Outcome, type Write } from "../../rules/write.ts";
import { NOTHING } from "../../util/bytes.ts";
import { hash32, hashBOf } from "../../util/hash.ts";
import { TAG_ENTRIES_MAX } from "../../util/limits.ts";
import type { Compactor } from "../compaction/compaction.ts";
import type { Log } from "../log/log.ts";
import { FIGURE } from "../slabs/figures.ts";
import { floorKey } from "../state/floors.ts";
import type { Published } from "../state/ledger.ts";
import type { Promised } from "../state/replication.ts";
import type { State } from "../state/state.ts";
import { type Current, nothing, stateOf } from "./current.ts";

/** A record that is staged and not yet in the index. */
interface Staged extends Published {
  readonly outcome: Outcome;
  /** What was staged before it in the same place of its table, perhaps for the same key. */
  readonly under: Staged | undefined;
}

/** Places of a table of what is staged, by a key's first hash. */
const PLACES = 1024;

const NO_CHUNKS: readonly ChunkRef[] = [];
/** What a floor takes the place of. */
const NO_RECORD = nothing("absent", 0);

export class Batch {
  readonly state: State;
  readonly log: Log;
  /** Of the record that is staged next. */
  readonly head: RecordHead = emptyHead();
  private readonly compactor: Compactor;
  private staged: Staged[] = [];
  /**
   * The newest staged record of each place: 1 + its number in `staged`, 0: none. A table, since a Map that
   * is filled and emptied with each batch is made anew and grows each time.
   */
  private readonly overlay = new Int32Array(PLACES);
  /** Staged promises, likewise, and staged floors by partition. */
  private readonly promiseOverlay = new Int32Array(PLACES);
  private readonly stagedFloors = new Map<number, Ballot>();
  /** Outcomes that were judged by staged records: if those fail, so do these. */
  private dependents: Outcome[] = [];
  /** Called when what was staged for uploads since the last commit is lost. */
  private uploadFailures: ((outcome: Outcome) => void)[] = [];

  constructor(state: State, log: Log, compactor: Compactor) {
    this.state = state;
    this.log = log;
    this.compactor = compactor;
  }

  /**
   * Opens the next slab when the open one cannot take a record of so many units. Commits what is staged
   * first.
   * @param isDelete it may use what is kept for a full disk
   * @throws what the disk says, or that it is full
   */
  makeRoom(units: number, isDelete = false): void {
    const { log, compactor } = this;
    const { appender } = log;
    if (log.room.isFull && !isDelete) log.room.require(units * UNIT_BYTES);
    if (log.room.isFull && isDelete && compactor.neededBytes > 0) {
      // What compaction needs to finish is not for deletes: it would never give them more.
      const allocatedBytes = log.room.allocatedBytes(this.state.store.chunkBytes);
      if (allocatedBytes - units * UNIT_BYTES < compactor.neededBytes) {
        this.commit();
        compactor.finish();
      }
    }
    if (appender.hasRoom(units)) return;
    this.commit();
    log.startSlab();
  }

  /** Writes, syncs and publishes everything staged. Never throws for the disk's sake: the outcomes tell. */
  commit(): void {
    const { log, staged, state } = this;
    const failure = log.commit(staged.length > 0);
    if (failure !== null) {
      this.fail(failure);
      return;
    }
    const { sequence, slot, endUnit } = log.appender;
    for (const record of staged) state.publish(record, sequence, slot);
    if (staged.length > 0) state.answeredUpTo(sequence, endUnit);
    this.clear();
    log.settled();
  }

  private clear(): void {
    for (const { hashA } of this.staged) {
      const place = placeOf(hashA);
      this.overlay[place] = this.promiseOverlay[place] = 0;
    }
    this.staged = [];
    this.stagedFloors.clear();
    this.dependents = [];
    this.uploadFailures = [];
  }

  /** Takes back everything staged: the operations fail with `why`. */
  fail(why: Outcome): void {
    const outcomes = [...this.staged.map(({ outcome }) => outcome), ...this.dependents];
    const uploads = this.uploadFailures;
    this.clear();
    this.log.rollBack();
    // To other nodes a full disk, or a lack of descriptors, says that nothing has happened, so it must be
    // true.
    const unknown =
      this.state.figures[FIGURE.replicated] !== 0 &&
      this.log.appender.file.uncertain &&
      (why.error === "disk_full" || why.error === "overloaded");
    for (const outcome of outcomes) Object.assign(outcome, unknown ? failed("internal", "unknown") : why);
    for (const lost of uploads) lost(why);
  }

  /** Fills the head of the record that is staged next. */
  describe(type: number, json: boolean, ballot: Ballot, operationLow: number, operationHigh: number): void {
    const { head } = this;
    head.type = type;
    head.json = json;
    head.outranked = head.fresh = false;
    head.chunk = 0;
    head.clockLow = ballot.clockLow;
    head.clockHigh = ballot.clockHigh;
    head.node = ballot.node;
    head.incarnation = ballot.incarnation;
    head.operationLow = operationLow;
    head.operationHigh = operationHigh;
  }

  /**
   * Stages the record that `head` describes, in place of `current`; there must be room.
   * @param trailer its fields; empty: it has none
   * @param partition of a floor: whose it is
   * @returns false: it failed, as `outcome` then says
   */
  stage(
    { key, hashA, hashB }: KeyRef,
    contentType: Uint8Array,
    valueBytes: number,
    parts: readonly Uint8Array[],
    chunks: readonly ChunkRef[],
    current: Current,
    outcome: Outcome,
    trailer: Uint8Array = NOTHING,
    partition = -1,
  ): boolean {
    const { head, log } = this;
    const { type } = head;
    head.fresh = isIndexed(type) && this.isFreshAfter(current);
    if (!this.hasPlace(type, current)) {
      Object.assign(outcome, failed("key_refused"));
      return false;
    }
    const overlay = type === TYPE_PROMISE ? this.promiseOverlay : this.overlay;
    const under = this.newest(overlay, hashA);
    try {
      log.appender.append(head, key, contentType, hashA, hashB, valueBytes, parts, trailer);
    } catch (error) {
      this.dependents.push(outcome);
      this.fail(log.failure(error));
      return false;
    }
    const { lastUnit: unit, lastUnits: units } = log.appender;
    if (head.fresh)
      this.state.noteFresh(current.state === "value" ? current : null, log.appender.sequence, unit);
    const { slot: oldSlot, unit: oldUnit } = current;
    const staged: Staged = {
      hashA,
      hashB,
      type,
      unit,
      units,
      oldSlot,
      oldUnit,
      end: type === TYPE_ENDED ? 0 : endOf(trailer),
      chunks,
      partition,
      outcome,
      under,
    };
    this.staged.push(staged);
    if (type !== TYPE_FLOOR) overlay[placeOf(hashA)] = this.staged.length;
    return true;
  }

  private newest(overlay: Int32Array, hashA: number): Staged | undefined {
    const number = overlay[placeOf(hashA)];
    return number === 0 ? undefined : this.staged[number - 1];
  }

  /** The record, or the promise, of a key that is staged in this batch: the newest. */
  private stagedIn(overlay: Int32Array, { key, hashA, hashB }: KeyRef): Staged | undefined {
    let staged = this.newest(overlay, hashA);
    for (; staged !== undefined; staged = staged.under) {
      if (staged.hashA !== hashA || staged.hashB !== hashB) continue;
      const { source, unit } = this.sourceOf(staged.unit);
      if (keyEquals(source, unit, key, key.length)) return staged;
    }
    return undefined;
  }

  /** Whether this batch has a record of a key. */
  has(ref: KeyRef): boolean {
    return this.stagedIn(this.overlay, ref) !== undefined;
  }

  /**
   * Whether the index takes an entry for a key, as far as its tag goes. What is staged is made visible first
   * where that matters.
   * @param current the newest state of the key
   */
  admits(ref: KeyRef, current: Current): boolean {
    if (current.slot >= 0 || current.crowd + this.staged.length < TAG_ENTRIES_MAX) return true;
    if (this.staged.length === 0) return false;
    this.commit();
    return this.admits(ref, this.currentOf(ref));
  }

  /** The same for a promise, which has an index of its own. */
  admitsPromise(ref: KeyRef): boolean {
    const { replication } = this.state;
    if (this.stagedIn(this.promiseOverlay, ref) !== undefined) return true;
    if (replication.promiseOf(ref.key, ref.hashA, ref.hashB) !== null) return true;
    if (replication.met + this.staged.length < TAG_ENTRIES_MAX) return true;
    if (this.staged.length === 0) return false;
    this.commit();
    return this.admitsPromise(ref);
  }

  /**
   * Whether a write of a key would be refused for want of a place in the index. For uploads, which write long
   * before they are judged.
   */
  refusesKey(ref: KeyRef): boolean {
    return !this.admits(ref, this.currentOf(ref));
  }

  /**
   * Makes sure of the memory that publishing one more record may take in an index: afterwards it would be too
   * late.
   */
  private hasPlace(type: number, current: Current): boolean {
    const { index, replication } = this.state;
    if (type === TYPE_FLOOR) return true;
    if (type === TYPE_PROMISE) return replication.reserve(this.staged.length + 1);
    return current.slot >= 0 || index.reserve(this.staged.length + 1);
  }

  /**
   * The newest state of a key: from its record staged in this batch, else from the index.
   * @param outcome what is judged by it, so that it falls with a staged record; left out: nothing
   */
  currentOf(ref: KeyRef, outcome?: Outcome): Current {
    const before = this.stagedIn(this.overlay, ref);
    if (before !== undefined) {
      if (outcome !== undefined) this.dependents.push(outcome);
      const { source, unit: at } = this.sourceOf(before.unit);
      return this.recordAt(before.type, source, at, this.log.appender.slot, before.unit);
    }
    const { lookup } = this.state;
    const state = lookup.find(ref.key, ref.key.length, ref.hashA, ref.hashB);
    if (!lookup.located) return nothing(state === "absent" ? "absent" : "damaged", lookup.met);
    const { map, unit } = lookup;
    if (state === "damaged" || !lookup.check(map, unit))
      return { ...nothing("damaged", 0), slot: map.slot, unit };
    return this.recordAt(typeOf(map, unit), map, unit, map.slot, unit);
  }

  private recordAt(type: number, source: RecordSource, at: number, slot: number, unit: number): Current {
    const extended = isExtended(source, at);
    const end = extended ? endAt(source, at) : 0;
    const ended = type === TYPE_ENDED;
    return { state: stateOf(type), ended, end, slot, unit, isExtended: extended, crowd: 0 };
  }

  /** The promise that stands for a key, staged or durable. */
  promisedOf(ref: KeyRef): Promised | null {
    const staged = this.stagedIn(this.promiseOverlay, ref);
    if (staged === undefined) return this.state.replication.promiseOf(ref.key, ref.hashA, ref.hashB);
    const { source, unit } = this.sourceOf(staged.unit);
    return { ballot: ballotAt(source, unit), slot: this.log.appender.slot, unit: staged.unit };
  }

  /** The floor of a partition, staged or durable; an outcome that rests on it falls with it. */
  floorOf(partition: number, outcome: Outcome): Ballot | null {
    const staged = this.stagedFloors.get(partition);
    if (staged !== undefined) this.dependents.push(outcome);
    return staged ?? this.state.replication.floors.of(partition) ?? null;
  }

  /** Stages a floor; there must be room. False: it failed, as `outcome` then says. */
  stageFloor(partition: number, ballot: Ballot, outcome: Outcome): boolean {
    const key = floorKey(partition);
    const ref = { key, hashA: hash32(key, 0), hashB: hashBOf(key, key.length, this.state.store.keyHash) };
    this.describe(TYPE_FLOOR, false, ballot, 0, 0);
    if (!this.stage(ref, NOTHING, 0, [], NO_CHUNKS, NO_RECORD, outcome, NOTHING, partition)) return false;
    this.stagedFloors.set(partition, ballot);
    return true;
  }

  /** The head of a key's newest record, in `head`. */
  headOf(current: Current): RecordHead {
    const { source, unit } = this.readable(current.slot, current.unit);
    readHead(source, unit, this.head);
    return this.head;
  }

  /** Whether the record that takes the place of `current` is fresh. */
  private isFreshAfter({ state, slot, unit }: Current): boolean {
    // A damaged one says nothing. What says that there is nothing may have been dropped once, its key with it
    // from every list, and be back after a crash, as its slab was.
    if (slot < 0 || state !== "value") return this.state.marksFresh;
    const { source, unit: at } = this.readable(slot, unit);
    return this.state.isFresh(source, at, slot, unit);
  }

  /** Where a record can be read, wherever it is. */
  readable(slot: number, unit: number): { source: RecordSource; unit: number } {
    return slot === this.log.appender.slot
      ? this.sourceOf(unit)
      : { source: this.state.lookup.mapOf(slot), unit };
  }

  /** Where a record of the open slab can be read: in the staging buffer, or in the map once it is flushed. */
  private sourceOf(unit: number): { source: RecordSource; unit: number } {
    const { appender } = this.log;
    const staged = appender.stagedUnit(unit);
    return staged >= 0
      ? { source: appender.staging, unit: staged }
      : { source: this.state.lookup.mapOf(appender.slot), unit };
  }

  /**
   * Writes a chunk of a large value. Throws what the disk says; `lost` is called if a later failure takes the
   * chunk back.
   */
  appendChunk(
    write: Write,
    number: number,
    frame: Frame,
    bytes: number,
    lost: (outcome: Outcome) => void,
  ): ChunkRef {
    this.makeRoom(recordUnits(write.key.length, 0, bytes));
    const { head } = this;
    const { appender } = this.log;
    head.type = TYPE_CHUNK;
    head.json = head.outranked = head.fresh = false;
    head.chunk = number;
    head.clockLow = head.clockHigh = head.node = head.incarnation = 0;
    head.operationLow = write.operationLow;
    head.operationHigh = write.operationHigh;
    appender.appendFrame(head, write.key, write.hashA, write.hashB, frame, bytes);
    this.uploadFailures.push(lost);
    return {
      sequence: appender.sequence,
      unit: appender.lastUnit,
      bytes,
      checksum: appender.lastChecksum,
    };
  }
}

function placeOf(hashA: number): number {
  return hashA & (PLACES - 1);
}
