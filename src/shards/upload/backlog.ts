/**
 * Bytes of an upload that have arrived and cannot go on yet: in memory as long as all uploads of this thread
 * together keep within a bound, then in a file without a name in the data directory. The HTTP library goes on
 * reading from a fast client for a while after it was told to pause, and the slower the bytes are taken from
 * it the longer: what arrives is mostly as much as the socket holds, tens of MiB at times.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

const BLOCK_BYTES = 256 * 1024;
/** All uploads of a thread together. */
const MEMORY_BYTES_MAX = 48 * 1024 * 1024;

/** Blocks that no backlog uses, kept while there is any: fresh memory costs more than copying into it. */
const spare: Uint8Array[] = [];
let blocksInUse = 0;
let backlogs = 0;

function takeBlock(): Uint8Array | null {
  if ((blocksInUse + 1) * BLOCK_BYTES > MEMORY_BYTES_MAX) return null;
  blocksInUse++;
  return spare.pop() ?? new Uint8Array(BLOCK_BYTES);
}

function giveBlock(block: Uint8Array): void {
  blocksInUse--;
  spare.push(block);
}

export class Backlog {
  private readonly directory: string;
  /** Oldest first; the first is taken from, the last is added to. */
  private readonly blocks: Uint8Array[] = [];
  private takenOfFirst = 0;
  private filledOfLast = 0;
  /** What came after the blocks, if they were not enough. */
  private fd = -1;
  private written = 0;
  private read = 0;
  private closed = false;
  /** Bytes kept and not taken yet. */
  bytes = 0;

  /** @param directory on a disk: a temporary folder may lie in memory */
  constructor(directory: string) {
    this.directory = directory;
    backlogs++;
  }

  /** Keeps bytes. Throws what the disk says. */
  append(bytes: Uint8Array): void {
    const kept = this.written > this.read ? 0 : this.appendToBlocks(bytes);
    if (kept < bytes.length) this.appendToFile(bytes.subarray(kept));
  }

  /** Keeps as much as there are blocks for; answers how much. */
  private appendToBlocks(bytes: Uint8Array): number {
    let kept = 0;
    while (kept < bytes.length) {
      if (this.blocks.length === 0 || this.filledOfLast === BLOCK_BYTES) {
        const block = takeBlock();
        if (block === null) break;
        this.blocks.push(block);
        this.filledOfLast = 0;
      }
      const length = Math.min(bytes.length - kept, BLOCK_BYTES - this.filledOfLast);
      this.blocks[this.blocks.length - 1].set(bytes.subarray(kept, kept + length), this.filledOfLast);
      this.filledOfLast += length;
      kept += length;
    }
    this.bytes += kept;
    return kept;
  }

  private appendToFile(bytes: Uint8Array): void {
    if (this.fd < 0) {
      const name = path.join(this.directory, `.backlog-${randomBytes(8).toString("hex")}`);
      this.fd = fs.openSync(name, "wx+", 0o600);
      fs.unlinkSync(name);
    }
    for (let done = 0; done < bytes.length; )
      done += fs.writeSync(this.fd, bytes, done, bytes.length - done, this.written + done);
    this.written += bytes.length;
    this.bytes += bytes.length;
  }

  /**
   * Takes oldest bytes into `target` from `offset` on; answers how many: some, if there are any. Throws what
   * the disk says.
   */
  take(target: Uint8Array, offset: number): number {
    const room = target.length - offset;
    if (room === 0 || this.bytes === 0) return 0;
    const taken =
      this.blocks.length > 0 ? this.takeFromBlock(target, offset) : this.takeFromFile(target, offset);
    this.bytes -= taken;
    return taken;
  }

  private takeFromBlock(target: Uint8Array, offset: number): number {
    const block = this.blocks[0];
    const end = this.blocks.length === 1 ? this.filledOfLast : BLOCK_BYTES;
    const length = Math.min(target.length - offset, end - this.takenOfFirst);
    target.set(block.subarray(this.takenOfFirst, this.takenOfFirst + length), offset);
    this.takenOfFirst += length;
    if (this.takenOfFirst === end) {
      this.blocks.shift();
      giveBlock(block);
      this.takenOfFirst = 0;
    }
    return length;
  }

  private takeFromFile(target: Uint8Array, offset: number): number {
    const length = Math.min(this.written - this.read, target.length - offset);
    const read = fs.readSync(this.fd, target, offset, length, this.read);
    if (read === 0) throw new Error("bytes kept for an upload are gone");
    this.read += read;
    if (this.read === this.written) {
      fs.ftruncateSync(this.fd, 0);
      this.written = this.read = 0;
    }
    return read;
  }

  /** Forgets what is left. Idempotent. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    for (const block of this.blocks.splice(0)) giveBlock(block);
    if (this.fd >= 0) fs.closeSync(this.fd);
    this.fd = -1;
    this.bytes = 0;
    if (--backlogs === 0) spare.length = 0;
  }
}
