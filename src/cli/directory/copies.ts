/**
 * Backups of one or more nodes, read together: of each key the newest version that any of them has. A write
 * that was acknowledged before the backups were begun is in a majority of its replicas' copies, so it is
 * found as long as fewer than that are missing.
 */
import path from "node:path";
import type { ArchivedValue } from "../../archive/member.ts";
import { noBackup, readBackupFile } from "../../engine/directory/backup-file.ts";
import { identityOf, type StoreIdentity } from "../../engine/directory/store-file.ts";
import { IndexReader, SCAN_END } from "../../engine/index/reader.ts";
import { Shard } from "../../engine/shard/shard.ts";
import type { SlabMap } from "../../engine/slabs/maps.ts";
import { Residency } from "../../engine/slabs/residency.ts";
import { ShardLookup } from "../../engine/state/lookup.ts";
import { createShardMemory } from "../../engine/state/memory.ts";
import { readManifest } from "../../format/manifest.ts";
import { TYPE_FORGOTTEN, TYPE_MANIFEST } from "../../format/offsets.ts";
import { type Ballot, ballotAt, keyOf, typeOf } from "../../format/record.ts";
import { isAbsence } from "../../format/record-types.ts";
import { compareBallots, etagOf } from "../../format/version.ts";
import { demandForms } from "../../platform/private-directory.ts";
import { archivedOf, innerRange, viewsOf } from "../../server/transfer/outgoing.ts";
import { FoundRecord } from "../../shards/vault/found-record.ts";
import { hashBOf, hashKey, INDEX_PARTITIONS, indexPartitionOf, shardOf } from "../../util/hash.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";
import { innerText } from "../../value/stored.ts";

/** Entries of an index that are looked at in one step. */
const SCAN_ENTRIES = 1024;

/** What one copy has of a key. */
interface Held {
  ballot: Ballot;
  isValue: boolean;
}

/** A value of a copy, for an archive. */
export interface CopiedValue {
  value: ArchivedValue;
  bytes: Uint8Array | null;
  pieces: (() => AsyncIterable<Uint8Array>) | null;
}

/** One backup, open for reading. */
class Copy {
  readonly directory: string;
  /** Records that cannot be read. */
  damaged = 0;
  private readonly store: StoreIdentity;
  private readonly lookups: ShardLookup[] = [];
  private readonly indexes: IndexReader[] = [];
  private readonly found: FoundRecord;
  private hashA = 0;
  private hashB = 0;

  constructor(directory: string, residency: Residency, warn: (message: string) => void) {
    demandForms(directory);
    const facts = readBackupFile(directory);
    if (facts === null) throw new Error(noBackup(directory));
    this.directory = directory;
    this.store = identityOf(facts.store);
    this.found = new FoundRecord(residency);
    const { store } = this;
    for (let shard = 0; shard < store.shards; shard++) {
      const memory = createShardMemory(1);
      const about = { dataDirectory: directory, shard, store, memory, now: Date.now };
      Shard.openReadOnly(
        { ...about, sync: "always", warn: (text) => warn(`${directory}: ${text}`) },
        () => {},
      );
      this.lookups.push(new ShardLookup(directory, shard, store, memory, memory.held[0]));
      this.indexes.push(new IndexReader(memory.index));
    }
  }

  private lookupOf(key: Uint8Array): ShardLookup {
    this.hashA = hashKey(key, key.length, 0);
    this.hashB = hashBOf(key, key.length, this.store.keyHash);
    const { shards } = this.store;
    return this.lookups[shards === 1 ? 0 : shardOf(this.hashA, this.hashB, shards)];
  }

  /** What is held of a key; null: nothing, or nothing that can be read. */
  held(key: Uint8Array): Held | null {
    const lookup = this.lookupOf(key);
    if (lookup.find(key, key.length, this.hashA, this.hashB) !== "found") return null;
    const { map, unit } = lookup;
    if (typeOf(map, unit) === TYPE_FORGOTTEN || !lookup.check(map, unit)) return null;
    // Before anything of it is in the archive: another copy may have all of it.
    if (typeOf(map, unit) === TYPE_MANIFEST && !hasChunks(lookup, map, unit)) return null;
    return { ballot: ballotAt(map, unit), isValue: !isAbsence(typeOf(map, unit)) };
  }

