/**
 * The writing end of a shard: the open slab, what is staged for it, and its sealing once it is full.
 *
 * Records are laid out in a staging buffer as they will stand in the file. `flush` writes them, `sync` makes
 * them durable, `settle` declares everything so far good; `rollBack` forgets what came since the last
 * `settle`, after a failed write. What a failed write left beyond the end is overwritten later, and the chain
 * of checksums (`previous`) keeps it from ever being read as a record.
 */
import path from "node:path";
import {
  FIRST_UNIT,
  FOOTER_BYTES,
  HEADER_BYTES,
  TYPE_CHUNK,
  TYPE_MARK,
  UNIT_BYTES,
  UNIT_SHIFT,
} from "../../format/offsets.ts";
import {
  beginRecord,
  emptyHead,
  type Frame,
  placeOf,
  type RecordHead,
  type RecordSource,
  readHead,
  recordSource,
  recordUnits,
  sealRecord,
  setOutranked,
  typeOf,
  unitsAt,
} from "../../format/record.ts";
import { encodeHeader, encodeTail, footerSeal, tableWord, tailBytes } from "../../format/slab.ts";
import { LISTED_FULL, type ListedSlab, type SlabEnd } from "../../format/slab-list.ts";
import { copyInto } from "../../util/bytes.ts";
import type { StoreIdentity } from "../directory/store-file.ts";
import type { SlabList } from "../list/slab-list.ts";
import { allocateStep, SpareSlabs } from "../reserve/spare.ts";
import { cutError, slabName, slotOfSequence, UNFINISHED } from "../slabs/files.ts";
import { type FileIo, isDiskFull } from "../slabs/io.ts";
import { Sealing } from "./sealing.ts";
import { WriteBehind } from "./write-behind.ts";

/**
 * Size of the staging buffer: the largest batch, or the largest record. What is staged is of one slab, so a
 * small one needs less.
 */
const STAGING_BYTES_MAX = 16 * 1024 * 1024;
/**
 * Blocks are allocated this far ahead, by writing zeros, so that a small append need not change the file's
 * extents.
 */
const ZERO_STEP_BYTES = 1024 * 1024;
const ZERO_AHEAD_BYTES = 512 * 1024;
/** From this format version on a slab's header names the slab before it. */
const CHAINED_VERSION_MIN = 2;
/**
 * On a full disk so much more must be there before it counts as not full: it would be full again with the
 * next write.
 */
const ZERO_AHEAD_FULL_BYTES = 4 * 1024 * 1024;
/** Steps in which the spare slab grows at a time; more while writes wait for it. */
const SPARE_STEPS = 1;
const SPARE_STEPS_FULL = 8;
/** On a full disk a spare slab is only worth starting with so much room. */
const SPARE_BYTES_MIN = 16 * 1024;

const NOTHING = new Uint8Array(0);
const NO_UNIT = new Uint8Array(UNIT_BYTES);

/** State of an open slab as recovery found it, so that appending can go on. */
export interface OpenSlab {
  sequence: number;
  endUnit: number;
  previous: number;
  /** Three words an entry, as in a slab's table. */
  table: ArrayLike<number>;
  clockHigh: number;
  clockLow: number;
}

export class Appender {
  private readonly io: FileIo;
  private readonly directory: string;
  private readonly shard: number;
  private readonly store: StoreIdentity;
  private readonly slots: Int32Array;
  private readonly list: SlabList;
  readonly staging: RecordSource;
  private readonly stagingBytes: number;
  private readonly head = emptyHead();

  private fd = -1;
  sequence = 0;
  slot = 0;
  /** End of the open slab, staged records included. */
  endUnit = 0;
  private flushedUnit = 0;
  private syncedUnit = 0;
  private zeroedUnit = 0;
  /** Up to where a write was tried. */
  private triedUnit = 0;
  /**
   * A failed write may have left whole records behind the end: until they are overwritten a restart may find
   * them.
   */
  uncertain = false;
  private previous = 0;
  /** End of the last mark. */
  private markedUnit = 0;
  private table: Int32Array = new Int32Array(3 * 4096);
  private entries = 0;
  private clockHigh = 0;
  private clockLow = 0;
  private settled = { endUnit: 0, previous: 0, entries: 0 };
  readonly sealing: Sealing;
  readonly spare: SpareSlabs;
  private readonly behind: WriteBehind;
  /** The file is or was shorter than it was made: nothing more goes into it. */
  isCut = false;
  /** Set while the disk is full: then only blocks are used that the open and the spare slab have already. */
  diskFull = false;
  /** The disk had no room for a new file: blocks may be there, and no inodes. */
  private fileRefused = false;
  /** Bytes of all records appended so far, whatever became of them. */
  appendedBytes = 0;
  /** The same when `allocate` was last called. */
  private appendedBefore = 0;
  /** Place, in units, of the last record appended, and its checksum. */
  lastUnit = 0;
  lastChecksum = 0;
  lastUnits = 0;

