/**
 * What a shard keeps beside its records when its node is part of a cluster: promises, floors and digests. On
 * a single node there is none of it, and it costs nothing.
 *
 * The promises have an index of their own, of the same making as the keys': 8 bytes and a half-empty block
 * each, the rest is in the record. A promise stands in it as long as it is above the ballot of its key's
 * record; the accept that reaches it takes it out.
 */
import { isIndexed, TYPE_FLOOR, TYPE_FORGOTTEN, TYPE_PROMISE, UNIT_BYTES } from "../../format/offsets.ts";
import {
  type Ballot,
  ballotAt,
  keyEquals,
  keyOf,
  type RecordSource,
  typeOf,
  unitsAt,
} from "../../format/record.ts";
import { decodeFooter, tableOutranked, tableType, tableUnit } from "../../format/slab.ts";
import { compareBallots } from "../../format/version.ts";
import { hash32, hashBOf, PARTITIONS, partitionOf } from "../../util/hash.ts";
import { KeyIndex } from "../index/key-index.ts";
import { type IndexPage, type Matcher, SCAN_END } from "../index/reader.ts";
import { isOutranked } from "../shard/replica.ts";
import type { Shard } from "../shard/shard.ts";
import { FIGURE } from "../slabs/figures.ts";
import type { SlabMap } from "../slabs/maps.ts";
import type { SlabRecords } from "../start/rebuild.ts";
import { Digests } from "./digests.ts";
import { Floors, floorKey, type Place } from "./floors.ts";
import type { ShardLookup } from "./lookup.ts";
import type { ReplicationMemory } from "./replication-memory.ts";

/** Records whose ballots one idle step adds to the digests. */
const DIGEST_STEP_RECORDS = 256;
/** Promises listed at a time. */
const PLACES_STEP = 1024;

/** A promise that stands. `ballot` null: its record is damaged and nobody can tell what was promised. */
export interface Promised extends Place {
  ballot: Ballot | null;
}

export class Replication implements Matcher {
  /** Null as long as there was none. */
  promises: KeyIndex | null = null;
  readonly floors: Floors;
  readonly digests: Digests;
  private readonly shard: Shard;
  private readonly memory: ReplicationMemory;
  private key: Uint8Array = new Uint8Array(0);
  /** Promises with the tag of its key that the last `promiseOf` has met: all there are, if it found none. */
  met = 0;

  constructor(shard: Shard, memory: ReplicationMemory) {
    this.shard = shard;
    this.memory = memory;
    this.floors = new Floors(memory.floors);
    this.digests = new Digests(memory.digests);
  }

  /** The promise that stands for a key. */
  promiseOf(key: Uint8Array, hashA: number, hashB: number): Promised | null {
    const { promises } = this;
    this.met = 0;
    if (promises === null || promises.entries === 0) return null;
    this.key = key;
    if (!promises.find(hashA, hashB, this)) return null;
    return { ballot: this.ballotOf(promises.slot, promises.unit), slot: promises.slot, unit: promises.unit };
  }

  /** The promise that stands for the key of a record. */
  promiseAt(source: RecordSource, unit: number, hashA: number, hashB: number): Promised | null {
    return this.promises === null ? null : this.promiseOf(keyOf(source, unit), hashA, hashB);
  }

  matches(slot: number, unit: number): boolean {
    this.met++;
    const map = this.shard.mapOf(slot);
    // A damaged promise may be anybody's of that tag.
    return keyEquals(map, unit, this.key, this.key.length) || !this.shard.lookup.check(map, unit);
  }

  /** Makes sure that so many promises can be published. False: there is no memory for them. */
  reserve(promises: number): boolean {
    try {
      this.promises ??= new KeyIndex(this.memory.promises);
    } catch {
      return false;
    }
    return this.promises.reserve(promises);
  }

