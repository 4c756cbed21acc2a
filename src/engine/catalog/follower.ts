/**
 * Follows the log of one shard: every record that says what a key holds, and counts, is met once at least, in
 * the order of the log, as far as it is published.
 *
 * Records that count move to the end of the log when their slab goes (compaction), so a slab that is gone may
 * be passed over, once the end has been asked for again: whatever counted in it lies further on. For the same
 * reason a record that does not count need not be looked at: what took its place lies further on. Nor need
 * one that is not fresh (FORMAT.md, "Record") where the keys before the place are known. And who has met all
 * keys so far need not look at anything before there is one that may be news (`State.noteFresh`).
 */
import {
  EXTENDED_VERSION_MIN,
  FIRST_UNIT,
  HEADER_BYTES,
  SLAB_UNIT_BITS,
  TYPE_FORGOTTEN,
  UNIT_BYTES,
} from "../../format/offsets.ts";
import { isFresh, isIntact, keyOf, placeOf, typeOf, unitsAt } from "../../format/record.ts";
import { isIndexed } from "../../format/record-types.ts";
import {
  decodeFooter,
  headerProblem,
  previousSlab,
  recordFormat,
  tableFresh,
  tableType,
  tableUnit,
  tableWords,
} from "../../format/slab.ts";
import { firstFrom } from "../list/found-slab.ts";
import { FIGURE, logPlace } from "../slabs/figures.ts";
import type { SlabMap } from "../slabs/maps.ts";
import { nextDurableRecord } from "../slabs/scan.ts";
import type { ShardLookup } from "../state/lookup.ts";
import type { ShardMemory } from "../state/memory.ts";
import { Counted, type TakeRecord } from "./counted.ts";

/** A place in a shard's log. */
export interface LogPosition {
  sequence: number;
  unit: number;
}

const SLAB_UNITS = 2 ** SLAB_UNIT_BITS;

/** The position that a number of `logPlace` stands for. */
function positionOf(place: number): LogPosition {
  return { sequence: Math.floor(place / SLAB_UNITS), unit: place % SLAB_UNITS };
}

/** A slab on the way: its table, or, while it has none, up to where its records go. */
interface Opened {
  map: SlabMap;
  table: Int32Array | null;
  /** Next entry of the table. */
  next: number;
  /** Its records end here; of the last one this is asked for anew each time. -1: nothing says so. */
  endUnit: number;
  /** What is published ends in it. */
  isLast: boolean;
}

export class LogFollower {
  private readonly lookup: ShardLookup;
  private readonly counted: Counted;
  private readonly figures: Float64Array;
  private readonly slots: Int32Array;
  private readonly at: LogPosition;
  private opened: Opened | null = null;
  /** Whether records that are not fresh are taken, too. */
  private all = true;
  /** Where the log cannot be followed any further, as damage hides how long a record is; null: nowhere. */
  private stuckAt: LogPosition | null = null;
  /** What holds no news may be passed over. */
  private readonly skips: boolean;
  /** Who takes has enough for now. */
  private isEnough = false;

  /**
   * @param from a place in the log; 0: its beginning
   * @param skips nothing of the shard was read by another follower: what `publish` said holds for this one
   */
  constructor(lookup: ShardLookup, memory: ShardMemory, from: number, skips: boolean) {
    this.lookup = lookup;
    this.counted = new Counted(lookup, memory);
    this.figures = new Float64Array(memory.figures);
    this.slots = new Int32Array(memory.slots);
    this.at = positionOf(from);
    this.skips = skips;
  }

  /** Up to where the log has been followed. */
  get place(): number {
    return logPlace(this.at);
  }

  get position(): LogPosition {
    return { ...this.at };
  }

  /** Whether the last `follow` met damage that it cannot get past. */
  get isStuck(): boolean {
    return this.stuckAt !== null;
  }

  /** Up to where it can be followed now. */
  get end(): number {
    return this.figures[FIGURE.publishedEnd];
  }

  /** Slabs before and after the place, for progress. */
  get slabs(): { done: number; total: number } {
    let done = 0;
    let total = 0;
    for (const sequence of this.slots) {
      if (sequence === 0) continue;
      total++;
      if (sequence < this.at.sequence) done++;
    }
    return { done, total };
  }

  /**
   * Goes on by about `records` records.
   * @param all also those that are not fresh: who takes them does not know the keys before the place
   * @param take gets the records
   * @returns whether all that was published when this was called has been met
   */
  follow(records: number, all: boolean, take: TakeRecord): boolean {
    let left = records;
    this.isEnough = false;
    this.all = all || this.lookup.store.version < EXTENDED_VERSION_MIN;
    this.stuckAt = null;
    while (left > 0 && !this.isEnough) {
      const end = this.end;
      if (this.place >= end) return true;
      if (this.skips && !this.all && this.place > this.figures[FIGURE.lastNews]) {
        this.opened = null;
        Object.assign(this.at, positionOf(end));
        return true;
      }
      const last = positionOf(end);
      const slab = this.open(last);
      if (slab === null) continue;
      const used = slab.table === null ? this.walk(slab, left, take) : this.read(slab, left, take);
      if (this.stuckAt !== null) return false;
      left -= Math.max(1, used);
    }
    return this.place >= this.end;
  }

  /** For `take` to call: the record that it was given is the last one of this `follow`. */
  stop(): void {
    this.isEnough = true;
  }

