/**
 * Looks after a shard's slabs while they are in use: notices those that another program cut, also when nobody
 * reads them, and those of which the disk could not give a page to any thread (native/map-guard.c). Each is
 * named once, and counted as long as it lives; compaction leaves it.
 */
import fs from "node:fs";
import path from "node:path";
import { FIGURE, missingOfSlot, slotOfSequence } from "../slabs/figures.ts";
import { cutError, slabName } from "../slabs/files.ts";
import type { Slab, SlabTable } from "../slabs/table.ts";

/** Slabs whose sizes one look asks for: 3 µs each. */
const SIZES_OF_A_LOOK = 64;

export interface WatchSetup {
  directory: string;
  shard: number;
  slabBytes: number;
  slabs: SlabTable;
  figures: Float64Array;
  missingPages: SharedArrayBuffer;
  warn: (message: string) => void;
}

export class SlabWatch {
  private readonly setup: WatchSetup;
  private readonly missing: Int32Array;
  /** Sequence of the slab whose size was asked for last. */
  private last = 0;

  constructor(setup: WatchSetup) {
    this.setup = setup;
    this.missing = new Int32Array(setup.missingPages);
  }

  /** A slab begins in a slot that another one had. */
  began(sequence: number): void {
    Atomics.store(this.missing, missingOfSlot(slotOfSequence(sequence)), 0);
  }

  /** Looks at the counters of all slabs and at the sizes of some. To be called about once a second. */
  look(): void {
    const { slabs, figures, slabBytes } = this.setup;
    let broken = 0;
    const sound: Slab[] = [];
    for (const slab of slabs.all()) {
      const pages = slab.broken
        ? 0
        : Atomics.load(this.missing, missingOfSlot(slotOfSequence(slab.sequence)));
      if (pages > 0) this.report(slab, `the disk could not give ${pages} of its pages`);
      if (slab.broken) broken++;
      else sound.push(slab);
    }
    figures[FIGURE.brokenSlabs] = broken;
    sound.sort((a, b) => a.sequence - b.sequence);
    const next = sound.findIndex(({ sequence }) => sequence > this.last);
    const first = next < 0 ? 0 : next;
    for (const slab of sound.slice(first, first + SIZES_OF_A_LOOK)) {
      this.last = slab.sequence;
      const bytes = this.sizeOf(slab.sequence);
      if (bytes < slabBytes) this.report(slab, cutError(bytes, slabBytes).message);
    }
  }

  private sizeOf(sequence: number): number {
    const file = path.join(this.setup.directory, slabName(sequence));
    // One that is gone altogether is another matter.
    return fs.statSync(file, { throwIfNoEntry: false })?.size ?? this.setup.slabBytes;
  }

  /** Something is wrong with a slab. Said once. */
  report(slab: Slab, why: string): void {
    const { directory, shard, figures, warn } = this.setup;
    if (!markBroken(slab, figures)) return;
    slab.damaged = true;
    figures[FIGURE.damaged]++;
    // What readers have checked of it may not be there any more.
    figures[FIGURE.damageGeneration]++;
    const file = path.join(directory, slabName(slab.sequence));
    warn(
      `${file} of shard ${shard} cannot be read as a whole: ${why}; records that are gone answer "corrupt"; stop the node and run minivault verify`,
    );
  }
}

/** A slab cannot be read as a whole. False: that was known. */
export function markBroken(slab: Slab, figures: Float64Array): boolean {
  if (slab.broken) return false;
  slab.broken = true;
  figures[FIGURE.brokenSlabs]++;
  return true;
}