  constructor(
    io: FileIo,
    directory: string,
    shard: number,
    store: StoreIdentity,
    slots: Int32Array,
    list: SlabList,
    onSealed: (sequence: number, error: unknown) => void,
    onSyncFailed: (error: unknown) => void,
    onCut: (sequence: number, error: Error) => void,
  ) {
    this.io = io;
    this.directory = directory;
    this.shard = shard;
    this.store = store;
    this.slots = slots;
    this.list = list;
    this.sealing = new Sealing(io, store.slabBytes, onSealed, onCut);
    this.spare = new SpareSlabs(io, directory, store.slabBytes, onSyncFailed);
    this.behind = new WriteBehind(io, onSyncFailed);
    this.stagingBytes = Math.min(STAGING_BYTES_MAX, store.slabBytes);
    this.staging = recordSource(new Uint8Array(this.stagingBytes));
  }

  /** Goes on with a slab that recovery found open. */
  resume(open: OpenSlab): void {
    this.fd = this.io.open(path.join(this.directory, slabName(open.sequence)), "r+");
    this.adopt(open.sequence, open.endUnit, open.previous);
    this.entries = open.table.length / 3;
    this.table = new Int32Array(Math.max(this.table.length, open.table.length * 2));
    this.table.set(open.table);
    this.clockHigh = open.clockHigh;
    this.clockLow = open.clockLow;
    this.settle();
  }

  /** The open slab as it is; what is staged must have been flushed. */
  openSlab(): OpenSlab {
    const { sequence, endUnit, previous, clockHigh, clockLow } = this;
    return {
      sequence,
      endUnit,
      previous,
      table: this.table.subarray(0, this.entries * 3),
      clockHigh,
      clockLow,
    };
  }

  /**
   * Makes slab `sequence` and appends there from now on. What is staged must have been flushed and synced.
   */
  startSlab(sequence: number): void {
    const file = path.join(this.directory, slabName(sequence));
    const { slabBytes, id } = this.store;
    if (this.diskFull && this.spare.nextBytes < HEADER_BYTES + SPARE_BYTES_MIN)
      throw Object.assign(new Error("the disk is full and the spare slab is used up"), { code: "ENOSPC" });
    const full = this.fd >= 0 ? this.fullSlab() : null;
    const spare = this.diskFull ? this.spare.take() : null;
    const fresh = spare?.file ?? `${file}${UNFINISHED}`;
    const fd = spare?.fd ?? this.makeFile(fresh);
    try {
      this.io.ftruncate(fd, slabBytes);
      const previous = this.store.version >= CHAINED_VERSION_MIN ? (full?.listed ?? null) : null;
      const header = encodeHeader({ shard: this.shard, sequence, slabBytes, storeId: id }, previous);
      this.io.pwrite(fd, header, 0, header.length, 0);
      this.io.fsync(fd);
      // Under its own name a slab has always had its full size and its header: one that has not was damaged
      // later.
      this.io.rename(fresh, file);
      this.io.syncDirectory(this.directory);
      // Before it holds anything that somebody is told of: what is not listed may go missing unnoticed.
      this.list.add(sequence, full?.listed ?? null);
    } catch (error) {
      this.io.close(fd);
      // The list may name it already. An empty one that is not listed does no harm.
      if (this.list.hasFailed) throw error;
      for (const leftover of [fresh, file]) {
        try {
          this.io.unlink(leftover);
        } catch {
          // Not there, or recovery finds it: unfinished, or a slab without records.
        }
      }
      throw error;
    }
    if (full !== null) this.sealing.start({ fd: this.fd, sequence: this.sequence, tail: full.tail });
    void this.behind.leave();
    this.fd = fd;
    this.adopt(sequence, FIRST_UNIT, 0);
    if (spare !== null) this.zeroedUnit = Math.max(FIRST_UNIT, spare.allocatedBytes >>> UNIT_SHIFT);
    this.entries = 0;
    this.clockHigh = this.clockLow = 0;
    this.settle();
    Atomics.store(this.slots, this.slot, sequence);
  }

  private makeFile(file: string): number {
    try {
      return this.io.open(file, "wx+");
    } catch (error) {
      if (isDiskFull(error)) this.fileRefused = true;
      throw error;
    }
  }