  /**
   * The ballot of a record; of a damaged one the highest that its slab can hold, or null where the slab does
   * not say.
   */
  private ballotOf(slot: number, unit: number): Ballot | null {
    const map = this.shard.mapOf(slot);
    if (this.shard.lookup.check(map, unit)) return ballotAt(map, unit);
    const footer = decodeFooter(map.bytes, map.sequence);
    if (footer === null) return null;
    const { clockLow, clockHigh } = footer;
    return { clockLow, clockHigh, node: 0xffffffff, incarnation: 0xffffffff };
  }

  /** A promise is durable: it counts from now on, in place of an older one. */
  publishPromise(hashA: number, hashB: number, slot: number, unit: number): void {
    const map = this.shard.mapOf(slot);
    const older = this.promiseAt(map, unit, hashA, hashB);
    this.promises ??= new KeyIndex(this.memory.promises);
    if (older === null) this.promises.insert(hashA, hashB, slot, unit);
    else {
      this.live(older.slot, older.unit, -1);
      this.promises.replace(hashA, hashB, older.slot, older.unit, slot, unit);
    }
    this.live(slot, unit, 1);
  }

  /**
   * A record of a key is about to be the one that counts: what it says of promise and digest. `oldSlot` -1:
   * it is the first.
   */
  publishRecord(
    hashA: number,
    hashB: number,
    slot: number,
    unit: number,
    oldSlot: number,
    oldUnit: number,
  ): void {
    if (this.promises === null && !this.digests.started) return;
    const map = this.shard.mapOf(slot);
    const forgotten = typeOf(map, unit) === TYPE_FORGOTTEN;
    if (this.digests.counts(hashA, hashB)) {
      if (oldSlot >= 0) this.count(hashA, oldSlot, oldUnit);
      if (!forgotten) this.digests.toggle(hashA, map, unit);
    }
    const promise = this.promiseAt(map, unit, hashA, hashB);
    if (promise === null) return;
    if (!forgotten && isOutranked(promise, ballotAt(map, unit))) return;
    this.live(promise.slot, promise.unit, -1);
    this.promises?.remove(hashA, hashB, promise.slot, promise.unit);
  }

  private count(hashA: number, slot: number, unit: number): void {
    const map = this.shard.mapOf(slot);
    if (typeOf(map, unit) !== TYPE_FORGOTTEN) this.digests.toggle(hashA, map, unit);
  }

  /** A floor is durable. */
  publishFloor(partition: number, slot: number, unit: number): void {
    const ballot = this.ballotOf(slot, unit);
    if (ballot === null) return;
    this.live(slot, unit, 1);
    const dead = this.floors.raise(partition, ballot, { slot, unit });
    if (dead !== null) this.live(dead.slot, dead.unit, -1);
  }

  /**
   * Adds a promise or floor to the live bytes of its slab, or takes it out. Of a damaged one not even the
   * length is known.
   */
  private live(slot: number, unit: number, sign: 1 | -1): void {
    const map = this.shard.mapOf(slot);
    if (this.shard.lookup.check(map, unit))
      this.shard.slabs.live(slot, sign * unitsAt(map, unit) * UNIT_BYTES);
  }

  /** Whether a promise or floor record still counts, so that compaction must carry it on. */
  holds(type: number, hashA: number, hashB: number, map: SlabMap, unit: number): boolean {
    if (type === TYPE_PROMISE) return this.promises?.holds(hashA, hashB, map.slot, unit) === true;
    const place = this.floors.placeOf(partitionOfFloor(hashA));
    return place?.slot === map.slot && place.unit === unit;
  }

  /** Compaction has copied a promise or floor. The caller keeps the accounts. */
  moved(type: number, hashA: number, hashB: number, from: Place, to: Place): void {
    if (type === TYPE_PROMISE) this.promises?.replace(hashA, hashB, from.slot, from.unit, to.slot, to.unit);
    else this.floors.moved(partitionOfFloor(hashA), to);
  }

