/**
 * The catalog of a store: every key that the index of a shard has, in order of bytes. It is a superset: the
 * index says which keys are there. So it needs no log of its own, and losing it loses nothing.
 *
 *   shards' logs ► followers ► tail (memory) ► runs (files), merged tier by tier
 *
 * Invariants (FORMAT.md, "Keys in order"):
 * I1  Every key with a value, a manifest or a tombstone in the index is in the tail or in a run, or its
 *     record lies beyond the follower's place and is fresh, or a first build is under way, which takes all.
 * I2  A watermark that the manifest names never passes what its runs have; a start goes back to the end of
 *     the log where that is shorter, and writes it down before anything is appended.
 * I3  A merge drops a key only when the index has no entry with its tag; its next record then lies beyond
 *     the follower's place.
 */
import { UNIT_BYTES } from "../../format/offsets.ts";
import { type CatalogFigures, type CatalogState, figuresOf } from "./figures.ts";
import { Logs, type LogsSetup } from "./logs.ts";
import { MemoryRunBuilder } from "./runs/builder.ts";
import { MergedKeys } from "./runs/merged-keys.ts";
import { type KeyRun, RunDamage } from "./runs/run.ts";
import type { AddKey } from "./runs/run-files.ts";
import { chooseMerge } from "./runs/tiers.ts";
import { Shelf, type ShelfSetup } from "./shelf.ts";
import { Slices } from "./slices.ts";
import { Tail, UNSORTED_KEYS_MAX } from "./tail.ts";

/** Keys in memory from which they are written to a file. */
const TAIL_KEYS_MAX = 131_072;
/** A build waits from so many times as many keys on. */
const TAILS_MAX = 8;
/** Bytes of all logs beyond the watermarks from which they are moved on, however few keys are in them. */
const BEHIND_BYTES_MAX = 1024 * 1024 * 1024;
/** Keys between two turns of a writer of files. */
const MERGED_KEYS = 128;

export interface CatalogSetup extends LogsSetup, ShelfSetup {
  /** Smaller in tests. */
  tailKeysMax?: number;
}

export class Catalog {
  readonly logs: Logs;
  private readonly setup: CatalogSetup;
  private readonly tailKeysMax: number;
  private readonly shelf: Shelf;
  private readonly tail = new Tail();
  /** The runs, the tail, and the logs beyond the followers' places have all keys. */
  private complete = false;
  /** All was forgotten once while the shards wrote: what they take as known may not be. */
  private anew = false;
  private stopped = false;
  /** Rises when the catalog begins anew: work on what was there before is given up. */
  private epoch = 0;
  private working: Promise<void> | null = null;
  private builds = 0;
  private flushes = 0;
  private merges = 0;

  /** Opens the catalog of a store whose shards are open. Reads little: the rest is done by `absorb`. */
  constructor(setup: CatalogSetup) {
    this.setup = setup;
    this.tailKeysMax = setup.tailKeysMax ?? TAIL_KEYS_MAX;
    this.logs = new Logs(setup);
    this.shelf = new Shelf(setup);
    const problem = this.shelf.read();
    if (problem !== null) this.build(problem);
    else {
      this.complete = this.shelf.complete;
      this.follow(this.shelf.watermarks);
    }
  }

  /**
   * Follows the logs from these places, or from where they ended at the start if that is before them; the
   * manifest says so before anything is appended.
   */
  private follow(watermarks: readonly number[]): void {
    this.logs.begin(watermarks, !this.anew);
    const { runs } = this.shelf;
    this.shelf.begin({ runs, watermarks: this.logs.places, complete: this.complete });
    this.publishWatermarks();
  }

  /**
   * Tells the shards up to where the runs on the disk know every key: what replaces a record before that is
   * not fresh. While they do not know all, nowhere: until then records are taken whether they are fresh or
   * not.
   */
  private publishWatermarks(): void {
    const { complete, watermarks } = this.shelf;
    this.logs.tellKnown(complete ? watermarks : null);
  }

  /** Begins anew, with nothing: all keys come from the logs. */
  private build(reason: string): void {
    if (reason !== "") {
      this.setup.warn(`the catalog of keys is built anew: ${reason}`);
      this.builds++;
    }
    this.epoch++;
    this.shelf.runs = [];
    this.tail.clear();
    this.complete = false;
    this.follow(this.logs.lookups.map(() => 0));
  }

  /**
   * Takes in what the logs have beyond what is known, for a slice of time.
   * @returns whether all that was published when this was called is in
   */
  absorb(slices: Slices): boolean {
    const met = this.logs.follow(slices, !this.complete, this.take);
    if (met === "all") this.complete = true;
    return met === "all";
  }

  private readonly take = (key: Uint8Array): void => this.tail.add(key);

  get state(): CatalogState {
    if (this.logs.isBlind(this.take)) return "blind";
    return this.complete ? "ready" : "building";
  }

