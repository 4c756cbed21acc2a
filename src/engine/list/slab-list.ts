/**
 * The durable list of a shard's slabs: which there must be, and how far each goes. FORMAT.md has the file and
 * what it can tell.
 *
 * There are two copies, which are written one after the other, in place, so that a full disk cannot stop it.
 * Whatever a crash does to one of them, the other is whole, and whatever either says is right: who changes
 * the slabs acts only when both have been written, and the first copy alone already says the new state. A
 * list never names a slab whose file is not durable, and never leaves out one that has a record somebody was
 * told of.
 */
import fs from "node:fs";
import path from "node:path";
import { FIRST_UNIT } from "../../format/offsets.ts";
import {
  decodeNote,
  decodeSlabList,
  encodeNote,
  encodeSlabList,
  LIST_ENTRY_BYTES,
  LIST_HEADER_BYTES,
  LISTED_OPEN,
  type ListedSlab,
  type ListIdentity,
  type LogPlace,
  NOTE_OFFSET,
  type SlabEnd,
  type SlabListContent,
} from "../../format/slab-list.ts";
import { slabName } from "../slabs/files.ts";
import { type FileIo, isDiskFull } from "../slabs/io.ts";
import { unknownSlab } from "./found-slab.ts";

/** The two copies. The note stands in the first. */
export const LIST_NAMES = ["slabs.list", "slabs.copy"] as const;
/**
 * The files grow by so much, and so long before it is needed that a full disk does not hold up a new slab.
 */
const GROW_BYTES = 4096;
const ENTRIES_AHEAD = 64;
/** A note of how far the open slab is durable is made at most so often while writes come in. */
const NOTE_MS = 100;

/** What the copies on the disk say. */
export interface ReadList {
  /** The newest whole copy; null: there is none. */
  content: SlabListContent | null;
  /** How far a slab was durable at some moment; null: nothing is known. */
  note: SlabEnd | null;
  /** What is wrong with each copy, for a person; null: nothing. */
  problems: (string | null)[];
  /** Whether each copy is whole and says `content`. */
  newest: boolean[];
}

/** Both copies of a list, as files of another directory. */
export function slabListFile(identity: ListIdentity, content: SlabListContent): Uint8Array {
  const { head, entries } = encodeSlabList(identity, content);
  const end = LIST_HEADER_BYTES + entries.length;
  const file = new Uint8Array(Math.ceil(end / GROW_BYTES) * GROW_BYTES);
  file.set(head, 0);
  file.set(entries, LIST_HEADER_BYTES);
  return file;
}

/** Reads the list of a shard and changes nothing. */
export function readSlabList(directory: string, identity: ListIdentity): ReadList {
  const read: ReadList = { content: null, note: null, problems: [], newest: [] };
  const generations: number[] = [];
  for (const name of LIST_NAMES) {
    const bytes = readCopy(path.join(directory, name));
    const content = typeof bytes === "string" ? bytes : decodeSlabList(bytes, identity);
    read.problems.push(typeof content === "string" ? content : null);
    generations.push(typeof content === "string" ? -1 : content.generation);
    if (typeof content !== "string" && content.generation > (read.content?.generation ?? -1))
      read.content = content;
    if (typeof bytes !== "string") read.note ??= decodeNote(bytes, identity);
  }
  const { content } = read;
  read.newest = generations.map((generation) => content !== null && generation === content.generation);
  return read;
}

function readCopy(file: string): Uint8Array | string {
  try {
    return fs.readFileSync(file);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT" ? "it is missing" : (error as Error).message;
  }
}

