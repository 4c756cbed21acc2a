/**
 * Reads a whole data directory and says what in it is damaged. Writes nothing; the caller holds the
 * directory's lock.
 *
 * Every record of every slab is read, also those that count no more: damage there does no harm, but tells of
 * a disk that does. The bytes after the last record of an open slab are no damage: what was being written
 * when the node ended, which the next start overwrites.
 */
import fs from "node:fs";
import path from "node:path";
import {
  FOOTER_BYTES,
  HEADER_BYTES,
  isIndexed,
  RECORD_HEADER_BYTES,
  TYPE_CHUNK,
  TYPE_MANIFEST,
  UNIT_BYTES,
} from "../../format/offsets.ts";
import {
  type ChunkRef,
  checksumOf,
  placeOf,
  readManifest,
  recordSource,
  typeOf,
  valueBytesOf,
} from "../../format/record.ts";
import {
  decodeFooter,
  footerSeal,
  headerProblem,
  looksSealed,
  tableWord,
  tableWords,
} from "../../format/slab.ts";
import { OTHER_FORM, type SnapshotIdentity, STALE_SNAPSHOT } from "../../format/snapshot.ts";
import { hash32, hashBOf, type KeyHash } from "../../util/hash.ts";
import { readStoreFile, type StoreIdentity, shardDirectory } from "../directory/store-file.ts";
import { LIST_NAMES, readSlabList } from "../list/slab-list.ts";
import { listSlabs, readSlab, slabName } from "../slabs/files.ts";
import { scanSlab } from "../slabs/scan.ts";
import { ExpectedSlabs } from "../start/expected-slabs.ts";
import { SNAPSHOT_NAME, snapshotProblem } from "../start/snapshot.ts";
import { misfitsBySnapshot } from "../start/snapshot-slabs.ts";
import { keyText, typeName } from "./describe.ts";
import { type ReadSlabs, verifyIndex } from "./verify-index.ts";
import { tornBytes, type WalkedRecord, walkSlab } from "./walk.ts";

/** Something that is damaged. */
export interface Damage {
  /** Relative to the data directory. */
  file: string;
  /** Byte in the file; null: all of it. */
  offset: number | null;
  /** What is there: a type of record, "header", "footer", … */
  kind: string;
  /** The key as text; null where it is not known. */
  key: string | null;
  text: string;
}

export interface VerifySummary {
  shards: number;
  slabs: number;
  records: number;
  bytes: number;
  manifests: number;
  chunks: number;
  /** What a start would serve; null: that cannot be told. */
  keys: number | null;
  tombstones: number | null;
  damage: number;
}

export interface VerifyReport {
  damage(damage: Damage): void;
  /** Something worth knowing that is no damage. */
  note(text: string): void;
  progress(doneBytes: number, totalBytes: number): void;
}

/** A manifest that counts, and where it is. */
interface LiveManifest {
  sequence: number;
  unit: number;
  chunks: readonly ChunkRef[];
}

/** Checks a data directory. Null: there is none of minivault. `loadHash` must have finished. */
export async function verifyDirectory(
  directory: string,
  report: VerifyReport,
): Promise<VerifySummary | null> {
  const summary: VerifySummary = {
    shards: 0,
    slabs: 0,
    records: 0,
    bytes: 0,
    manifests: 0,
    chunks: 0,
    keys: 0,
    tombstones: 0,
    damage: 0,
  };
  const counted: VerifyReport = {
    ...report,
    damage: (damage) => {
      summary.damage++;
      report.damage(damage);
    },
  };
  const wholeStore = (text: string): VerifySummary => {
    counted.damage({ file: "STORE", offset: null, kind: "store", key: null, text });
    summary.keys = summary.tombstones = null;
    return summary;
  };
  let store: StoreIdentity | null;
  try {
    store = readStoreFile(directory);
  } catch (error) {
    return wholeStore((error as Error).message);
  }
  if (store === null)
    return fs.existsSync(shardDirectory(directory, 0))
      ? wholeStore("it is missing; restore it from a copy, the slabs need it")
      : null;
  summary.shards = store.shards;
  const missing: number[] = [];
  const present: number[] = [];
  for (let shard = 0; shard < store.shards; shard++)
    (fs.existsSync(shardDirectory(directory, shard)) ? present : missing).push(shard);
  const total = present.reduce(
    (sum, shard) =>
      sum + listSlabs(shardDirectory(directory, shard)).length * (store as StoreIdentity).slabBytes,
    0,
  );
  for (const shard of missing) {
    const file = path.relative(directory, shardDirectory(directory, shard));
    // The first start may have ended before it had made them all.
    if (store.incarnation <= 1) report.note(`${file} was never made`);
    else counted.damage({ file, offset: null, kind: "shard", key: null, text: "the folder is missing" });
  }
  for (const shard of present) await new ShardCheck(directory, store, shard, counted, summary, total).run();
  return summary;
}

