/**
 * The writing end of a shard: the open slab, and what is staged for it. Its file is in open-file.ts, the
 * table that it will end with in open-table.ts.
 *
 * Records are laid out in a staging buffer as they will stand in the file. `flush` writes them, `file.sync`
 * makes them durable, `settle` declares everything so far good; `rollBack` forgets what came since the last
 * `settle`, after a failed write. What a failed write left beyond the end is overwritten later, and the chain
 * of checksums (`previous`) keeps it from ever being read as a record.
 */

import { endAt, endOf } from "../../format/end.ts";
import { copyUnits, layCopy } from "../../format/fields/origin.ts";
import { FIRST_UNIT, TYPE_CHUNK, TYPE_ENDED, TYPE_MARK, UNIT_BYTES } from "../../format/offsets.ts";
import {
  emptyHead,
  placeOf,
  type RecordHead,
  type RecordSource,
  readHead,
  recordSource,
  recordUnits,
  typeOf,
} from "../../format/record.ts";
import { tableWordAt, tailBytes } from "../../format/slab.ts";
import type { SlabEnd } from "../../format/slab-list.ts";
import { beginRecord, type Frame, sealRecord, setFlags } from "../../format/write-record.ts";
import { copyInto, NOTHING } from "../../util/bytes.ts";
import type { StoreIdentity } from "../directory/store-file.ts";
import type { FileIo } from "../slabs/io.ts";
import { OpenFile } from "./open-file.ts";
import { OpenTable } from "./open-table.ts";

/**
 * Size of the staging buffer: the largest batch, or the largest record. What is staged is of one slab, so a
 * small one needs less.
 */
