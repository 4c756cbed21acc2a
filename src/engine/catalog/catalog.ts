/**
 * The catalog of a store: every key that the index of a shard has, in order of bytes. It is a superset: the
 * index says which keys are there. So it needs no log of its own, and losing it loses nothing.
 *
 *   shards' logs ► followers ► tail (memory) ► runs (files), merged tier by tier
 *
 * Invariants (FORMAT.md, "Keys in order"):
 * I1  Every key with a value, a manifest or a tombstone in the index is in the tail or in a run, or its
 *     record lies beyond the follower's place.
 * I2  A watermark that the manifest names never passes what its runs have; a start goes back to the end of
 *     the log where that is shorter, and writes it down before anything is appended.
 * I3  A merge drops a key only when the index has no entry with its tag; its next record then lies beyond
 *     the follower's place.
 */
import fs from "node:fs";
import { hashBOf, hashKey, shardOf } from "../../util/hash.ts";
import type { StoreIdentity } from "../directory/store-file.ts";
import { IndexReader } from "../index/reader.ts";
import { FIGURE } from "../slabs/figures.ts";
import { type FileIo, isDiskFull } from "../slabs/io.ts";
import { ShardLookup } from "../state/lookup.ts";
import type { ShardMemory } from "../state/memory.ts";
import { LogFollower } from "./follower.ts";
import { keysDirectory, type Manifest, readManifest, strayFiles, writeManifest } from "./manifest.ts";
import { type KeyRun, MemoryRunBuilder, MergedKeys, RunDamage } from "./run.ts";
import { filesOf, RunFiles } from "./run-files.ts";
import { Slices } from "./slices.ts";
import { Tail, UNSORTED_KEYS_MAX } from "./tail.ts";
import { chooseMerge } from "./tiers.ts";

/** Keys in memory from which they are written to a file. */
export const TAIL_KEYS_MAX = 131_072;
/** Bytes of all logs beyond the watermarks from which they are moved on, however few keys are in them. */
const BEHIND_BYTES_MAX = 1024 * 1024 * 1024;
/** Records that a follower takes in one step. */
const FOLLOW_RECORDS = 256;
/** After a failed write the files are left alone for so long. */
const RETRY_MS = 5000;
/** Keys between two turns of a writer of files. */
const MERGED_KEYS = 128;

export interface CatalogSetup {
  dataDirectory: string;
  store: StoreIdentity;
  memories: readonly ShardMemory[];
  /** Of each shard, this thread's own array of held slabs. */
  held: readonly SharedArrayBuffer[];
  io: FileIo;
  /** Nothing can be written: what is needed is kept in memory. */
  readOnly: boolean;
  warn: (message: string) => void;
  /** Smaller in tests. */
  tailKeysMax?: number;
}

/**
 * `building`: keys may be missing yet. `blind`: damage in a slab hides the keys of records that count, so
 * nobody knows all keys.
 */
export type CatalogState = "ready" | "building" | "blind";

export interface CatalogFigures {
  state: CatalogState;
  /** Of a build, 0 to 1. */
  progress: number;
  runs: number;
  runKeys: number;
  runBytes: number;
  tailKeys: number;
  memoryBytes: number;
  /** Builds from nothing since the start, and their reasons are in the log. */
  builds: number;
  flushes: number;
  merges: number;
  diskFull: boolean;
}

export class Catalog {
  /** Shards as any reader sees them. */
  readonly lookups: readonly ShardLookup[];
  private readonly setup: CatalogSetup;
  private readonly tailKeysMax: number;
  private readonly indexes: readonly IndexReader[];
  private readonly directory: string;
  private readonly tail = new Tail();
  private followers: LogFollower[] = [];
  private files: RunFiles;
  private runs: readonly KeyRun[] = [];
  private watermarks: number[] = [];
  /** The runs, and the logs beyond the watermarks, have all keys. */
  private complete = false;
  private closed = false;
  /** Rises when the catalog begins anew: work on what was there before is given up. */
  private epoch = 0;
  private working: Promise<void> | null = null;
  private notBeforeMs = 0;
  private diskFull = false;
  private builds = 0;
  private flushes = 0;
  private merges = 0;

