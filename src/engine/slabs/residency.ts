/**
 * Which parts of the slabs are in memory, for a thread that must not wait for the disk; and reading what is
 * not, beside its event loop.
 *
 * Touching a page of a map that is not in memory stops the thread for a disk access. So before a front
 * touches a record, it asks here. Asking the kernel costs a few microseconds, which is too much for each
 * read: so whole regions are asked for, and a region that was all there counts as there for a while. In a
 * store that fits in memory that is one comparison a read. What was swapped out within that while costs one
 * disk access, as it would without this.
 *
 * What is missing is read by Node's file threads into a buffer that nobody looks at: it is then in the page
 * cache, and so in the map.
 */
import fs from "node:fs";
import { isInMemory, type SlabMap } from "./maps.ts";
import { PAGE_BYTES, PAGE_SHIFT, PAGES_OF_REGION, REGION_SHIFT } from "./residence.ts";

/** `beat` is called this often; a region's state is good for so many beats. */
export const BEAT_MS = 100;
const FRESH_BEATS = 100;
/** Reads under way: fewer than Node has file threads (4), since sealing and name look-ups need them too. */
const READS_MAX = 3;
const BUFFER_BYTES = 256 * 1024;
/** Slab files kept open for reading. */
const FILES_MAX = 64;

interface OpenFile {
  fd: number;
  reads: number;
}

interface ColdRead {
  map: SlabMap;
  from: number;
  to: number;
  done: () => void;
}

export class Residency {
  /** Now, in beats. */
  private beats = FRESH_BEATS + 1;
  private readonly buffer = new Uint8Array(BUFFER_BYTES);
  private readonly waiting: ColdRead[] = [];
  private running = 0;
  private readonly files = new Map<SlabMap, OpenFile>();
  private closed = false;
  /** Called at each read from the disk. */
  onRead: () => void = () => {};
  private readonly asksKernel: typeof isInMemory;

  /** @param asksKernel whether a part of a map is in memory */
  constructor(asksKernel = isInMemory) {
    this.asksKernel = asksKernel;
  }

  /** Whether the bytes `from` to `to` (exclusive) of a slab can be touched without waiting for the disk. */
  isResident(map: SlabMap, from: number, to: number): boolean {
    const oldest = this.beats - FRESH_BEATS;
    const { regions } = map.residence;
    const last = (to - 1) >>> REGION_SHIFT;
    for (let region = from >>> REGION_SHIFT; region <= last; region++)
      if (regions[region] < oldest && !this.isPartResident(map, region, from, to)) return false;
    return true;
  }

  /**
   * Asks the kernel for a region, if that was not done lately; if the region is not all there, the pages that
   * are wanted count.
   */
  private isPartResident(map: SlabMap, region: number, from: number, to: number): boolean {
    const { regions } = map.residence;
    const start = region << REGION_SHIFT;
    const end = Math.min(start + 2 ** REGION_SHIFT, map.bytes.length);
    if (-regions[region] < this.beats - FRESH_BEATS) {
      const whole = this.asksKernel(map, start, end);
      regions[region] = whole ? this.beats : -this.beats;
      if (whole) {
        map.residence.pages[region] = undefined;
        return true;
      }
    }
    return this.arePagesResident(map, region, Math.max(start, from), Math.min(end, to));
  }

  /**
   * The region of the newest records is never all there: there the pages themselves are remembered, likewise
   * for a while.
   */
  private arePagesResident(map: SlabMap, region: number, from: number, to: number): boolean {
    const { pages } = map.residence;
    let seen = pages[region];
    if (seen === undefined) seen = pages[region] = new Int32Array(PAGES_OF_REGION);
    const oldest = this.beats - FRESH_BEATS;
    const last = (to - 1) >>> PAGE_SHIFT;
    for (let page = from >>> PAGE_SHIFT; page <= last; page++) {
      if (seen[page % PAGES_OF_REGION] >= oldest) continue;
      if (!this.asksKernel(map, from, to)) return false;
      for (let there = from >>> PAGE_SHIFT; there <= last; there++)
        seen[there % PAGES_OF_REGION] = this.beats;
      return true;
    }
    return true;
  }

  /**
   * Reads a part of a slab, so that it is in memory, and then calls back, from the event loop. What cannot be
   * read shows when it is touched.
   */
  read(map: SlabMap, from: number, to: number, done: () => void): void {
    // The file must stay what it is while it is read, and the slot must not be reused.
    map.pins++;
    const start = from - (from % PAGE_BYTES);
    this.waiting.push({ map, from: start, to: Math.min(to, map.bytes.length), done });
    if (this.running < READS_MAX) this.next();
  }

  private next(): void {
    const read = this.waiting.shift();
    if (read === undefined) return;
    this.running++;
    this.onRead();
    let file: OpenFile;
    try {
      file = this.open(read.map);
    } catch {
      // Dropped meanwhile: its records have moved, which the next look will show.
      setImmediate(() => this.finish(read, null));
      return;
    }
    file.reads++;
    this.readOn(read, file, read.from);
  }

  private readOn(read: ColdRead, file: OpenFile, position: number): void {
    const bytes = Math.min(BUFFER_BYTES, read.to - position);
    if (bytes <= 0 || this.closed) {
      this.finish(read, file);
      return;
    }
    fs.read(file.fd, this.buffer, 0, bytes, position, (error, count) => {
      if (error !== null || count === 0) {
        this.believe(read.map, read.from, read.to);
        this.finish(read, file);
      } else this.readOn(read, file, position + count);
    });
  }

  /**
   * What cannot be read counts as there for a while: who touches it learns at once that it is missing, and
   * waiting for it does not help.
   */
  private believe(map: SlabMap, from: number, to: number): void {
    const { pages } = map.residence;
    for (let page = from >>> PAGE_SHIFT; page <= (to - 1) >>> PAGE_SHIFT; page++) {
      const region = Math.floor(page / PAGES_OF_REGION);
      let seen = pages[region];
      if (seen === undefined) seen = pages[region] = new Int32Array(PAGES_OF_REGION);
      seen[page % PAGES_OF_REGION] = this.beats;
    }
  }

  private finish(read: ColdRead, file: OpenFile | null): void {
    this.running--;
    read.map.pins--;
    if (file !== null) file.reads--;
    this.next();
    read.done();
  }

  private open(map: SlabMap): OpenFile {
    let file = this.files.get(map);
    if (file === undefined) file = { fd: fs.openSync(map.path, "r"), reads: 0 };
    else this.files.delete(map);
    // The last in the map is the one used last.
    this.files.set(map, file);
    for (const [other, { fd, reads }] of this.files) {
      if (this.files.size <= FILES_MAX) break;
      if (reads > 0 || other === map) continue;
      this.files.delete(other);
      fs.closeSync(fd);
    }
    return file;
  }

  /** To be called every BEAT_MS. `isLive`: whether a slab is still in use; the files of others are closed. */
  beat(isLive: (map: SlabMap) => boolean): void {
    this.beats++;
    for (const [map, { fd, reads }] of this.files) {
      if (reads > 0 || isLive(map)) continue;
      this.files.delete(map);
      fs.closeSync(fd);
    }
  }

  /**
   * Closes the files that are not being read; the others end with their reads. Nobody is called back for what
   * waits.
   */
  close(): void {
    this.closed = true;
    this.waiting.length = 0;
    for (const { fd, reads } of this.files.values()) if (reads === 0) fs.closeSync(fd);
    this.files.clear();
  }
}
