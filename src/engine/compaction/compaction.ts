/**
 * Compaction: copies what still counts out of the slab with the least live bytes, to the end of the log, then
 * drops the slab. In steps of bounded size, between batches, so that nobody waits for a whole slab (Rosenblum
 * & Ousterhout, "The Design and Implementation of a Log-Structured File System", 1991, with a greedy choice).
 *
 * A copy gets a checksum of its own, so every record is checked as it is copied: else what has rotted since
 * it was last looked at would pass for good from then on.
 *
 * A copy keeps its ballot. It is published at once, unsynced: until the source slab is dropped a crash only
 * loses the copy. The slab is dropped after what was copied is synced.
 */
import {
  isIndexed,
  SLAB_UNIT_BITS,
  TYPE_CHUNK,
  TYPE_FORGOTTEN,
  TYPE_MANIFEST,
  TYPE_MARK,
  TYPE_TOMBSTONE,
  UNIT_BYTES,
} from "../../format/offsets.ts";
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
} from "../../format/record.ts";
import { decodeFooter, tableType, tableUnit, tableWords, tailBytes } from "../../format/slab.ts";
import { type Log, UNSYNCED_BYTES_MAX } from "../log/log.ts";
import { FIGURE } from "../slabs/figures.ts";
import type { SlabMap } from "../slabs/maps.ts";
import type { Slab } from "../slabs/table.ts";
import type { State } from "../state/state.ts";
import { type Circumstances, chooseVictim, type SlabState } from "./choose.ts";

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
/** Records that are looked at to estimate how much of the oldest slab is tombstones. */
const SAMPLE_RECORDS = 2048;

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
  /**
   * The shard's missing pages when the step began: what was checked since then is what was copied, as long as
   * there are no more.
   */
  private missing = 0;
  private readonly head = emptyHead();
  private readonly copies: { type: number; hashA: number; hashB: number; from: number; to: number }[] = [];

  /** @param now wall clock in milliseconds since 1970 */
  constructor(state: State, log: Log, now: () => number) {
    this.state = state;
    this.log = log;
    this.now = now;
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

  private move(bytesMax: number): boolean {
    if (this.victim === null) this.victim = this.choose();
    const { victim, state, log } = this;
    if (victim === null) return false;
    this.missing = state.lookup.missingPages;
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
        victim.restBytes -= bytes;
        records += bytes > 0 ? MOVE_WEIGHT : 1;
        victim.next += 3;
        if (state.slabs.bySequence(victim.sequence)?.damaged === true) this.victim = null;
        if (this.victim === null) break;
      }
      this.publishCopies(victim.map);
      if (this.victim === null) return true;
      state.figures[FIGURE.compactedBytes] += copied;
      if (victim.next >= victim.table.length) {
        this.victim = null;
        if (!this.rewriteManifests(victim)) return true;
        if (!log.syncNow()) return false;
        state.slabs.drop(victim.sequence, log.appender.end);
        log.succession.sealing.forget(victim.sequence);
        this.failures = 0;
      } else if (log.appender.file.unsyncedBytes > UNSYNCED_BYTES_MAX) log.syncNow();
      return true;
    } catch (error) {
      this.victim = null;
      this.copies.length = 0;
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
    const choice = chooseVictim(state.slabs.all(), this.circumstances(pressed));
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

  private circumstances(pressed: boolean): Circumstances<Slab> {
    const { figures, store } = this.state;
    const { room, succession } = this.log;
    const { slabBytes, chunkBytes } = store;
    const absences = figures[FIGURE.tombstones] + figures[FIGURE.forgotten];
    // In a cluster a tombstone goes when all replicas have it: what is then left of it is a forgotten record.
    const tombstones = figures[FIGURE.replicated] === 0 ? absences : figures[FIGURE.forgotten];
    return {
      slabBytes,
      full: room.isFull,
      pressed,
      roomBytes: room.allocatedBytes(chunkBytes),
      spareBytes: succession.spare.room(chunkBytes),
      entries: figures[FIGURE.keys] + absences,
      tombstones,
      tombstoneBytes: absences === 0 ? 0 : (figures[FIGURE.absenceBytes] / absences) * tombstones,
      stateOf: (slab) => this.stateOf(slab),
      measure: (slab, oldest) => this.measure(slab, oldest),
    };
  }

  private stateOf({ sequence, sealed, uploads, damaged }: Slab): SlabState {
    const { appender } = this.log;
    const { figures } = this.state;
    // A copy would look newer than records that damage took, so what is in doubt stays where it is.
    if (uploads > 0 || damaged || sequence <= figures[FIGURE.doubtSequence]) return "kept";
    if (sequence === appender.sequence) return "open";
    return sealed || this.log.succession.sealing.holds(sequence) ? "ready" : "kept";
  }

  /**
   * Bytes that compacting a slab would write: what lives in it, new manifests for its chunks, and a place for
   * each in the next table.
   */
  private measure(slab: Slab, oldest: boolean): number {
    const { state } = this;
    const map = state.lookup.maps.bySequence(slab.sequence);
    const table = map === null ? null : this.tableOf(slab.sequence, map);
    if (map === null || table === null) return slab.liveBytes;
    const records = table.length / 3;
    let bytes = Math.max(0, slab.liveBytes);
    const manifests = new Set<number>();
    for (let at = 0; at < table.length; at += 3) {
      if (tableType(table[at + 2]) !== TYPE_CHUNK) continue;
      const owner = this.ownerOf(map, tableUnit(table[at + 2]), table[at], table[at + 1]);
      if (owner === null || owner === "damaged" || manifests.has(owner.place)) continue;
      manifests.add(owner.place);
      bytes += unitsAt(owner.map, owner.unit) * UNIT_BYTES;
    }
    this.cached = null;
    if (oldest) bytes -= this.droppableShare(map, table) * bytes;
    return bytes + tailBytes(Math.ceil((records * bytes) / Math.max(slab.storedBytes, bytes, 1)));
  }

  /** About what part of the live bytes of the oldest slab are records that need not be copied. */
  private droppableShare(map: SlabMap, table: Int32Array): number {
    const { state } = this;
    const records = table.length / 3;
    const step = Math.max(1, Math.floor(records / SAMPLE_RECORDS));
    let live = 0;
    let droppable = 0;
    for (let record = 0; record + 1 < records; record += step) {
      const at = record * 3;
      const unit = tableUnit(table[at + 2]);
      const type = tableType(table[at + 2]);
      if (!isIndexed(type) || !state.index.holds(table[at], table[at + 1], map.slot, unit)) {
        if (type !== TYPE_CHUNK) continue;
        if (this.ownerOf(map, unit, table[at], table[at + 1]) === null) continue;
      }
      const units = tableUnit(table[at + 5]) - unit;
      live += units;
      if (this.isDroppable(type)) droppable += units;
    }
    this.cached = null;
    return live === 0 ? 0 : droppable / live;
  }

  /** Whether a record of this type need not be copied from the oldest slab. */
  private isDroppable(type: number): boolean {
    return (
      type === TYPE_FORGOTTEN || (type === TYPE_TOMBSTONE && this.state.figures[FIGURE.replicated] === 0)
    );
  }

  /**
   * The table of a slab, from its end, or from memory where a full disk has no room for it. Null: it cannot
   * be read.
   */
  private tableOf(sequence: number, map: SlabMap): Int32Array | null {
    const { appender } = this.log;
    if (sequence === appender.sequence) return Int32Array.from(appender.openSlab().table);
    const kept = this.log.succession.sealing.tableOf(sequence);
    if (kept !== null) return kept;
    const footer = decodeFooter(map.bytes, sequence);
    return footer === null ? null : tableWords(map.bytes, footer);
  }

  private start(sequence: number, oldest: boolean, restBytes: number): Victim | null {
    const map = this.state.lookup.maps.bySequence(sequence);
    const table = map === null ? null : this.tableOf(sequence, map);
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
    if (victim.oldest && this.isDroppable(type)) {
      // Nothing older of this key can exist: it would be in an older slab, or before it in this one.
      state.remove(type, hashA, hashB, map, unit);
      return 0;
    }
    return this.copy(map, unit, hashA, hashB);
  }

  /** Stages a copy of a record; answers its size in bytes. */
  private copy(map: SlabMap, unit: number, hashA: number, hashB: number): number {
    const { appender } = this.log;
    const { replication } = this.state;
    const keyBytes = keyBytesOf(map, unit);
    const type = typeOf(map, unit);
    const contentTypeBytes = valueOffset(map, unit) - keyOffset(unit) - keyBytes;
    if (!appender.hasRoom(keyBytes, contentTypeBytes, valueBytesOf(map, unit))) {
      this.publishCopies(map);
      this.log.makeRoomToMove(keyBytes, contentTypeBytes, valueBytesOf(map, unit));
    }
    const outranked = isIndexed(type) && replication.promiseAt(map, unit, hashA, hashB) !== null;
    appender.appendCopy(map, unit, hashA, hashB, outranked);
    if (type !== TYPE_CHUNK) this.copies.push({ type, hashA, hashB, from: unit, to: appender.lastUnit });
    return appender.lastUnits * UNIT_BYTES;
  }

  /** Writes the staged copies and points the index to them. */
  private publishCopies(map: SlabMap): void {
    const { appender } = this.log;
    this.requireSteady();
    appender.flush();
    appender.settle();
    for (const { type, hashA, hashB, from, to } of this.copies)
      this.state.move(type, hashA, hashB, map, from, { slot: appender.slot, unit: to });
    this.copies.length = 0;
  }

  /**
   * Throws when a page went missing under this step: its copies, which have checksums of their own, may hold
   * zeros.
   */
  private requireSteady(): void {
    if (this.state.lookup.missingPages !== this.missing)
      throw new Error("a page that was to be moved cannot be read");
  }

  private moveChunk(victim: Victim, unit: number, hashA: number, hashB: number): number {
    const { state } = this;
    const { map } = victim;
    if (!state.lookup.checkAgain(map, unit)) {
      if (state.slabs.bySequence(victim.sequence)?.liveBytes !== 0)
        this.leave(victim.sequence, `the chunk at unit ${unit} is damaged`);
      return 0;
    }
    const owner = this.ownerOf(map, unit, hashA, hashB);
    if (owner === "damaged") {
      this.leave(victim.sequence, `what its chunk at unit ${unit} belongs to is damaged`);
      return 0;
    }
    if (owner === null) return 0;
    const { key, ref, chunk, operationLow, operationHigh } = owner;
    const bytes = this.copy(map, unit, hashA, hashB);
    const { appender } = this.log;
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

  /**
   * Whose a chunk is, and what the manifest says of it. Null: no value has it any more. Damaged: nobody can
   * tell.
   */
  private ownerOf(map: SlabMap, unit: number, hashA: number, hashB: number) {
    const at = keyOffset(unit);
    const key = map.bytes.subarray(at, at + keyBytesOf(map, unit));
    readHead(map, unit, this.head);
    const { chunk, operationLow, operationHigh } = this.head;
    const manifest = this.manifestOf(key, hashA, hashB, operationLow, operationHigh);
    if (manifest === "damaged") return manifest;
    const ref = manifest?.chunks[chunk];
    if (manifest === null || ref?.sequence !== map.sequence || ref.unit !== unit) return null;
    const place = manifest.map.slot * 2 ** SLAB_UNIT_BITS + manifest.unit;
    return { key, ref, chunk, operationLow, operationHigh, map: manifest.map, unit: manifest.unit, place };
  }

  private cached: { map: SlabMap; unit: number; chunks: ChunkRef[]; totalBytes: number } | null = null;

  /**
   * The manifest that counts for a key, if it is that of the given operation; null: the key holds something
   * else. Damaged: nobody can tell. Leaves its place in `state.lookup`.
   */
  private manifestOf(
    key: Uint8Array,
    hashA: number,
    hashB: number,
    operationLow: number,
    operationHigh: number,
  ) {
    const { lookup } = this.state;
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
    const { state, head } = this;
    const { appender } = this.log;
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
      head.outranked = state.replication.promiseOf(key, hashA, hashB) !== null;
      this.log.makeRoomToMove(key.length, contentType.length, value.length);
      appender.append(head, key, contentType, hashA, hashB, value.length, [value]);
      this.requireSteady();
      appender.flush();
      appender.settle();
      const to = { slot: appender.slot, unit: appender.lastUnit };
      const from = { slot, unit: old.unit };
      state.moveManifest(hashA, hashB, from, to, appender.lastUnits, key.length, chunks);
    }
    this.cached = null;
    return true;
  }
}
