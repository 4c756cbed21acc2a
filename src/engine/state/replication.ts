/**
 * What a shard keeps beside its records when its node is part of a cluster: promises, floors and digests. On
 * a single node there is none of it, and it costs nothing.
 *
 * The promises have an index of their own, of the same making as the keys': 8 bytes and a half-empty block
 * each, the rest is in the record. A promise stands in it as long as it is above the ballot of its key's
 * record; the accept that reaches it takes it out.
 */
import { TYPE_FLOOR, TYPE_FORGOTTEN, TYPE_PROMISE, UNIT_BYTES } from "../../format/offsets.ts";
import {
  type Ballot,
  ballotAt,
  keyEquals,
  keyOf,
  type RecordSource,
  typeOf,
  unitsAt,
} from "../../format/record.ts";
import { decodeFooter } from "../../format/slab.ts";
import { isPromisedAbove } from "../../rules/register.ts";
import { hash32, hashBOf, INDEX_PARTITIONS, indexPartitionOf } from "../../util/hash.ts";
import type { StoreIdentity } from "../directory/store-file.ts";
import { KeyIndex } from "../index/key-index.ts";
import { type IndexPage, type Matcher, SCAN_END } from "../index/reader.ts";
import { FIGURE } from "../slabs/figures.ts";
import type { SlabMap } from "../slabs/maps.ts";
import type { SlabTable } from "../slabs/table.ts";
import { Digests } from "./digests.ts";
import { Floors, type Place, partitionOfFloor } from "./floors.ts";
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

/** What of a shard the promises, floors and digests stand on. */
export interface ReplicationParts {
  index: KeyIndex;
  lookup: ShardLookup;
  slabs: SlabTable;
  figures: Float64Array;
  store: Pick<StoreIdentity, "keyHash">;
}

export class Replication implements Matcher {
  /** Null as long as there was none. */
  promises: KeyIndex | null = null;
  readonly floors: Floors;
  readonly digests: Digests;
  private readonly parts: ReplicationParts;
  private readonly memory: ReplicationMemory;
  private key: Uint8Array = new Uint8Array(0);
  /** Promises with the tag of its key that the last `promiseOf` has met: all there are, if it found none. */
  met = 0;

  constructor(parts: ReplicationParts, memory: ReplicationMemory) {
    this.parts = parts;
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
    const map = this.parts.lookup.mapOf(slot);
    // A damaged promise may be anybody's of that tag.
    return keyEquals(map, unit, this.key, this.key.length) || !this.parts.lookup.check(map, unit);
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
  ballotOf(slot: number, unit: number): Ballot | null {
    const map = this.parts.lookup.mapOf(slot);
    if (this.parts.lookup.check(map, unit)) return ballotAt(map, unit);
    const footer = decodeFooter(map.bytes, map.sequence);
    if (footer === null) return null;
    const { clockLow, clockHigh } = footer;
    return { clockLow, clockHigh, node: 0xffffffff, incarnation: 0xffffffff };
  }

  /** A promise is durable: it counts from now on, in place of an older one. */
  publishPromise(hashA: number, hashB: number, slot: number, unit: number): void {
    const map = this.parts.lookup.mapOf(slot);
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
    const map = this.parts.lookup.mapOf(slot);
    const forgotten = typeOf(map, unit) === TYPE_FORGOTTEN;
    if (this.digests.counts(hashA, hashB)) {
      if (oldSlot >= 0) this.count(hashA, oldSlot, oldUnit);
      if (!forgotten) this.digests.toggle(hashA, map, unit);
    }
    const promise = this.promiseAt(map, unit, hashA, hashB);
    if (promise === null) return;
    if (!forgotten && isPromisedAbove(promise.ballot, ballotAt(map, unit))) return;
    this.live(promise.slot, promise.unit, -1);
    this.promises?.remove(hashA, hashB, promise.slot, promise.unit);
  }

  /** A promise for an absent key is part of the floor by now. */
  dropPromise(key: Uint8Array, hashA: number, hashB: number): void {
    const promise = this.promiseOf(key, hashA, hashB);
    if (promise === null) return;
    this.live(promise.slot, promise.unit, -1);
    this.promises?.remove(hashA, hashB, promise.slot, promise.unit);
  }

  private count(hashA: number, slot: number, unit: number): void {
    const map = this.parts.lookup.mapOf(slot);
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
    const map = this.parts.lookup.mapOf(slot);
    if (this.parts.lookup.check(map, unit))
      this.parts.slabs.live(slot, sign * unitsAt(map, unit) * UNIT_BYTES);
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
    const { digests } = this;
    const { figures, index, lookup } = this.parts;
    if (digests.ready || figures[FIGURE.replicated] === 0) return false;
    const { partition, tag } = digests.cursor;
    const page = index.scan(partition, tag, DIGEST_STEP_RECORDS);
    // Hash A is not in the index: it comes from the key, and of a damaged record from nowhere.
    // Before any is counted: where one cannot be opened now, the step is done again as a whole.
    const maps = Array.from(page.slots, (slot) => lookup.mapOf(slot));
    for (let i = 0; i < page.slots.length; i++) {
      const map = maps[i];
      const unit = page.units[i];
      if (typeOf(map, unit) === TYPE_FORGOTTEN) continue;
      const hashA = hash32(keyOf(map, unit), 0);
      if (indexPartitionOf(hashA) === partition) digests.toggle(hashA, map, unit);
    }
    if (page.next === SCAN_END) digests.advance(partition + 1, 0);
    else digests.advance(partition, page.next);
    if (digests.ready) figures[FIGURE.digestsReady] = 1;
    return !digests.ready;
  }

  /** Where the records of promises and floors lie that count, with their sizes. */
  *places(): Iterable<Place & { units: number }> {
    for (const place of this.floors.all()) yield this.sized(place);
    for (let partition = 0; this.promises !== null && partition < INDEX_PARTITIONS; partition++)
      for (let tag = 0; tag < SCAN_END; ) {
        const page: IndexPage = this.promises.scan(partition, tag, PLACES_STEP);
        for (let i = 0; i < page.slots.length; i++)
          yield this.sized({ slot: page.slots[i], unit: page.units[i] });
        tag = page.next;
      }
  }

  private sized({ slot, unit }: Place): Place & { units: number } {
    const map = this.parts.lookup.mapOf(slot);
    return { slot, unit, units: this.parts.lookup.check(map, unit) ? unitsAt(map, unit) : 0 };
  }

  /**
   * Takes over a promise or floor that counts, from the place that a snapshot has for it. The record must be
   * good.
   */
  restore(map: SlabMap, unit: number): void {
    const key = keyOf(map, unit);
    const hashA = hash32(key, 0);
    if (typeOf(map, unit) === TYPE_FLOOR) this.publishFloor(partitionOfFloor(hashA), map.slot, unit);
    else this.publishPromise(hashA, hashBOf(key, key.length, this.parts.store.keyHash), map.slot, unit);
  }

  /** At a start: a promise that counts. */
  load(hashA: number, hashB: number, slot: number, unit: number): void {
    this.promises ??= new KeyIndex(this.memory.promises);
    this.promises.insert(hashA, hashB, slot, unit);
    this.live(slot, unit, 1);
  }
}
