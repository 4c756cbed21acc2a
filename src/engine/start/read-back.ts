/** Reading one slab back at start: by its table, or else record by record. */
import fs from "node:fs";
import path from "node:path";
import { FIRST_UNIT, FOOTER_BYTES, HEADER_BYTES, UNIT_BYTES } from "../../format/offsets.ts";
import { placeOf } from "../../format/record.ts";
import {
  decodeFooter,
  encodeTail,
  footerSeal,
  headerProblem,
  looksSealed,
  type SlabFooter,
  tableWords,
} from "../../format/slab.ts";
import type { ListedSlab, LogPlace } from "../../format/slab-list.ts";
import type { ExpectedSlabs } from "../directory/expected-slabs.ts";
import { listedAs } from "../list/found-slab.ts";
import { markBroken } from "../list/slab-watch.ts";
import type { Log } from "../log/log.ts";
import type { OpenSlab } from "../open/appender.ts";
import { FIGURE } from "../slabs/figures.ts";
import { readSlab, slabName } from "../slabs/files.ts";
import { type FileIo, isDiskFull } from "../slabs/io.ts";
import type { SlabMap } from "../slabs/maps.ts";
import { type SlabScan, scanSlab } from "../slabs/scan.ts";
import type { SlabRecords } from "../state/candidates.ts";
import type { State } from "../state/state.ts";
import { SlabReader } from "./slab-reader.ts";

/** What a start reads slabs with. */
export interface Reading {
  state: State;
  log: Log;
  io: FileIo;
  expected: ExpectedSlabs;
  /** Up to where losses were made good. */
  settled: LogPlace;
}

/** What a slab held. */
interface ReadSlab {
  records: SlabRecords;
  /** As the list names it from now on. */
  listed: ListedSlab;
  /** Null: it cannot be appended to. */
  open: OpenSlab | null;
}

/** A slab file that is there, and of this store. */
interface Present {
  sequence: number;
  file: string;
  map: SlabMap;
  /** What is wrong with its header; null: nothing. */
  problem: string | null;
  /** Marks it as damaged. `doubtUnit`: see `damaged`. */
  spoilt: (why: string, doubtUnit?: number) => void;
}

export const NOWHERE: LogPlace = { sequence: 0, unit: 0 };

/** Reads one slab back into the accounts. */
export function readBack(reading: Reading, sequence: number): ReadSlab {
  const { state, expected, settled } = reading;
  const { store, directory, shard } = state;
  const file = path.join(directory, slabName(sequence));
  const spoilt = (why: string, doubtUnit = 0): void => damaged(state, sequence, why, doubtUnit, settled);
  state.slabs.add(sequence);
  const map = state.lookup.maps.bySequence(sequence);
  if (map === null) throw new Error(`${file} cannot be mapped`);
  if (expected.missing.has(sequence)) {
    state.figures[FIGURE.missingSlabs]++;
    spoilt("the file is missing", store.slabBytes / UNIT_BYTES);
    return {
      records: { map, table: new Int32Array(0), endUnit: FIRST_UNIT },
      listed: expected.stillListed(sequence, null),
      open: null,
    };
  }
  const identity = { shard, sequence, slabBytes: store.slabBytes, storeId: store.slabId };
  const problem = headerProblem(map.bytes.subarray(0, HEADER_BYTES), identity);
  if (problem?.foreign === true)
    throw new Error(`${file}: ${problem.text}; move it away or restore the directory`);
  const slab: Present = { sequence, file, map, problem: problem?.text ?? null, spoilt };
  let refused = 0;
  const countRefused = (): void => {
    refused++;
  };
  const sealBytes = readSlab(file, store.slabBytes - FOOTER_BYTES, FOOTER_BYTES, countRefused);
  const footer = looksSealed(sealBytes) ? decodeFooter(map.bytes, sequence) : null;
  if (footer !== null) return byTable(reading, slab, footer, footerSeal(sealBytes));
  const part = new SlabReader(file, store.slabBytes, countRefused);
  try {
    const place = (unit: number): number => placeOf(store.salt, shard, sequence, unit);
    return byScan(reading, slab, scanSlab(part.source, place, store.keyHash, part), refused);
  } finally {
    part.close();
  }
}

/** A full slab with a good table. `seal`: checksum in its footer. */
function byTable(
  { state, expected }: Reading,
  { sequence, map, problem, spoilt }: Present,
  footer: SlabFooter,
  seal: number | null,
): ReadSlab {
  const { endUnit } = footer;
  const table = tableWords(map.bytes, footer);
  const found = { map, table, endUnit, seal };
  state.clock.observe(footer.clockHigh, footer.clockLow);
  account(state, sequence, footer, true);
  if (problem !== null) beheaded(state, sequence, problem, spoilt);
  const misfit = expected.misfit(sequence, found);
  if (misfit !== null) missed(state, misfit, spoilt);
  const isKnown = misfit !== null || sealOf(expected, sequence) === seal;
  const listed = isKnown ? expected.stillListed(sequence, null) : listedAs(found, sequence, false);
  return { records: { map, table, endUnit }, listed, open: null };
}