/** The good records of a slab, as its table would have them. */
function tableOf(records: readonly WalkedRecord[], keyHash: KeyHash): Int32Array {
  const words: number[] = [];
  for (const { unit, type, key, problem } of records)
    if (problem === null && key !== null)
      words.push(hash32(key, 0), hashBOf(key, key.length, keyHash), tableWord(unit, type));
  return Int32Array.from(words);
}

class ShardCheck {
  private readonly root: string;
  private readonly directory: string;
  private readonly store: StoreIdentity;
  private readonly shard: number;
  private readonly report: VerifyReport;
  private readonly summary: VerifySummary;
  private readonly totalBytes: number;
  /** By key, as latin1 text of its bytes. */
  private readonly manifests = new Map<string, LiveManifest>();
  /** Of slabs without a good table: their records, as in a table. */
  private readonly tables = new Map<number, Int32Array>();
  /** Slabs of which it was said that they are missing or not the ones that were there. */
  private readonly named = new Set<number>();
  /** Whether all slabs can be read, so that a start and its maps can do so too. */
  private isReadable = true;
  /** Units of damaged records by sequence, and where the good part of each slab ends. */
  private readonly bad = new Map<number, { units: Set<number>; endUnit: number }>();

  constructor(
    root: string,
    store: StoreIdentity,
    shard: number,
    report: VerifyReport,
    summary: VerifySummary,
    totalBytes: number,
  ) {
    this.root = root;
    this.directory = shardDirectory(root, shard);
    this.store = store;
    this.shard = shard;
    this.report = report;
    this.summary = summary;
    this.totalBytes = totalBytes;
  }

  async run(): Promise<void> {
    const { summary, store, report } = this;
    const present = listSlabs(this.directory);
    const expected = this.checkList(present);
    // What the next start removes is not looked at.
    const sequences = present.filter((sequence) => !expected.leftovers.includes(sequence));
    if (sequences.length === 0 && store.incarnation > 1)
      this.damage(this.directory, null, "shard", null, "there is no slab in it");
    for (const sequence of sequences) {
      this.checkSlab(sequence, sequence === sequences[sequences.length - 1], expected);
      summary.slabs++;
      summary.bytes += store.slabBytes;
      report.progress(summary.bytes, this.totalBytes);
      // The lock's timer, and the terminal, need their turn.
      await new Promise((resolve) => setImmediate(resolve));
    }
    for (const [name, manifest] of this.manifests) this.checkChunks(name, manifest);
    await this.checkIndex(sequences);
    this.checkSnapshot(expected);
  }

  private damage(file: string, offset: number | null, kind: string, key: string | null, text: string): void {
    this.report.damage({ file: path.relative(this.root, file), offset, kind, key, text });
  }

  /** Checks the two copies of the list of slabs, and names the slabs that are missing. */
  private checkList(present: readonly number[]): ExpectedSlabs {
    const { store, shard, report } = this;
    const read = readSlabList(this.directory, { shard, storeId: store.id });
    const interrupted = store.lists === "interrupted";
    const files = LIST_NAMES.map((name) => path.join(this.directory, name));
    if (read.content === null) {
      if (store.complete && !interrupted)
        for (const [copy, file] of files.entries())
          this.damage(file, null, "list of slabs", null, `${read.problems[copy]}, and so is its other copy`);
      else
        report.note(`the slabs of shard ${shard} are not listed yet: that one is missing cannot be noticed`);
    } else if (interrupted)
      report.note(
        `an older program has used the directory since the slabs of shard ${shard} were listed: that one is missing cannot be noticed`,
      );
    else {
      if (read.content.incarnation > store.incarnation)
        this.damage(
          path.join(this.root, "STORE"),
          null,
          "store",
          null,
          `it is an older copy: start ${read.content.incarnation} has listed the slabs of shard ${shard}, and it knows of ${store.incarnation}`,
        );
      for (const [copy, problem] of read.problems.entries())
        if (problem !== null)
          report.note(
            `${path.relative(this.root, files[copy])}: ${problem}; the other copy is good, and the next start writes it anew`,
          );
    }
    const believed = interrupted ? { content: null, note: null } : read;
    const expected = new ExpectedSlabs(this.root, store, shard, believed, present);
    for (const sequence of expected.missing) {
      this.named.add(sequence);
      this.damage(path.join(this.directory, slabName(sequence)), null, "slab", null, "the file is missing");
    }
    for (const sequence of expected.leftovers)
      report.note(
        `${path.relative(this.root, path.join(this.directory, slabName(sequence)))}: it was dropped; the next start removes it`,
      );
    const { doubt } = read.content ?? { doubt: { sequence: 0 } };
    if (doubt.sequence > 0)
      this.damage(
        files[0],
        null,
        "list of slabs",
        null,
        "both copies were lost once: nobody knows whether slabs were, too",
      );
    return expected;
  }