const STAGING_BYTES_MAX = 16 * 1024 * 1024;
const MARK_UNITS = recordUnits(0, 0, 0);

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
  private readonly shard: number;
  private readonly store: StoreIdentity;
  readonly file: OpenFile;
  readonly table = new OpenTable();
  readonly staging: RecordSource;
  private readonly stagingBytes: number;
  private readonly head = emptyHead();

  /** End of the open slab, staged records included. */
  endUnit = 0;
  private previous = 0;
  /** End of the last mark. */
  private markedUnit = 0;
  private settled = { endUnit: 0, previous: 0, entries: 0 };
  /** Set while the disk is full: then only blocks are used that the open and the spare slab have already. */
  diskFull = false;
  /** Bytes of all records appended so far, whatever became of them. */
  appendedBytes = 0;
  /** Place, in units, of the last record appended, and its checksum. */
  lastUnit = 0;
  lastChecksum = 0;
  lastUnits = 0;

  /** @param onSyncFailed a sync in the background failed; like any sync, it must not be retried */
  constructor(
    io: FileIo,
    directory: string,
    shard: number,
    store: StoreIdentity,
    onSyncFailed: (error: unknown) => void,
  ) {
    this.shard = shard;
    this.store = store;
    this.file = new OpenFile(io, directory, store.slabBytes, onSyncFailed);
    this.stagingBytes = Math.min(STAGING_BYTES_MAX, store.slabBytes);
    this.staging = recordSource(new Uint8Array(this.stagingBytes));
  }

  get sequence(): number {
    return this.file.sequence;
  }

  get slot(): number {
    return this.file.slot;
  }

  /** Whether nothing is staged. */
  get isFlushed(): boolean {
    return this.endUnit === this.file.writtenUnit;
  }

  /** Goes on with a slab that recovery found open. */
  resume(fd: number, { sequence, endUnit, previous, table, clockHigh, clockLow }: OpenSlab): void {
    this.file.adopt(fd, sequence, endUnit);
    this.table.load(table, clockHigh, clockLow);
    this.beginAt(endUnit, previous);
  }

  /**
   * Goes on with an empty slab.
   * @param allocatedBytes from the beginning of the file, which have their blocks
   * @returns the file so far, which is its taker's to close; -1: there was none
   */
  begin(fd: number, sequence: number, allocatedBytes: number): number {
    const before = this.file.adopt(fd, sequence, FIRST_UNIT, allocatedBytes);
    this.table.clear();
    this.beginAt(FIRST_UNIT, 0);
    return before;
  }

  private beginAt(endUnit: number, previous: number): void {
    this.endUnit = this.markedUnit = endUnit;
    this.previous = previous;
    this.settle();
  }

  /** The open slab as it is; what is staged must have been flushed. */
  openSlab(): OpenSlab {
    const { clockHigh, clockLow } = this.table;
    const { sequence, endUnit, last: previous } = this.end;
    return { sequence, endUnit, previous, table: this.table.words, clockHigh, clockLow };
  }

  /** Table and footer of the open slab, which has ended. */
  encodeTail(): Uint8Array {
    return this.table.encode(this.sequence, this.store.slabBytes, this.endUnit);
  }

  /** Where the open slab ends; what is staged must have been flushed and synced. */
  get end(): SlabEnd {
    const { sequence, endUnit, previous: last } = this;
    return { sequence, endUnit, last };
  }

  /** Where it ended at the last `settle`. */
  get settledEnd(): SlabEnd {
    const { sequence, settled } = this;
    return { sequence, endUnit: settled.endUnit, last: settled.previous };
  }

  /** Whether a record of so many units still fits the open slab together with its table entry. */
  hasRoom(units: number): boolean {
    if (!this.file.isOpen || this.file.isCut) return false;
    const endUnit = this.endUnit + units;
    if (this.diskFull && endUnit > this.file.blocksUnit) return false;
    return endUnit * UNIT_BYTES + tailBytes(this.table.entries + 1) <= this.store.slabBytes;
  }

  /** Bytes of blocks that are there, as far as one record of `recordBytes` does not fail to fit. */
  allocatedBytes(recordBytes: number): number {
    const roomEnd = this.store.slabBytes - tailBytes(this.table.entries);
    const end = Math.min(this.file.blocksBytes, roomEnd);
    return Math.max(0, end - this.endUnit * UNIT_BYTES - recordBytes);
  }

  /**
   * Stages a record whose value is the concatenation of `parts`; the slab must have room. Its place is then
   * in `lastUnit` (of slab `slot`). Throws what the disk says when staging was full and had to be flushed.
   * @param trailer its fields; empty: it has none
   */
  append(
    head: RecordHead,
    key: Uint8Array,
    contentType: Uint8Array,
    hashA: number,
    hashB: number,
    valueBytes: number,
    parts: readonly Uint8Array[],
    trailer: Uint8Array = NOTHING,
  ): void {
    const units = recordUnits(key.length, contentType.length, valueBytes, trailer.length);
    const stagedUnit = this.stage(units);
    let at = beginRecord(this.staging, stagedUnit, head, key, contentType, valueBytes, trailer);
    for (const part of parts) {
      copyInto(this.staging.bytes, at, part);
      at += part.length;
    }
    this.add(this.staging, stagedUnit, units, hashA, hashB);
    this.table.observe(head.clockHigh, head.clockLow);
    if (head.type === TYPE_ENDED) this.table.observeEnd(endOf(trailer));
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
    this.add(source, 0, recordUnits(key.length, 0, valueBytes), hashA, hashB);
    this.file.write(source.bytes, this.endUnit);
  }

  /**
   * Stages a copy of a good record of another slab, for compaction: everything but its place, its origin and
   * these flags stays.
   * @param origin the sequence that it is to name as its origin; 0: it stays as long as it is
   */
  appendCopy(
    source: RecordSource,
    sourceUnit: number,
    hashA: number,
    hashB: number,
    outranked: boolean,
    fresh: boolean,
    origin: number,
  ): void {
    const units = copyUnits(source, sourceUnit, origin);
    const stagedUnit = this.stage(units);
    layCopy(this.staging, stagedUnit, source, sourceUnit, origin);
    setFlags(this.staging, stagedUnit, outranked, fresh);
    this.add(this.staging, stagedUnit, units, hashA, hashB);
    if (typeOf(source, sourceUnit) !== TYPE_CHUNK) {
      readHead(source, sourceUnit, this.head);
      this.table.observe(this.head.clockHigh, this.head.clockLow);
      if (this.head.type === TYPE_ENDED) this.table.observeEnd(endAt(source, sourceUnit));
    }
  }

  /** Appends a mark, unsynced, if records were synced since the last one. */
  mark(): void {
    if (this.file.syncedTo !== this.endUnit || this.markedUnit === this.endUnit || !this.hasRoom(MARK_UNITS))
      return;
    const { head } = this;
    Object.assign(head, emptyHead(), { type: TYPE_MARK });
    this.append(head, NOTHING, NOTHING, 0, 0, 0, []);
    this.flush();
    this.settle();
    this.markedUnit = this.endUnit;
  }

  /** Seals the record of `units` at `at` of `source` as the next one of the slab. */
  private add(source: RecordSource, at: number, units: number, hashA: number, hashB: number): void {
    const unit = this.endUnit;
    const place = placeOf(this.store.salt, this.shard, this.sequence, unit);
    this.previous = sealRecord(source, at, place, this.file.syncedTo, this.previous);
    this.table.enter(hashA, hashB, tableWordAt(source, at, unit));
    this.endUnit += units;
    this.appendedBytes += units * UNIT_BYTES;
    this.lastUnit = unit;
    this.lastUnits = units;
    this.lastChecksum = this.previous;
  }

  /** Makes room in `staging`; answers where the next record goes in it. Throws what the disk says. */
  private stage(units: number): number {
    if ((this.endUnit - this.file.writtenUnit + units) * UNIT_BYTES > this.stagingBytes) this.flush();
    return this.endUnit - this.file.writtenUnit;
  }

  /** Unit in `staging` of a record of the open slab that is not flushed yet, or -1 if it is. */
  stagedUnit(unit: number): number {
    return Math.max(-1, unit - this.file.writtenUnit);
  }

  /** Writes what is staged to the file. Throws what the disk says; the caller then must `rollBack`. */
  flush(): void {
    if (!this.isFlushed) this.file.write(this.staging.bytes, this.endUnit);
  }

  /** Everything appended so far stays. */
  settle(): void {
    if (this.endUnit > this.settled.endUnit) this.file.uncertain = false;
    this.settled = { endUnit: this.endUnit, previous: this.previous, entries: this.table.entries };
  }

  /** Forgets what was appended since the last `settle`. */
  rollBack(): void {
    this.endUnit = this.settled.endUnit;
    this.file.takeBack(this.endUnit);
    this.previous = this.settled.previous;
    this.table.entries = this.settled.entries;
  }
}
