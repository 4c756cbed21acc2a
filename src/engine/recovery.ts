/**
 * Reading a shard's slabs back into its index at start. FORMAT.md, "Reading it back", has the rules.
 */
import fs from "node:fs";
import path from "node:path";
import {
  FIRST_UNIT,
  FOOTER_BYTES,
  HEADER_BYTES,
  TYPE_CHUNK,
  TYPE_MANIFEST,
  TYPE_MARK,
  TYPE_TOMBSTONE,
  UNIT_BYTES,
} from "../format/layout.ts";
import {
  checksumOf,
  durableOf,
  emptyHead,
  isIntact,
  keyBytesOf,
  keyEquals,
  keyOffset,
  placeOf,
  previousOf,
  type RecordSource,
  readHead,
  readManifest,
  recordSource,
  typeOf,
  unitsAt,
} from "../format/record.ts";
import {
  decodeFooter,
  encodeTail,
  headerProblem,
  looksSealed,
  type SlabFooter,
  tableType,
  tableUnit,
  tableWord,
  tableWords,
} from "../format/slab.ts";
import { hash32 } from "../util/hash.ts";
import type { OpenSlab } from "./appender.ts";
import { isDiskFull } from "./io.ts";
import type { Shard } from "./shard.ts";
import { FIGURE } from "./shard-memory.ts";
import { readSlab, type SlabMap, slabName, UNFINISHED } from "./slab-maps.ts";
import { SPARE_NAME } from "./spare.ts";

/** Called now and then with what is done and what there is to do, in bytes of slab files. */
export type Progress = (doneBytes: number, totalBytes: number) => void;

/** Result of following a slab's records without a table. */
export interface SlabScan {
  /** Three words a record, as in a table. */
  table: number[];
  endUnit: number;
  /** Checksum of the last record. */
  previous: number;
  /** Units from and up to which synced data is damaged. */
  damage: [from: number, to: number][];
  clockHigh: number;
  clockLow: number;
}

/**
 * Follows the records of a slab from its first unit and tells a torn tail from damage.
 * @param place seed of the checksum of the record at a unit
 */
export function scanSlab(map: RecordSource, place: (unit: number) => number, hashSeed: number): SlabScan {
  const endUnit = map.bytes.length / UNIT_BYTES;
  const scan: SlabScan = {
    table: [],
    endUnit: FIRST_UNIT,
    previous: 0,
    damage: [],
    clockHigh: 0,
    clockLow: 0,
  };
  const head = emptyHead();
  const take = (unit: number): void => {
    const at = keyOffset(unit);
    const key = map.bytes.subarray(at, at + keyBytesOf(map, unit));
    const type = typeOf(map, unit);
    scan.table.push(hash32(key, 0), hash32(key, hashSeed), tableWord(unit, type));
    scan.previous = checksumOf(map, unit);
    scan.endUnit = unit + unitsAt(map, unit);
    if (type === TYPE_CHUNK || type === TYPE_MARK) return;
    readHead(map, unit, head);
    if (
      head.clockHigh > scan.clockHigh ||
      (head.clockHigh === scan.clockHigh && head.clockLow > scan.clockLow)
    ) {
      scan.clockHigh = head.clockHigh;
      scan.clockLow = head.clockLow;
    }
  };
  for (;;) {
    const unit = scan.endUnit;
    if (isIntact(map, unit, endUnit, place(unit)) && previousOf(map, unit) === scan.previous) {
      take(unit);
      continue;
    }
    const later = nextDurableRecord(map, unit, endUnit, place);
    if (later < 0) return scan;
    scan.damage.push([unit, later]);
    take(later);
  }
}

/** The first valid record after `bad` that was written when `bad` had been synced, or -1. */
function nextDurableRecord(
  map: RecordSource,
  bad: number,
  endUnit: number,
  place: (unit: number) => number,
): number {
  const { words } = map;
  for (let unit = bad + 1; unit < endUnit; unit++) {
    // Most of what lies beyond the end is zeros.
    if (words[unit * 4] === 0 && words[unit * 4 + 2] === 0) continue;
    if (
      durableOf(map, unit) > bad &&
      durableOf(map, unit) <= unit &&
      isIntact(map, unit, endUnit, place(unit))
    )
      return unit;
  }
  return -1;
}

