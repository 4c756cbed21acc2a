/**
 * Reading a partition through on the front, for repair and synchronisation: the keys that it has, with their
 * ballots and promises.
 */
import type { StoreIdentity } from "../../engine/directory/store-file.ts";
import { IndexReader, type Matcher, SCAN_END } from "../../engine/index/reader.ts";
import type { SlabMap } from "../../engine/slabs/maps.ts";
import type { ShardLookup } from "../../engine/state/lookup.ts";
import type { ShardMemory } from "../../engine/state/memory.ts";
import { endAt } from "../../format/end.ts";
import { recentAt } from "../../format/fields/recent.ts";
import { manifestTotal } from "../../format/manifest.ts";
import { TYPE_ENDED, TYPE_FORGOTTEN, TYPE_MANIFEST, TYPE_TOMBSTONE } from "../../format/offsets.ts";
import {
  type Ballot,
  ballotAt,
  emptyHead,
  keyEquals,
  keyOf,
  readHead,
  typeOf,
  valueBytesOf,
} from "../../format/record.ts";
import { hashBOf, hashKey, indexPartitionOf, shardOf } from "../../util/hash.ts";
import { type HashPrefix, indexPartitionOfPrefix, startsWith } from "../../util/hash-prefix.ts";

/**
 * A step of reading a partition through ends after this time: records that are not in memory block the front.
 */
const SCAN_MS_MAX = 2;
/** Entries of the index looked at together, at least: of a small partition few of them belong to it. */
const PAGE_ENTRIES_MIN = 128;

/** A key of a partition as `scan` reports it. */
export interface ScannedKey {
  /** Its own copy. */
  key: Uint8Array;
  /** Of its record; null: there is only a promise. */
  ballot: Ballot | null;
  tombstone: boolean;
  /** It remembers recent operations. */
  remembers: boolean;
  /** It is one that says that the value of that ballot has ended. */
  ended: boolean;
  /** End of life of the value, or of the one that has ended, in milliseconds since 1970; 0: none. */
  end: number;
  operationLow: number;
  operationHigh: number;
  /** Size of the value that a GET sends. */
  valueBytes: number;
  /** The promise that stands above the record, or null. */
  promised: Ballot | null;
}

export interface ScanStep {
  keys: ScannedKey[];
  /** Where to go on; -1: the partition is through. */
  next: number;
  /** Records met that cannot be read, so that nobody knows their keys. */
  damaged: number;
}

export interface PartitionScanSetup {
  store: StoreIdentity;
  memories: readonly ShardMemory[];
  lookups: readonly ShardLookup[];
}

export class PartitionScan {
  private readonly setup: PartitionScanSetup;
  private readonly indexes: readonly IndexReader[];
  private readonly promiseReaders: (IndexReader | undefined)[] = [];
  private readonly head = emptyHead();

  constructor(setup: PartitionScanSetup) {
    this.setup = setup;
    this.indexes = setup.memories.map((memory) => new IndexReader(memory.index));
  }

  /**
   * Reads a partition through, in steps of about `limit` keys and of bounded time: from cursor 0 on until
   * `next` is -1. A key that is there all the time is met at least once; what changes meanwhile may be met as
   * it was or as it is. Keys that only have a promise come too.
   */
  step(prefix: HashPrefix, cursor: number, limit: number): ScanStep {
    const step: ScanStep = { keys: [], next: cursor, damaged: 0 };
    const until = performance.now() + SCAN_MS_MAX;
    // The cursor: tag, then whether it is the promises' turn, then the shard.
    while (step.next >= 0 && step.keys.length < limit) {
      const tag = step.next % SCAN_END;
      const stage = Math.floor(step.next / SCAN_END);
      const next = this.scanShard(stage >>> 1, (stage & 1) === 1, prefix, tag, limit, until, step);
      if (next < SCAN_END) step.next = stage * SCAN_END + next;
      else step.next = stage + 1 < 2 * this.setup.store.shards ? (stage + 1) * SCAN_END : -1;
      if (performance.now() > until) break;
    }
    return step;
  }

  /** Whether there are promises of a partition of the index. */
  hasPromises(partition: number): boolean {
    return this.indexes.some((_, shard) => {
      const promises = this.promisesOf(shard);
      for (let tag = 0; promises !== null && tag < SCAN_END; ) {
        const page = promises.scan(partition, tag, 1);
        if (page.slots.length > 0) return true;
        tag = page.next;
      }
      return false;
    });
  }

