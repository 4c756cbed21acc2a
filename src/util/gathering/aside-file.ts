import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { CHUNK_BYTES } from "../limits.ts";

/**
 * A file without a name, with places of CHUNK_BYTES for what memory has no room for. It is there as long as a
 * place is in use.
 */
export class AsideFile {
  /** Places in use. */
  count = 0;
  private readonly directory: string;
  private fd = -1;
  private readonly freePlaces: number[] = [];
  private placeCount = 0;

  /** @param directory on a disk: a temporary folder may lie in memory */
  constructor(directory: string) {
    this.directory = directory;
  }

  takePlace(): number {
    this.count++;
    return this.freePlaces.pop() ?? this.placeCount++;
  }

  /** Gives the disk back what no place needs. */
  freePlace(place: number): void {
    this.freePlaces.push(place);
    if (--this.count > 0) return;
    this.freePlaces.length = 0;
    this.placeCount = 0;
    if (this.fd >= 0) fs.closeSync(this.fd);
    this.fd = -1;
  }

  /** Throws what the disk says. */
  write(place: number, at: number, bytes: Uint8Array): void {
    if (this.fd < 0) {
      const name = path.join(this.directory, `.aside-${randomBytes(8).toString("hex")}`);
      this.fd = fs.openSync(name, "wx+", 0o600);
      fs.unlinkSync(name);
    }
    for (let done = 0; done < bytes.length; )
      done += fs.writeSync(this.fd, bytes, done, bytes.length - done, place * CHUNK_BYTES + at + done);
  }

  /** The first bytes of a place. Throws what the disk says. */
  read(place: number, target: Uint8Array, bytes: number): void {
    for (let done = 0; done < bytes; ) {
      const read = fs.readSync(this.fd, target, done, bytes - done, place * CHUNK_BYTES + done);
      if (read === 0) throw new Error("bytes that were put aside are gone");
      done += read;
    }
  }
}