/** Reads all slabs of a shard. Answers the slab to go on appending to, or null where a new one must be made. */
export function recoverShard(
  shard: Shard,
  directory: string,
  progress: Progress,
  observeClock: (high: number, low: number) => void,
): OpenSlab | null {
  const { store, io } = shard.setup;
  for (const name of fs.readdirSync(directory))
    if (name.endsWith(UNFINISHED) && name !== SPARE_NAME) io.unlink(path.join(directory, name));
  const sequences = listSlabs(directory);
  let open: OpenSlab | null = null;
  let done = 0;
  for (const sequence of sequences) {
    const file = path.join(directory, slabName(sequence));
    const last = sequence === sequences[sequences.length - 1];
    const endOfSlab = store.slabBytes / UNIT_BYTES;
    const cut = fs.statSync(file).size < store.slabBytes;
    shard.slabs.add(sequence);
    const map = shard.lookup.maps.bySequence(sequence);
    if (map === null) throw new Error(`${file} cannot be mapped`);
    const problem = headerProblem(map.bytes.subarray(0, HEADER_BYTES), {
      shard: shard.setup.shard,
      sequence,
      slabBytes: store.slabBytes,
      storeId: store.id,
    });
    if (problem?.foreign === true)
      throw new Error(`${file}: ${problem.text}; move it away or restore the directory`);
    const sealedOnce = looksSealed(readSlab(file, store.slabBytes - FOOTER_BYTES, FOOTER_BYTES));
    const footer = sealedOnce ? decodeFooter(map.bytes, sequence) : null;
    if (footer !== null) {
      const words = tableWords(map.bytes, footer);
      loadTable(shard, map, words, footer.endUnit);
      observeClock(footer.clockHigh, footer.clockLow);
      account(shard, sequence, footer, true);
      if (problem !== null) damaged(shard, sequence, `its header is damaged (${problem.text})`);
    } else {
      const scan = scanSlab(
        recordSource(readSlab(file, 0, store.slabBytes)),
        (unit) => placeOf(store.salt, shard.setup.shard, sequence, unit),
        store.hashSeed,
      );
      for (const [from, to] of scan.damage)
        damaged(shard, sequence, `no valid record at unit ${from}, where there was one`, to);
      if (problem !== null)
        damaged(
          shard,
          sequence,
          `its header is damaged (${problem.text})`,
          scan.table.length === 0 ? endOfSlab : 0,
        );
      if (cut) damaged(shard, sequence, "the file is shorter than it was made", endOfSlab);
      loadTable(shard, map, Int32Array.from(scan.table), scan.endUnit);
      observeClock(scan.clockHigh, scan.clockLow);
      const intact = scan.damage.length === 0 && problem === null && !cut;
      const sealed = intact && makeDurable(shard, file, last ? null : { sequence, scan });
      account(shard, sequence, scan, sealed);
      if (last && intact) open = { sequence, ...scan };
    }
    done += store.slabBytes;
    progress(done, sequences.length * store.slabBytes);
  }
  return open;
}

function listSlabs(directory: string): number[] {
  return fs
    .readdirSync(directory)
    .map((name) => (/^\d{10}\.slab$/.test(name) ? Number(name.slice(0, 10)) : 0))
    .filter((sequence) => sequence > 0)
    .sort((a, b) => a - b);
}

function account(shard: Shard, sequence: number, end: SlabFooter | SlabScan, sealed: boolean): void {
  const slab = shard.slabs.bySequence(sequence);
  if (slab === undefined) return;
  shard.slabs.stored(sequence, end.endUnit * UNIT_BYTES);
  slab.sealed = sealed;
}

/**
 * Marks a slab as damaged.
 * @param doubtUnit where damage hit records of unknown keys: the unit up to which; else 0
 */
