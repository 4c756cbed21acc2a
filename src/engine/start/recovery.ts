/**
 * Reading a shard's slabs back into its index at start. FORMAT.md, "Reading it back", has the rules.
 */
import fs from "node:fs";
import path from "node:path";
import { FIRST_UNIT, FOOTER_BYTES, HEADER_BYTES, UNIT_BYTES } from "../../format/offsets.ts";
import { placeOf, recordSource } from "../../format/record.ts";
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
import { LIST_NAMES, listedAs, type ReadList } from "../list/slab-list.ts";
import type { Log } from "../log/log.ts";
import type { OpenSlab } from "../open/appender.ts";
import { FIGURE } from "../slabs/figures.ts";
import { isSpare, listSlabs, readSlab, slabName, UNFINISHED } from "../slabs/files.ts";
import { type FileIo, isDiskFull } from "../slabs/io.ts";
import { type SlabScan, scanSlab } from "../slabs/scan.ts";
import { recoverPromises, type SlabRecords } from "../state/candidates.ts";
import type { State } from "../state/state.ts";
import { ExpectedSlabs } from "./expected-slabs.ts";
import { rebuildIndex } from "./rebuild.ts";
import { restoreSnapshot } from "./snapshot.ts";

/** Of the time that a start takes, about what goes to reading the slabs; the rest is for the index. */
const READING_SHARE = 0.25;

/** Called now and then with what is done and what there is to do, in bytes of slab files. */
export type Progress = (doneBytes: number, totalBytes: number) => void;

/** What a start has found in a shard's directory. */
export interface Recovered {
  /** The slab to go on appending to; null: a new one must be made. */
  open: OpenSlab | null;
  /** The slabs that there must be from now on. */
  listed: ListedSlab[];
  /** Up to where slabs may have been lost that nobody can name. */
  doubt: LogPlace;
}

const NOWHERE: LogPlace = { sequence: 0, unit: 0 };

/** Reads all slabs of a shard, or the snapshot of its index. */
export function recoverShard(
  state: State,
  log: Log,
  io: FileIo,
  read: ReadList,
  progress: Progress,
): Recovered {
  const { store, directory, dataDirectory } = state;
  for (const name of fs.readdirSync(directory))
    if (name.endsWith(UNFINISHED) && !isSpare(name)) io.unlink(path.join(directory, name));
  const list = believedList(state, read);
  const expected = new ExpectedSlabs(dataDirectory, store, state.shard, list, listSlabs(directory));
  for (const sequence of expected.leftovers) io.unlink(path.join(directory, slabName(sequence)));
  const restored = restoreSnapshot(state, io, expected);
  if (restored !== null) {
    state.clock.observe(restored.clockHigh, restored.clockLow);
    for (const { sequence, unit } of restored.promises) {
      const map = state.lookup.maps.bySequence(sequence);
      if (map === null) throw new Error(`slab ${sequence} cannot be mapped`);
      if (state.lookup.check(map, unit)) state.replication.restore(map, unit);
      // Somebody was promised something, and nobody knows what.
      else damaged(state, sequence, `the promise or floor at unit ${unit} is damaged`, unit + 1);
    }
    return { open: restored.open, listed: restored.listed, doubt: NOWHERE };
  }
  let open: OpenSlab | null = null;
  let endUnit = FIRST_UNIT;
  const records: SlabRecords[] = [];
  const listed: ListedSlab[] = [];
  const { sequences } = expected;
  const total = sequences.length * store.slabBytes;
  const { doubt = NOWHERE, settled = NOWHERE } = list.content ?? {};
  if (doubt.sequence > 0) raiseDoubt(state, doubt, settled);
  for (const sequence of sequences) {
    const found = readBack(state, log, io, sequence, expected, settled);
    records.push(found.records);
    endUnit = found.records.endUnit;
    listed.push(found.listed);
    if (sequence === sequences[sequences.length - 1]) open = found.open;
    progress((total * records.length * READING_SHARE) / sequences.length, total);
  }
  rebuildIndex(state, records, (share) =>
    progress(total * (READING_SHARE + (1 - READING_SHARE) * share), total),
  );
  recoverPromises(state, records);
  if (!isListLost(state, list)) return { open, listed, doubt };
  // What was in other slabs than these nobody knows.
  const lost: LogPlace = { sequence: sequences.at(-1) ?? 1, unit: endUnit };
  raiseDoubt(state, lost, NOWHERE);
  return { open, listed, doubt: lost };
}

/** The list, unless a start has not kept it. Says what is wrong with it. */
function believedList(state: State, read: ReadList): ReadList {
  const { store, warn, shard: number } = state;
  if (store.lists === "interrupted" && read.content !== null) {
    warn(
      `an older program has used this directory since the slabs of shard ${number} were listed: they are listed anew, and a slab that is missing or old is not noticed this time`,
    );
    return { ...read, content: null, note: null };
  }
  if (store.outdated)
    warn(
      `STORE is older than the list of slabs of shard ${number}: it was put back from a copy; if other files were, too, run minivault verify`,
    );
  if (store.complete && read.content !== null)
    read.problems.forEach((problem, copy) => {
      if (problem === null) return;
      warn(
        `${LIST_NAMES[copy]} of shard ${number}, a list of its slabs, is written anew from its other copy: ${problem}`,
      );
    });
  if (isListLost(state, read)) {
    state.figures[FIGURE.damaged]++;
    state.figures[FIGURE.missingSlabs]++;
    warn(
      `nobody knows which slabs shard ${number} must have: both copies of its list are gone. Unless the index snapshot of the last stop is there, what is not in the slabs that are left answers 500; restore the directory from a copy, or write the keys again`,
    );
  }
  return read;
}