  /** Opens the catalog of a store whose shards are open. Reads little: the rest is done by `absorb`. */
  constructor(setup: CatalogSetup) {
    const { dataDirectory, store, memories, held, io } = setup;
    this.setup = setup;
    this.tailKeysMax = setup.tailKeysMax ?? TAIL_KEYS_MAX;
    this.lookups = memories.map(
      (memory, shard) => new ShardLookup(dataDirectory, shard, store, memory, held[shard]),
    );
    this.indexes = memories.map((memory) => new IndexReader(memory.index));
    this.directory = keysDirectory(dataDirectory);
    this.files = new RunFiles({ io, directory: this.directory, salt: store.salt, next: 1 });
    const problem = this.read();
    if (problem !== null) this.begin(problem);
    else this.note();
  }

  private get storeId(): string {
    return Buffer.from(this.setup.store.id).toString("hex");
  }

  /** Reads the manifest and opens its runs. Answers why that cannot be; an empty text: there are none yet. */
  private read(): string | null {
    const { store, readOnly } = this.setup;
    if (!fs.existsSync(this.directory)) return "";
    const manifest = readManifest(this.directory);
    if (manifest === null) return "";
    if (typeof manifest === "string") return manifest;
    if (manifest.store !== this.storeId) return "it belongs to another store";
    if (manifest.watermarks.length !== this.lookups.length) return "it has another number of shards";
    // A start by a program that keeps no catalog came between, or files were put back from a copy.
    if (manifest.incarnation !== store.incarnation - (readOnly ? 0 : 1))
      return `it was written in start ${manifest.incarnation}, and this is start ${store.incarnation}`;
    this.files.next = manifest.next;
    try {
      this.runs = manifest.runs.map((files) => this.files.open(files));
    } catch (error) {
      if (error instanceof RunDamage) return error.message;
      throw error;
    }
    this.complete = manifest.complete;
    this.follow(manifest.watermarks);
    return null;
  }

  /** Follows the logs from these places, or from their ends where those are before them. */
  private follow(watermarks: readonly number[]): void {
    this.followers = this.lookups.map((lookup, shard) => {
      const memory = this.setup.memories[shard];
      const end = new Float64Array(memory.figures)[FIGURE.openedEnd];
      return new LogFollower(lookup, memory, Math.min(watermarks[shard], end));
    });
    this.watermarks = this.followers.map(({ place }) => place);
  }

  /** Begins anew, with nothing: all keys come from the logs. */
  private begin(reason: string): void {
    if (reason !== "") {
      this.setup.warn(`the catalog of keys is built anew: ${reason}`);
      this.builds++;
    }
    this.epoch++;
    this.runs = [];
    this.tail.clear();
    this.complete = false;
    this.follow(this.lookups.map(() => 0));
    this.note();
  }

  /** Writes the manifest of what is there; where that fails, the next start builds anew. */
  private note(): void {
    if (this.setup.readOnly) return;
    try {
      fs.mkdirSync(this.directory, { recursive: true, mode: 0o700 });
      this.writeManifest(this.runs, this.watermarks, this.complete);
      this.clean();
    } catch (error) {
      this.failed(error, "the catalog of keys cannot be noted");
    }
  }

  private writeManifest(runs: readonly KeyRun[], watermarks: number[], complete: boolean): void {
    const manifest: Manifest = {
      store: this.storeId,
      incarnation: this.setup.store.incarnation,
      complete,
      next: this.files.next,
      runs: runs.map(filesOf),
      watermarks,
    };
    writeManifest(this.directory, manifest);
  }

  /** Removes files that no run needs: left by a process that was killed, or by a catalog that was given up. */
  private clean(): void {
    const named = new Set(this.runs.flatMap(filesOf));
    for (const file of strayFiles(this.directory, named)) fs.rmSync(file, { force: true });
  }

  private failed(error: unknown, what: string): void {
    const isFull = isDiskFull(error);
    // A full disk is told by /health; it is tried again until there is room.
    if (!isFull) this.setup.warn(`${what}: ${(error as Error).message}`);
    this.diskFull = isFull;
    this.notBeforeMs = performance.now() + RETRY_MS;
  }

