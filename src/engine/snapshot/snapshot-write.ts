/** Writing the index snapshot. FORMAT.md has the file. */
import path from "node:path";
import {
  FOOTER_BYTES,
  SNAPSHOT_HEADER_BYTES,
  SNAPSHOT_SLAB_WORDS,
  UNIT_BYTES,
} from "../../format/offsets.ts";
import { footerSeal } from "../../format/slab.ts";
import { encodeSnapshotHeader, type SnapshotHeader } from "../../format/snapshot/index-snapshot.ts";
import { sentenceOf } from "../../platform/system-error.ts";
import { hash32 } from "../../util/hash.ts";
import type { SlabList } from "../list/slab-list.ts";
import type { Log } from "../log/log.ts";
import { FIGURE, slotOfSequence } from "../slabs/figures.ts";
import { readSlab, slabName, UNFINISHED } from "../slabs/files.ts";
import type { FileIo } from "../slabs/io.ts";
import type { Slab } from "../slabs/table.ts";
import type { State } from "../state/state.ts";
import { bytesOf, forPieces, identityOf, removeFile, SNAPSHOT_NAME } from "./snapshot-read.ts";

/** An index of fewer entries is built from the slabs as fast. */
const SNAPSHOT_ENTRIES_MIN = 50_000;

/**
 * Writes the snapshot of a shard that is closed: all its records are written and synced. Does nothing for a
 * small one, nor for one with anything unusual about it. Never throws: a failure is a warning, and the next
 * start takes longer.
 */
export function writeSnapshot(state: State, log: Log, io: FileIo, entriesMin = SNAPSHOT_ENTRIES_MIN): void {
  if (state.index.entries < entriesMin) return;
  const all = [...state.slabs.all()].sort((a, b) => a.sequence - b.sequence);
  if (!isOrdinary(state, log, all)) return;
  const file = path.join(state.directory, SNAPSHOT_NAME);
  const fresh = `${file}${UNFINISHED}`;
  try {
    const { header, sections } = contentOf(state, log, all);
    const fd = io.open(fresh, "wx+");
    try {
      const sectionsChecksum = writeSections(io, fd, sections);
      const identity = identityOf(state, state.store.incarnation);
      const page = encodeSnapshotHeader(identity, { ...header, sectionsChecksum });
      io.pwrite(fd, page, 0, page.length, 0);
      io.fsync(fd);
    } finally {
      io.close(fd);
    }
    io.rename(fresh, file);
    io.syncDirectory(state.directory);
  } catch (error) {
    state.warn(
      `shard ${state.shard}: no index snapshot was written, the next start reads the slabs: ${sentenceOf(error as Error)}`,
    );
    removeFile(io, fresh);
  }
}

/** Whether a snapshot could say all that is to be said of these slabs, which are all in order. */
function isOrdinary({ figures }: State, { appender }: Log, all: readonly Slab[]): boolean {
  const last = all.at(-1);
  if (last?.sequence !== appender.sequence || figures[FIGURE.doubtSequence] !== 0) return false;
  // Of what cannot be read the index knows more than the slabs could tell the next start.
  return all.every(
    ({ damaged, misfit, uploads, sealed }, i) =>
      (!damaged || misfit) && uploads === 0 && (i === all.length - 1 || sealed || misfit),
  );
}

/** What the snapshot holds. Throws where a slab is not as it should be. */
function contentOf(
  state: State,
  { appender, list }: Log,
  all: readonly Slab[],
): { header: Omit<SnapshotHeader, "sectionsChecksum">; sections: Uint8Array[] } {
  const { index, figures, slabs, clock } = state;
  const open = appender.openSlab();
  const image = index.image();
  const promises = [...state.replication.places()];
  const slabWords = slabWordsOf(state, list, all, open.endUnit, promises);
  const promiseWords = promises.flatMap(({ slot, unit }) => [slabs.sequenceIn(slot), unit]);
  const header = {
    slabs: all.length,
    segments: image.segments,
    blocks: image.blocks,
    freeBlocks: image.freeBlocks.length,
    openRecords: open.table.length / 3,
    promises: promises.length,
    entries: image.entries,
    keys: figures[FIGURE.keys],
    tombstones: figures[FIGURE.tombstones],
    absenceBytes: figures[FIGURE.absenceBytes],
    clockLow: clock.low,
    clockHigh: clock.high,
    openClockLow: open.clockLow,
    openClockHigh: open.clockHigh,
    openPrevious: open.previous,
  };
  const [directoryPart, segmentPart, linkPart, ...blockParts] = image.parts;
  const sections = [
    bytesOf(slabWords),
    bytesOf(Int32Array.from(open.table)),
    directoryPart,
    segmentPart,
    linkPart,
    bytesOf(image.freeBlocks),
    bytesOf(Int32Array.from(promiseWords)),
    ...blockParts,
  ];
  return { header, sections };
}

/** SNAPSHOT_SLAB_WORDS for each slab; the last one is open. */
function slabWordsOf(
  { directory, store }: State,
  list: SlabList,
  all: readonly Slab[],
  openEnd: number,
  promises: readonly { slot: number; units: number }[],
): Int32Array {
  const words = new Int32Array(all.length * SNAPSHOT_SLAB_WORDS);
  all.forEach(({ sequence, storedBytes, liveBytes, misfit }, i) => {
    const isOpen = i === all.length - 1;
    let seal: number | null = 0;
    if (!isOpen)
      seal = misfit ? (list.of(sequence)?.seal ?? 0) : readSeal(directory, sequence, store.slabBytes);
    if (seal === null) throw new Error(`slab ${sequence} has lost its footer`);
    let liveUnits = liveBytes / UNIT_BYTES;
    for (const { slot, units } of promises) if (slot === slotOfSequence(sequence)) liveUnits -= units;
    const endUnit = isOpen ? openEnd : storedBytes / UNIT_BYTES;
    words.set([sequence, endUnit, liveUnits, seal], i * SNAPSHOT_SLAB_WORDS);
  });
  return words;
}

/** Writes the sections after the header; answers their checksum. */
function writeSections(io: FileIo, fd: number, sections: readonly Uint8Array[]): number {
  let sum = 0;
  let position = SNAPSHOT_HEADER_BYTES;
  for (const section of sections)
    forPieces(section.length, (from, to) => {
      const piece = section.subarray(from, to);
      sum = hash32(piece, sum);
      io.pwrite(fd, piece, 0, piece.length, position);
      position += piece.length;
    });
  return sum;
}

function readSeal(directory: string, sequence: number, slabBytes: number): number | null {
  return footerSeal(
    readSlab(path.join(directory, slabName(sequence)), slabBytes - FOOTER_BYTES, FOOTER_BYTES),
  );
}