  /** The slab at the place, or null when the place has moved on to another one. */
  private open(last: LogPosition): Opened | null {
    const { at, lookup } = this;
    const map = at.sequence === 0 ? null : lookup.maps.bySequence(at.sequence);
    if (map === null) {
      this.skipTo(last);
      return null;
    }
    if (this.opened?.map !== map) this.opened = { map, table: null, next: 0, endUnit: 0, isLast: true };
    const { opened } = this;
    opened.isLast = at.sequence === last.sequence;
    if (opened.isLast) {
      opened.endUnit = last.unit;
      return opened;
    }
    if (opened.table !== null) return opened;
    const footer = decodeFooter(map.bytes, map.sequence);
    if (footer === null) opened.endUnit = this.endOf(map);
    else {
      opened.table = tableWords(map.bytes, footer);
      opened.endUnit = footer.endUnit;
      opened.next = firstFrom(opened.table, at.unit);
    }
    return opened;
  }

  /** From a slab that is gone to the next one that is there. */
  private skipTo(last: LogPosition): void {
    const { at } = this;
    this.opened = null;
    const next = this.sequenceAfter(at.sequence);
    // None: what was in the last one is gone, and nothing of it counted.
    if (next === 0 || next > last.sequence) Object.assign(at, last);
    else Object.assign(at, { sequence: next, unit: FIRST_UNIT });
  }

  private leave(): void {
    const { sequence } = this.at;
    this.opened = null;
    // The next look finds no such slab and goes to the one after it.
    Object.assign(this.at, { sequence: this.sequenceAfter(sequence) || sequence + 1, unit: FIRST_UNIT });
  }

  /** The lowest sequence above one; 0: there is none yet. */
  private sequenceAfter(sequence: number): number {
    let next = 0;
    for (const other of this.slots) if (other > sequence && (next === 0 || other < next)) next = other;
    return next;
  }

  /**
   * Where the records of a full slab end that has no table yet, by the next one's header. -1: not said there.
   */
  private endOf(map: SlabMap): number {
    const next = this.lookup.maps.bySequence(this.sequenceAfter(map.sequence) || map.sequence + 1);
    if (next === null) return -1;
    const { shard, store } = this.lookup;
    const page = next.bytes.slice(0, HEADER_BYTES);
    const expected = { shard, sequence: next.sequence, slabBytes: store.slabBytes, storeId: store.slabId };
    if (headerProblem(page, expected) !== null) return -1;
    const previous = previousSlab(page);
    return previous?.sequence === map.sequence ? previous.endUnit : -1;
  }

  /** By its table: only what counts is looked at. Answers the entries used. */
  private read(slab: Opened, records: number, take: TakeRecord): number {
    const { map } = slab;
    const table = slab.table as Int32Array;
    const until = Math.min(table.length, slab.next + records * 3);
    const from = slab.next;
    const takesAll = this.all || recordFormat(map) === 1;
    for (; slab.next < until && !this.isEnough; slab.next += 3) {
      const word = table[slab.next + 2];
      const type = tableType(word);
      if (!isIndexed(type) || type === TYPE_FORGOTTEN || !(takesAll || tableFresh(word))) continue;
      const [hashA, hashB] = [table[slab.next], table[slab.next + 1]];
      this.counted.meet(map, { hashA, hashB, sequence: map.sequence, unit: tableUnit(word) }, take);
    }
    if (slab.next >= table.length) this.leave();
    else this.at.unit = tableUnit(table[slab.next + 2]);
    return (slab.next - from) / 3;
  }

  /** Record by record, as there is no table yet. Answers the records met. */
  private walk(slab: Opened, records: number, take: TakeRecord): number {
    const { map } = slab;
    const { at, lookup } = this;
    const { store, shard } = lookup;
    const isEndKnown = slab.endUnit >= 0;
    const endUnit = isEndKnown ? slab.endUnit : map.bytes.length / UNIT_BYTES;
    const place = (unit: number): number => placeOf(store.salt, shard, map.sequence, unit);
    const takesAll = this.all || recordFormat(map) === 1;
    let met = 0;
    for (; met < records && at.unit < endUnit && !this.isEnough; met++) {
      const { unit } = at;
      if (!isIntact(map, unit, endUnit, place(unit))) {
        if (!isEndKnown && nextDurableRecord(map, unit, endUnit, place) < 0) break;
        this.stuckAt = { ...at };
        return met;
      }
      const type = typeOf(map, unit);
      if (isIndexed(type) && type !== TYPE_FORGOTTEN && (takesAll || isFresh(map, unit)))
        take(keyOf(map, unit), map, unit);
      at.unit = unit + unitsAt(map, unit);
    }
    if (met < records && !this.isEnough && !slab.isLast) this.leave();
    return met;
  }

  /**
   * Tells the shard that what lies before the place is known, so that it need not be told of it again; not
   * while damage hides some of it.
   */
  publish(): void {
    if (this.skips && !this.counted.hasUnread) this.figures[FIGURE.followedEnd] = this.place;
  }

  /**
   * Whether keys may be missing from what was given, as damage hides them: those in records that still count,
   * or all after a place in a slab that has no table. Tries again to read them first.
   */
  isBlind(take: TakeRecord): boolean {
    if (this.stuckAt !== null) return true;
    this.counted.meetUnread(take);
    return this.counted.hasUnread;
  }
}
