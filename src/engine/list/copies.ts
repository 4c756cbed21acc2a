/**
 * The two copies of a shard's list of slabs, as files: reading them, making them for another directory, and
 * writing one in place.
 */
import fs from "node:fs";
import path from "node:path";
import {
  decodeNote,
  decodeSlabList,
  encodeSlabList,
  LIST_ENTRY_BYTES,
  LIST_HEADER_BYTES,
  type ListIdentity,
  NOTE_OFFSET,
  type SlabEnd,
  type SlabListContent,
} from "../../format/slab-list.ts";
import { demandDescriptors, sentenceOf } from "../../platform/system-error.ts";
import { readBounded } from "../../util/bounded-file.ts";
import { type FileIo, isDiskFull } from "../slabs/io.ts";

/** The two copies. The note stands in the first. */
export const LIST_NAMES = ["slabs.list", "slabs.copy"] as const;
/**
 * The files grow by so much, and so long before it is needed that a full disk does not hold up a new slab.
 */
const GROW_BYTES = 4096;
const ENTRIES_AHEAD = 64;
/** A larger one is none: millions of slabs are smaller. */
export const LIST_BYTES_MAX = 256 * 1024 * 1024;

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
    return readBounded(file, LIST_BYTES_MAX);
  } catch (error) {
    // That says nothing of the list.
    demandDescriptors(error);
    return (error as NodeJS.ErrnoException).code === "ENOENT" ? "it is missing" : sentenceOf(error as Error);
  }
}

/** A copy that is written. */
export class ListCopy {
  private readonly io: FileIo;
  private readonly directory: string;
  private readonly file: string;
  /** -1: the file is not open. */
  private fd = -1;
  /** Bytes that the file has, so that writing there takes no block of the disk. */
  private bytes = 0;
  /** It can be read and says what the list says. */
  isWhole: boolean;

  constructor(io: FileIo, directory: string, name: string, isWhole: boolean) {
    this.io = io;
    this.directory = directory;
    this.file = path.join(directory, name);
    this.isWhole = isWhole;
  }

  get isOpen(): boolean {
    return this.fd >= 0;
  }

  /** Throws what the disk says; then nobody knows what the copy says. */
  write(head: Uint8Array, entries: Uint8Array): void {
    const { io } = this;
    this.isWhole = false;
    const isNew = this.open();
    this.grow(LIST_HEADER_BYTES + entries.length);
    io.pwrite(this.fd, entries, 0, entries.length, LIST_HEADER_BYTES);
    io.pwrite(this.fd, head, 0, head.length, 0);
    io.fdatasync(this.fd);
    if (isNew) io.syncDirectory(this.directory);
    this.isWhole = true;
  }

  /** Not synced. Throws what the disk says. */
  writeNote(note: Uint8Array): void {
    this.io.pwrite(this.fd, note, 0, note.length, NOTE_OFFSET);
  }

  /** True: it was not there. */
  private open(): boolean {
    if (this.fd >= 0) return false;
    const isNew = !fs.existsSync(this.file);
    this.fd = this.io.open(this.file, isNew ? "wx+" : "r+");
    this.bytes = isNew ? 0 : fs.fstatSync(this.fd).size;
    return isNew;
  }

  /** Takes blocks for `bytes`, and for slabs to come where the disk has room. */
  private grow(bytes: number): void {
    const wanted = bytes + ENTRIES_AHEAD * LIST_ENTRY_BYTES;
    while (this.bytes < wanted) {
      const zeros = new Uint8Array(GROW_BYTES - (this.bytes % GROW_BYTES));
      try {
        this.io.pwrite(this.fd, zeros, 0, zeros.length, this.bytes);
      } catch (error) {
        if (isDiskFull(error) && this.bytes >= bytes) return;
        throw error;
      }
      this.bytes += zeros.length;
    }
  }

  close(): void {
    if (this.fd >= 0) this.io.close(this.fd);
    this.fd = -1;
  }
}
