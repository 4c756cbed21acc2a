/**
 * Reading a slab file as far as somebody looks. Most of the one that is open has never been written, and
 * reading room costs as much as reading records: the 64 MiB of an empty slab take half a second of a small
 * machine.
 */
import fs from "node:fs";
import { UNIT_BYTES } from "../../format/offsets.ts";
import { type RecordSource, recordSource } from "../../format/record.ts";
import { loadAddon } from "../../platform/addon.ts";
import { fill } from "../slabs/files.ts";

const PIECE_BYTES = 1024 * 1024;

/** All that a slab file holds, and the unit from which on there are only zeros. */
export interface HeldSlab {
  source: RecordSource;
  zerosFrom: number;
}

/** Reads all that a slab file holds; the rest is zeros. The parameters are those of SlabReader. */
export function readHeld(
  file: string,
  slabBytes: number,
  refused: (position: number, error: Error) => void,
): HeldSlab {
  const reader = new SlabReader(file, slabBytes, refused);
  try {
    const zerosFrom = reader.readRest();
    return { source: reader.source, zerosFrom };
  } finally {
    reader.close();
  }
}

export class SlabReader {
  /** Zeros where nothing has been read. */
  readonly source: RecordSource;
  private readonly fd: number;
  private readonly bytes: Uint8Array;
  private readonly refused: (position: number, error: Error) => void;
  private readBytes = 0;

  /** @param refused told of each page that the disk does not give, in whose place there are zeros then */
  constructor(file: string, slabBytes: number, refused: (position: number, error: Error) => void) {
    this.fd = fs.openSync(file, "r");
    this.bytes = new Uint8Array(slabBytes);
    this.source = recordSource(this.bytes);
    this.refused = refused;
  }

  close(): void {
    fs.closeSync(this.fd);
  }

  /** Reads all that lies before a unit, whatever the file system says of it. */
  readTo(unit: number): void {
    const wanted = Math.min(unit * UNIT_BYTES, this.bytes.length);
    while (this.readBytes < wanted) this.piece();
  }

  /**
   * Reads what the file holds after that, as far as its file system can tell.
   * @returns the unit from which on there are only zeros
   */
  readRest(): number {
    let heldBytes = this.readBytes;
    while (this.readBytes < this.bytes.length) {
      const next = loadAddon("guard").nextData(this.fd, this.readBytes);
      if (next < 0) break;
      this.readBytes = Math.max(this.readBytes, next - (next % PIECE_BYTES));
      if (this.readBytes >= this.bytes.length) break;
      this.piece();
      heldBytes = this.readBytes;
    }
    return Math.ceil(heldBytes / UNIT_BYTES);
  }

  private piece(): void {
    const end = Math.min(this.bytes.length, this.readBytes + PIECE_BYTES);
    fill(this.fd, this.readBytes, this.bytes.subarray(this.readBytes, end), this.refused);
    this.readBytes = end;
  }
}
