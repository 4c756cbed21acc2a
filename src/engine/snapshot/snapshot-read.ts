/**
 * The index snapshot: written when a shard is closed in order, read at the next start in place of the slabs'
 * tables. FORMAT.md has the file.
 *
 * It is a shortcut and nothing else: whatever is wrong with it, the index is built from the slabs. Both ways
 * it takes a piece at a time, straight from and to the shared memory of the index.
 */
import fs from "node:fs";
import path from "node:path";
import {
  SNAPSHOT_HEADER_BYTES,
  SNAPSHOT_PIECE_BYTES,
  SNAPSHOT_SLAB_WORDS,
  UNIT_BYTES,
} from "../../format/offsets.ts";
import { recordUnits } from "../../format/record.ts";
import { LISTED_FULL, LISTED_OPEN, type ListedSlab } from "../../format/slab-list.ts";
import {
  decodeSnapshotHeader,
  type SnapshotHeader,
  type SnapshotIdentity,
} from "../../format/snapshot/index-snapshot.ts";
import { hash32 } from "../../util/hash.ts";
import type { ExpectedSlabs } from "../directory/expected-slabs.ts";
import { indexPartBytes } from "../index/memory.ts";
import type { OpenSlab } from "../open/appender.ts";
import { slotOfSequence } from "../slabs/figures.ts";
import type { FileIo } from "../slabs/io.ts";
import type { State } from "../state/state.ts";
import { misfitsOf, readFully } from "./snapshot-slabs.ts";

export const SNAPSHOT_NAME = "index.snapshot";
/** Whose snapshot it is: written at the stop of that start. */
export function identityOf({ shard, store }: State, incarnation: number): SnapshotIdentity {
  return { shard, slabBytes: store.slabBytes, storeId: store.slabId, incarnation };
}

/** The bytes of a typed array. */
export function bytesOf(words: Int32Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}

/** Calls back for each piece of a section, with where it lies in it. */
export function forPieces(bytes: number, visit: (from: number, to: number) => void): void {
  for (let from = 0; from < bytes; from += SNAPSHOT_PIECE_BYTES)
    visit(from, Math.min(bytes, from + SNAPSHOT_PIECE_BYTES));
}

/** Takes a snapshot away, if there is one. */
export function removeFile(io: FileIo, file: string): void {
  try {
    io.unlink(file);
  } catch {
    // Not there; or the next start removes it, and does not use it.
  }
}

/** The result of reading a snapshot. */
export interface Restored {
  /** Null: it is not there as it was, and a new slab must be made. */
  open: OpenSlab | null;
  /** The slabs that there must be. */
  listed: ListedSlab[];
  /** Places of the promises and floors that count, which the caller must read. */
  promises: { sequence: number; unit: number }[];
  clockLow: number;
  clockHigh: number;
}

/**
 * Restores index and accounts from the snapshot in its directory, if there is one that fits, and
 * removes it. Null: there is none, and the shard is as it was. What is wrong with single slabs does not
 * matter to the index: what it points to there is then damaged, and nothing else is.
 */
export function restoreSnapshot(state: State, io: FileIo, expected: ExpectedSlabs): Restored | null {
  const file = path.join(state.directory, SNAPSHOT_NAME);
  let fd: number;
  try {
    fd = fs.openSync(file, "r");
  } catch {
    return null;
  }
  try {
    const snapshot = new SnapshotFile(state, fd, expected);
    return snapshot.restore();
  } catch (error) {
    state.warn(
      `shard ${state.shard}: the index snapshot is not used, reading the slabs: ${(error as Error).message}`,
    );
    return null;
  } finally {
    fs.closeSync(fd);
    removeFile(io, file);
  }
}

/** Lengths of the sections in their order, in bytes. */
function sectionLengths(header: SnapshotHeader): number[] {
  const [directory, segments, links, ...blocks] = indexPartBytes(header.segments, header.blocks);
  return [
    header.slabs * SNAPSHOT_SLAB_WORDS * 4,
    header.openRecords * 12,
    directory,
    segments,
    links,
    header.freeBlocks * 4,
    header.promises * 8,
    ...blocks,
  ];
}

/**
 * Reads a snapshot file from end to end and changes nothing. Answers why it cannot be used, for a person, or
 * null.
 */
export function snapshotProblem(file: string, identity: SnapshotIdentity): string | null {
  const fd = fs.openSync(file, "r");
  try {
    const page = new Uint8Array(SNAPSHOT_HEADER_BYTES);
    readFully(fd, page, 0);
    const header = decodeSnapshotHeader(page, identity);
    if (typeof header === "string") return header;
    const lengths = sectionLengths(header);
    if (fs.fstatSync(fd).size !== lengths.reduce((sum, bytes) => sum + bytes, SNAPSHOT_HEADER_BYTES))
      return "it has a wrong size";
    const scratch = new Uint8Array(SNAPSHOT_PIECE_BYTES);
    let sum = 0;
    let position = SNAPSHOT_HEADER_BYTES;
    for (const length of lengths)
      forPieces(length, (from, to) => {
        const piece = scratch.subarray(0, to - from);
        readFully(fd, piece, position);
        sum = hash32(piece, sum);
        position += piece.length;
      });
    return sum === header.sectionsChecksum ? null : "its checksum does not hold";
  } catch (error) {
    return (error as Error).message;
  } finally {
    fs.closeSync(fd);
  }
}