  /**
   * Takes in what the logs have beyond what is known, for a slice of time.
   * @returns whether all that was published when this was called is in
   */
  absorb(slices: Slices): boolean {
    slices.begin();
    let isStuck = false;
    for (const follower of this.followers)
      while (!follower.follow(FOLLOW_RECORDS, this.take)) {
        isStuck ||= follower.isStuck;
        if (follower.isStuck) break;
        if (performance.now() >= slices.endsMs) return false;
      }
    if (!isStuck) this.complete = true;
    return !isStuck;
  }

  private readonly take = (key: Uint8Array): void => this.tail.add(key);

  /** Lets go of maps that nobody needs. To be called now and then. */
  release(): void {
    for (const lookup of this.lookups) lookup.maps.release();
  }

  get state(): CatalogState {
    if (this.followers.some((follower) => follower.isBlind(this.take))) return "blind";
    return this.complete ? "ready" : "building";
  }

  /** All keys, those that are dead included, as they are in the catalog now. Throws RunDamage as it is read. */
  keys(): MergedKeys {
    this.tail.sort();
    return new MergedKeys([...this.runs, ...this.tail.runs]);
  }

  /** A run is damaged: all is built anew. */
  damaged(error: RunDamage): void {
    this.begin(error.message);
  }

  /** Whether `work` has something to do. */
  get isDue(): boolean {
    return this.working === null && !this.closed && this.choose() !== null;
  }

  /** Writes and merges until nothing is due. */
  async work(): Promise<void> {
    this.working ??= this.workOn().finally(() => {
      this.working = null;
    });
    await this.working;
  }

  private async workOn(): Promise<void> {
    for (let next = this.choose(); next !== null && !this.closed; next = this.choose()) {
      const { epoch } = this;
      try {
        if (!(await next())) return;
      } catch (error) {
        if (epoch !== this.epoch) continue;
        if (error instanceof RunDamage) this.damaged(error);
        else this.failed(error, "a run of keys cannot be written");
      }
    }
  }

  /** The work that is due; null: none. */
  private choose(): (() => Promise<boolean>) | null {
    const inMemory = chooseMerge(
      this.tail.runs.map(({ keys }) => keys),
      UNSORTED_KEYS_MAX,
      Number.POSITIVE_INFINITY,
    );
    const mayWrite = !this.setup.readOnly && performance.now() >= this.notBeforeMs;
    if (mayWrite && this.isFlushDue) return () => this.flush();
    if (inMemory !== null) return () => this.mergeInMemory(inMemory.map((run) => this.tail.runs[run]));
    if (!mayWrite) return null;
    const merge = chooseMerge(
      this.runs.map(({ keys }) => keys),
      this.tailKeysMax,
      this.entries,
    );
    return merge === null ? null : () => this.merge(merge.map((run) => this.runs[run]));
  }

  private get isFlushDue(): boolean {
    if (this.tail.keys >= this.tailKeysMax) return true;
    let units = 0;
    for (const [shard, { place }] of this.followers.entries()) units += place - this.watermarks[shard];
    return units * 16 > BEHIND_BYTES_MAX;
  }

  /** Entries of the index that must be in the runs. */
  private get entries(): number {
    let entries = 0;
    for (const { figures } of this.setup.memories) {
      const counted = new Float64Array(figures);
      entries += counted[FIGURE.keys] + counted[FIGURE.tombstones] + counted[FIGURE.forgotten];
    }
    return entries;
  }

  /** Gives the keys of runs to `add`, in slices. Ends with false when the work has become pointless. */
  private async *keysOf(
    runs: readonly KeyRun[],
    add: (key: Uint8Array, from: number, to: number) => void,
    keep: (key: Uint8Array) => boolean,
  ): AsyncGenerator<void, boolean> {
    const { epoch } = this;
    const slices = new Slices(() => this.closed || epoch !== this.epoch);
    const merged = new MergedKeys(runs);
    merged.seek(new Uint8Array(0), 0);
    for (let keys = 0; merged.valid; merged.advance()) {
      const { bytes, from, to } = merged.current;
      if (keep(bytes.subarray(from, to))) add(bytes, from, to);
      if (++keys % MERGED_KEYS !== 0) continue;
      yield;
      if (slices.isOver && !(await slices.turn())) return false;
    }
    return true;
  }

