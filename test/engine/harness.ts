/**
 * A shard in this thread, with small slabs, for tests of the engine.
 */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { endValue } from "../../src/engine/batch/ended.ts";
import {
  completeStoreFile,
  openStoreFile,
  type StoreIdentity,
} from "../../src/engine/directory/store-file.ts";
import type { SyncMode } from "../../src/engine/log/log.ts";
import { Shard } from "../../src/engine/shard/shard.ts";
import { UploadWriter } from "../../src/engine/shard/uploads.ts";
import { FIGURE } from "../../src/engine/slabs/figures.ts";
import { type FileIo, nodeIo } from "../../src/engine/slabs/io.ts";
import { ShardLookup } from "../../src/engine/state/lookup.ts";
import { createShardMemory, type ShardMemory } from "../../src/engine/state/memory.ts";
import { withEnd } from "../../src/format/fields/end.ts";
import { NO_TRAILER } from "../../src/format/fields/trailer.ts";
import { readManifest } from "../../src/format/manifest.ts";
import { TYPE_MANIFEST } from "../../src/format/offsets.ts";
import { isJson, trailerOf, typeOf, valueBytesOf, valueOffset } from "../../src/format/record.ts";
import { isAbsence } from "../../src/format/record-types.ts";
import { etagScratch, etagText, writeEtagOf } from "../../src/format/version.ts";
import type { Outcome, Write } from "../../src/rules/write.ts";
import { emptyOperation } from "../../src/shards/arena/operation.ts";
import { hash32, hashBOf, loadHash } from "../../src/util/hash.ts";

export const SMALL_SLAB_BYTES = 64 * 1024;
export const SMALL_CHUNK_BYTES = 4 * 1024;

export function temporaryDirectory(base = tmpdir()): { path: string; remove(): void } {
  const directory = mkdtempSync(path.join(base, "minivault-test-"));
  return { path: directory, remove: () => rmSync(directory, { recursive: true, force: true }) };
}

/** Runs `work` on a temporary directory and removes it. */
export async function inDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = temporaryDirectory();
  try {
    await work(directory.path);
  } finally {
    directory.remove();
  }
}

/** Where syncs cost nothing, for tests that open very many small stores; the usual place where there is none such. */
export const MEMORY_FOLDER = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();

export interface HarnessOptions {
  sync?: SyncMode;
  io?: FileIo;
  slabBytes?: number;
  chunkBytes?: number;
  now?: () => number;
  monotonic?: () => number;
  snapshotEntriesMin?: number;
  /** As on a node of a cluster. */
  replicated?: boolean;
  /** One of several shards of a store that is open already. */
  store?: StoreIdentity;
  shard?: number;
  /** Threads that read beside `reader`. */
  readers?: number;
}

export interface Condition {
  verb?: "put" | "post" | "delete" | "touch";
  json?: boolean;
  contentType?: string;
  ifMatch?: string;
  ifNoneMatch?: string;
  trailer?: Uint8Array;
  /** End of life, before the trailer's other fields. */
  end?: number;
  keepsEnd?: boolean;
}

export type Read =
  | { state: "found"; value: Buffer; etag: string; json: boolean; trailer: Buffer }
  | { state: "absent" | "damaged" };

let operation = 0;

/** Numbers operations from 1 again, for a store that must come out the same every time. */
export function restartOperations(): void {
  operation = 0;
}

/** One shard on a directory; `reader` sees it as a front thread would. */
export class Harness {
  readonly store: StoreIdentity;
  readonly memory: ShardMemory;
  readonly shard: Shard;
  readonly reader: ShardLookup;
  readonly warnings: string[] = [];
  /** Whether the start read the slabs, and not a snapshot of the index. */
  slabsRead = false;

  private constructor(directory: string, options: HarnessOptions) {
    const io = options.io ?? nodeIo;
    const { shard = 0 } = options;
    this.store =
      options.store ??
      openStoreFile(io, directory, {
        shards: 1,
        slabBytes: options.slabBytes ?? SMALL_SLAB_BYTES,
        chunkBytes: options.chunkBytes ?? SMALL_CHUNK_BYTES,
      });
    this.memory = createShardMemory(1 + (options.readers ?? 0));
    if (options.replicated === true) new Float64Array(this.memory.figures)[FIGURE.replicated] = 1;
    this.shard = Shard.open(
      {
        dataDirectory: directory,
        shard,
        store: this.store,
        sync: options.sync ?? "always",
        memory: this.memory,
        io,
        now: options.now ?? Date.now,
        ...(options.monotonic === undefined ? {} : { monotonic: options.monotonic }),
        warn: (message) => this.warnings.push(message),
        ...(options.snapshotEntriesMin === undefined
          ? {}
          : { snapshotEntriesMin: options.snapshotEntriesMin }),
      },
      () => {
        this.slabsRead = true;
      },
    );
    if (options.store === undefined && this.figure("listKept") === 1) completeStoreFile(io, directory);
    this.reader = new ShardLookup(directory, shard, this.store, this.memory, this.memory.held[0]);
  }

  static async open(directory: string, options: HarnessOptions = {}): Promise<Harness> {
    await loadHash();
    return new Harness(directory, options);
  }

  hashes(key: string): { bytes: Buffer; hashA: number; hashB: number } {
    const bytes = Buffer.from(key);
    return { bytes, hashA: hash32(bytes, 0), hashB: hashBOf(bytes, bytes.length, this.store.keyHash) };
  }