  /** Finds out whether the disk has room for a file again. Throws what it says. */
  private probeFile(): void {
    const file = path.join(this.directory, `probe${UNFINISHED}`);
    this.io.close(this.io.open(file, "wx+"));
    this.io.unlink(file);
    this.fileRefused = false;
  }

  private adopt(sequence: number, endUnit: number, previous: number): void {
    this.sequence = sequence;
    this.slot = slotOfSequence(sequence);
    this.endUnit = this.flushedUnit = this.syncedUnit = this.zeroedUnit = endUnit;
    this.triedUnit = 0;
    this.isCut = false;
    this.previous = previous;
    this.markedUnit = endUnit;
  }

  /** Whether a record of these lengths (bytes) still fits the open slab together with its table entry. */
  hasRoom(keyBytes: number, contentTypeBytes: number, valueBytes: number): boolean {
    if (this.fd < 0 || this.isCut) return false;
    const endUnit = this.endUnit + recordUnits(keyBytes, contentTypeBytes, valueBytes);
    if (this.diskFull && endUnit > this.zeroedUnit) return false;
    return endUnit * UNIT_BYTES + tailBytes(this.entries + 1) <= this.store.slabBytes;
  }

  /**
   * Bytes that can be appended although the disk is full, as far as one record of `recordBytes` does not fail
   * to fit.
   */
  allocatedBytes(recordBytes: number): number {
    const end = Math.min(this.zeroedUnit * UNIT_BYTES, this.store.slabBytes - tailBytes(this.entries));
    return Math.max(0, end - this.endUnit * UNIT_BYTES - recordBytes) + this.spare.room(recordBytes);
  }

  /**
   * Stages a record whose value is the concatenation of `parts`; the slab must have room. Its place is then
   * in `lastUnit` (of slab `slot`). Throws what the disk says when staging was full and had to be flushed.
   */
  append(
    head: RecordHead,
    key: Uint8Array,
    contentType: Uint8Array,
    hashA: number,
    hashB: number,
    valueBytes: number,
    parts: readonly Uint8Array[],
  ): void {
    const units = recordUnits(key.length, contentType.length, valueBytes);
    if ((this.endUnit - this.flushedUnit + units) * UNIT_BYTES > this.stagingBytes) this.flush();
    const stagedUnit = this.endUnit - this.flushedUnit;
    let at = beginRecord(this.staging, stagedUnit, head, key, contentType, valueBytes);
    for (const part of parts) {
      copyInto(this.staging.bytes, at, part);
      at += part.length;
    }
    this.add(this.staging, stagedUnit, units, hashA, hashB, head.type, head.outranked);
    this.observe(head.clockHigh, head.clockLow);
  }

  /**
   * Like `append`, for the first `valueBytes` of the value in `frame`: writes the record to the file from
   * there, after what is staged. Throws what the disk says; the caller then must `rollBack`.
   */
  appendFrame(
    head: RecordHead,
    key: Uint8Array,
    hashA: number,
    hashB: number,
    { source }: Frame,
    valueBytes: number,
  ): void {
    this.flush();
    beginRecord(source, 0, head, key, NOTHING, valueBytes);
    this.add(source, 0, recordUnits(key.length, 0, valueBytes), hashA, hashB, head.type, head.outranked);
    this.writeOut(source.bytes);
  }

  /**
   * Stages a copy of a good record of another slab, for compaction: everything but its place and the flag
   * stays.
   */
  appendCopy(
    source: RecordSource,
    sourceUnit: number,
    hashA: number,
    hashB: number,
    outranked: boolean,
  ): void {
    const units = unitsAt(source, sourceUnit);
    if ((this.endUnit - this.flushedUnit + units) * UNIT_BYTES > this.stagingBytes) this.flush();
    const stagedUnit = this.endUnit - this.flushedUnit;
    const from = sourceUnit << UNIT_SHIFT;
    this.staging.bytes.set(
      source.bytes.subarray(from, from + (units << UNIT_SHIFT)),
      stagedUnit << UNIT_SHIFT,
    );
    setOutranked(this.staging, stagedUnit, outranked);
    this.add(this.staging, stagedUnit, units, hashA, hashB, typeOf(source, sourceUnit), outranked);
    if (typeOf(source, sourceUnit) !== TYPE_CHUNK) {
      readHead(source, sourceUnit, this.head);
      this.observe(this.head.clockHigh, this.head.clockLow);
    }
  }

  /** Appends a mark, unsynced, if records were synced since the last one. */
  mark(): void {
    if (this.syncedUnit !== this.endUnit || this.markedUnit === this.endUnit || !this.hasRoom(0, 0, 0))
      return;
    const { head } = this;
    Object.assign(head, emptyHead(), { type: TYPE_MARK });
    this.append(head, NOTHING, NOTHING, 0, 0, 0, []);
    this.flush();
    this.settle();
    this.markedUnit = this.endUnit;
  }

