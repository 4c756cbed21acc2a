/**
 * Compaction: copies what still counts out of the slab with the least live bytes, to the end of the log, then drops the slab. In steps of
 * bounded size, between batches, so that nobody waits for a whole slab (Rosenblum & Ousterhout, "The Design and
 * Implementation of a Log-Structured File System", 1991, with a greedy choice).
 *
 * A copy gets a checksum of its own, so every record is checked as it is copied: else what has rotted since it was last looked at would pass for good from then on.
 *
 * A copy keeps its ballot. It is published at once, unsynced: until the source slab is dropped a crash only loses the copy. The slab
 * is dropped after what was copied is synced.
 */
import {
  isIndexed,
  TYPE_CHUNK,
  TYPE_FORGOTTEN,
  TYPE_MANIFEST,
  TYPE_MARK,
  TYPE_TOMBSTONE,
  UNIT_BYTES,
} from "../format/layout.ts";
import {
  type ChunkRef,
  emptyHead,
  keyBytesOf,
  keyOffset,
  manifestBytes,
  readHead,
  readManifest,
  typeOf,
  unitsAt,
  valueBytesOf,
  valueOffset,
  writeManifest,
} from "../format/record.ts";
import { decodeFooter, tableType, tableUnit, tableWords } from "../format/slab.ts";
import type { Promised } from "./replication.ts";
import { type Shard, UNSYNCED_BYTES_MAX } from "./shard.ts";
import { FIGURE } from "./shard-memory.ts";
import type { SlabMap } from "./slab-maps.ts";
import type { Slab } from "./slab-table.ts";

/** Disk in use may be this many times the live bytes, plus SLACK_SLABS, before compaction starts. */
const SPACE_FACTOR = 1.6;
const SLACK_SLABS = 2;
/** A slab with more live bytes than this is not worth copying for its dead ones. */
const LIVE_FRACTION_MAX = 0.9;
/** With this share of tombstones (and at least TOMBSTONES_MIN) the oldest slab is compacted, where they can be dropped. */
const TOMBSTONE_FRACTION_MAX = 0.2;
const TOMBSTONES_MIN = 10_000;
/** What compaction on a full disk leaves of the reserve, for deletes. */
const DELETES_BYTES = 512 * 1024;

/**
 * Bytes that may be moved for each byte that was written since the last step. Random overwriting of everything needs 0.8 at 1.6 times the live bytes,
 * and less where more is dead, so this catches up; and what nobody writes, nobody pays for.
 */
const MOVED_PER_WRITTEN = 2;
const STEP_BYTES_MAX = 8 * 1024 * 1024;
/** Small records cost more than their bytes: a step looks at so many, of which one that is moved counts for MOVE_WEIGHT. */
const STEP_RECORDS_MAX = 16_384;
const MOVE_WEIGHT = 8;

/** Chunks of one value that were copied and whose manifest still names the old places. */
interface MovedChunks {
  key: Uint8Array;
  hashA: number;
  hashB: number;
  operationLow: number;
  operationHigh: number;
  refs: Map<number, ChunkRef>;
}

interface Victim {
  sequence: number;
  map: SlabMap;
  table: Int32Array;
  next: number;
  moved: Map<string, MovedChunks>;
  oldest: boolean;
}

export class Compactor {
  private readonly shard: Shard;
  private victim: Victim | null = null;
  /** Bytes appended in all when the last step ended. */
  private paidBytes = 0;
  private readonly head = emptyHead();
  private readonly copies: { type: number; hashA: number; hashB: number; from: number; to: number }[] = [];

  constructor(shard: Shard) {
    this.shard = shard;
  }

  /**
   * Copies up to about `bytesMax` of records, or more if much was written since the last step. A full disk or a failed write ends the step and is tried again at a later one.
   * @returns whether there is more to do now
   */
  step(bytesMax: number): boolean {
    const { appender } = this.shard;
    const writtenBytes = appender.appendedBytes - this.paidBytes;
    const more = this.move(Math.max(bytesMax, Math.min(STEP_BYTES_MAX, writtenBytes * MOVED_PER_WRITTEN)));
    this.paidBytes = appender.appendedBytes;
    return more;
  }