/** A slab that was open, or has lost its table. `refused`: pages that the disk cannot read. */
function byScan(
  reading: Reading,
  { sequence, file, map, problem, spoilt }: Present,
  scan: SlabScan,
  refused: number,
): ReadSlab {
  const { state, expected } = reading;
  const { slabBytes } = state.store;
  const endOfSlab = slabBytes / UNIT_BYTES;
  for (const [from, to] of scan.damage) spoilt(`no valid record at unit ${from}, where there was one`, to);
  if (problem !== null) beheaded(state, sequence, problem, spoilt, scan.table.length === 0 ? endOfSlab : 0);
  if (refused > 0) spoilt(`the disk cannot read ${refused} pages of it`, endOfSlab);
  const found = { map, table: scan.table, endUnit: scan.endUnit, seal: null };
  const isCut = fs.statSync(file).size < slabBytes;
  const misfit = isCut ? "the file is shorter than it was made" : expected.misfit(sequence, found);
  if (misfit !== null) missed(state, misfit, spoilt);
  state.clock.observe(scan.clockHigh, scan.clockLow);
  const intact = scan.damage.length === 0 && problem === null && misfit === null && refused === 0;
  const isOpen = sequence === expected.sequences.at(-1) && !expected.isFull(sequence);
  const seal = intact ? makeDurable(reading, file, isOpen ? null : { sequence, scan }) : null;
  account(state, sequence, scan, seal?.written === true);
  const isKnown = seal !== null && sealOf(expected, sequence) === seal.checksum;
  const listed =
    !intact || isKnown
      ? expected.stillListed(sequence, misfit === null ? found : null)
      : listedAs({ ...found, seal: seal?.checksum ?? null }, sequence, isOpen);
  return {
    records: { map, table: Int32Array.from(scan.table), endUnit: scan.endUnit },
    listed,
    open: isOpen && intact ? { sequence, ...scan } : null,
  };
}

/** Checksum in the footer of a full slab, as the list has it. */
function sealOf(expected: ExpectedSlabs, sequence: number): number | undefined {
  return expected.isFull(sequence) ? expected.of(sequence)?.seal : undefined;
}

/** The header of a slab is damaged: its records may be whole, and the file is not. */
function beheaded(
  { figures, slabs }: State,
  sequence: number,
  problem: string,
  spoilt: Present["spoilt"],
  doubtUnit = 0,
): void {
  spoilt(`its header is damaged (${problem})`, doubtUnit);
  const slab = slabs.bySequence(sequence);
  if (slab !== undefined) markBroken(slab, figures);
}

/** What was in the slab that should be there nobody knows. */
function missed({ figures, store }: State, misfit: string, spoilt: Present["spoilt"]): void {
  figures[FIGURE.missingSlabs]++;
  spoilt(misfit, store.slabBytes / UNIT_BYTES);
}

function account(state: State, sequence: number, end: SlabFooter | SlabScan, sealed: boolean): void {
  const slab = state.slabs.bySequence(sequence);
  if (slab === undefined) return;
  state.slabs.stored(sequence, end.endUnit * UNIT_BYTES);
  slab.sealed = sealed;
}

/** Nothing up to a place can be called absent any more, unless that has been made good. */
export function raiseDoubt(state: State, place: LogPlace, settled: LogPlace): void {
  const { figures } = state;
  if (!isAfter(place, settled)) return;
  if (!isAfter(place, { sequence: figures[FIGURE.doubtSequence], unit: figures[FIGURE.doubtUnit] })) return;
  figures[FIGURE.doubtSequence] = place.sequence;
  figures[FIGURE.doubtUnit] = place.unit;
}

function isAfter(place: LogPlace, other: LogPlace): boolean {
  return place.sequence > other.sequence || (place.sequence === other.sequence && place.unit > other.unit);
}

/**
 * Marks a slab as damaged.
 * @param doubtUnit where damage hit records of unknown keys: the unit up to which; else 0
 */
export function damaged(
  state: State,
  sequence: number,
  why: string,
  doubtUnit = 0,
  settled: LogPlace = NOWHERE,
): void {
  state.damaged(sequence);
  if (doubtUnit > 0) raiseDoubt(state, { sequence, unit: doubtUnit }, settled);
  state.warn(`slab ${sequence} of shard ${state.shard} is damaged: ${why}; run minivault verify`);
}

/**
 * What was read back may never have been synced; it must be before anybody sees it. A full slab that missed
 * its table gets it now, or, on a full disk, later. Answers the checksum in the footer of such a slab, and
 * whether the footer is there.
 */
function makeDurable(
  { state: { store }, log, io }: Reading,
  file: string,
  seal: { sequence: number; scan: SlabScan } | null,
): { checksum: number; written: boolean } | null {
  let fd = io.open(file, "r+");
  try {
    io.fdatasync(fd);
    if (seal === null) return null;
    const { sequence, scan } = seal;
    const tail = encodeTail(
      Int32Array.from(scan.table),
      sequence,
      store.slabBytes,
      scan.endUnit,
      scan.clockLow,
      scan.clockHigh,
    );
    const checksum = footerSeal(tail.subarray(-FOOTER_BYTES)) as number;
    try {
      io.pwrite(fd, tail, 0, tail.length, store.slabBytes - tail.length);
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      log.succession.sealing.start({ fd, sequence, tail });
      fd = -1;
      return { checksum, written: false };
    }
    io.fdatasync(fd);
    return { checksum, written: true };
  } finally {
    if (fd >= 0) io.close(fd);
  }
}
