/**
 * Bytes of an upload that have arrived but have no place in memory: a file without a name in the data directory. The HTTP library goes on
 * reading from a fast client for a while after it was told to pause, tens of MiB at times, and memory must not grow with that.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

export class Spill {
  private readonly directory: string;
  private fd = -1;
  private written = 0;
  private taken = 0;

  /** @param directory on a disk: a temporary folder may lie in memory */
  constructor(directory: string) {
    this.directory = directory;
  }

  /** Bytes kept and not taken back yet. */
  get bytes(): number {
    return this.written - this.taken;
  }

  /** Keeps bytes. Throws what the disk says. */
  append(bytes: Uint8Array): void {
    if (this.fd < 0) {
      const name = path.join(this.directory, `.spill-${randomBytes(8).toString("hex")}`);
      this.fd = fs.openSync(name, "wx+", 0o600);
      fs.unlinkSync(name);
    }
    for (let done = 0; done < bytes.length; )
      done += fs.writeSync(this.fd, bytes, done, bytes.length - done, this.written + done);
    this.written += bytes.length;
  }

  /** Takes the oldest bytes back into `target` from `offset` on; answers how many. Throws what the disk says. */
  take(target: Uint8Array, offset: number): number {
    const length = Math.min(this.bytes, target.length - offset);
    if (length === 0) return 0;
    const read = fs.readSync(this.fd, target, offset, length, this.taken);
    if (read === 0) throw new Error("bytes kept for an upload are gone");
    this.taken += read;
    if (this.bytes === 0) {
      fs.ftruncateSync(this.fd, 0);
      this.written = this.taken = 0;
    }
    return read;
  }

  close(): void {
    if (this.fd >= 0) fs.closeSync(this.fd);
    this.fd = -1;
    this.written = this.taken = 0;
  }
}