  /** A value that `held` has found. Throws where it is damaged. */
  read(key: Uint8Array): CopiedValue {
    const lookup = this.lookupOf(key);
    const state = lookup.find(key, key.length, this.hashA, this.hashB);
    if (state === "found") lookup.check(lookup.map, lookup.unit);
    const found = this.found.set(lookup, { bytes: key, length: key.length }, this.hashA, this.hashB, state);
    if (found.state !== "found") throw new Error(`a record in ${this.directory} is damaged`);
    const value = archivedOf(key, etagOf(found.etag), found);
    const { json, valueBytes } = found;
    if (valueBytes > CHUNK_BYTES) {
      const open = { reader: found.open(), ...innerRange(found) };
      return { value, bytes: null, pieces: () => viewsOf(open) };
    }
    const stored = found.copy();
    return { value, bytes: json ? innerText(stored) : stored, pieces: null };
  }

  /** All keys that it knows something of. */
  *keys(): Generator<Uint8Array> {
    for (let shard = 0; shard < this.store.shards; shard++)
      for (let partition = 0; partition < INDEX_PARTITIONS; partition++) yield* this.keysOf(shard, partition);
  }

  private *keysOf(shard: number, partition: number): Generator<Uint8Array> {
    const { maps } = this.lookups[shard];
    for (let from = 0; from < SCAN_END; ) {
      const page = this.indexes[shard].scan(partition, from, SCAN_ENTRIES);
      for (const [i, slot] of page.slots.entries()) {
        const map = maps.get(slot);
        const key = map === null ? null : keyOf(map, page.units[i]).slice();
        // That the key leads here is proof enough; who reads the value checks all of it.
        const isKey = key !== null && indexPartitionOf(hashKey(key, key.length, 0)) === partition;
        if (isKey && this.held(key) !== null) yield key;
        else if (!isKey || typeOf(map as NonNullable<typeof map>, page.units[i]) !== TYPE_FORGOTTEN)
          this.damaged++;
      }
      from = page.next;
    }
  }
}

/** Whether all chunks of a large value are there, and good. */
function hasChunks(lookup: ShardLookup, map: SlabMap, unit: number): boolean {
  return readManifest(map, unit).chunks.every(({ sequence, unit: at, checksum }) => {
    const chunkMap = lookup.maps.bySequence(sequence);
    return chunkMap !== null && lookup.checkChunk(chunkMap, at, checksum);
  });
}

export class Copies {
  private readonly copies: readonly Copy[];

  /**
   * Opens backups. `loadHash` must have finished.
   * @param warn told what is missing or damaged in them
   * @throws Error with a sentence for a person
   */
  constructor(directories: readonly string[], warn: (message: string) => void) {
    const residency = new Residency();
    this.copies = directories.map((directory) => new Copy(path.resolve(directory), residency, warn));
  }

  /** Records that could not be read, over all copies. */
  get damaged(): number {
    return this.copies.reduce((sum, copy) => sum + copy.damaged, 0);
  }

  /** The newest version of each key that begins with a prefix, each once, in no order. */
  *values(prefix: Uint8Array): Generator<CopiedValue> {
    for (const [own, copy] of this.copies.entries())
      for (const key of copy.keys()) {
        if (prefix.some((byte, i) => key[i] !== byte) || this.newestOf(key) !== own) continue;
        if (copy.held(key)?.isValue === true) yield copy.read(key);
      }
  }

  /** Which copy has the newest version of a key, the first of several. */
  private newestOf(key: Uint8Array): number {
    let newest = -1;
    let highest: Held | null = null;
    for (const [index, copy] of this.copies.entries()) {
      const held = copy.held(key);
      if (held === null) continue;
      const order = highest === null ? 1 : compareBallots(held.ballot, highest.ballot);
      // Of one version, that it has ended ranks above that it has not.
      if (order < 0 || (order === 0 && (held.isValue || highest?.isValue === false))) continue;
      newest = index;
      highest = held;
    }
    return newest;
  }
}