function isListLost({ store }: State, { content }: ReadList): boolean {
  return content === null && store.complete && store.lists !== "interrupted";
}

/** Reads one slab back into the accounts. */
function readBack(
  state: State,
  log: Log,
  io: FileIo,
  sequence: number,
  expected: ExpectedSlabs,
  settled: LogPlace,
): { records: SlabRecords; listed: ListedSlab; open: OpenSlab | null } {
  const { store, directory, clock } = state;
  const file = path.join(directory, slabName(sequence));
  const endOfSlab = store.slabBytes / UNIT_BYTES;
  const isLast = sequence === expected.sequences[expected.sequences.length - 1];
  const spoilt = (why: string, doubtUnit = 0): void => damaged(state, sequence, why, doubtUnit, settled);
  state.slabs.add(sequence);
  const map = state.lookup.maps.bySequence(sequence);
  if (map === null) throw new Error(`${file} cannot be mapped`);
  const sealOf = expected.isFull(sequence) ? expected.of(sequence)?.seal : undefined;
  if (expected.missing.has(sequence)) {
    state.figures[FIGURE.missingSlabs]++;
    spoilt("the file is missing", endOfSlab);
    return {
      records: { map, table: new Int32Array(0), endUnit: FIRST_UNIT },
      listed: expected.stillListed(sequence, null),
      open: null,
    };
  }
  const cut = fs.statSync(file).size < store.slabBytes;
  const problem = headerProblem(map.bytes.subarray(0, HEADER_BYTES), {
    shard: state.shard,
    sequence,
    slabBytes: store.slabBytes,
    storeId: store.id,
  });
  if (problem?.foreign === true)
    throw new Error(`${file}: ${problem.text}; move it away or restore the directory`);
  let refused = 0;
  const countRefused = (): void => {
    refused++;
  };
  const sealBytes = readSlab(file, store.slabBytes - FOOTER_BYTES, FOOTER_BYTES, countRefused);
  const footer = looksSealed(sealBytes) ? decodeFooter(map.bytes, sequence) : null;
  if (footer !== null) {
    const table = tableWords(map.bytes, footer);
    const found = { map, table, endUnit: footer.endUnit, seal: footerSeal(sealBytes) };
    clock.observe(footer.clockHigh, footer.clockLow);
    account(state, sequence, footer, true);
    if (problem !== null) spoilt(`its header is damaged (${problem.text})`);
    const misfit = expected.misfit(sequence, found);
    if (misfit !== null) {
      state.figures[FIGURE.missingSlabs]++;
      spoilt(misfit, endOfSlab);
    }
    const isKnown = misfit !== null || sealOf === found.seal;
    const listed = isKnown ? expected.stillListed(sequence, null) : listedAs(found, sequence, false);
    return { records: { map, table, endUnit: footer.endUnit }, listed, open: null };
  }
  const scan = scanSlab(
    recordSource(readSlab(file, 0, store.slabBytes, countRefused)),
    (unit) => placeOf(store.salt, state.shard, sequence, unit),
    store.keyHash,
  );
  for (const [from, to] of scan.damage) spoilt(`no valid record at unit ${from}, where there was one`, to);
  if (problem !== null)
    spoilt(`its header is damaged (${problem.text})`, scan.table.length === 0 ? endOfSlab : 0);
  if (refused > 0) spoilt(`the disk cannot read ${refused} pages of it`, endOfSlab);
  const found = { map, table: scan.table, endUnit: scan.endUnit, seal: null };
  const misfit = cut ? "the file is shorter than it was made" : expected.misfit(sequence, found);
  if (misfit !== null) {
    state.figures[FIGURE.missingSlabs]++;
    spoilt(misfit, endOfSlab);
  }
  clock.observe(scan.clockHigh, scan.clockLow);
  const intact = scan.damage.length === 0 && problem === null && misfit === null && refused === 0;
  const isOpen = isLast && !expected.isFull(sequence);
  const seal = intact ? makeDurable(state, log, io, file, isOpen ? null : { sequence, scan }) : null;
  account(state, sequence, scan, seal?.written === true);
  const listed =
    !intact || (seal !== null && sealOf === seal.checksum)
      ? expected.stillListed(sequence, misfit === null ? found : null)
      : listedAs({ ...found, seal: seal?.checksum ?? null }, sequence, isOpen);
  return {
    records: { map, table: Int32Array.from(scan.table), endUnit: scan.endUnit },
    listed,
    open: isOpen && intact ? { sequence, ...scan } : null,
  };
}

function account(state: State, sequence: number, end: SlabFooter | SlabScan, sealed: boolean): void {
  const slab = state.slabs.bySequence(sequence);
  if (slab === undefined) return;
  state.slabs.stored(sequence, end.endUnit * UNIT_BYTES);
  slab.sealed = sealed;
}

/** Nothing up to a place can be called absent any more, unless that has been made good. */
function raiseDoubt(state: State, place: LogPlace, settled: LogPlace): void {
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
function damaged(
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
  { store }: State,
  log: Log,
  io: FileIo,
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
