/**
 * The spare slabs: files that become the shard's next slabs when the disk is full, with their first blocks
 * really allocated. So there is a place for deletes and for what compaction moves, whoever filled the disk.
 * They hold nothing but zeros, and losing them loses nothing.
 */
import fs from "node:fs";
import path from "node:path";
import { HEADER_BYTES } from "../../format/offsets.ts";
import { SPARE_NAMES } from "../slabs/files.ts";
import type { FileIo } from "../slabs/io.ts";

const STEP_BYTES = 1024 * 1024;
/** The disk may have less than a step. */
const STEP_BYTES_MIN = 64 * 1024;
/** On a full disk a spare slab is only worth starting with so much room. */
const RECORD_BYTES_MIN = 16 * 1024;
const ZEROS = new Uint8Array(STEP_BYTES);

/**
 * Allocates blocks by writing zeros, at most a step of them, and less where the disk has no more.
 * @returns the bytes allocated
 * @throws what the disk says when it has not even a small step
 */
export function allocateStep(io: FileIo, fd: number, from: number, to: number): number {
  for (let bytes = Math.min(STEP_BYTES, to - from); ; ) {
    try {
      io.pwrite(fd, ZEROS, 0, bytes, from);
      return bytes;
    } catch (error) {
      if (bytes <= STEP_BYTES_MIN) throw error;
      bytes = Math.max(STEP_BYTES_MIN, bytes >>> 1);
    }
  }
}

class SpareSlab {
  private readonly io: FileIo;
  private readonly file: string;
  private readonly slabBytes: number;
  private readonly onSyncFailed: (error: unknown) => void;
  private closed = false;
  private fd = -1;
  private syncing = false;
  /** Bytes from the beginning of the file that have their blocks. */
  allocatedBytes = 0;

  /** @param onSyncFailed a sync failed of a spare slab that has become an open one meanwhile */
  constructor(io: FileIo, file: string, slabBytes: number, onSyncFailed: (error: unknown) => void) {
    this.io = io;
    this.onSyncFailed = onSyncFailed;
    this.file = file;
    this.slabBytes = slabBytes;
  }

  /** Takes over the spare slab that an earlier run left. */
  recover(): void {
    const stat = fs.statSync(this.file, { throwIfNoEntry: false });
    if (stat === undefined) return;
    if (stat.size !== this.slabBytes) {
      this.io.unlink(this.file);
      return;
    }
    this.fd = this.io.open(this.file, "r+");
    this.allocatedBytes = Math.min(stat.blocks * 512, this.slabBytes);
  }

  /** Whether the last step is still on its way to the disk. */
  get busy(): boolean {
    return this.syncing;
  }

  /**
   * Allocates towards `bytes`, up to so many steps.
   * @throws what the disk says when it gives nothing
   */
  grow(bytes: number, steps: number): void {
    if (this.fd < 0) {
      this.fd = this.io.open(this.file, "wx+");
      this.io.ftruncate(this.fd, this.slabBytes);
    }
    for (let step = 0; step < steps && this.allocatedBytes < bytes; step++)
      try {
        this.allocatedBytes += allocateStep(this.io, this.fd, this.allocatedBytes, bytes);
      } catch (error) {
        if (step === 0) throw error;
        break;
      }
    // In the background and bit by bit: zeros that pile up would make the next sync of a write wait.
    this.syncing = true;
    const { fd } = this;
    this.io
      .fdatasyncAsync(fd)
      .catch((error) => {
        if (this.fd === fd) this.discard();
        else if (!this.closed) this.onSyncFailed(error);
      })
      .finally(() => {
        this.syncing = false;
      });
  }

  /** Hands the file over: who takes it renames and closes it. Null when there is none. */
  take(): { fd: number; file: string; allocatedBytes: number } | null {
    const { fd, file, allocatedBytes } = this;
    if (fd < 0) return null;
    this.fd = -1;
    this.allocatedBytes = 0;
    return { fd, file, allocatedBytes };
  }

  private discard(): void {
    const spare = this.take();
    if (spare === null) return;
    this.io.close(spare.fd);
    try {
      this.io.unlink(spare.file);
    } catch {
      // The next start takes it over or removes it.
    }
  }

  close(): void {
    this.closed = true;
    const spare = this.take();
    if (spare !== null) this.io.close(spare.fd);
  }
}

/** The spare slabs of a shard. The fullest grows first, up to a whole slab, and is taken first. */
export class SpareSlabs {
  private readonly slabBytes: number;
  private readonly slabs: SpareSlab[];

  /** @param onSyncFailed a sync failed of a spare slab that has become an open one meanwhile */
  constructor(io: FileIo, directory: string, slabBytes: number, onSyncFailed: (error: unknown) => void) {
    this.slabBytes = slabBytes;
    this.slabs = SPARE_NAMES.map(
      (name) => new SpareSlab(io, path.join(directory, name), slabBytes, onSyncFailed),
    );
  }

  /** Takes over the spare slabs that an earlier run left. */
  recover(): void {
    for (const slab of this.slabs) slab.recover();
  }

  private get byFullness(): SpareSlab[] {
    const [first, second] = this.slabs;
    return first.allocatedBytes >= second.allocatedBytes ? [first, second] : [second, first];
  }

  /** Bytes that have their blocks, in all. */
  get allocatedBytes(): number {
    return this.slabs.reduce((sum, slab) => sum + slab.allocatedBytes, 0);
  }

  /** Bytes that records can take, as far as in each one of `recordBytes` does not fail to fit. */
  room(recordBytes: number): number {
    return this.slabs.reduce(
      (sum, slab) => sum + Math.max(0, slab.allocatedBytes - HEADER_BYTES - recordBytes),
      0,
    );
  }

  /** Throws when the slab that is taken next has no room for records. */
  require(): void {
    if (this.byFullness[0].allocatedBytes < HEADER_BYTES + RECORD_BYTES_MIN)
      throw Object.assign(new Error("the disk is full and the spare slab is used up"), { code: "ENOSPC" });
  }

  /** Whether the last step is still on its way to the disk. */
  get busy(): boolean {
    return this.slabs.some((slab) => slab.busy);
  }

  /**
   * Allocates towards `bytes` in all, up to so many steps.
   * @throws what the disk says when it gives nothing
   */
  grow(bytes: number, steps: number): void {
    const [first, second] = this.byFullness;
    const wholeBytes = Math.min(bytes, this.slabBytes);
    if (first.allocatedBytes < wholeBytes) first.grow(wholeBytes, steps);
    else second.grow(Math.min(bytes - wholeBytes, this.slabBytes), steps);
  }

  /** Hands the fullest over: who takes it renames and closes it. Null when there is none. */
  take(): { fd: number; file: string; allocatedBytes: number } | null {
    return this.byFullness[0].take();
  }

  close(): void {
    for (const slab of this.slabs) slab.close();
  }
}