  /** Adds to `step` what one shard has from a tag on; answers the tag to go on with. */
  private scanShard(
    shard: number,
    lone: boolean,
    prefix: HashPrefix,
    fromTag: number,
    limit: number,
    until: number,
    step: ScanStep,
  ): number {
    const index = lone ? this.promisesOf(shard) : this.indexes[shard];
    if (index === null) return SCAN_END;
    const lookup = this.setup.lookups[shard];
    const entries = Math.max(PAGE_ENTRIES_MIN, limit - step.keys.length);
    const page = index.scan(indexPartitionOfPrefix(prefix), fromTag, entries);
    for (let i = 0; i < page.slots.length; i++) {
      const tag = page.tags[i];
      // Keys of one tag stay together, and each step goes on by one tag at least.
      if (
        tag !== fromTag &&
        tag !== page.tags[i - 1] &&
        (step.keys.length >= limit || performance.now() > until)
      )
        return tag;
      const map = lookup.maps.get(page.slots[i]);
      // The slab went away meanwhile: its records have moved.
      if (map === null) return tag;
      if (lone) this.addPromised(lookup, map, page.units[i], prefix, step);
      else this.addRecord(shard, map, page.units[i], prefix, step);
    }
    return page.next;
  }

  private addRecord(shard: number, map: SlabMap, unit: number, prefix: HashPrefix, step: ScanStep): void {
    if (typeOf(map, unit) === TYPE_FORGOTTEN) return;
    const view = keyOf(map, unit);
    const hashA = hashKey(view, view.length, 0);
    const isIndexed = indexPartitionOf(hashA) === indexPartitionOfPrefix(prefix);
    if (isIndexed && !startsWith(hashA, prefix)) return;
    const key = view.slice();
    const hashB = hashBOf(key, key.length, this.setup.store.keyHash);
    // That the key leads here is proof enough for a list; who reads the value checks all of it.
    if (!isIndexed || this.shardOf(hashA, hashB) !== shard) {
      step.damaged++;
      return;
    }
    readHead(map, unit, this.head);
    const { type, operationLow, operationHigh } = this.head;
    step.keys.push({
      key,
      ballot: ballotAt(map, unit),
      tombstone: type === TYPE_TOMBSTONE || type === TYPE_ENDED,
      remembers: recentAt(map, unit) !== null,
      ended: type === TYPE_ENDED,
      end: endAt(map, unit),
      operationLow,
      operationHigh,
      valueBytes: type === TYPE_MANIFEST ? manifestTotal(map, unit) : valueBytesOf(map, unit),
      promised: this.promisedOf(shard, key, hashA, hashB),
    });
  }

  /** A promise is listed by itself only where there is no record. */
  private addPromised(
    lookup: ShardLookup,
    map: SlabMap,
    unit: number,
    prefix: HashPrefix,
    step: ScanStep,
  ): void {
    if (!lookup.check(map, unit)) {
      step.damaged++;
      return;
    }
    const key = keyOf(map, unit).slice();
    const hashA = hashKey(key, key.length, 0);
    if (!startsWith(hashA, prefix)) return;
    const promised = ballotAt(map, unit);
    const hashB = hashBOf(key, key.length, this.setup.store.keyHash);
    lookup.find(key, key.length, hashA, hashB);
    if (lookup.located && typeOf(lookup.map, lookup.unit) !== TYPE_FORGOTTEN) return;
    step.keys.push({
      key,
      ballot: null,
      tombstone: false,
      remembers: false,
      ended: false,
      end: 0,
      operationLow: 0,
      operationHigh: 0,
      valueBytes: 0,
      promised,
    });
  }

  private shardOf(hashA: number, hashB: number): number {
    const { shards } = this.setup.store;
    return shards === 1 ? 0 : shardOf(hashA, hashB, shards);
  }

  /** The index of a shard's promises, or null as long as there was none. */
  private promisesOf(shard: number): IndexReader | null {
    const memory = this.setup.memories[shard].replication.promises;
    if (memory.rows.byteLength === 0) return null;
    this.promiseReaders[shard] ??= new IndexReader(memory);
    return this.promiseReaders[shard] as IndexReader;
  }

  /** The promise that a shard has for a key, or null. */
  promisedOf(shard: number, key: Uint8Array, hashA: number, hashB: number): Ballot | null {
    const index = this.promisesOf(shard);
    if (index === null) return null;
    const { maps } = this.setup.lookups[shard];
    let promised: Ballot | null = null;
    let vanished = false;
    const matcher: Matcher = {
      matches(slot, unit) {
        const map = maps.get(slot);
        if (map === null) vanished = true;
        else if (keyEquals(map, unit, key, key.length)) {
          promised = ballotAt(map, unit);
          return true;
        }
        return false;
      },
    };
    do vanished = false;
    while (!index.find(hashA, hashB, matcher) && vanished);
    return promised;
  }
}
