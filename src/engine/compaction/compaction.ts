/**
 * Compaction: copies what still counts out of the slab with the least live bytes, to the end of the log, then
 * drops the slab. In steps of bounded size, between batches, so that nobody waits for a whole slab (Rosenblum
 * & Ousterhout, "The Design and Implementation of a Log-Structured File System", 1991, with a greedy choice).
 *
 * What a copy is says copies.ts. The slab is dropped after what was copied is synced.
 */
import { TYPE_CHUNK, TYPE_MARK } from "../../format/offsets.ts";
import { isTold } from "../../format/record-types.ts";
import { tableType, tableUnit } from "../../format/slab.ts";
import { type Log, UNSYNCED_BYTES_MAX } from "../log/log.ts";
import { FIGURE } from "../slabs/figures.ts";
import type { SlabMap } from "../slabs/maps.ts";
import type { State } from "../state/state.ts";
import { Appraisal } from "./appraisal.ts";
import { chooseVictim } from "./choose.ts";
import { Chunks, type MovedValues } from "./chunks.ts";
import { Copies } from "./copies.ts";

/**
 * Bytes that may be moved for each byte that was written since the last step. Random overwriting of
 * everything needs 0.8 at 1.6 times the live bytes, and less where more is dead, so this catches up; and what
 * nobody writes, nobody pays for.
 */
const MOVED_PER_WRITTEN = 2;
const STEP_BYTES_MAX = 8 * 1024 * 1024;
/**
 * Small records cost more than their bytes: a step looks at so many, of which one that is moved counts for
 * MOVE_WEIGHT.
 */
const STEP_RECORDS_MAX = 16_384;
const MOVE_WEIGHT = 8;
/** How long after there was nothing to gain on a full disk it is looked again. */
const LOOK_AGAIN_MS = 250;
/**
 * After a slab could not be finished the next attempt is put off, each time for twice as long, up to 2 **
 * RETRY_DOUBLINGS_MAX times this.
 */
const RETRY_MS = 1000;
const RETRY_DOUBLINGS_MAX = 8;
interface Victim {
  sequence: number;
  map: SlabMap;
  table: Int32Array;
  next: number;
  moved: MovedValues;
  oldest: boolean;
  /** What it will still write, about, in bytes. */
  restBytes: number;
}

export class Compactor {
  private readonly state: State;
  private readonly log: Log;
  private readonly now: () => number;
  private victim: Victim | null = null;
  /** Bytes appended in all when the last step ended. */
  private paidBytes = 0;
  /**
   * When a slab may be chosen again, by the shard's clock, and how often in a row one could not be finished.
   */
  private notBeforeMs = Number.NEGATIVE_INFINITY;
  private failures = 0;
  /** How many want every slab to stay for now. */
  private holds = 0;
  private readonly chunks: Chunks;
  private readonly copies: Copies;
  private readonly appraisal: Appraisal;

  /**
   * @param now wall clock in milliseconds since 1970
   * @param historyMs how long deletes are told to who follows the log
   */
  constructor(state: State, log: Log, now: () => number, historyMs: number) {
    this.state = state;
    this.log = log;
    this.now = now;
    this.chunks = new Chunks(state, log);
    this.copies = new Copies(state, log);
    this.appraisal = new Appraisal(state, log, this.chunks, now, historyMs);
  }

  /**
   * Copies up to about `bytesMax` of records, or more if much was written since the last step. A full disk or
   * a failed write ends the step and is tried again at a later one.
   * @returns whether there is more to do now
   */
  step(bytesMax: number): boolean {
    const { appender } = this.log;
    const writtenBytes = appender.appendedBytes - this.paidBytes;
    const more = this.move(Math.max(bytesMax, Math.min(STEP_BYTES_MAX, writtenBytes * MOVED_PER_WRITTEN)));
    this.paidBytes = appender.appendedBytes;
    return more;
  }

  /** Bytes of what is allocated on a full disk that the slab under way still needs. */
  get neededBytes(): number {
    return this.victim === null ? 0 : Math.max(0, this.victim.restBytes);
  }

  /**
   * Finishes the slab under way, at once: what was kept for it is free for others then. Nothing may be
   * staged.
   */
  finish(): void {
    while (this.victim !== null && this.move(STEP_BYTES_MAX));
  }

  /**
   * No slab is dropped until `release`: for who takes the names of all. A full disk goes before: then one may
   * go all the same.
   */
  hold(): void {
    this.holds++;
  }

  release(): void {
    this.holds--;
  }