  private checkSlab(sequence: number, isLast: boolean, expected: ExpectedSlabs): void {
    const { store, shard, summary } = this;
    const file = path.join(this.directory, slabName(sequence));
    const fileBytes = fs.statSync(file).size;
    if (fileBytes < store.slabBytes)
      this.damage(file, fileBytes, "slab", null, `the file was cut here, it had ${store.slabBytes} bytes`);
    const bytes = this.readWhole(file);
    const identity = { shard, sequence, slabBytes: store.slabBytes, storeId: store.id };
    const problem = headerProblem(bytes.subarray(0, HEADER_BYTES), identity);
    if (problem !== null) this.damage(file, 0, "header", null, problem.text);
    // Nothing in it can be judged; the store does not open with it.
    if (problem?.foreign === true) {
      this.isReadable = false;
      return;
    }
    const footer = decodeFooter(bytes, sequence);
    const footerAt = store.slabBytes - FOOTER_BYTES;
    const isFooterBad = footer === null && looksSealed(bytes.subarray(footerAt));
    if (isFooterBad)
      this.damage(
        file,
        footerAt,
        "footer",
        null,
        "table or footer are damaged; the next start makes them anew",
      );
    const map = recordSource(bytes);
    const place = (unit: number): number => placeOf(store.salt, shard, sequence, unit);
    const { records, endUnit } = walkSlab(map, footer, place, store.keyHash);
    const table = footer === null ? scanSlab(map, place, store.keyHash).table : tableWords(map.bytes, footer);
    const seal = footerSeal(bytes.subarray(footerAt));
    const misfit = expected.misfit(sequence, { map, table, endUnit, seal: footer === null ? null : seal });
    if (misfit !== null && fileBytes >= store.slabBytes) this.damage(file, null, "slab", null, misfit);
    if (misfit !== null || problem !== null || isFooterBad || fileBytes < store.slabBytes)
      this.named.add(sequence);
    const units = new Set<number>();
    for (const { unit, endUnit: recordEnd, problem: why, type, key, keyIsCertain } of records) {
      summary.records++;
      if (why !== null) {
        units.add(unit);
        const extent = keyIsCertain ? "" : `; ${(recordEnd - unit) * UNIT_BYTES} bytes`;
        const name = key === null ? null : `${keyIsCertain ? "" : "perhaps "}${keyText(key)}`;
        this.damage(file, unit * UNIT_BYTES, typeName(type), name, `${why}${extent}`);
      } else if (key !== null && isIndexed(type)) {
        const name = Buffer.from(key).toString("latin1");
        if (type === TYPE_MANIFEST)
          this.manifests.set(name, { sequence, unit, chunks: readManifest(map, unit).chunks });
        else this.manifests.delete(name);
      }
    }
    this.bad.set(sequence, { units, endUnit });
    if (footer === null) this.tables.set(sequence, tableOf(records, store.keyHash));
    if (footer !== null) return;
    const torn = looksSealed(bytes.subarray(footerAt)) ? 0 : tornBytes(bytes, endUnit);
    const name = path.relative(this.root, file);
    if (torn > 0)
      this.report.note(
        `${name}: ${torn} bytes from byte ${endUnit * UNIT_BYTES} on are a torn tail, which nobody was told is stored; the next start cuts it off`,
      );
    else if (!isLast && !looksSealed(bytes.subarray(footerAt)))
      this.report.note(`${name}: has no table yet; the next start makes it`);
  }

  /** Reads a slab. Where the disk refuses, that is damage, with zeros in its place. */
  private readWhole(file: string): Uint8Array {
    const { slabBytes } = this.store;
    const damaged = (position: number, { message }: Error): void =>
      this.damage(file, position, "slab", null, `cannot be read: ${message}`);
    try {
      return readSlab(file, 0, slabBytes, damaged);
    } catch (error) {
      // Not a place, but the file as a whole: the store does not open with it.
      this.isReadable = false;
      damaged(0, error as Error);
      return new Uint8Array(slabBytes);
    }
  }

