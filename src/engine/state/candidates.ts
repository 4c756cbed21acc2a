/**
 * Which promises and floors count, told from the records of all slabs, at a start without a snapshot.
 */
import { TYPE_FLOOR, TYPE_FORGOTTEN, TYPE_PROMISE } from "../../format/offsets.ts";
import { type Ballot, ballotAt, keyEquals, keyOf, typeOf } from "../../format/record.ts";
import { isIndexed } from "../../format/record-types.ts";
import { tableOutranked, tableType, tableUnit } from "../../format/slab.ts";
import { compareBallots } from "../../format/version.ts";
import { indexPartitionOf } from "../../util/hash.ts";
import type { SlabMap } from "../slabs/maps.ts";
import { partitionOfFloor } from "./floors.ts";
import type { ShardLookup } from "./lookup.ts";
import type { State } from "./state.ts";

/** The records of one slab: three words each, as in a slab's table, and where the last one ends. */
export interface SlabRecords {
  map: SlabMap;
  table: Int32Array;
  endUnit: number;
}

/**
 * Enters the floors and the promises that count, once the index is complete. `slabs` in order of sequence.
 */
export function recoverPromises(state: State, slabs: readonly SlabRecords[]): void {
  const { lookup, replication } = state;
  for (const { map, table } of slabs)
    for (let at = 0; at < table.length; at += 3)
      if (tableType(table[at + 2]) === TYPE_FLOOR) {
        const partition = partitionOfFloor(table[at]);
        if (partition >= 0) replication.publishFloor(partition, map.slot, tableUnit(table[at + 2]));
      }
  for (const { hashA, hashB, map, unit } of new PromiseCandidates(slabs, lookup).left()) {
    const ballot = replication.ballotOf(map.slot, unit);
    const key = keyOf(map, unit);
    const isAbsent = lookup.find(key, key.length, hashA, hashB) === "absent";
    if (ballot !== null && lookup.located && lookup.check(lookup.map, lookup.unit)) {
      if (isFulfilledBy(lookup.map, lookup.unit, ballot)) continue;
      if (typeOf(lookup.map, lookup.unit) === TYPE_FORGOTTEN && isInFloor(replication, hashA, ballot))
        continue;
    } else if (isAbsent && isInFloor(replication, hashA, ballot)) continue;
    replication.load(hashA, hashB, map.slot, unit);
  }
}

/**
 * Whether the record of a key makes a promise void that no later one does. A forgotten one does not, whatever
 * the ballots: it voids what was promised before it, and this promise was made after it.
 */
function isFulfilledBy(map: SlabMap, unit: number, promise: Ballot): boolean {
  return typeOf(map, unit) !== TYPE_FORGOTTEN && compareBallots(promise, ballotAt(map, unit)) <= 0;
}

/** Whether the floor refuses an absent key all that a promise does: it says nothing more then. */
function isInFloor({ floors }: State["replication"], hashA: number, promise: Ballot | null): boolean {
  const floor = floors.of(indexPartitionOf(hashA));
  return promise !== null && floor !== null && compareBallots(promise, floor) <= 0;
}

/**
 * Of the promises in all slabs, those that may count: one for each key, the last, if no later record of the
 * key makes it void. It is told from the tables; the keys themselves are only looked at where both hashes are
 * the same, because strangers can make such keys.
 */
class PromiseCandidates {
  private readonly slabs: readonly SlabRecords[];
  private readonly lookup: ShardLookup;
  /** Of each candidate: its slab in `slabs`, its entry there, and whether it still may count. */
  private readonly slabOf: Int32Array;
  private readonly entryOf: Int32Array;
  private readonly standing: Uint8Array;
  /** Hash table of candidates: numbers from 1. */
  private readonly seen: Int32Array;
  private count = 0;

  constructor(slabs: readonly SlabRecords[], lookup: ShardLookup) {
    this.slabs = slabs;
    this.lookup = lookup;
    let promises = 0;
    for (const { table } of slabs)
      for (let at = 2; at < table.length; at += 3) if (tableType(table[at]) === TYPE_PROMISE) promises++;
    let size = 64;
    while (size < promises * 2) size *= 2;
    this.slabOf = new Int32Array(promises);
    this.entryOf = new Int32Array(promises);
    this.standing = new Uint8Array(promises);
    this.seen = new Int32Array(promises === 0 ? 0 : size);
    if (promises === 0) return;
    slabs.forEach(({ map, table }, slab) => {
      for (let at = 0; at < table.length; at += 3) {
        const type = tableType(table[at + 2]);
        if (type === TYPE_PROMISE) this.add(slab, at);
        else if (isIndexed(type) && !tableOutranked(table[at + 2])) {
          const candidate = this.seen[this.placeOf(map, table, at)] - 1;
          if (candidate >= 0) this.standing[candidate] = 0;
        }
      }
    });
  }

  /** Where in `seen` the key of a slab's entry stands or would stand. */
  private placeOf(map: SlabMap, entries: Int32Array, at: number): number {
    const { seen, slabs } = this;
    const [hashA, hashB] = [entries[at], entries[at + 1]];
    const mask = seen.length - 1;
    for (let place = (Math.imul(hashA ^ hashB, 0x9e3779b1) >>> 5) & mask; ; place = (place + 1) & mask) {
      const candidate = seen[place] - 1;
      if (candidate < 0) return place;
      const { map: other, table } = slabs[this.slabOf[candidate]];
      const entry = this.entryOf[candidate];
      if (table[entry] !== hashA || table[entry + 1] !== hashB) continue;
      if (this.isSameKey(other, tableUnit(table[entry + 2]), map, tableUnit(entries[at + 2]))) return place;
    }
  }

  /** Whether two records with the same hashes have the same key. Where one is damaged its hashes must do. */
  private isSameKey(map: SlabMap, unit: number, other: SlabMap, otherUnit: number): boolean {
    const key = keyOf(other, otherUnit);
    if (keyEquals(map, unit, key, key.length)) return true;
    return !this.lookup.check(map, unit) || !this.lookup.check(other, otherUnit);
  }

  private add(slab: number, entry: number): void {
    const { map, table } = this.slabs[slab];
    const place = this.placeOf(map, table, entry);
    const candidate = this.seen[place] === 0 ? this.count++ : this.seen[place] - 1;
    this.seen[place] = candidate + 1;
    this.slabOf[candidate] = slab;
    this.entryOf[candidate] = entry;
    this.standing[candidate] = 1;
  }

  *left(): Generator<{ hashA: number; hashB: number; map: SlabMap; unit: number }> {
    for (let candidate = 0; candidate < this.count; candidate++) {
      if (this.standing[candidate] === 0) continue;
      const { map, table } = this.slabs[this.slabOf[candidate]];
      const entry = this.entryOf[candidate];
      yield { hashA: table[entry], hashB: table[entry + 1], map, unit: tableUnit(table[entry + 2]) };
    }
  }
}
