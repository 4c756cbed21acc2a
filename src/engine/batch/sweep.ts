/**
 * What a shard does about values whose end has come, without being asked: first it looks through the tables
 * of what was there at the start, for those that will end; from then on it marks what the calendar says is
 * over. In steps of bounded size, between batches.
 */
import { endAt } from "../../format/end.ts";
import { SLAB_UNIT_BITS, UNIT_BYTES } from "../../format/offsets.ts";
import { ballotAt, keyOf, unitsAt } from "../../format/record.ts";
import { isValue } from "../../format/record-types.ts";
import { tableEnding, tableType, tableUnit } from "../../format/slab.ts";
import { hasEnded } from "../../rules/expiry.ts";
import { type KeyRef, type Outcome, succeeded } from "../../rules/write.ts";
import { nameOf } from "../../util/bytes.ts";
import { hash32, hashBOf } from "../../util/hash.ts";
import { tableOf } from "../compaction/appraisal.ts";
import { FIGURE, logPlace } from "../slabs/figures.ts";
import type { SlabMap } from "../slabs/maps.ts";
import type { Batch } from "./batch.ts";
import { isMarkable, markEnded } from "./ended.ts";

/** Entries of tables, and of the calendar, that a step looks at. */
const LOOKED_AT_MAX = 8192;
const THINNED_MAX = 4096;
/** Values that a step marks: they are one commit. */
const MARKED_MAX = 512;
/** The records of those are read, so that a step ends after about so many bytes, too. */
const MARKED_BYTES_MAX = 4 * 1024 * 1024;
/** A few that are over wait so long for others, so that a commit is worth while. */
const PAUSE_MS = 100;
/** After a failure, and what nobody may mark now: when it is tried again. */
const AGAIN_MS = 1000;
/** Keys that are kept for who can do something about them. */
const OVERDUE_MAX = 1024;

/** A slab whose table is being looked through. */
interface Page {
  map: SlabMap;
  table: Int32Array;
  next: number;
}

export class Sweep {
  private readonly batch: Batch;
  /** Sequences that were there at the start and are not looked through yet, in order. */
  private unread: number[] | null = null;
  private page: Page | null = null;
  private notBeforeMs = 0;
  /** Keys of values that are over and cannot be marked here, as latin1 text of their bytes. */
  private readonly overdue = new Set<string>();

  constructor(batch: Batch) {
    this.batch = batch;
  }

  /** Whether `step` has something to do by now. */
  get isDue(): boolean {
    if (this.unread !== null || this.isAnyOver()) return true;
    const { ends, figures } = this.batch.state;
    return ends.calendar.entries > 0 && ends.calendar.isThick(figures[FIGURE.ending]);
  }

  private isAnyOver(): boolean {
    const { ends } = this.batch.state;
    if (ends.calendar.entries === 0) return false;
    return ends.calendar.next <= ends.markable && ends.clock.now() >= this.notBeforeMs;
  }

  /** To be called once, when the shard is open: what is in these slabs is not in the calendar yet. */
  begin(sequences: readonly number[], openedEnd: number): void {
    this.batch.state.ends.opened(openedEnd);
    if (sequences.length > 0) this.unread = [...sequences];
  }

  /** One step. Nothing may be staged. Answers whether there is more to do at once. */
  step(): boolean {
    if (this.unread !== null) {
      this.read(this.unread);
      return true;
    }
    const { state } = this.batch;
    const { calendar } = state.ends;
    const thinning = calendar.thin(state.figures[FIGURE.ending], (place) => this.isKept(place), THINNED_MAX);
    const more = this.isAnyOver() && this.mark();
    state.figures[FIGURE.calendar] = calendar.entries;
    return thinning || more;
  }

  /** Takes the keys that it could not mark. */
  takeOverdue(limit: number): string[] {
    const keys = [...this.overdue].slice(0, limit);
    for (const key of keys) this.overdue.delete(key);
    return keys;
  }