  /** Builds the index as a start would, and compares it with what was read. */
  private async checkIndex(sequences: readonly number[]): Promise<void> {
    const { report, summary, root, store, shard, bad, tables } = this;
    const giveUp = (): void => {
      summary.keys = summary.tombstones = null;
    };
    if (!this.isReadable) {
      report.note(`the index of shard ${shard} is not checked: not all of its slabs can be read`);
      giveUp();
      return;
    }
    const slabs: ReadSlabs = {
      sequences,
      tables,
      isBad: (sequence, unit) => bad.get(sequence)?.units.has(unit) === true,
      isSound: [...bad.values()].every(({ units }) => units.size === 0),
    };
    try {
      const { keys, tombstones } = await verifyIndex(root, store, shard, slabs, {
        lost: (sequence, unit, key) =>
          this.damage(
            path.join(this.directory, slabName(sequence)),
            unit * UNIT_BYTES,
            "index",
            keyText(key),
            "a start would find neither this record nor a newer one",
          ),
        damage: (text) => this.damage(this.directory, null, "index", null, text),
        turn: () => new Promise((resolve) => setImmediate(resolve)),
      });
      if (summary.keys !== null) summary.keys += keys;
      if (summary.tombstones !== null) summary.tombstones += tombstones;
    } catch (error) {
      this.damage(this.directory, null, "index", null, `a start would fail: ${(error as Error).message}`);
      giveUp();
    }
  }

  private checkChunks(name: string, manifest: LiveManifest): void {
    this.summary.manifests++;
    const file = path.join(this.directory, slabName(manifest.sequence));
    for (const [number, chunk] of manifest.chunks.entries()) {
      this.summary.chunks++;
      const why = this.chunkProblem(chunk);
      if (why === null) continue;
      const where = `${slabName(chunk.sequence)}, byte ${chunk.unit * UNIT_BYTES}`;
      const text = `its chunk ${number} of ${manifest.chunks.length} (${where}) ${why}`;
      this.damage(file, manifest.unit * UNIT_BYTES, "manifest", keyText(Buffer.from(name, "latin1")), text);
    }
  }

  private chunkProblem(chunk: ChunkRef): string | null {
    const slab = this.bad.get(chunk.sequence);
    if (slab === undefined) return "is in a slab that is missing or cannot be read";
    if (slab.units.has(chunk.unit)) return "is damaged";
    if (chunk.unit >= slab.endUnit) return "is missing";
    const file = path.join(this.directory, slabName(chunk.sequence));
    const head = recordSource(readSlab(file, chunk.unit * UNIT_BYTES, RECORD_HEADER_BYTES, () => {}));
    const isIt =
      checksumOf(head, 0) === chunk.checksum &&
      typeOf(head, 0) === TYPE_CHUNK &&
      valueBytesOf(head, 0) === chunk.bytes;
    return isIt ? null : "is another record";
  }

  /** Checks the snapshot, and by it the slabs: it knows how they were at the last stop. */
  private checkSnapshot(expected: ExpectedSlabs): void {
    const { store, shard } = this;
    const file = path.join(this.directory, SNAPSHOT_NAME);
    if (!fs.existsSync(file)) return;
    const { slabBytes, id: storeId, incarnation } = store;
    const identity = { shard, slabBytes, storeId, incarnation };
    const problem = snapshotProblem(file, identity);
    // Left by a start that ended early, or by another release; the next start removes it.
    if (problem === STALE_SNAPSHOT || problem === OTHER_FORM)
      this.report.note(`${path.relative(this.root, file)}: ${problem}, and is not used`);
    else if (problem !== null)
      this.damage(
        file,
        null,
        "index snapshot",
        null,
        `${problem}; the next start reads the slabs in its place`,
      );
    else if (this.isReadable) this.checkBySnapshot(file, identity, expected);
  }

  private checkBySnapshot(file: string, identity: SnapshotIdentity, expected: ExpectedSlabs): void {
    const { directory, store, shard, report } = this;
    let misfits: ReadonlyMap<number, string> | null;
    try {
      misfits = misfitsBySnapshot(file, { directory, store, shard }, identity, expected.sequences);
    } catch {
      // A slab that cannot be read, or is foreign, was named.
      return;
    }
    if (misfits === null) {
      report.note(
        `${path.relative(this.root, file)}: there are slabs that it does not name, so it is not used`,
      );
      return;
    }
    for (const [sequence, text] of misfits)
      if (!this.named.has(sequence))
        this.damage(path.join(directory, slabName(sequence)), null, "slab", null, text);
  }
}
