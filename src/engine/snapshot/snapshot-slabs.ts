/**
 * What an index snapshot says of the slabs beside it, and whether they are still those: for the start that
 * uses it and for `minivault verify`, which must know what that start will say.
 */
import fs from "node:fs";
import path from "node:path";
import {
  FOOTER_BYTES,
  HEADER_BYTES,
  SNAPSHOT_HEADER_BYTES,
  SNAPSHOT_SLAB_WORDS,
  UNIT_BYTES,
} from "../../format/offsets.ts";
import { checksumOf, isIntact, placeOf, recordSource } from "../../format/record.ts";
import { footerSeal, headerProblem, looksSealed, tableUnit } from "../../format/slab.ts";
import { decodeSnapshotHeader, type SnapshotIdentity } from "../../format/snapshot/index-snapshot.ts";
import type { StoreIdentity } from "../directory/store-file.ts";
import { readSlab, slabName } from "../slabs/files.ts";

/** Where the slabs of a shard are, and whose they are. */
export interface SlabsOfShard {
  directory: string;
  store: StoreIdentity;
  shard: number;
}

/** How the open slab, the last one of a snapshot, ended. */
interface OpenEnd {
  sequence: number;
  endUnit: number;
  previous: number;
  table: ArrayLike<number>;
}

/**
 * Why single slabs are not as they were when the snapshot was written, by sequence, for a person.
 * @param slabs SNAPSHOT_SLAB_WORDS for each, in order of sequence
 * @throws Error where a slab belongs elsewhere or cannot be read
 */
export function misfitsOf(place: SlabsOfShard, slabs: Int32Array, open: OpenEnd): Map<number, string> {
  const misfits = new Map<number, string>();
  for (let at = 0; at < slabs.length; at += SNAPSHOT_SLAB_WORDS) {
    const isLast = at + SNAPSHOT_SLAB_WORDS === slabs.length;
    const problem =
      slabProblem(place, slabs[at], isLast ? null : slabs[at + 3]) ??
      (isLast ? openSlabProblem(place, open) : null);
    if (problem !== null) misfits.set(slabs[at], problem);
  }
  return misfits;
}

/**
 * The same for a snapshot file that is whole. Null: a start would not use it, since there are slabs that it
 * does not name.
 * @param sequences of the slabs that there must be
 */
export function misfitsBySnapshot(
  file: string,
  place: SlabsOfShard,
  identity: SnapshotIdentity,
  sequences: readonly number[],
): Map<number, string> | null {
  const fd = fs.openSync(file, "r");
  try {
    const page = new Uint8Array(SNAPSHOT_HEADER_BYTES);
    readFully(fd, page, 0);
    const header = decodeSnapshotHeader(page, identity);
    if (typeof header === "string" || header.slabs === 0) return null;
    const slabs = new Int32Array(header.slabs * SNAPSHOT_SLAB_WORDS);
    readFully(fd, new Uint8Array(slabs.buffer), SNAPSHOT_HEADER_BYTES);
    const table = new Int32Array(header.openRecords * 3);
    readFully(fd, new Uint8Array(table.buffer), SNAPSHOT_HEADER_BYTES + slabs.byteLength);
    const named = new Set(slabs.filter((_, i) => i % SNAPSHOT_SLAB_WORDS === 0));
    if (sequences.some((sequence) => !named.has(sequence))) return null;
    const [sequence, endUnit] = slabs.subarray(-SNAPSHOT_SLAB_WORDS);
    return misfitsOf(place, slabs, { sequence, endUnit, previous: header.openPrevious, table });
  } finally {
    fs.closeSync(fd);
  }
}

/** Reads exactly `bytes.length` bytes. */
export function readFully(fd: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length; ) {
    const read = fs.readSync(fd, bytes, done, bytes.length - done, position + done);
    if (read === 0) throw new Error("it is too short");
    done += read;
  }
}

/** Null: it is the one of the snapshot. `seal`: checksum in its footer, null for the open one. */
function slabProblem(
  { directory, store, shard }: SlabsOfShard,
  sequence: number,
  seal: number | null,
): string | null {
  const file = path.join(directory, slabName(sequence));
  const stat = fs.statSync(file, { throwIfNoEntry: false });
  if (stat === undefined) return "the file is missing";
  if (stat.size < store.slabBytes) return "the file is shorter than it was made";
  const identity = { shard, sequence, slabBytes: store.slabBytes, storeId: store.slabId };
  const problem = headerProblem(readSlab(file, 0, HEADER_BYTES), identity);
  if (problem?.foreign === true) throw new Error(`slab ${sequence} is foreign: ${problem.text}`);
  if (problem !== null) return `its header is damaged (${problem.text})`;
  const footer = readSlab(file, store.slabBytes - FOOTER_BYTES, FOOTER_BYTES);
  const fits = seal === null ? !looksSealed(footer) : footerSeal(footer) === seal;
  return fits ? null : "it has another end than at the last stop: a copy from another time, or damaged";
}

/** Why the open slab does not end in the very record; null: it does. */
function openSlabProblem(
  { directory, store, shard }: SlabsOfShard,
  { sequence, table, endUnit, previous }: OpenEnd,
): string | null {
  if (table.length === 0) return null;
  const unit = tableUnit(table[table.length - 1]);
  const file = path.join(directory, slabName(sequence));
  const record = recordSource(readSlab(file, unit * UNIT_BYTES, (endUnit - unit) * UNIT_BYTES));
  const place = placeOf(store.salt, shard, sequence, unit);
  return isIntact(record, 0, endUnit - unit, place) && checksumOf(record, 0) === previous
    ? null
    : `it had records up to byte ${endUnit * UNIT_BYTES} at the last stop, and this file has not: an older copy of it, or a damaged one`;
}
