/**
 * Reads a whole data directory and says what in it is damaged. Writes nothing; the caller holds the directory's lock.
 *
 * Every record of every slab is read, also those that count no more: damage there does no harm, but tells of a disk that does. The bytes after the
 * last record of an open slab are no damage: what was being written when the node ended, which the next start overwrites.
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
} from "../format/layout.ts";
import {
  type ChunkRef,
  checksumOf,
  placeOf,
  readManifest,
  recordSource,
  typeOf,
  valueBytesOf,
} from "../format/record.ts";
import { decodeFooter, headerProblem, looksSealed } from "../format/slab.ts";
import { STALE_SNAPSHOT } from "../format/snapshot.ts";
import { keyText, typeName } from "./describe.ts";
import { listSlabs, readSlab, slabName } from "./slab-maps.ts";
import { tornBytes, walkSlab } from "./slab-scan.ts";
import { SNAPSHOT_NAME, snapshotProblem } from "./snapshot.ts";
import { readStoreFile, type StoreIdentity, shardDirectory } from "./store-file.ts";

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
    const sequences = listSlabs(this.directory);
    if (sequences.length === 0 && store.incarnation > 1)
      this.damage(this.directory, null, "shard", null, "there is no slab in it");
    for (const sequence of sequences) {
      this.checkSlab(sequence, sequence === sequences[sequences.length - 1]);
      summary.slabs++;
      summary.bytes += store.slabBytes;
      report.progress(summary.bytes, this.totalBytes);
      // The lock's timer, and the terminal, need their turn.
      await new Promise((resolve) => setImmediate(resolve));
    }
    for (const [name, manifest] of this.manifests) this.checkChunks(name, manifest);
    this.checkSnapshot();
  }

  private damage(file: string, offset: number | null, kind: string, key: string | null, text: string): void {
    this.report.damage({ file: path.relative(this.root, file), offset, kind, key, text });
  }

  private checkSlab(sequence: number, isLast: boolean): void {
    const { store, shard, summary } = this;
    const file = path.join(this.directory, slabName(sequence));
    const fileBytes = fs.statSync(file).size;
    if (fileBytes < store.slabBytes)
      this.damage(file, fileBytes, "slab", null, `the file was cut here, it had ${store.slabBytes} bytes`);
    const bytes = readSlab(file, 0, store.slabBytes);
    const identity = { shard, sequence, slabBytes: store.slabBytes, storeId: store.id };
    const problem = headerProblem(bytes.subarray(0, HEADER_BYTES), identity);
    if (problem !== null) this.damage(file, 0, "header", null, problem.text);
    // Nothing in it can be judged; the store does not open with it.
    if (problem?.foreign === true) return;
    const footer = decodeFooter(bytes, sequence);
    const footerAt = store.slabBytes - FOOTER_BYTES;
    if (footer === null && looksSealed(bytes.subarray(footerAt)))
      this.damage(
        file,
        footerAt,
        "footer",
        null,
        "table or footer are damaged; the next start makes them anew",
      );
    const map = recordSource(bytes);
    const place = (unit: number): number => placeOf(store.salt, shard, sequence, unit);
    const { records, endUnit } = walkSlab(map, footer, place, store.hashSeed);
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
    const head = recordSource(readSlab(file, chunk.unit * UNIT_BYTES, RECORD_HEADER_BYTES));
    const isIt =
      checksumOf(head, 0) === chunk.checksum &&
      typeOf(head, 0) === TYPE_CHUNK &&
      valueBytesOf(head, 0) === chunk.bytes;
    return isIt ? null : "is another record";
  }

  private checkSnapshot(): void {
    const { store, shard } = this;
    const file = path.join(this.directory, SNAPSHOT_NAME);
    if (!fs.existsSync(file)) return;
    const problem = snapshotProblem(file, {
      shard,
      slabBytes: store.slabBytes,
      storeId: store.id,
      incarnation: store.incarnation,
    });
    // Left by a start that ended early; the next one removes it.
    if (problem === STALE_SNAPSHOT)
      this.report.note(`${path.relative(this.root, file)}: ${problem}, and is not used`);
    else if (problem !== null)
      this.damage(
        file,
        null,
        "index snapshot",
        null,
        `${problem}; the next start reads the slabs in its place`,
      );
  }
}
