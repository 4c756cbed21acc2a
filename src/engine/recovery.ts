/**
 * Reading a shard's slabs back into its index at start. FORMAT.md, "Reading it back", has the rules.
 */
import fs from "node:fs";
import path from "node:path";
import { FOOTER_BYTES, HEADER_BYTES, UNIT_BYTES } from "../format/layout.ts";
import { placeOf, recordSource } from "../format/record.ts";
import {
  decodeFooter,
  encodeTail,
  headerProblem,
  looksSealed,
  type SlabFooter,
  tableWords,
} from "../format/slab.ts";
import type { OpenSlab } from "./appender.ts";
import { isDiskFull } from "./io.ts";
import { rebuildIndex, type SlabRecords } from "./rebuild.ts";
import type { Shard } from "./shard.ts";
import { FIGURE } from "./shard-memory.ts";
import { listSlabs, readSlab, slabName, UNFINISHED } from "./slab-maps.ts";
import { type SlabScan, scanSlab } from "./slab-scan.ts";
import { restoreSnapshot } from "./snapshot.ts";
import { SPARE_NAME } from "./spare.ts";

/** Of the time that a start takes, about what goes to reading the slabs; the rest is for the index. */
const READING_SHARE = 0.25;

/** Called now and then with what is done and what there is to do, in bytes of slab files. */
export type Progress = (doneBytes: number, totalBytes: number) => void;

/** Reads all slabs of a shard, or the snapshot of its index. Answers the slab to go on appending to, or null where a new one must be made. */
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
  const restored = restoreSnapshot(shard, directory, sequences);
  if (restored !== null) {
    observeClock(restored.clockHigh, restored.clockLow);
    for (const { sequence, unit } of restored.promises) {
      const map = shard.lookup.maps.bySequence(sequence);
      if (map === null) throw new Error(`slab ${sequence} cannot be mapped`);
      if (shard.lookup.check(map, unit)) shard.replication.restore(map, unit);
      // Somebody was promised something, and nobody knows what.
      else damaged(shard, sequence, `the promise or floor at unit ${unit} is damaged`, unit + 1);
    }
    return restored.open;
  }
  let open: OpenSlab | null = null;
  const records: SlabRecords[] = [];
  const total = sequences.length * store.slabBytes;
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
      records.push({ map, table: tableWords(map.bytes, footer), endUnit: footer.endUnit });
      observeClock(footer.clockHigh, footer.clockLow);
      account(shard, sequence, footer, true);
      if (problem !== null) damaged(shard, sequence, `its header is damaged (${problem.text})`);
    } else {
      const scan = scanSlab(
        recordSource(readSlab(file, 0, store.slabBytes)),
        (unit) => placeOf(store.salt, shard.setup.shard, sequence, unit),
        store.keyHash,
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
      records.push({ map, table: Int32Array.from(scan.table), endUnit: scan.endUnit });
      observeClock(scan.clockHigh, scan.clockLow);
      const intact = scan.damage.length === 0 && problem === null && !cut;
      const sealed = intact && makeDurable(shard, file, last ? null : { sequence, scan });
      account(shard, sequence, scan, sealed);
      if (last && intact) open = { sequence, ...scan };
    }
    progress((total * records.length * READING_SHARE) / sequences.length, total);
  }
  rebuildIndex(shard, records, (share) =>
    progress(total * (READING_SHARE + (1 - READING_SHARE) * share), total),
  );
  shard.replication.recover(records);
  return open;
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
      shard.appender.sealing.start({ fd, sequence, tail });
      fd = -1;
      return false;
    }
    io.fdatasync(fd);
    return true;
  } finally {
    if (fd >= 0) io.close(fd);
  }
}