/** The list in use. */
export class SlabList {
  private readonly io: FileIo;
  private readonly directory: string;
  private readonly identity: ListIdentity;
  private readonly onFailed: (error: unknown) => void;
  private content: SlabListContent;
  /** -1: the file is not open. */
  private readonly descriptors = LIST_NAMES.map(() => -1);
  /** Bytes that each file has, so that writing there takes no block of the disk. */
  private readonly sizes = LIST_NAMES.map(() => 0);
  /** Copies that are whole and say `content`. */
  private readonly whole: boolean[];
  private noted: SlabEnd = { sequence: 0, endUnit: 0, last: 0 };
  private notedMs = Number.NEGATIVE_INFINITY;
  /** A list is on the disk. Only a full disk can be in the way of the first one. */
  isKept: boolean;
  /** What the list says now nobody knows. */
  hasFailed = false;

  /** @param onFailed a write or sync failed, and nobody knows what the list says now */
  constructor(
    io: FileIo,
    directory: string,
    identity: ListIdentity,
    read: ReadList,
    onFailed: (error: unknown) => void,
  ) {
    this.io = io;
    this.directory = directory;
    this.identity = identity;
    this.onFailed = onFailed;
    this.isKept = read.content !== null;
    this.whole = [...read.newest];
    const nowhere = { sequence: 0, unit: 0 };
    this.content = read.content ?? {
      incarnation: 0,
      generation: 0,
      settled: nowhere,
      doubt: nowhere,
      horizon: nowhere,
      slabs: [],
    };
  }

  /**
   * Writes the list of a start, before its first write. A full disk leaves the list as it was, which is right
   * as well.
   */
  begin(incarnation: number, slabs: readonly ListedSlab[], doubt: LogPlace): void {
    const next = { ...this.content, incarnation, slabs, doubt };
    try {
      this.write(next);
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      this.content = next;
    }
  }

  /**
   * A new slab is durable; the one before it takes no more records and ends where `full` says.
   * @throws what the disk says; unless the disk is full, writes have to stop then
   */
  add(sequence: number, full: ListedSlab | null): void {
    const slabs = this.content.slabs.map((slab) => (slab.sequence === full?.sequence ? full : slab));
    this.write({
      ...this.content,
      slabs: [...slabs, { sequence, state: LISTED_OPEN, endUnit: FIRST_UNIT, last: 0, seal: 0 }],
    });
  }

  /**
   * A slab is about to go; what was moved out of it is durable in the open one, up to `open`, or before.
   * Throws like `add`.
   */
  drop(sequence: number, open: SlabEnd): void {
    this.write({
      ...this.content,
      slabs: this.endingAt(open).filter((slab) => slab.sequence !== sequence),
    });
  }

  /** Before here the log does not tell all deletes any more: the next list that is written says so. */
  forgetBefore(horizon: LogPlace): void {
    this.content = { ...this.content, horizon };
  }

  /** See `forgetBefore`. Where there was no list, or one that does not say it, nobody knows: null. */
  get horizon(): LogPlace | null {
    const { horizon } = this.content;
    return this.isKept && horizon.sequence !== 0 ? horizon : null;
  }

  /** Nothing is written any more, and the open slab ends here. Throws like `add`. */
  end(open: SlabEnd): void {
    this.write({ ...this.content, slabs: this.endingAt(open) });
  }

  /** What it says, with the open slab ending here: for a copy of the shard as it is now. */
  asOf(open: SlabEnd): SlabListContent {
    return { ...this.content, slabs: this.endingAt(open) };
  }

  private endingAt({ sequence, endUnit, last }: SlabEnd): ListedSlab[] {
    return this.content.slabs.map((slab) => (slab.sequence === sequence ? { ...slab, endUnit, last } : slab));
  }

  /**
   * What was lost up to the end of the open slab is made good from elsewhere: the slabs in `lost` are not
   * missed any more. Throws like `add`.
   */
  settle(open: SlabEnd, lost: ReadonlySet<number>): void {
    const settled = { sequence: open.sequence, unit: open.endUnit };
    const isThere = (sequence: number): boolean =>
      fs.existsSync(path.join(this.directory, slabName(sequence)));
    const slabs = this.endingAt(open)
      .filter(({ sequence }) => !lost.has(sequence) || isThere(sequence))
      .map((slab) => (lost.has(slab.sequence) ? unknownSlab(slab.sequence) : slab));
    this.write({ ...this.content, settled, doubt: { sequence: 0, unit: 0 }, slabs });
  }

