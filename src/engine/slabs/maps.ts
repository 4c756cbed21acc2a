/**
 * The memory maps of one shard's slabs in one thread. The only importer of mmap-io.
 *
 * A slab's slot is its sequence modulo 65,536. Two shared arrays say who uses what:
 *   slots[slot] = sequence of the slab that lives there, 0 for none  (written by the shard's thread)
 *   held[slot]  = sequence that this thread has mapped, 0 for none   (written by this thread)
 * The shard's thread takes a dropped slab out of `slots` first and gives its blocks back only when no `held`
 * names it, so a map is never read after its file was emptied. Files are mapped at full size, and every
 * offset is checked against that size.
 *
 * A page that cannot be read all the same, because another program cut the file or the disk refuses, reads as
 * zeros and is counted (native/map-guard.c) before the read that met it goes on. Such a map is given up after
 * a while, in case the page comes back.
 */
import path from "node:path";
import { type RecordSource, recordSource } from "../../format/record.ts";
import { loadAddon } from "../../platform/addon.ts";
import { keepSpareDescriptor, mapFile } from "../../platform/file-map.ts";
import { MISSING_IN_ALL, missingOfSlot, slotOfSequence } from "./figures.ts";
import { slabName } from "./files.ts";
import { PAGE_BYTES, type Residence, unknownResidence } from "./residence.ts";

export interface SlabMap extends RecordSource {
  readonly slot: number;
  readonly sequence: number;
  /** The file, while the slab lives. */
  readonly path: string;
  readonly residence: Residence;
  /** Readers that need the map beyond the current call. */
  pins: number;
  /** Missing pages of its slot when it was made. */
  readonly missingBefore: number;
  /** When it was first seen that there are more, by `performance.now`; 0: not yet. */
  missingSinceMs: number;
}

/** A map with missing pages is made anew after so long. */
const REMAP_MS = 10_000;

/**
 * Maps a whole slab file for reading, also a file that somebody cut. The map lives as long as the result. One
 * that is not there at all is all zeros: no record in it is whole, so whatever points there is damaged.
 * @param missing counts of missing pages, and where in them this file's are
 * @throws VaultError "overloaded" where the system has no descriptor or addresses left for it, "corrupt"
 *   where the file cannot be opened for another reason
 */
export function mapSlab(
  file: string,
  slabBytes: number,
  missing: Int32Array = new Int32Array(2),
  index = 1,
): RecordSource {
  const bytes = mapFile(file, slabBytes, missing, index);
  return recordSource(bytes ?? zeros(slabBytes));
}

let nothing = new Uint8Array(0);

/** What slabs without a file share. Nobody writes to it, so it takes no memory until it is read. */
function zeros(bytes: number): Uint8Array {
  if (nothing.length !== bytes) nothing = new Uint8Array(bytes);
  return nothing;
}

/** So that reading a page for its own sake is not optimised away. */
const touched = new Uint8Array(1);

/**
 * Reads a byte of each page from `from` on to `to`: what is missing is known then, and the rest can be read.
 */
export function touchPages({ bytes }: RecordSource, from: number, to: number): void {
  let sum = 0;
  for (let at = from; at < to; at += PAGE_BYTES) sum ^= bytes[at];
  if (to > from) sum ^= bytes[to - 1];
  touched[0] = sum;
}

/**
 * Whether all pages of a part of a map are in memory: touching them then needs no disk. True also where the
 * system cannot tell.
 * @param from first byte; the pages that `from` and `to` - 1 lie in count as a whole
 */
export function isInMemory(map: RecordSource, from: number, to: number): boolean {
  const start = from - (from % PAGE_BYTES);
  const end = Math.min(map.bytes.length, to + PAGE_BYTES - 1 - ((to + PAGE_BYTES - 1) % PAGE_BYTES));
  try {
    // The addon takes any view of bytes, though it says Buffer.
    const part = new Uint8Array(map.buffer, map.base + start, end - start) as Buffer;
    return loadAddon("mmap").incore(part)[0] === 0;
  } catch {
    return true;
  }
}