  /** All keys, dead ones included, as they are in the catalog now. Throws RunDamage as it is read. */
  keys(): MergedKeys {
    this.tail.sort();
    return new MergedKeys([...this.shelf.runs, ...this.tail.runs]);
  }

  /** A run is damaged: all is built anew. */
  damaged(error: RunDamage): void {
    this.anew = true;
    this.build(error.message);
  }

  /** Whether `work` has something to do. */
  get isDue(): boolean {
    return this.working === null && !this.stopped && this.choose() !== null;
  }

  /** Of a build, there are more keys in memory than should be: it must wait until they are written. */
  get isBehind(): boolean {
    const { shelf, tail, tailKeysMax } = this;
    return !this.complete && !this.stopped && shelf.mayWrite && tail.keys >= TAILS_MAX * tailKeysMax;
  }

  /** Writes and merges until nothing is due. */
  async work(): Promise<void> {
    this.working ??= this.workOn().finally(() => {
      this.working = null;
    });
    await this.working;
  }

  private async workOn(): Promise<void> {
    for (let next = this.choose(); next !== null && !this.stopped; next = this.choose()) {
      const { epoch } = this;
      try {
        if (!(await next())) return;
      } catch (error) {
        if (epoch !== this.epoch) continue;
        if (error instanceof RunDamage) this.damaged(error);
        else this.shelf.failed(error, "a run of keys cannot be written");
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
    const { mayWrite, runs } = this.shelf;
    if (mayWrite && this.isFlushDue) return () => this.flush();
    if (inMemory !== null) return () => this.mergeInMemory(inMemory.map((run) => this.tail.runs[run]));
    if (!mayWrite) return null;
    const merge = chooseMerge(
      runs.map(({ keys }) => keys),
      this.tailKeysMax,
      this.logs.entries,
    );
    return merge === null ? null : () => this.merge(merge.map((run) => runs[run]));
  }

  private get isFlushDue(): boolean {
    if (this.tail.keys >= this.tailKeysMax) return true;
    return this.logs.unitsSince(this.shelf.watermarks) * UNIT_BYTES > BEHIND_BYTES_MAX;
  }

  /** Gives the keys of runs to `add`, in slices. Ends with false when the work has become pointless. */
  private async *keysOf(
    runs: readonly KeyRun[],
    add: AddKey,
    keep: (key: Uint8Array) => boolean,
  ): AsyncGenerator<void, boolean> {
    const { epoch } = this;
    const slices = new Slices(() => this.stopped || epoch !== this.epoch);
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
    const steps = this.keysOf(runs, (key, from, to) => builder.add(key, from, to), EVERY);
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
    const { epoch, complete, shelf, tail } = this;
    const { places } = this.logs;
    tail.sort();
    const { runs } = tail;
    const written = runs.length === 0 ? "empty" : await this.write(runs, EVERY);
    if (written === null || epoch !== this.epoch) return false;
    const all = written === "empty" ? shelf.runs : [...shelf.runs, written];
    shelf.install({ runs: all, watermarks: places, complete });
    this.publishWatermarks();
    tail.replace(runs, null);
    this.flushes++;
    return true;
  }

  /** Makes one run of some. */
  private async merge(runs: readonly KeyRun[]): Promise<boolean> {
    const { epoch, shelf } = this;
    const written = await this.write(runs, (key) => this.logs.mayHave(key));
    if (written === null || epoch !== this.epoch) return false;
    const rest = shelf.runs.filter((run) => !runs.includes(run));
    const { watermarks, complete } = shelf;
    shelf.install({ runs: written === "empty" ? rest : [...rest, written], watermarks, complete });
    shelf.remove(runs);
    this.merges++;
    return true;
  }

  private write(
    runs: readonly KeyRun[],
    keep: (key: Uint8Array) => boolean,
  ): Promise<KeyRun | "empty" | null> {
    return this.shelf.write((add) => this.keysOf(runs, add, keep));
  }

  figures(): CatalogFigures {
    const { state, builds, flushes, merges, shelf } = this;
    const progress = this.complete ? 1 : this.logs.progress;
    const { diskFull } = shelf;
    return { state, progress, ...figuresOf(shelf.runs, this.tail), builds, flushes, merges, diskFull };
  }

  /** There may be room on the disk again. */
  retryNow(): void {
    this.shelf.retryNow();
  }

  /** Ends the work, and leaves the files as they are. */
  abandon(): void {
    this.stopped = true;
  }

  /** Writes the tail, so that the next start has nothing to read. The shards must be closed already. */
  async close(): Promise<void> {
    this.stopped = true;
    await this.working;
    if (!this.complete || !this.shelf.mayWrite) return;
    const slices = new Slices();
    while (!this.absorb(slices)) if (this.state === "blind") return;
    this.stopped = false;
    try {
      await this.flush();
    } catch (error) {
      this.shelf.failed(error, "the latest keys cannot be written");
    }
    this.stopped = true;
  }
}

const EVERY = (): boolean => true;