  /** What the list has of a slab. */
  of(sequence: number): ListedSlab | undefined {
    return this.content.slabs.find((slab) => slab.sequence === sequence);
  }

  /**
   * Notes how far the open slab is durable, if that is news and the last note is old enough, or `force`. Not
   * synced: it is for a file that is exchanged for an older copy, not for power loss, and what it says was
   * true before it was written.
   */
  note(sequence: number, endUnit: number, last: number, nowMs: number, force: boolean): void {
    const { noted } = this;
    if (noted.endUnit === endUnit && noted.sequence === sequence) return;
    if (this.descriptors[0] < 0 || !this.isKept) return;
    if (!force && Math.abs(nowMs - this.notedMs) < NOTE_MS) return;
    this.notedMs = nowMs;
    this.noted = { sequence, endUnit, last };
    const bytes = encodeNote(this.identity, this.noted);
    try {
      this.io.pwrite(this.descriptors[0], bytes, 0, bytes.length, NOTE_OFFSET);
    } catch {
      // The older note is true as well.
    }
  }

  private write(next: SlabListContent): void {
    const content = { ...next, generation: next.generation + 1 };
    const { head, entries } = encodeSlabList(this.identity, content);
    // The only whole copy is not touched before there is another.
    const order = this.whole[1] ? [0, 1] : [1, 0];
    for (const [turn, copy] of order.entries()) {
      try {
        this.whole[copy] = false;
        this.writeCopy(copy, head, entries);
        this.whole[copy] = true;
      } catch (error) {
        if (!isDiskFull(error)) {
          this.hasFailed = true;
          this.onFailed(error);
          throw error;
        }
        // One copy says it all; and where there never was a list, nothing is missed.
        if (turn === 0 && this.isKept) throw error;
        if (turn === 0) break;
      }
      this.isKept = true;
    }
    this.content = content;
  }

  private writeCopy(copy: number, head: Uint8Array, entries: Uint8Array): void {
    const { io } = this;
    const isNew = this.open(copy);
    const fd = this.descriptors[copy];
    this.grow(copy, LIST_HEADER_BYTES + entries.length);
    io.pwrite(fd, entries, 0, entries.length, LIST_HEADER_BYTES);
    io.pwrite(fd, head, 0, head.length, 0);
    io.fdatasync(fd);
    if (isNew) io.syncDirectory(this.directory);
  }

  /** Opens a copy; true: it was not there. */
  private open(copy: number): boolean {
    if (this.descriptors[copy] >= 0) return false;
    const file = path.join(this.directory, LIST_NAMES[copy]);
    const isNew = !fs.existsSync(file);
    this.descriptors[copy] = this.io.open(file, isNew ? "wx+" : "r+");
    this.sizes[copy] = isNew ? 0 : fs.fstatSync(this.descriptors[copy]).size;
    return isNew;
  }

  /** Gives a copy blocks for `bytes`, and for slabs to come where the disk has room. */
  private grow(copy: number, bytes: number): void {
    const wanted = bytes + ENTRIES_AHEAD * LIST_ENTRY_BYTES;
    while (this.sizes[copy] < wanted) {
      const zeros = new Uint8Array(GROW_BYTES - (this.sizes[copy] % GROW_BYTES));
      try {
        this.io.pwrite(this.descriptors[copy], zeros, 0, zeros.length, this.sizes[copy]);
      } catch (error) {
        if (isDiskFull(error) && this.sizes[copy] >= bytes) return;
        throw error;
      }
      this.sizes[copy] += zeros.length;
    }
  }

  close(): void {
    this.descriptors.forEach((fd, copy) => {
      if (fd >= 0) this.io.close(fd);
      this.descriptors[copy] = -1;
    });
  }
}