  /**
   * Adds some records to the digests, if they are not complete.
   * @returns whether there is more to do
   */
  sumUp(): boolean {
    const { digests, shard } = this;
    if (digests.ready || shard.figures[FIGURE.replicated] === 0) return false;
    const { partition, tag } = digests.cursor;
    const page = shard.index.scan(partition, tag, DIGEST_STEP_RECORDS);
    // Hash A is not in the index: it comes from the key, and of a damaged record from nowhere.
    for (let i = 0; i < page.slots.length; i++) {
      const map = shard.mapOf(page.slots[i]);
      const unit = page.units[i];
      if (typeOf(map, unit) === TYPE_FORGOTTEN) continue;
      const hashA = hash32(keyOf(map, unit), 0);
      if (partitionOf(hashA) === partition) digests.toggle(hashA, map, unit);
    }
    if (page.next === SCAN_END) digests.advance(partition + 1, 0);
    else digests.advance(partition, page.next);
    if (digests.ready) shard.figures[FIGURE.digestsReady] = 1;
    return !digests.ready;
  }

  /** Where the records of promises and floors lie that count, with their sizes. */
  *places(): Iterable<Place & { units: number }> {
    for (const place of this.floors.all()) yield this.sized(place);
    for (let partition = 0; this.promises !== null && partition < PARTITIONS; partition++)
      for (let tag = 0; tag < SCAN_END; ) {
        const page: IndexPage = this.promises.scan(partition, tag, PLACES_STEP);
        for (let i = 0; i < page.slots.length; i++)
          yield this.sized({ slot: page.slots[i], unit: page.units[i] });
        tag = page.next;
      }
  }

  private sized({ slot, unit }: Place): Place & { units: number } {
    const map = this.shard.mapOf(slot);
    return { slot, unit, units: this.shard.lookup.check(map, unit) ? unitsAt(map, unit) : 0 };
  }

  /**
   * Takes over a promise or floor that counts, from the place that a snapshot has for it. The record must be
   * good.
   */
  restore(map: SlabMap, unit: number): void {
    const key = keyOf(map, unit);
    const hashA = hash32(key, 0);
    if (typeOf(map, unit) === TYPE_FLOOR) this.publishFloor(partitionOfFloor(hashA), map.slot, unit);
    else this.publishPromise(hashA, hashBOf(key, key.length, this.shard.setup.store.keyHash), map.slot, unit);
  }

  /**
   * Finds the floors and the promises that count, once the index is complete. `slabs` in order of sequence.
   */
  recover(slabs: readonly SlabRecords[]): void {
    const candidates = new PromiseCandidates(slabs, this.shard.lookup);
    for (const { map, table } of slabs)
      for (let at = 0; at < table.length; at += 3)
        if (tableType(table[at + 2]) === TYPE_FLOOR) {
          const partition = partitionOfFloor(table[at]);
          if (partition >= 0) this.publishFloor(partition, map.slot, tableUnit(table[at + 2]));
        }
    for (const { hashA, hashB, map, unit } of candidates.left()) {
      const ballot = this.ballotOf(map.slot, unit);
      const key = keyOf(map, unit);
      const held = this.shard.lookup;
      held.find(key, key.length, hashA, hashB);
      if (ballot !== null && held.located && held.check(held.map, held.unit))
        if (isFulfilledBy(held.map, held.unit, ballot)) continue;
      this.promises ??= new KeyIndex(this.memory.promises);
      this.promises.insert(hashA, hashB, map.slot, unit);
      this.live(map.slot, unit, 1);
    }
  }
}

/**
 * Whether the record of a key makes a promise void that no later one does. A forgotten one does not, whatever
 * the ballots: it voids what was promised before it, and this promise was made after it.
 */
function isFulfilledBy(map: SlabMap, unit: number, promise: Ballot): boolean {
  return typeOf(map, unit) !== TYPE_FORGOTTEN && compareBallots(promise, ballotAt(map, unit)) <= 0;
}

let partitionsByHash: Map<number, number> | null = null;

/**
 * Partition of a floor record from hash A of its key, so that a damaged one is still known. -1: it is no
 * floor's.
 */
function partitionOfFloor(hashA: number): number {
  if (partitionsByHash === null) {
    partitionsByHash = new Map();
    for (let partition = 0; partition < PARTITIONS; partition++)
      partitionsByHash.set(hash32(floorKey(partition), 0), partition);
  }
  return partitionsByHash.get(hashA) ?? -1;
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
