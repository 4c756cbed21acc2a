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
  encodeNote,
  encodeSlabList,
  LISTED_OPEN,
  type ListedSlab,
  type ListIdentity,
  type LogPlace,
  type SlabEnd,
  type SlabListContent,
} from "../../format/slab-list.ts";
import { slabName } from "../slabs/files.ts";
import { type FileIo, isDiskFull } from "../slabs/io.ts";
import { LIST_NAMES, ListCopy, type ReadList } from "./copies.ts";
import { unknownSlab } from "./found-slab.ts";

/** A note of how far the open slab is durable is made at most so often while writes come in. */
const NOTE_MS = 100;

/** The list in use. */
export class SlabList {
  private readonly directory: string;
  private readonly identity: ListIdentity;
  private readonly onFailed: (error: unknown) => void;
  private content: SlabListContent;
  private readonly copies: readonly ListCopy[];
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
    this.directory = directory;
    this.identity = identity;
    this.onFailed = onFailed;
    this.isKept = read.content !== null;
    this.copies = LIST_NAMES.map((name, copy) => new ListCopy(io, directory, name, read.newest[copy]));
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
    const first = this.copies[0];
    if (!first.isOpen || !this.isKept) return;
    if (!force && Math.abs(nowMs - this.notedMs) < NOTE_MS) return;
    this.notedMs = nowMs;
    this.noted = { sequence, endUnit, last };
    const note = encodeNote(this.identity, this.noted);
    try {
      first.writeNote(note);
    } catch {
      // The older note is true as well.
    }
  }

  private write(next: SlabListContent): void {
    const content = { ...next, generation: next.generation + 1 };
    const { head, entries } = encodeSlabList(this.identity, content);
    // The only whole copy is not touched before there is another.
    const [first, second] = this.copies;
    const order = second.isWhole ? [first, second] : [second, first];
    for (const [turn, copy] of order.entries()) {
      try {
        copy.write(head, entries);
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

  close(): void {
    for (const copy of this.copies) copy.close();
  }
}