  /** Seals the record of `units` at `at` of `source` as the next one of the slab. */
  private add(
    source: RecordSource,
    at: number,
    units: number,
    hashA: number,
    hashB: number,
    type: number,
    outranked: boolean,
  ): void {
    const unit = this.endUnit;
    const place = placeOf(this.store.salt, this.shard, this.sequence, unit);
    this.previous = sealRecord(source, at, place, this.syncedUnit, this.previous);
    this.enter(hashA, hashB, tableWord(unit, type, outranked));
    this.endUnit += units;
    this.appendedBytes += units * UNIT_BYTES;
    this.lastUnit = unit;
    this.lastUnits = units;
    this.lastChecksum = this.previous;
  }

  private observe(high: number, low: number): void {
    if (high < this.clockHigh || (high === this.clockHigh && low <= this.clockLow)) return;
    this.clockHigh = high;
    this.clockLow = low;
  }

  private enter(hashA: number, hashB: number, word: number): void {
    const at = this.entries++ * 3;
    if (at + 3 > this.table.length) {
      const larger = new Int32Array(this.table.length * 2);
      larger.set(this.table);
      this.table = larger;
    }
    this.table[at] = hashA;
    this.table[at + 1] = hashB;
    this.table[at + 2] = word;
  }

  /** Unit in `staging` of a record of the open slab that is not flushed yet, or -1 if it is. */
  stagedUnit(unit: number): number {
    return unit >= this.flushedUnit ? unit - this.flushedUnit : -1;
  }

  /** Writes what is staged to the file. Throws what the disk says; the caller then must `rollBack`. */
  flush(): void {
    if (this.endUnit !== this.flushedUnit) this.writeOut(this.staging.bytes);
  }

  /** Writes all that is not in the file yet; `source` begins with it. */
  private writeOut(source: Uint8Array): void {
    const bytes = (this.endUnit - this.flushedUnit) << UNIT_SHIFT;
    this.triedUnit = this.endUnit;
    // Before, so that no reader meets zeros in a hole that nobody has noticed; and after, since only then it
    // is sure that there is none.
    this.checkSize();
    this.io.pwrite(this.fd, source, 0, bytes, this.flushedUnit * UNIT_BYTES);
    this.checkSize();
    this.flushedUnit = this.endUnit;
    if (this.zeroedUnit < this.endUnit) this.zeroedUnit = this.endUnit;
  }

  /**
   * Throws when another program has cut the open slab: to write behind the new end gives the file holes, and
   * what was acknowledged before reads as zeros.
   */
  checkSize(): void {
    if (this.isCut || this.fd < 0) return;
    const size = this.io.size(this.fd);
    if (size >= this.store.slabBytes) return;
    this.isCut = true;
    throw cutError(size, this.store.slabBytes);
  }

  /** Bytes written but not synced. */
  get unsyncedBytes(): number {
    return (this.flushedUnit - this.syncedUnit) * UNIT_BYTES;
  }

  /** Makes what is flushed durable. A failure must not be retried: the kernel may have dropped the pages. */
  sync(): void {
    if (this.syncedUnit === this.flushedUnit) return;
    this.io.fdatasync(this.fd);
    this.syncedUnit = this.flushedUnit;
  }

  /** Starts to get what is flushed to the disk, if it is much; `sync` then finds less to do. */
  writeBehind(): void {
    const file = path.join(this.directory, slabName(this.sequence));
    this.behind.advance(file, this.syncedUnit * UNIT_BYTES, this.flushedUnit * UNIT_BYTES);
  }

  /** Starts a sync in the background (`-sync os`). */
  async syncLater(): Promise<void> {
    const { fd, flushedUnit, sequence } = this;
    if (this.syncedUnit === flushedUnit) return;
    await this.io.fdatasyncAsync(fd);
    if (this.sequence === sequence && this.syncedUnit < flushedUnit) this.syncedUnit = flushedUnit;
  }

  /** Everything appended so far stays. */
  settle(): void {
    if (this.endUnit > this.settled.endUnit) this.uncertain = false;
    this.settled = { endUnit: this.endUnit, previous: this.previous, entries: this.entries };
  }

  /** Forgets what was appended since the last `settle`. */
  rollBack(): void {
    if (this.triedUnit > this.settled.endUnit) this.spoil(this.settled.endUnit);
    this.triedUnit = 0;
    this.endUnit = this.flushedUnit = this.settled.endUnit;
    if (this.syncedUnit > this.endUnit) this.syncedUnit = this.endUnit;
    this.previous = this.settled.previous;
    this.entries = this.settled.entries;
  }