  private move(bytesMax: number): boolean {
    if (this.victim === null) this.victim = this.choose();
    const { victim, shard } = this;
    if (victim === null) return false;
    try {
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
        records += bytes > 0 ? MOVE_WEIGHT : 1;
        victim.next += 3;
        if (shard.slabs.bySequence(victim.sequence)?.damaged === true) this.victim = null;
        if (this.victim === null) break;
      }
      this.publishCopies(victim.map);
      if (this.victim === null) return true;
      shard.figures[FIGURE.compactedBytes] += copied;
      if (victim.next >= victim.table.length) {
        this.victim = null;
        if (!this.rewriteManifests(victim)) return true;
        if (!shard.syncNow()) return false;
        shard.slabs.drop(victim.sequence, shard.appender.end);
      } else if (shard.appender.unsyncedBytes > UNSYNCED_BYTES_MAX) shard.syncNow();
      return true;
    } catch (error) {
      this.victim = null;
      this.copies.length = 0;
      shard.failStaged(shard.writeFailure(error));
      return false;
    }
  }

  /** The slab to empty next, or null while there is little to gain. */
  private choose(): Victim | null {
    const { slabs, setup, figures } = this.shard;
    const replicated = figures[FIGURE.replicated] !== 0;
    const { slabBytes } = setup.store;
    let best: Slab | null = null;
    let oldest = Number.POSITIVE_INFINITY;
    let live = 0;
    for (const slab of slabs.all()) {
      live += slab.liveBytes;
      oldest = Math.min(oldest, slab.sequence);
      if (!slab.sealed || slab.uploads > 0 || slab.damaged) continue;
      // A copy would look newer than records that damage took, so what is in doubt stays where it is.
      if (slab.sequence <= figures[FIGURE.doubtSequence]) continue;
      if (best === null || slab.liveBytes < best.liveBytes) best = slab;
    }
    if (best === null) return null;
    const tombstones = figures[FIGURE.forgotten] + (replicated ? 0 : figures[FIGURE.tombstones]);
    if (
      tombstones >= TOMBSTONES_MIN &&
      tombstones > (tombstones + figures[FIGURE.keys]) * TOMBSTONE_FRACTION_MAX
    ) {
      const slab = slabs.bySequence(oldest);
      const isCertain = oldest > figures[FIGURE.doubtSequence];
      if (slab?.sealed === true && slab.uploads === 0 && !slab.damaged && isCertain)
        return this.start(oldest, true);
    }
    if (this.shard.appender.diskFull) return this.chooseOnFullDisk(best, best.sequence === oldest);
    const worthIt = slabs.count * slabBytes > live * SPACE_FACTOR + SLACK_SLABS * slabBytes;
    if (best.liveBytes > 0 && (!worthIt || best.liveBytes > slabBytes * LIVE_FRACTION_MAX)) return null;
    return this.start(best.sequence, best.sequence === oldest);
  }

  /** Any gain counts then, but the copies must fit what is allocated already and leave some of it to deletes. */
  private chooseOnFullDisk(best: Slab, oldest: boolean): Victim | null {
    const { slabBytes, chunkBytes } = this.shard.setup.store;
    const room = this.shard.appender.allocatedBytes(chunkBytes) - DELETES_BYTES;
    if (best.liveBytes > 0 && (best.liveBytes > room || best.liveBytes > slabBytes * LIVE_FRACTION_MAX))
      return null;
    return this.start(best.sequence, oldest);
  }

  private start(sequence: number, oldest: boolean): Victim | null {
    const map = this.shard.lookup.maps.bySequence(sequence);
    const footer = map === null ? null : decodeFooter(map.bytes, sequence);
    if (map === null || footer === null) {
      this.leave(sequence, "its table cannot be read");
      return null;
    }
    return { sequence, map, table: tableWords(map.bytes, footer), next: 0, moved: new Map(), oldest };
  }

  /** Leaves a damaged slab where it is. */
  private leave(sequence: number, why: string): void {
    const slab = this.shard.slabs.bySequence(sequence);
    if (slab !== undefined) slab.damaged = true;
    this.shard.figures[FIGURE.damaged]++;
    this.shard.setup.warn(
      `slab ${sequence} of shard ${this.shard.setup.shard} is not compacted: ${why}; run minivault verify`,
    );
  }

  /** Copies one record if it counts; answers the bytes copied. */
  private moveRecord(victim: Victim, hashA: number, hashB: number, word: number): number {
    const unit = tableUnit(word);
    const type = tableType(word);
    const { shard } = this;
    const { map } = victim;
    if (type === TYPE_MARK) return 0;
    if (type === TYPE_CHUNK) return this.moveChunk(victim, unit, hashA, hashB);
    if (isIndexed(type)) {
      if (!shard.index.holds(hashA, hashB, map.slot, unit)) return 0;
    } else if (shard.replication.holds(type, hashA, hashB, map, unit) !== true) return 0;
    if (!shard.lookup.checkAgain(map, unit)) {
      this.leave(victim.sequence, `the record at unit ${unit} is damaged`);
      return 0;
    }
    // In a cluster a tombstone goes when all replicas have it: what is then left of it is a forgotten record.
    const droppable =
      type === TYPE_FORGOTTEN || (type === TYPE_TOMBSTONE && shard.figures[FIGURE.replicated] === 0);
    if (droppable && victim.oldest) {
      // Nothing older of this key can exist: it would be in an older slab, or before it in this one.
      shard.index.remove(hashA, hashB, map.slot, unit);
      shard.slabs.live(map.slot, -unitsAt(map, unit) * UNIT_BYTES);
      shard.ledger.count(type, -1);
      return 0;
    }
    return this.copy(map, unit, hashA, hashB);
  }

  /** Stages a copy of a record; answers its size in bytes. */
  private copy(map: SlabMap, unit: number, hashA: number, hashB: number): number {
    const { appender, replication } = this.shard;
    const keyBytes = keyBytesOf(map, unit);
    const type = typeOf(map, unit);
    const contentTypeBytes = valueOffset(map, unit) - keyOffset(unit) - keyBytes;
    if (!appender.hasRoom(keyBytes, contentTypeBytes, valueBytesOf(map, unit))) {
      this.publishCopies(map);
      this.shard.makeRoom(keyBytes, contentTypeBytes, valueBytesOf(map, unit), true);
    }
    const outranked = isIndexed(type) && isPromised(replication.promiseAt(map, unit, hashA, hashB));
    appender.appendCopy(map, unit, hashA, hashB, outranked);
    if (type !== TYPE_CHUNK) this.copies.push({ type, hashA, hashB, from: unit, to: appender.lastUnit });
    return appender.lastUnits * UNIT_BYTES;
  }

  /** Writes the staged copies and points the index to them. */
  private publishCopies(map: SlabMap): void {
    const { appender, index, replication, slabs } = this.shard;
    appender.flush();
    appender.settle();
    for (const { type, hashA, hashB, from, to } of this.copies) {
      const bytes = unitsAt(map, from) * UNIT_BYTES;
      if (isIndexed(type)) index.replace(hashA, hashB, map.slot, from, appender.slot, to);
      else
        replication.moved(
          type,
          hashA,
          hashB,
          { slot: map.slot, unit: from },
          { slot: appender.slot, unit: to },
        );
      slabs.live(map.slot, -bytes);
      slabs.live(appender.slot, bytes);
    }
    this.copies.length = 0;
  }

  private moveChunk(victim: Victim, unit: number, hashA: number, hashB: number): number {
    const { shard, head } = this;
    const { map } = victim;
    if (!shard.lookup.checkAgain(map, unit)) {
      if (shard.slabs.bySequence(victim.sequence)?.liveBytes !== 0)
        this.leave(victim.sequence, `the chunk at unit ${unit} is damaged`);
      return 0;
    }
    const at = keyOffset(unit);
    const key = map.bytes.subarray(at, at + keyBytesOf(map, unit));
    readHead(map, unit, head);
    const { chunk, operationLow, operationHigh } = head;
    const manifest = this.manifestOf(key, hashA, hashB, operationLow, operationHigh);
    if (manifest === "damaged") {
      this.leave(victim.sequence, `what its chunk at unit ${unit} belongs to is damaged`);
      return 0;
    }
    const ref = manifest?.chunks[chunk];
    if (ref === undefined || ref.sequence !== victim.sequence || ref.unit !== unit) return 0;
    const bytes = this.copy(map, unit, hashA, hashB);
    const { appender } = shard;
    const name = Buffer.from(key).toString("latin1");
    let moved = victim.moved.get(name);
    if (moved === undefined || moved.operationLow !== operationLow || moved.operationHigh !== operationHigh) {
      moved = { key: key.slice(), hashA, hashB, operationLow, operationHigh, refs: new Map() };
      victim.moved.set(name, moved);
    }
    moved.refs.set(chunk, {
      sequence: appender.sequence,
      unit: appender.lastUnit,
      bytes: ref.bytes,
      checksum: appender.lastChecksum,
    });
    return bytes;
  }

  private cached: { map: SlabMap; unit: number; chunks: ChunkRef[]; totalBytes: number } | null = null;

  /**
   * The manifest that counts for a key, if it is that of the given operation; null: the key holds something else. Damaged: nobody can tell.
   * Leaves its place in `shard.lookup`.
   */
  private manifestOf(
    key: Uint8Array,
    hashA: number,
    hashB: number,
    operationLow: number,
    operationHigh: number,
  ) {
    const { lookup } = this.shard;
    const state = lookup.find(key, key.length, hashA, hashB);
    if (state !== "found") return state === "absent" ? null : "damaged";
    const { map, unit } = lookup;
    const isCached = this.cached?.map === map && this.cached.unit === unit;
    if (!isCached && !lookup.checkAgain(map, unit)) return "damaged";
    if (typeOf(map, unit) !== TYPE_MANIFEST) return null;
    readHead(map, unit, this.head);
    if (this.head.operationLow !== operationLow || this.head.operationHigh !== operationHigh) return null;
    if (this.cached === null || !isCached) this.cached = { map, unit, ...readManifest(map, unit) };
    return this.cached;
  }

  /**
   * Writes new manifests for the values whose chunks were moved, unless they were replaced meanwhile.
   * @returns false: one is damaged now, and the slab has to stay
   */
  private rewriteManifests(victim: Victim): boolean {
    const { shard, head } = this;
    this.cached = null;
    for (const moved of victim.moved.values()) {
      const { key, hashA, hashB } = moved;
      const old = this.manifestOf(key, hashA, hashB, moved.operationLow, moved.operationHigh);
      if (old === null) continue;
      if (old === "damaged") {
        this.leave(victim.sequence, "the manifest of chunks in it is damaged");
        return false;
      }
      const chunks = old.chunks.map((ref, number) => moved.refs.get(number) ?? ref);
      const value = new Uint8Array(manifestBytes(chunks.length));
      writeManifest(value, 0, old.totalBytes, chunks);
      const { slot } = old.map;
      const typeStart = keyOffset(old.unit) + key.length;
      const contentType = old.map.bytes.slice(typeStart, valueOffset(old.map, old.unit));
      readHead(old.map, old.unit, head);
      head.outranked = isPromised(shard.replication.promiseOf(key, hashA, hashB));
      shard.makeRoom(key.length, contentType.length, value.length, true);
      shard.appender.append(head, key, contentType, hashA, hashB, value.length, [value]);
      shard.appender.flush();
      shard.appender.settle();
      const { appender } = shard;
      shard.ledger.forget(slot, old.unit);
      shard.index.replace(hashA, hashB, slot, old.unit, appender.slot, appender.lastUnit);
      shard.slabs.live(appender.slot, appender.lastUnits * UNIT_BYTES);
      shard.ledger.count(TYPE_MANIFEST, 1);
      shard.ledger.countChunks(key.length, chunks, 1);
    }
    this.cached = null;
    return true;
  }
}

/** Whether a promise stands for a key: it is then above the ballot of the key's record. */
function isPromised(promise: Promised | null): boolean {
  return promise !== null;
}
