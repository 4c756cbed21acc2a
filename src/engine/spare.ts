/**
 * The spare slab: a file that becomes the shard's next slab when the disk is full, with its first blocks really allocated. So there is a place
 * for deletes and for what compaction moves, whoever filled the disk. It holds nothing but zeros, and losing it loses nothing.
 */
import fs from "node:fs";
import path from "node:path";
import type { FileIo } from "./io.ts";

/** It ends like a slab that is being made: a program that does not know it removes it as a leftover. */
export const SPARE_NAME = "spare.new";
const STEP_BYTES = 1024 * 1024;
/** The disk may have less than a step. */
const STEP_BYTES_MIN = 64 * 1024;
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

export class SpareSlab {
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
  constructor(io: FileIo, directory: string, slabBytes: number, onSyncFailed: (error: unknown) => void) {
    this.io = io;
    this.onSyncFailed = onSyncFailed;
    this.file = path.join(directory, SPARE_NAME);
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
