/**
 * The file of the open slab: up to where it is written, synced, and has its blocks. Places are in units from
 * the beginning of the file; synced <= written <= with blocks.
 */
import path from "node:path";
import { UNIT_BYTES, UNIT_SHIFT } from "../../format/offsets.ts";
import { allocateStep } from "../reserve/spare.ts";
import { slotOfSequence } from "../slabs/figures.ts";
import { cutError, slabName } from "../slabs/files.ts";
import type { FileIo } from "../slabs/io.ts";
import { WriteBehind } from "./write-behind.ts";

/**
 * Blocks are allocated this far ahead, by writing zeros, so that a small append need not change the file's
 * extents.
 */
const ZERO_STEP_BYTES = 1024 * 1024;
const ZERO_AHEAD_BYTES = 512 * 1024;
/**
 * On a full disk so much more must be there before it counts as not full: it would be full again with the
 * next write.
 */
const ZERO_AHEAD_FULL_BYTES = 4 * 1024 * 1024;

const NO_UNIT = new Uint8Array(UNIT_BYTES);

export class OpenFile {
  private readonly io: FileIo;
  private readonly directory: string;
  private readonly slabBytes: number;
  private readonly behind: WriteBehind;
  private fd = -1;
  sequence = 0;
  slot = 0;
  writtenUnit = 0;
  private syncedUnit = 0;
  /** Up to where the file has its blocks. */
  blocksUnit = 0;
  /** Up to where a write was tried. */
  private triedUnit = 0;
  /** The file is or was shorter than it was made: nothing more goes into it. */
  isCut = false;
  /**
   * A failed write may have left whole records behind the end: until they are overwritten a restart may find
   * them.
   */
  uncertain = false;

  /** @param onSyncFailed a sync in the background failed; like any sync, it must not be retried */
  constructor(io: FileIo, directory: string, slabBytes: number, onSyncFailed: (error: unknown) => void) {
    this.io = io;
    this.directory = directory;
    this.slabBytes = slabBytes;
    this.behind = new WriteBehind(io, onSyncFailed);
  }

  get isOpen(): boolean {
    return this.fd >= 0;
  }

  /** Bytes from its beginning that have their blocks. */
  get blocksBytes(): number {
    return this.blocksUnit * UNIT_BYTES;
  }

  /** Whether all that is written is synced. */
  get isSynced(): boolean {
    return this.syncedUnit === this.writtenUnit;
  }

  get syncedTo(): number {
    return this.syncedUnit;
  }

  /** Bytes written but not synced. */
  get unsyncedBytes(): number {
    return (this.writtenUnit - this.syncedUnit) * UNIT_BYTES;
  }

  /**
   * Goes on with another file, whose records end at `endUnit` and are durable.
   * @param allocatedBytes from the beginning of the file, as far as they are known to have their blocks
   * @returns the file so far, which is its taker's to close; -1: there was none
   */
  adopt(fd: number, sequence: number, endUnit: number, allocatedBytes = 0): number {
    const before = this.fd;
    void this.behind.leave();
    this.fd = fd;
    this.sequence = sequence;
    this.slot = slotOfSequence(sequence);
    this.writtenUnit = this.syncedUnit = endUnit;
    this.blocksUnit = Math.max(endUnit, allocatedBytes >>> UNIT_SHIFT);
    this.triedUnit = 0;
    this.isCut = false;
    return before;
  }

  /** Writes what comes next, up to `endUnit`; `source` begins with it. Throws what the disk says. */
  write(source: Uint8Array, endUnit: number): void {
    const bytes = (endUnit - this.writtenUnit) << UNIT_SHIFT;
    this.triedUnit = endUnit;
    // Before, so that no reader meets zeros in a hole that nobody has noticed; and after, since only then it
    // is sure that there is none.
    this.checkSize();
    this.io.pwrite(this.fd, source, 0, bytes, this.writtenUnit * UNIT_BYTES);
    this.checkSize();
    this.writtenUnit = endUnit;
    if (this.blocksUnit < endUnit) this.blocksUnit = endUnit;
  }

  /**
   * Throws when another program has cut the file: to write behind the new end gives it holes, and what was
   * acknowledged before reads as zeros.
   */
  checkSize(): void {
    if (this.isCut || this.fd < 0) return;
    const size = this.io.size(this.fd);
    if (size >= this.slabBytes) return;
    this.isCut = true;
    throw cutError(size, this.slabBytes);
  }

  /** Makes what is written durable. A failure must not be retried: the kernel may have dropped the pages. */
  sync(): void {
    if (this.isSynced) return;
    this.io.fdatasync(this.fd);
    this.syncedUnit = this.writtenUnit;
  }

  /** Starts to get what is written to the disk, if it is much; `sync` then finds less to do. */
  writeBehind(): void {
    const file = path.join(this.directory, slabName(this.sequence));
    this.behind.advance(file, this.syncedUnit * UNIT_BYTES, this.writtenUnit * UNIT_BYTES);
  }

  /** Starts a sync in the background (`-sync os`). */
  async syncLater(): Promise<void> {
    const { fd, writtenUnit, sequence } = this;
    if (this.isSynced) return;
    await this.io.fdatasyncAsync(fd);
    if (this.sequence === sequence && this.syncedUnit < writtenUnit) this.syncedUnit = writtenUnit;
  }

  /** What stands behind `endUnit` does not count. It should not be found after a restart either. */
  takeBack(endUnit: number): void {
    if (this.triedUnit > endUnit) this.spoil(endUnit);
    this.triedUnit = 0;
    this.writtenUnit = endUnit;
    if (this.syncedUnit > endUnit) this.syncedUnit = endUnit;
  }

  /** Where even this write fails, `uncertain` says what follows. */
  private spoil(unit: number): void {
    this.uncertain = true;
    try {
      this.io.pwrite(this.fd, NO_UNIT, 0, UNIT_BYTES, unit * UNIT_BYTES);
    } catch {
      // The disk has the trouble that the failed write has reported.
    }
  }

  /** Whether more blocks should be allocated ahead, up to byte `endBytes`. */
  isShort(endBytes: number, diskFull: boolean): boolean {
    const ahead = (this.blocksUnit - this.writtenUnit) * UNIT_BYTES;
    const isNear = ahead < (diskFull ? ZERO_AHEAD_FULL_BYTES : ZERO_AHEAD_BYTES);
    return this.isOpen && isNear && this.blocksUnit < Math.floor(endBytes / UNIT_BYTES);
  }

  /**
   * Allocates the next blocks by writing zeros. Measured on ext4: an fdatasync that need not extend the file
   * costs half.
   * @throws what the disk says
   */
  allocate(endBytes: number): void {
    this.checkSize();
    const from = this.blocksUnit * UNIT_BYTES;
    const end = Math.min(from + ZERO_STEP_BYTES, Math.floor(endBytes / UNIT_BYTES) * UNIT_BYTES);
    this.blocksUnit = (from + allocateStep(this.io, this.fd, from, end)) / UNIT_BYTES;
  }

  /** Closes the file as it is. */
  async close(): Promise<void> {
    await this.behind.leave();
    if (this.fd >= 0) this.io.close(this.fd);
    this.fd = -1;
  }
}