function damaged(shard: Shard, sequence: number, why: string, doubtUnit = 0): void {
  shard.figures[FIGURE.damaged]++;
  if (doubtUnit > 0) {
    // Slabs are read in order, so this place lies after every earlier one.
    shard.figures[FIGURE.doubtSequence] = sequence;
    shard.figures[FIGURE.doubtUnit] = doubtUnit;
  }
  const slab = shard.slabs.bySequence(sequence);
  if (slab !== undefined) slab.damaged = true;
  shard.setup.warn(`slab ${sequence} of shard ${shard.setup.shard} is damaged: ${why}; run minivault verify`);
}

/**
 * What was read back may never have been synced; it must be before anybody sees it. A full slab that missed its table gets it now, or, on a
 * full disk, later. Answers whether the slab is sealed.
 */
function makeDurable(shard: Shard, file: string, seal: { sequence: number; scan: SlabScan } | null): boolean {
  const { io, store } = shard.setup;
  let fd = io.open(file, "r+");
  try {
    io.fdatasync(fd);
    if (seal === null) return false;
    const { sequence, scan } = seal;
    const tail = encodeTail(
      Int32Array.from(scan.table),
      sequence,
      store.slabBytes,
      scan.endUnit,
      scan.clockLow,
      scan.clockHigh,
    );
    try {
      io.pwrite(fd, tail, 0, tail.length, store.slabBytes - tail.length);
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      shard.appender.sealLater({ fd, sequence, tail });
      fd = -1;
      return false;
    }
    io.fdatasync(fd);
    return true;
  } finally {
    if (fd >= 0) io.close(fd);
  }
}

/** Enters a slab's records into the index, each in place of an older one of its key. */
function loadTable(shard: Shard, map: SlabMap, words: Int32Array, endUnit: number): void {
  const { index, slabs } = shard;
  const successor = new Successor(shard, map);
  for (let at = 0; at < words.length; at += 3) {
    const hashA = words[at];
    const hashB = words[at + 1];
    const unit = tableUnit(words[at + 2]);
    const type = tableType(words[at + 2]);
    if (type === TYPE_CHUNK || type === TYPE_MARK) continue;
    const end = at + 5 < words.length ? tableUnit(words[at + 5]) : endUnit;
    successor.unit = unit;
    successor.hashA = hashA;
    successor.hashB = hashB;
    if (index.find(hashA, hashB, successor)) {
      shard.ledger.forget(index.slot, index.unit);
      index.replace(hashA, hashB, index.slot, index.unit, map.slot, unit);
    } else index.insert(hashA, hashB, map.slot, unit);
    slabs.live(map.slot, (end - unit) * UNIT_BYTES);
    shard.ledger.count(type === TYPE_TOMBSTONE ? TYPE_TOMBSTONE : TYPE_MANIFEST, 1);
    if (type === TYPE_MANIFEST && shard.lookup.check(map, unit))
      shard.ledger.countChunks(keyBytesOf(map, unit), readManifest(map, unit).chunks, 1);
  }
}

/** Finds the index entry that a record of a later slab takes the place of. */
class Successor {
  private readonly shard: Shard;
  private readonly map: SlabMap;
  unit = 0;
  hashA = 0;
  hashB = 0;

  constructor(shard: Shard, map: SlabMap) {
    this.shard = shard;
    this.map = map;
  }

  matches(slot: number, unit: number): boolean {
    const older = this.shard.mapOf(slot);
    const at = keyOffset(unit);
    const key = older.bytes.subarray(at, at + keyBytesOf(older, unit));
    if (keyEquals(this.map, this.unit, key, key.length)) return true;
    // The keys differ, or one of the two records is damaged. Its hashes in the table still say whose record it was.
    if (hash32(key, 0) !== this.hashA || hash32(key, this.shard.setup.store.hashSeed) !== this.hashB)
      return false;
    return !this.shard.lookup.check(this.map, this.unit);
  }
}