  write(key: string, condition: Condition): Write {
    const { bytes, hashA, hashB } = this.hashes(key);
    return {
      ...emptyOperation(),
      verb: condition.verb ?? "put",
      key: bytes,
      hashA,
      hashB,
      json: condition.json ?? false,
      contentType: Buffer.from(condition.contentType ?? "application/octet-stream"),
      trailer:
        condition.end === undefined
          ? (condition.trailer ?? NO_TRAILER)
          : withEnd(condition.trailer ?? NO_TRAILER, condition.end),
      keepsEnd: condition.keepsEnd ?? false,
      ifMatch: condition.ifMatch ?? "",
      ifNoneMatch: condition.ifNoneMatch ?? "",
      operationLow: ++operation,
    };
  }

  /** Stages one write; `commit` is the caller's. */
  stage(key: string, value: Uint8Array | string, condition: Condition = {}): Outcome {
    return this.shard.apply(
      this.write(key, condition),
      typeof value === "string" ? Buffer.from(value) : value,
    );
  }

  /** One write as a batch of its own. */
  put(key: string, value: Uint8Array | string, condition: Condition = {}): Outcome {
    const outcome = this.stage(key, value, condition);
    this.shard.commit();
    return outcome;
  }

  remove(key: string, condition: Condition = {}): Outcome {
    return this.put(key, "", { ...condition, verb: "delete" });
  }

  /** Gives what is there another end; 0: none. */
  touch(key: string, end: number, condition: Condition = {}): Outcome {
    return this.put(key, "", { ...condition, verb: "touch", end });
  }

  /** What a front does that has found a value past its end. */
  end(key: string, nowMs: number): Outcome {
    const { bytes, hashA, hashB } = this.hashes(key);
    const outcome = endValue(this.shard.batch, { key: bytes, hashA, hashB }, nowMs);
    this.shard.commit();
    return outcome;
  }

  /** A value in pieces of `pieceBytes`. */
  upload(key: string, value: Uint8Array, condition: Condition = {}, pieceBytes = 3000): Outcome {
    const writer = new UploadWriter(this.shard.batch, this.write(key, condition));
    for (let at = 0; at < value.length; at += pieceBytes) {
      const failure = writer.part(value.subarray(at, at + pieceBytes));
      this.shard.commit();
      if (failure !== null) {
        writer.end();
        return failure;
      }
    }
    const outcome = writer.finish();
    this.shard.commit();
    return outcome;
  }

  /** An upload whose client goes away half-way. */
  abandon(key: string, value: Uint8Array): void {
    const writer = new UploadWriter(this.shard.batch, this.write(key, {}));
    writer.part(value);
    this.shard.commit();
    writer.end();
  }

  /** Leaves the files as kill -9 would: waits for sealing, which the kernel would not, so that files are not written later on. */
  async crash(): Promise<void> {
    await this.shard.log.succession.abandon();
  }

  /** What a front would answer. */
  read(key: string): Read {
    for (;;) {
      const { missingPages } = this.reader;
      const read = this.readOnce(key);
      // A page went missing on the way: what was read may be zeros.
      if (this.reader.missingPages === missingPages) return read;
    }
  }

  private readOnce(key: string): Read {
    const { reader } = this;
    const { bytes, hashA, hashB } = this.hashes(key);
    const state = reader.find(bytes, bytes.length, hashA, hashB);
    if (state !== "found") return { state };
    const { map, unit } = reader;
    if (!reader.check(map, unit)) return { state: "damaged" };
    if (isAbsence(typeOf(map, unit))) return { state: "absent" };
    const scratch = etagScratch();
    writeEtagOf(scratch, map, unit);
    const etag = Buffer.from(scratch).toString();
    const json = isJson(map, unit);
    const trailer = Buffer.from(trailerOf(map, unit));
    if (typeOf(map, unit) !== TYPE_MANIFEST) {
      const at = valueOffset(map, unit);
      return {
        state: "found",
        value: Buffer.from(map.bytes.slice(at, at + valueBytesOf(map, unit))),
        etag,
        json,
        trailer,
      };
    }
    const parts: Buffer[] = [];
    for (const { sequence, unit: chunkUnit, bytes: chunkBytes, checksum } of readManifest(map, unit).chunks) {
      const chunkMap = reader.maps.bySequence(sequence);
      if (chunkMap === null || !reader.checkChunk(chunkMap, chunkUnit, checksum)) return { state: "damaged" };
      const at = valueOffset(chunkMap, chunkUnit);
      parts.push(Buffer.from(chunkMap.bytes.slice(at, at + chunkBytes)));
    }
    return { state: "found", value: Buffer.concat(parts), etag, json, trailer };
  }

  etag(outcome: Outcome): string {
    if (outcome.ballot === null) throw new Error("no version");
    return etagText(outcome.ballot);
  }

  figure(name: keyof typeof FIGURE): number {
    return new Float64Array(this.memory.figures)[FIGURE[name]];
  }

  /** Waits until each full slab has its table: until then compaction leaves it alone. */
  async sealed(): Promise<void> {
    const { state, log } = this.shard;
    while (
      [...state.slabs.all()].some(({ sequence, sealed }) => !sealed && sequence !== log.appender.sequence)
    )
      await new Promise((resolve) => setImmediate(resolve));
  }

  /**
   * Runs idle work until there is none, also none that comes with the tables of full slabs; answers the steps
   * taken.
   */
  async settle(): Promise<number> {
    const { sealing } = this.shard.log.succession;
    let steps = 0;
    for (;;) {
      this.reader.maps.release();
      const isSealing = sealing.isBusy;
      const more = this.shard.idle(16 * 1024);
      await new Promise((resolve) => setImmediate(resolve));
      if (!more && !isSealing) return steps;
      if (more && ++steps > 100_000) throw new Error("idle work does not end");
    }
  }
}
