/**
 * Reads a shard's records again, a little at a time, and finds damage before anybody needs what is damaged.
 * Runs in the shard's thread, between batches. It reads the files and not the maps: a page that the disk
 * cannot deliver is then an error and not the end of the process.
 *
 * Found damage raises the shard's damage generation, at which every reader forgets which records it had
 * checked.
 */
import fs from "node:fs";
import path from "node:path";
import { FIRST_UNIT, RECORD_HEADER_BYTES, UNIT_BYTES, UNIT_SHIFT } from "../../format/offsets.ts";
import {
  isIntact,
  isPlausible,
  placeOf,
  RECORD_UNITS_MAX,
  type RecordSource,
  recordSource,
  unitsAt,
} from "../../format/record.ts";
import { isOutOfDescriptors } from "../../platform/system-error.ts";
import { FIGURE } from "./figures.ts";
import { slabName } from "./files.ts";
import type { SlabTable } from "./table.ts";

/** What one step reads; more only for a record that is longer. */
const STEP_BYTES = 256 * 1024;
/** One pass begins so long after the one before it began. */
const SCRUB_PASS_MS = 7 * 24 * 3600 * 1000;
/** What a failed read skips. */
const BAD_BLOCK_BYTES = 4096;
/** So many places are remembered, to be counted and reported once. */
const PLACES_MAX = 10_000;
const SCRATCH_BYTES = RECORD_UNITS_MAX * UNIT_BYTES;

export interface ScrubSetup {
  directory: string;
  shard: number;
  /** Of the store: part of every record's place. */
  salt: number;
  slabs: SlabTable;
  figures: Float64Array;
  now: () => number;
  /** Told of each slab before its records are read. */
  begins: (fd: number, sequence: number) => void;
  warn: (message: string) => void;
}

export class Scrub {
  private readonly setup: ScrubSetup;
  private scratch: RecordSource | null = null;
  private sequence = 0;
  private unit = FIRST_UNIT;
  private fd = -1;
  /** Between a damaged record and the next good one. */
  private isSearching = false;
  private passBegan = Number.NEGATIVE_INFINITY;
  private isRunning = false;
  private readonly known = new Set<string>();

  constructor(setup: ScrubSetup) {
    this.setup = setup;
  }

  /** Reads and checks a little. Answers the bytes read; 0: nothing is due. Never throws. */
  step(): number {
    const { now, slabs, figures } = this.setup;
    if (!this.isRunning) {
      if (now() - this.passBegan < SCRUB_PASS_MS) return 0;
      this.passBegan = now();
      this.isRunning = true;
    }
    const end = (slabs.bySequence(this.sequence)?.storedBytes ?? 0) >>> UNIT_SHIFT;
    if (this.unit >= end || this.fd < 0) {
      const isOpen = this.nextSlab();
      if (isOpen === null) return BAD_BLOCK_BYTES;
      if (isOpen) return this.step();
      this.isRunning = false;
      this.scratch = null;
      figures[FIGURE.scrubPasses]++;
      return 0;
    }
    const read = this.checkPiece(end);
    figures[FIGURE.scrubbedBytes] += read;
    return read;
  }

  /** Gives the file back; the next step begins a pass when one is due. */
  close(): void {
    if (this.fd >= 0) fs.closeSync(this.fd);
    this.fd = -1;
  }

  /** False: that was the last one. Null: no descriptor is free for the next one. */
  private nextSlab(): boolean | null {
    const { slabs, directory } = this.setup;
    for (;;) {
      this.close();
      let next = Number.POSITIVE_INFINITY;
      for (const { sequence, storedBytes } of slabs.all())
        if (sequence > this.sequence && sequence < next && storedBytes > FIRST_UNIT * UNIT_BYTES)
          next = sequence;
      this.unit = FIRST_UNIT;
      this.isSearching = false;
      const before = this.sequence;
      if (next === Number.POSITIVE_INFINITY) {
        this.sequence = 0;
        return false;
      }
      this.sequence = next;
      try {
        this.fd = fs.openSync(path.join(directory, slabName(next)), "r");
        this.setup.begins(this.fd, next);
        return true;
      } catch (error) {
        if (isOutOfDescriptors(error)) {
          // That is no damage, and passes: the same slab is next again.
          this.sequence = before;
          return null;
        }
        this.found(0, `cannot be opened: ${(error as Error).message}`);
      }
    }
  }

  /** Checks the records from `unit` on, up to the `end` of the slab's records. */
  private checkPiece(end: number): number {
    this.scratch ??= recordSource(new Uint8Array(SCRATCH_BYTES));
    const source = this.scratch;
    const start = this.unit;
    const left = (end - start) * UNIT_BYTES;
    let bytes = this.read(start, 0, Math.min(STEP_BYTES, left));
    if (bytes < 0) return BAD_BLOCK_BYTES;
    // One that is longer than a step is read as a whole.
    if (bytes >= RECORD_HEADER_BYTES && isPlausible(source, 0, end - start)) {
      const wanted = Math.min(unitsAt(source, 0) * UNIT_BYTES, SCRATCH_BYTES);
      if (wanted > bytes) {
        const more = this.read(start, bytes, wanted - bytes);
        if (more < 0) return BAD_BLOCK_BYTES;
        bytes += more;
      }
    }
    const { salt, shard } = this.setup;
    const units = bytes >>> UNIT_SHIFT;
    let at = 0;
    while (at < units) {
      const room = units - at;
      const isCut =
        start + units < end &&
        (room < 3 || (isPlausible(source, at, at + end - start) && unitsAt(source, at) > room));
      // Begins in this piece and ends behind it: the next step begins with it.
      if (isCut && at > 0) break;
      if (isIntact(source, at, units, placeOf(salt, shard, this.sequence, start + at))) {
        this.isSearching = false;
        at += unitsAt(source, at);
        continue;
      }
      if (!this.isSearching) this.found(start + at, "a record is damaged");
      this.isSearching = true;
      at++;
    }
    this.unit = start + Math.max(at, 1);
    return Math.max(bytes, UNIT_BYTES);
  }

  /**
   * Reads into the scratch buffer at `offset`; answers the bytes, or -1 where the disk refuses them, and then
   * skips the place.
   */
  private read(unit: number, offset: number, count: number): number {
    const { scratch } = this;
    if (scratch === null) return -1;
    const from = unit * UNIT_BYTES + offset;
    try {
      let done = 0;
      while (done < count) {
        const read = fs.readSync(this.fd, scratch.bytes, offset + done, count - done, from + done);
        // Cut: what is missing counts as zeros.
        if (read === 0) scratch.bytes.fill(0, offset + done, offset + count);
        done += read === 0 ? count - done : read;
      }
      return count;
    } catch (error) {
      this.found(unit, `cannot be read: ${(error as Error).message}`);
      this.isSearching = true;
      this.unit += BAD_BLOCK_BYTES / UNIT_BYTES;
      return -1;
    }
  }

  private found(unit: number, why: string): void {
    const { figures, warn, directory } = this.setup;
    const place = `${this.sequence}:${unit}`;
    if (this.known.has(place) || this.known.size >= PLACES_MAX) return;
    this.known.add(place);
    figures[FIGURE.scrubDamaged]++;
    figures[FIGURE.damageGeneration]++;
    const file = path.join(directory, slabName(this.sequence));
    warn(`${file}, byte ${unit * UNIT_BYTES}: ${why}; stop the node and run minivault verify`);
  }
}
