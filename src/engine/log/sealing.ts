/**
 * Sealing full slabs in the background: sync, table and footer, sync, close. A slab for whose table a full
 * disk has no room is sealed later. A slab that never gets there is read record by record at the next start.
 */
import { FOOTER_BYTES } from "../../format/offsets.ts";
import { cutError } from "../slabs/files.ts";
import { type FileIo, isDiskFull } from "../slabs/io.ts";

/**
 * A table is written in pieces of this size, with turns of the event loop between them, and its end by
 * itself.
 */
const PIECE_BYTES = 256 * 1024;
const END_BYTES = 4096;

/** A slab that takes no more records. Sealing closes its file. */
export interface FullSlab {
  fd: number;
  sequence: number;
  /** Table and footer. */
  tail: Uint8Array;
}

export class Sealing {
  private readonly io: FileIo;
  private readonly slabBytes: number;
  private readonly onCut: (sequence: number, error: Error) => void;
  private readonly onSealed: (sequence: number, error: unknown) => void;
  private readonly running = new Map<FullSlab, Promise<void>>();
  private readonly refused: FullSlab[] = [];

  /**
   * @param onSealed called for each slab; with the error, if it stays without a footer until the next start
   */
  constructor(
    io: FileIo,
    slabBytes: number,
    onSealed: (sequence: number, error: unknown) => void,
    onCut: (sequence: number, error: Error) => void,
  ) {
    this.onCut = onCut;
    this.io = io;
    this.slabBytes = slabBytes;
    this.onSealed = onSealed;
  }

  start(full: FullSlab): void {
    const done = this.run(full).finally(() => this.running.delete(full));
    this.running.set(full, done);
  }

  /** Tries again what the disk had no room for. */
  again(): void {
    for (const full of this.refused.splice(0)) this.start(full);
  }

  /**
   * The table of a slab that is being sealed, or for whose table the disk had no room: three words an entry.
   * Null: it is no such slab.
   */
  tableOf(sequence: number): Int32Array | null {
    const slabs = [...this.running.keys(), ...this.refused];
    const tail = slabs.find((full) => full.sequence === sequence)?.tail;
    if (tail === undefined) return null;
    const table = tail.slice(0, tail.length - FOOTER_BYTES);
    return new Int32Array(table.buffer, table.byteOffset, table.length >>> 2);
  }

  /** Whether tables are being written. */
  get isBusy(): boolean {
    return this.running.size > 0;
  }

  /** Whether the disk had no room for the table of a slab. */
  holds(sequence: number): boolean {
    return this.refused.some((full) => full.sequence === sequence);
  }

  /** A slab is dropped: it needs no table any more. */
  forget(sequence: number): void {
    const at = this.refused.findIndex((full) => full.sequence === sequence);
    if (at >= 0) this.io.close(this.refused.splice(at, 1)[0].fd);
  }

  private async run(full: FullSlab): Promise<void> {
    let failure: unknown = null;
    try {
      // The footer vouches for the records, so they must be durable before it can be.
      await this.io.fdatasyncAsync(full.fd);
      if (!(await this.writeTail(full))) {
        this.refused.push(full);
        return;
      }
      await this.io.fdatasyncAsync(full.fd);
    } catch (error) {
      failure = error;
    }
    this.io.close(full.fd);
    this.onSealed(full.sequence, failure);
  }

  /**
   * False: the disk has no room for it. The end gives a file that another program has cut its full size
   * again, with a hole that reads as zeros; whoever has checked records there must hear of it before. So the
   * end is written last and by itself, just after a look at the size.
   */
  private async writeTail({ fd, sequence, tail }: FullSlab): Promise<boolean> {
    const { io, slabBytes } = this;
    const start = slabBytes - tail.length;
    try {
      for (let from = 0; from < tail.length; ) {
        const size = io.size(fd);
        if (size < slabBytes) this.onCut(sequence, cutError(size, slabBytes));
        const isLast = tail.length - from <= END_BYTES;
        const to = isLast ? tail.length : Math.min(from + PIECE_BYTES, tail.length - END_BYTES);
        io.pwrite(fd, tail, from, to - from, start + from);
        from = to;
        if (!isLast) await new Promise((resolve) => setImmediate(resolve));
      }
      return true;
    } catch (error) {
      if (isDiskFull(error)) return false;
      throw error;
    }
  }

  /** Waits for what is under way and closes the files of the rest. */
  async close(): Promise<void> {
    await Promise.all(this.running.values());
    for (const { fd } of this.refused.splice(0)) this.io.close(fd);
  }
}
