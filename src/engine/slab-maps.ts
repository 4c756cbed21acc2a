/**
 * The memory maps of one shard's slabs in one thread. The only importer of mmap-io.
 *
 * A slab's slot is its sequence modulo 65,536. Two shared arrays say who uses what:
 *   slots[slot] = sequence of the slab that lives there, 0 for none   (written by the shard's thread)
 *   held[slot]  = sequence that this thread has mapped, 0 for none    (written by this thread; one array per thread)
 * The shard's thread takes a dropped slab out of `slots` first and gives its blocks back only when no `held` names it, so
 * a map is never read after its file was emptied. Files are mapped at full size and never shrink while held, and every
 * offset is checked against that size, so no read can leave the file.
 */
import fs from "node:fs";
import path from "node:path";
import { SLAB_SLOTS } from "../format/layout.ts";
import { type RecordSource, recordSource } from "../format/record.ts";
import { loadAddon } from "../util/addon.ts";
import { PAGE_BYTES, type Residence, unknownResidence } from "./residency.ts";

export interface SlabMap extends RecordSource {
  readonly slot: number;
  readonly sequence: number;
  /** The file, while the slab lives. */
  readonly path: string;
  readonly residence: Residence;
  /** Readers that need the map beyond the current call. */
  pins: number;
}

export function slotOfSequence(sequence: number): number {
  return sequence % SLAB_SLOTS;
}

/** File name of a slab within its shard's directory. */
export function slabName(sequence: number): string {
  return `${String(sequence).padStart(10, "0")}.slab`;
}

/** Sequences of the slabs in a shard's directory, rising. */
export function listSlabs(directory: string): number[] {
  return fs
    .readdirSync(directory)
    .map((name) => (/^\d{10}\.slab$/.test(name) ? Number(name.slice(0, 10)) : 0))
    .filter((sequence) => sequence > 0)
    .sort((a, b) => a - b);
}

/** Added to the name of a slab that is being made. */
export const UNFINISHED = ".new";

/**
 * Maps a whole slab file for reading. The map lives as long as the result. A file that somebody cut is read into memory instead, with
 * zeros for what is missing: touching a map beyond the end of its file would end the process. One that is not there at all is all zeros: no record in it
 * is whole, so whatever points there is damaged.
 */
export function mapSlab(file: string, slabBytes: number): RecordSource {
  const mmap = loadAddon("mmap");
  const fd = openIfAny(file);
  if (fd === null) return recordSource(zeros(slabBytes));
  try {
    if (fs.fstatSync(fd).size < slabBytes) return recordSource(readBytes(fd, 0, slabBytes));
    const map = mmap.map(slabBytes, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0);
    return recordSource(new Uint8Array(map.buffer, map.byteOffset, slabBytes));
  } finally {
    fs.closeSync(fd);
  }
}

function openIfAny(file: string): number | null {
  try {
    return fs.openSync(file, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

let nothing = new Uint8Array(0);

/** What slabs without a file share. Nobody writes to it, so it takes no memory until it is read. */
function zeros(bytes: number): Uint8Array {
  if (nothing.length !== bytes) nothing = new Uint8Array(bytes);
  return nothing;
}

/**
 * Whether all pages of a part of a map are in memory: touching them then needs no disk. True also where the system cannot tell.
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
    return true; // Not a map, but memory that holds a file that was cut.
  }
}

/**
 * Reads a part of a slab file, with zeros for what the file lacks. Where a slab has not been written it is read like this and not through
 * its map: a map's page of a hole takes a block on tmpfs, and on a full one ends the process.
 */
export function readSlab(file: string, from: number, bytes: number): Uint8Array {
  const fd = fs.openSync(file, "r");
  try {
    return readBytes(fd, from, bytes);
  } finally {
    fs.closeSync(fd);
  }
}

function readBytes(fd: number, from: number, count: number): Uint8Array {
  const bytes = new Uint8Array(count);
  for (let done = 0; done < count; ) {
    const read = fs.readSync(fd, bytes, done, count - done, from + done);
    if (read === 0) break;
    done += read;
  }
  return bytes;
}

export class SlabMaps {
  private readonly directory: string;
  private readonly slabBytes: number;
  private readonly slots: Int32Array;
  private readonly held: Int32Array;
  private readonly maps: (SlabMap | undefined)[] = [];

  constructor(directory: string, slabBytes: number, slots: Int32Array, held: Int32Array) {
    this.directory = directory;
    this.slabBytes = slabBytes;
    this.slots = slots;
    this.held = held;
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
    if (this.maps[slot] !== undefined) return null; // pinned: the owner does not reuse the slot before it is let go
    const sequence = Atomics.load(this.slots, slot);
    if (sequence === 0) return null;
    Atomics.store(this.held, slot, sequence);
    // Announced first, then checked again: the owner either sees the announcement or has already changed the slot.
    if (Atomics.load(this.slots, slot) !== sequence) {
      Atomics.store(this.held, slot, 0);
      return null;
    }
    const file = path.join(this.directory, slabName(sequence));
    const source = mapSlab(file, this.slabBytes);
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

  /** Lets go of the maps of slabs that no longer live and that nobody has pinned. Cheap; call it now and then. */
  release(): void {
    for (let slot = 0; slot < this.maps.length; slot++) {
      const map = this.maps[slot];
      if (map !== undefined && map.sequence !== this.slots[slot]) this.drop(slot);
    }
  }
}