export class SlabMaps {
  private readonly directory: string;
  private readonly slabBytes: number;
  private readonly slots: Int32Array;
  private readonly held: Int32Array;
  private readonly missing: Int32Array;
  private readonly maps: (SlabMap | undefined)[] = [];

  constructor(
    directory: string,
    slabBytes: number,
    slots: Int32Array,
    held: Int32Array,
    missing: Int32Array,
  ) {
    this.directory = directory;
    this.slabBytes = slabBytes;
    this.slots = slots;
    this.held = held;
    this.missing = missing;
    keepSpareDescriptor();
  }

  /** The map of the slab in a slot; null when none lives there (any more): look the key up again. */
  get(slot: number): SlabMap | null {
    const map = this.maps[slot];
    if (map !== undefined && map.sequence === this.slots[slot]) return map;
    return this.open(slot);
  }

  /** The map of a slab by its sequence; null when it is gone. */
  bySequence(sequence: number): SlabMap | null {
    const map = this.get(slotOfSequence(sequence));
    return map !== null && map.sequence === sequence ? map : null;
  }

  private open(slot: number): SlabMap | null {
    this.drop(slot);
    // Pinned: the owner does not reuse the slot before it is let go.
    if (this.maps[slot] !== undefined) return null;
    const sequence = Atomics.load(this.slots, slot);
    if (sequence === 0) return null;
    Atomics.store(this.held, slot, sequence);
    // Announced first, then checked again: the owner either sees the announcement or has already changed the
    // slot.
    if (Atomics.load(this.slots, slot) !== sequence) {
      Atomics.store(this.held, slot, 0);
      return null;
    }
    const file = path.join(this.directory, slabName(sequence));
    const missingBefore = Atomics.load(this.missing, missingOfSlot(slot));
    let source: RecordSource;
    try {
      source = mapSlab(file, this.slabBytes, this.missing, missingOfSlot(slot));
    } catch (error) {
      Atomics.store(this.held, slot, 0);
      throw error;
    }
    // Dropped meanwhile: its file is gone in order.
    if (Atomics.load(this.slots, slot) !== sequence) {
      Atomics.store(this.held, slot, 0);
      return null;
    }
    const map: SlabMap = {
      ...source,
      slot,
      sequence,
      path: file,
      residence: unknownResidence(this.slabBytes),
      pins: 0,
      missingBefore,
      missingSinceMs: 0,
    };
    this.maps[slot] = map;
    return map;
  }

  private drop(slot: number): void {
    const map = this.maps[slot];
    if (map === undefined || map.pins > 0) return;
    this.maps[slot] = undefined;
    Atomics.store(this.held, slot, 0);
  }

  /** Whether this is the map in use of a slab that lives. */
  isLive(map: SlabMap): boolean {
    return this.maps[map.slot] === map && map.sequence === this.slots[map.slot];
  }

  /**
   * Lets go of the maps of slabs that no longer live, and of those with missing pages, unless somebody has
   * pinned them. Cheap; call it now and then, when nobody is reading.
   */
  release(): void {
    // One look for all maps: this is called after each batch of writes, and there may be thousands.
    const areAnyMissing = Atomics.load(this.missing, MISSING_IN_ALL) !== 0;
    for (let slot = 0; slot < this.maps.length; slot++) {
      const map = this.maps[slot];
      if (map === undefined) continue;
      if (map.sequence !== this.slots[slot] || (areAnyMissing && this.isToBeRemapped(map))) this.drop(slot);
    }
  }

  private isToBeRemapped(map: SlabMap): boolean {
    if (Atomics.load(this.missing, missingOfSlot(map.slot)) === map.missingBefore) return false;
    const nowMs = performance.now();
    if (map.missingSinceMs === 0) map.missingSinceMs = nowMs;
    return nowMs - map.missingSinceMs >= REMAP_MS;
  }
}