  /** Enters what will end of some of the records that were there at the start. */
  private read(unread: number[]): void {
    const { state, log } = this.batch;
    let looked = 0;
    while (looked < LOOKED_AT_MAX) {
      if (this.page === null) {
        const [sequence] = unread;
        if (sequence === undefined) {
          this.unread = null;
          state.ends.knownUpTo(Number.POSITIVE_INFINITY);
          return;
        }
        const map = state.slabs.bySequence(sequence) && state.lookup.maps.bySequence(sequence);
        const table = map ? tableOf(log, sequence, map) : null;
        unread.shift();
        if (!map || table === null) continue;
        this.page = { map, table, next: 0 };
      }
      const { page } = this;
      for (; page.next < page.table.length && looked < LOOKED_AT_MAX; page.next += 3, looked++)
        this.enter(page);
      if (page.next >= page.table.length) this.page = null;
    }
  }

  private enter({ map, table, next }: Page): void {
    const word = table[next + 2];
    if (!tableEnding(word) || !isValue(tableType(word))) return;
    const { state } = this.batch;
    const unit = tableUnit(word);
    const place = logPlace({ sequence: map.sequence, unit });
    if (place >= state.ends.openedAt) return;
    state.ends.knownUpTo(place + 1);
    if (!state.index.holds(table[next], table[next + 1], map.slot, unit)) return;
    // Whether it is good is looked at when its time has come.
    const end = endAt(map, unit);
    if (end !== 0) state.ends.entered(end, map.sequence, unit);
  }

  /** Marks some of what is over. Answers whether there is more. */
  private mark(): boolean {
    const { batch } = this;
    const { ends } = batch.state;
    const { calendar, markable } = ends;
    const outcome = succeeded();
    const marked: number[] = [];
    let bytes = 0;
    for (let looked = 0; looked < LOOKED_AT_MAX; looked++) {
      if (!hasEnded(calendar.next, markable) || marked.length === MARKED_MAX || bytes > MARKED_BYTES_MAX)
        break;
      const place = calendar.take();
      const record = this.recordIn(place, outcome);
      if (outcome.error !== null) {
        marked.push(place);
        break;
      }
      if (record === null) continue;
      const { ref, map, unit } = record;
      bytes += unitsAt(map, unit) * UNIT_BYTES;
      if (!hasEnded(endAt(map, unit), markable)) calendar.add(endAt(map, unit), place);
      else if (isMarkable(batch, ref, ballotAt(map, unit))) {
        marked.push(place);
        if (!markEnded(batch, ref, outcome)) break;
      } else {
        calendar.add(markable + AGAIN_MS, place);
        if (this.overdue.size < OVERDUE_MAX) this.overdue.add(nameOf(ref.key));
      }
    }
    batch.commit();
    const nowMs = ends.clock.now();
    if (outcome.error === null) {
      const isMore = hasEnded(calendar.next, markable);
      this.notBeforeMs = isMore ? 0 : nowMs + PAUSE_MS;
      return isMore;
    }
    for (const place of marked) calendar.add(markable + AGAIN_MS, place);
    this.notBeforeMs = nowMs + AGAIN_MS;
    return false;
  }

  /** As `recordAt`; where its file cannot be opened now, `outcome` says so. */
  private recordIn(place: number, outcome: Outcome): ReturnType<Sweep["recordAt"]> {
    try {
      return this.recordAt(place);
    } catch (error) {
      Object.assign(outcome, this.batch.log.failure(error));
      return null;
    }
  }

  /** Whether the record at a place is still what its key has, as far as can be seen now. */
  private isKept(place: number): boolean {
    const outcome = succeeded();
    return this.recordIn(place, outcome) !== null || outcome.error !== null;
  }

  /** The record at a place, if it is still what its key has. */
  private recordAt(place: number): { ref: KeyRef; map: SlabMap; unit: number } | null {
    const { state } = this.batch;
    const sequence = Math.floor(place / 2 ** SLAB_UNIT_BITS);
    const unit = place % 2 ** SLAB_UNIT_BITS;
    if (state.slabs.bySequence(sequence) === undefined) return null;
    const map = state.lookup.maps.bySequence(sequence);
    if (map === null) return null;
    const key = keyOf(map, unit).slice();
    const ref = { key, hashA: hash32(key, 0), hashB: hashBOf(key, key.length, state.store.keyHash) };
    return state.index.holds(ref.hashA, ref.hashB, map.slot, unit) && state.lookup.check(map, unit)
      ? { ref, map, unit }
      : null;
  }
}