/** Throws why the snapshot cannot be used; the shard is then as it was. */
class SnapshotFile {
  private readonly state: State;
  private readonly fd: number;
  private readonly expected: ExpectedSlabs;
  /** Why single slabs are not as they were, by sequence. */
  private misfits: ReadonlyMap<number, string> = new Map();
  /** Where the next section begins, and the checksum of those before it. */
  private position = SNAPSHOT_HEADER_BYTES;
  private sum = 0;

  constructor(state: State, fd: number, expected: ExpectedSlabs) {
    this.state = state;
    this.fd = fd;
    this.expected = expected;
  }

  restore(): Restored {
    const header = this.readHeader();
    this.checkSize(header);
    if (header.slabs === 0) throw new Error("there are other slabs");
    const slabs = this.readWords(header.slabs * SNAPSHOT_SLAB_WORDS);
    const sequences = Array.from({ length: header.slabs }, (_, i) => slabs[i * SNAPSHOT_SLAB_WORDS]);
    const named = new Set(sequences);
    if (this.expected.sequences.some((sequence) => !named.has(sequence)))
      throw new Error("there are other slabs");
    const open: OpenSlab = {
      sequence: sequences[sequences.length - 1],
      endUnit: slabs[slabs.length - SNAPSHOT_SLAB_WORDS + 1],
      previous: header.openPrevious,
      table: this.readWords(header.openRecords * 3),
      clockHigh: header.openClockHigh,
      clockLow: header.openClockLow,
    };
    this.misfits = misfitsOf(this.state, slabs, open);
    let promiseWords: Int32Array = new Int32Array(0);
    this.state.index.restore(header, ([directoryPart, segmentPart, linkPart, ...blockParts]) => {
      this.readSection(directoryPart);
      this.readSection(segmentPart);
      this.readSection(linkPart);
      const freeBlocks = this.readWords(header.freeBlocks);
      promiseWords = this.readWords(header.promises * 2);
      for (const part of blockParts) this.readSection(part);
      if (this.sum !== header.sectionsChecksum) throw new Error("its checksum does not hold");
      return freeBlocks;
    });
    this.account(sequences, slabs, header);
    const promises = Array.from({ length: header.promises }, (_, i) => ({
      sequence: promiseWords[i * 2],
      unit: promiseWords[i * 2 + 1],
    }));
    const { clockLow, clockHigh } = header;
    const listed = sequences.map((sequence, i) => this.listedAs(sequence, i, slabs, open));
    return { open: this.misfits.has(open.sequence) ? null : open, listed, promises, clockLow, clockHigh };
  }

  private readHeader(): SnapshotHeader {
    const page = new Uint8Array(SNAPSHOT_HEADER_BYTES);
    readFully(this.fd, page, 0);
    // The snapshot of the stop before this start; every start since then would have raised the incarnation
    // once more.
    const identity = identityOf(this.state, this.state.store.incarnation - 1);
    const header = decodeSnapshotHeader(page, identity);
    if (typeof header === "string") throw new Error(header);
    return header;
  }

  private checkSize(header: SnapshotHeader): void {
    const total = sectionLengths(header).reduce((sum, bytes) => sum + bytes, SNAPSHOT_HEADER_BYTES);
    if (fs.fstatSync(this.fd).size !== total) throw new Error("it has a wrong size");
  }

  /** Reads the next section. */
  private readSection(bytes: Uint8Array): void {
    forPieces(bytes.length, (from, to) => {
      const piece = bytes.subarray(from, to);
      readFully(this.fd, piece, this.position);
      this.sum = hash32(piece, this.sum);
      this.position += piece.length;
    });
  }

  private readWords(count: number): Int32Array {
    const words = new Int32Array(count);
    this.readSection(bytesOf(words));
    return words;
  }

  private listedAs(sequence: number, i: number, slabs: Int32Array, open: OpenSlab): ListedSlab {
    const endUnit = slabs[i * SNAPSHOT_SLAB_WORDS + 1];
    const seal = slabs[i * SNAPSHOT_SLAB_WORDS + 3];
    // What the list knows of a full slab stands for all its records; what it does not, the snapshot does.
    const known = this.expected.of(sequence);
    if (known !== undefined && this.expected.isFull(sequence)) return known;
    if (sequence === open.sequence)
      return { sequence, state: LISTED_OPEN, endUnit, last: open.previous, seal: 0 };
    return seal === 0
      ? this.expected.stillListed(sequence, null)
      : { sequence, state: LISTED_FULL, endUnit, last: 0, seal };
  }

  private account(sequences: readonly number[], slabs: Int32Array, header: SnapshotHeader): void {
    const { state } = this;
    sequences.forEach((sequence, i) => {
      const at = i * SNAPSHOT_SLAB_WORDS;
      state.slabs.add(sequence);
      state.slabs.stored(sequence, slabs[at + 1] * UNIT_BYTES);
      state.slabs.live(slotOfSequence(sequence), slabs[at + 2] * UNIT_BYTES);
      const problem = this.misfits.get(sequence);
      if (problem !== undefined) this.misses(sequence, problem);
      else if (i < sequences.length - 1) state.slabs.sealed(sequence);
    });
    const { keys, tombstones, entries } = header;
    // An older program did not count them: then each is at least its head and a short key.
    const leastBytes = (entries - keys) * recordUnits(1, 0, 0) * UNIT_BYTES;
    const absenceBytes = Math.max(header.absenceBytes, leastBytes);
    state.load({ keys, tombstones, forgotten: entries - keys - tombstones, absenceBytes });
  }

  private misses(sequence: number, problem: string): void {
    const { state } = this;
    state.misfits(sequence);
    state.warn(
      `slab ${sequence} of shard ${state.shard} is damaged: ${problem}; what was in it answers 500; run minivault verify`,
    );
  }
}