  /**
   * What failed should not be found after a restart. Where even this write fails, `uncertain` says what
   * follows.
   */
  private spoil(unit: number): void {
    this.uncertain = true;
    try {
      this.io.pwrite(this.fd, NO_UNIT, 0, UNIT_BYTES, unit * UNIT_BYTES);
    } catch {
      // The disk has the trouble that the failed write has reported.
    }
  }

  /**
   * Allocates blocks ahead of the end by writing zeros, then those of the spare slab, a step at a time.
   * Measured on ext4: an fdatasync that need not extend the file costs half. While large values come in there
   * are none ahead: they would be overwritten at once.
   * @param spareBytes what the spare slabs should have, two slabs at most
   * @returns "step": call again; "wait": call again later; "whole": there is nothing to do
   * @throws what the disk says
   */
  allocate(spareBytes: number): "step" | "wait" | "whole" {
    if (this.endUnit !== this.flushedUnit || this.isCut) return "wait";
    if (this.fileRefused) this.probeFile();
    const { slabBytes } = this.store;
    const isStreaming = !this.diskFull && this.appendedBytes - this.appendedBefore > ZERO_AHEAD_BYTES;
    this.appendedBefore = this.appendedBytes;
    const ahead = (this.zeroedUnit - this.endUnit) * UNIT_BYTES;
    const start = Math.max(this.zeroedUnit, this.flushedUnit) * UNIT_BYTES;
    const room = Math.min(ZERO_STEP_BYTES, slabBytes - start - tailBytes(this.entries + 4096));
    const whole = room - (room % UNIT_BYTES);
    const isShort =
      this.fd >= 0 && ahead < (this.diskFull ? ZERO_AHEAD_FULL_BYTES : ZERO_AHEAD_BYTES) && whole > 0;
    if (isShort && !isStreaming) {
      this.checkSize();
      this.zeroedUnit = (start + allocateStep(this.io, this.fd, start, start + whole)) / UNIT_BYTES;
      return "step";
    }
    if (this.spare.allocatedBytes >= spareBytes) return isShort ? "wait" : "whole";
    if (!this.spare.busy) this.spare.grow(spareBytes, this.diskFull ? SPARE_STEPS_FULL : SPARE_STEPS);
    return "wait";
  }

  /** Bytes that were allocated ahead so far, here and in the spare slab: it rises when the disk gives. */
  get reservedBytes(): number {
    return this.zeroedUnit * UNIT_BYTES + this.spare.allocatedBytes;
  }

  /** How the open slab ends now that it is full: table and footer, and what the list says of it. */
  private fullSlab(): { tail: Uint8Array; listed: ListedSlab } {
    const table = this.table.slice(0, this.entries * 3);
    const tail = encodeTail(
      table,
      this.sequence,
      this.store.slabBytes,
      this.endUnit,
      this.clockLow,
      this.clockHigh,
    );
    const { sequence, endUnit, previous: last } = this;
    const seal = footerSeal(tail.subarray(-FOOTER_BYTES)) as number;
    return { tail, listed: { sequence, state: LISTED_FULL, endUnit, last, seal } };
  }

  /** Where the open slab ends; what is staged must have been flushed and synced. */
  get end(): SlabEnd {
    const { sequence, endUnit, previous: last } = this;
    return { sequence, endUnit, last };
  }

  /** Notes in the list how far the open slab is durable: now and then, and when it comes to rest. */
  note(nowMs: number, atRest = false): void {
    const { sequence, settled, syncedUnit } = this;
    if (settled.endUnit === syncedUnit)
      this.list.note(sequence, settled.endUnit, settled.previous, nowMs, atRest);
  }

  /**
   * Closes the files without flushing or syncing anything, after slabs being sealed are done: for tests of
   * crashes.
   */
  async abandon(): Promise<void> {
    await Promise.all([this.sealing.close(), this.behind.leave()]);
    this.spare.close();
    this.list.close();
    if (this.fd >= 0) this.io.close(this.fd);
    this.fd = -1;
  }

  /**
   * Flushes, syncs, waits for slabs being sealed, and closes the open slab. `inOrder`: the list says where it
   * ends.
   */
  async close(inOrder: boolean): Promise<void> {
    try {
      this.flush();
      this.sync();
      if (inOrder) this.list.end(this.end);
    } catch (error) {
      // What the list says of the end was true before.
      if (!isDiskFull(error)) throw error;
    } finally {
      await this.abandon();
    }
  }
}
