/** Verifying one slab: its size, header, footer, and every record. */

import fs from "node:fs";
import { type ChunkRef, readManifest } from "../../format/manifest.ts";
import { FOOTER_BYTES, HEADER_BYTES, TYPE_MANIFEST, UNIT_BYTES } from "../../format/offsets.ts";
import { placeOf, type RecordSource, recordSource } from "../../format/record.ts";
import { isIndexed } from "../../format/record-types.ts";
import { decodeFooter, footerSeal, headerProblem, looksSealed, tableWord } from "../../format/slab.ts";
import { demandDescriptors } from "../../platform/system-error.ts";
import { nameOf } from "../../util/bytes.ts";
import { hash32, hashBOf, type KeyHash } from "../../util/hash.ts";
import type { ExpectedSlabs } from "../directory/expected-slabs.ts";
import { type HeldSlab, readHeld } from "../start/slab-reader.ts";
import type { Findings } from "./findings.ts";
import type { ReadSlabs } from "./verify-index.ts";
import { type SlabWalk, tornBytes, type WalkedRecord, walkSlab } from "./walk.ts";
import { keyText, typeName } from "./words/describe.ts";

/** A manifest that counts, and where it is. */
export interface LiveManifest {
  sequence: number;
  unit: number;
  chunks: readonly ChunkRef[];
}

/** What reading the slabs of a shard has shown. */
export class ReadShard implements ReadSlabs {
  sequences: readonly number[] = [];
  /** By key, as latin1 text of its bytes. */
  readonly manifests = new Map<string, LiveManifest>();
  readonly tables = new Map<number, Int32Array>();
  /** Units of damaged records by sequence, and where the good part of each slab ends. */
  readonly bad = new Map<number, { units: Set<number>; endUnit: number }>();

  isBad(sequence: number, unit: number): boolean {
    return this.bad.get(sequence)?.units.has(unit) === true;
  }

  get isSound(): boolean {
    return [...this.bad.values()].every(({ units }) => units.size === 0);
  }
}

/** Checks a slab and notes what is in it. */
export function checkSlab(
  findings: Findings,
  read: ReadShard,
  sequence: number,
  isLast: boolean,
  expected: ExpectedSlabs,
): void {
  const { store, shard } = findings;
  const file = findings.slabFile(sequence);
  const fileBytes = fs.statSync(file).size;
  if (fileBytes < store.slabBytes)
    findings.damage(file, fileBytes, "slab", null, `the file was cut here, it had ${store.slabBytes} bytes`);
  const held = readWhole(findings, file);
  const { bytes } = held.source;
  const identity = { shard, sequence, slabBytes: store.slabBytes, storeId: store.slabId };
  const problem = headerProblem(bytes.subarray(0, HEADER_BYTES), identity);
  if (problem !== null) findings.damage(file, 0, "header", null, problem.text);
  // Nothing in it can be judged; the store does not open with it.
  if (problem?.foreign === true) {
    findings.isReadable = false;
    return;
  }
  const footer = decodeFooter(bytes, sequence);
  const footerAt = store.slabBytes - FOOTER_BYTES;
  const isFooterBad = footer === null && looksSealed(bytes.subarray(footerAt));
  if (isFooterBad)
    findings.damage(
      file,
      footerAt,
      "footer",
      null,
      "table or footer are damaged; the next start makes them anew",
    );
  const map = held.source;
  const place = (unit: number): number => placeOf(store.salt, shard, sequence, unit);
  const { records, endUnit, table } = walkSlab(held, footer, place, store.keyHash);
  const seal = footerSeal(bytes.subarray(footerAt));
  const misfit = expected.misfit(sequence, { map, table, endUnit, seal: footer === null ? null : seal });
  if (misfit !== null && fileBytes >= store.slabBytes) findings.damage(file, null, "slab", null, misfit);
  if (misfit !== null || problem !== null || isFooterBad || fileBytes < store.slabBytes)
    findings.named.add(sequence);
  checkRecords(findings, read, sequence, map, { records, endUnit, table });
  if (footer !== null) return;
  read.tables.set(sequence, tableOf(records, store.keyHash));
  const isTorn = !looksSealed(bytes.subarray(footerAt));
  const torn = isTorn ? tornBytes(held, endUnit) : 0;
  if (torn > 0)
    findings.note(
      file,
      `${torn} bytes from byte ${endUnit * UNIT_BYTES} on are a torn tail, which nobody was told is stored; the next start cuts it off`,
    );
  else if (!isLast && isTorn) findings.note(file, "has no table yet; the next start makes it");
}

/** Notes the records of a slab. */
function checkRecords(
  findings: Findings,
  read: ReadShard,
  sequence: number,
  map: RecordSource,
  { records, endUnit }: SlabWalk,
): void {
  const file = findings.slabFile(sequence);
  const units = new Set<number>();
  for (const { unit, endUnit: recordEnd, problem, type, key, keyIsCertain } of records) {
    findings.summary.records++;
    if (problem !== null) {
      units.add(unit);
      const extent = keyIsCertain ? "" : `; ${(recordEnd - unit) * UNIT_BYTES} bytes`;
      const name = key === null ? null : `${keyIsCertain ? "" : "perhaps "}${keyText(key)}`;
      findings.damage(file, unit * UNIT_BYTES, typeName(type), name, `${problem}${extent}`);
    } else if (key !== null && isIndexed(type)) {
      const name = nameOf(key);
      if (type === TYPE_MANIFEST)
        read.manifests.set(name, { sequence, unit, chunks: readManifest(map, unit).chunks });
      else read.manifests.delete(name);
    }
  }
  read.bad.set(sequence, { units, endUnit });
}

/** Reads a slab. Where the disk refuses, that is damage, with zeros in its place. */
function readWhole(findings: Findings, file: string): HeldSlab {
  const { slabBytes } = findings.store;
  const damaged = (position: number, { message }: Error): void =>
    findings.damage(file, position, "slab", null, `cannot be read: ${message}`);
  try {
    return readHeld(file, slabBytes, damaged);
  } catch (error) {
    demandDescriptors(error);
    // Not a place, but the file as a whole: the store does not open with it.
    findings.isReadable = false;
    damaged(0, error as Error);
    return { source: recordSource(new Uint8Array(slabBytes)), zerosFrom: 0 };
  }
}

/** The good records of a slab, as its table would have them. */
function tableOf(records: readonly WalkedRecord[], keyHash: KeyHash): Int32Array {
  const words: number[] = [];
  for (const { unit, type, key, problem } of records)
    if (problem === null && key !== null)
      words.push(hash32(key, 0), hashBOf(key, key.length, keyHash), tableWord(unit, type, false, false));
  return Int32Array.from(words);
}