  private async mergeInMemory(runs: readonly KeyRun[]): Promise<boolean> {
    const { epoch } = this;
    const builder = new MemoryRunBuilder();
    const steps = this.keysOf(
      runs,
      (key, from, to) => builder.add(key, from, to),
      () => true,
    );
    for (;;) {
      const { done, value } = await steps.next();
      if (done !== true) continue;
      if (!value || epoch !== this.epoch) return false;
      this.tail.replace(runs, builder.end());
      return true;
    }
  }

  /** Writes the tail to a file, and moves the watermarks to where it was then. */
  private async flush(): Promise<boolean> {
    const { epoch } = this;
    this.tail.sort();
    const { runs } = this.tail;
    const watermarks = this.followers.map(({ place }) => place);
    const { complete } = this;
    const written = runs.length === 0 ? "empty" : await this.write(runs, () => true);
    if (written === null || epoch !== this.epoch) return false;
    this.install(written === "empty" ? this.runs : [...this.runs, written], watermarks, complete);
    this.tail.replace(runs, null);
    this.flushes++;
    return true;
  }

  /** Makes one run of some. */
  private async merge(runs: readonly KeyRun[]): Promise<boolean> {
    const { epoch } = this;
    const written = await this.write(runs, this.mayBeThere);
    if (written === null || epoch !== this.epoch) return false;
    const rest = this.runs.filter((run) => !runs.includes(run));
    // The manifest's own places stand for these runs as for those before.
    this.install(written === "empty" ? rest : [...rest, written], this.watermarks, this.complete);
    for (const run of runs) this.files.remove(run);
    this.merges++;
    return true;
  }

  private write(
    runs: readonly KeyRun[],
    keep: (key: Uint8Array) => boolean,
  ): Promise<KeyRun | "empty" | null> {
    return this.files.write((add) => this.keysOf(runs, add, keep));
  }

  /** On the disk first. */
  private install(runs: readonly KeyRun[], watermarks: number[], complete: boolean): void {
    this.writeManifest(runs, watermarks, complete);
    this.runs = runs;
    this.watermarks = watermarks;
    this.diskFull = false;
  }

  /** Whether the index has an entry with the tag of a key. */
  private readonly mayBeThere = (key: Uint8Array): boolean => {
    const { store } = this.setup;
    const hashA = hashKey(key, key.length, 0);
    const hashB = hashBOf(key, key.length, store.keyHash);
    return this.indexes[shardOf(hashA, hashB, store.shards)].find(hashA, hashB, ANY);
  };

  figures(): CatalogFigures {
    const { runs, tail, followers } = this;
    const slabs = followers.map((follower) => follower.slabs);
    const total = slabs.reduce((sum, slab) => sum + slab.total, 0);
    const done = slabs.reduce((sum, slab) => sum + slab.done, 0);
    const parts = runs.flatMap((run) => run.parts);
    return {
      state: this.state,
      progress: this.complete ? 1 : total === 0 ? 0 : done / total,
      runs: runs.length,
      runKeys: runs.reduce((sum, { keys }) => sum + keys, 0),
      runBytes: parts.reduce((sum, { bytes }) => sum + bytes, 0),
      tailKeys: tail.keys,
      memoryBytes: parts.reduce((sum, { fences }) => sum + fences.memoryBytes, tail.memoryBytes),
      builds: this.builds,
      flushes: this.flushes,
      merges: this.merges,
      diskFull: this.diskFull,
    };
  }

  /** There may be room on the disk again. */
  retryNow(): void {
    this.notBeforeMs = 0;
  }

  /** Ends the work, and leaves the files as they are. */
  abandon(): void {
    this.closed = true;
  }

  /** Writes the tail, so that the next start has nothing to read. The shards must be closed already. */
  async close(): Promise<void> {
    this.closed = true;
    await this.working;
    if (this.setup.readOnly || !this.complete || performance.now() < this.notBeforeMs) return;
    const slices = new Slices();
    while (!this.absorb(slices)) if (this.state === "blind") return;
    this.closed = false;
    try {
      await this.flush();
    } catch (error) {
      this.failed(error, "the latest keys cannot be written");
    }
    this.closed = true;
  }
}

const ANY = { matches: () => true };