  private move(bytesMax: number): boolean {
    if (this.holds > 0 && !this.log.room.isPressed) return false;
    const { state, log } = this;
    this.copies.begin();
    try {
      if (this.victim === null) this.victim = this.choose();
      const { victim } = this;
      if (victim === null) return false;
      let copied = 0;
      let records = 0;
      while (victim.next < victim.table.length && copied < bytesMax && records < STEP_RECORDS_MAX) {
        const bytes = this.moveRecord(
          victim,
          victim.table[victim.next],
          victim.table[victim.next + 1],
          victim.table[victim.next + 2],
        );
        copied += bytes;
        victim.restBytes -= bytes;
        records += bytes > 0 ? MOVE_WEIGHT : 1;
        victim.next += 3;
        if (state.slabs.bySequence(victim.sequence)?.damaged === true) this.victim = null;
        if (this.victim === null) break;
      }
      this.copies.publish(victim.map);
      if (this.victim === null) return true;
      state.figures[FIGURE.compactedBytes] += copied;
      if (victim.next >= victim.table.length) {
        this.victim = null;
        if (!this.chunks.rewriteManifests(victim.moved, this.copies)) {
          this.leave(victim.sequence, "the manifest of chunks in it is damaged");
          return true;
        }
        if (!log.syncNow()) return false;
        state.slabs.drop(victim.sequence, log.appender.end);
        log.succession.sealing.forget(victim.sequence);
        this.failures = 0;
      } else if (log.appender.file.unsyncedBytes > UNSYNCED_BYTES_MAX) log.syncNow();
      return true;
    } catch (error) {
      this.victim = null;
      this.copies.forget();
      log.failure(error);
      log.rollBack();
      this.notBeforeMs = this.now() + RETRY_MS * 2 ** Math.min(this.failures++, RETRY_DOUBLINGS_MAX);
      return false;
    }
  }

  /** The slab to empty next, or null while there is little to gain. */
  private choose(): Victim | null {
    const { state, log } = this;
    const nowMs = this.now();
    const pressed = log.room.isPressed;
    const wait = this.notBeforeMs - nowMs;
    if (wait > 0 && wait <= RETRY_MS * 2 ** RETRY_DOUBLINGS_MAX) return null;
    const choice = chooseVictim(state.slabs.all(), this.appraisal.circumstances(pressed));
    if (choice === null) {
      if (pressed) this.notBeforeMs = nowMs + LOOK_AGAIN_MS;
      return null;
    }
    if (choice.kind === "compact") return this.start(choice.slab.sequence, choice.oldest, choice.copyBytes);
    try {
      log.startSlab();
    } catch (error) {
      log.failure(error);
      this.notBeforeMs = nowMs + LOOK_AGAIN_MS;
    }
    return null;
  }

  private start(sequence: number, oldest: boolean, restBytes: number): Victim | null {
    const map = this.state.lookup.maps.bySequence(sequence);
    const table = map === null ? null : this.appraisal.tableOf(sequence, map);
    if (map === null || table === null) {
      this.leave(sequence, "its table cannot be read");
      return null;
    }
    return { sequence, map, table, next: 0, moved: new Map(), oldest, restBytes };
  }

  /** Leaves a damaged slab where it is. */
  private leave(sequence: number, why: string): void {
    this.state.damaged(sequence);
    this.state.warn(
      `slab ${sequence} of shard ${this.state.shard} is not compacted: ${why}; run minivault verify`,
    );
  }

  /** Copies one record if it counts; answers the bytes copied. */
  private moveRecord(victim: Victim, hashA: number, hashB: number, word: number): number {
    const unit = tableUnit(word);
    const type = tableType(word);
    const { state } = this;
    const { map } = victim;
    if (type === TYPE_MARK) return 0;
    if (type === TYPE_CHUNK) return this.moveChunk(victim, unit, hashA, hashB);
    if (!state.counts(type, hashA, hashB, map, unit)) return 0;
    if (!state.lookup.checkAgain(map, unit)) {
      this.leave(victim.sequence, `the record at unit ${unit} is damaged`);
      return 0;
    }
    if (victim.oldest && this.appraisal.isDroppable(type, map, unit)) {
      // Nothing older of this key can exist: it would be in an older slab, or before it in this one.
      if (isTold(type)) state.forgetDelete(map, unit);
      state.remove(type, hashA, hashB, map, unit);
      return 0;
    }
    return this.copies.copy(map, unit, hashA, hashB);
  }

  private moveChunk(victim: Victim, unit: number, hashA: number, hashB: number): number {
    const { state } = this;
    const { map } = victim;
    if (!state.lookup.checkAgain(map, unit)) {
      if (state.slabs.bySequence(victim.sequence)?.liveBytes !== 0)
        this.leave(victim.sequence, `the chunk at unit ${unit} is damaged`);
      return 0;
    }
    const owner = this.chunks.ownerOf(map, unit, hashA, hashB);
    if (owner === "damaged") {
      this.leave(victim.sequence, `what its chunk at unit ${unit} belongs to is damaged`);
      return 0;
    }
    if (owner === null) return 0;
    const bytes = this.copies.copy(map, unit, hashA, hashB);
    this.chunks.moved(victim.moved, hashA, hashB, owner);
    return bytes;
  }
}
