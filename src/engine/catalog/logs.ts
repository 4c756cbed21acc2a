import { hashBOf, hashKey, shardOf } from "../../util/hash.ts";
import type { StoreIdentity } from "../directory/store-file.ts";
import { IndexReader } from "../index/reader.ts";
import { FIGURE } from "../slabs/figures.ts";
import { ShardLookup } from "../state/lookup.ts";
import type { ShardMemory } from "../state/memory.ts";
import type { TakeRecord } from "./counted.ts";
import { LogFollower } from "./follower.ts";
import type { Slices } from "./slices.ts";

/** Records that a follower takes in one step. */
const FOLLOW_RECORDS = 256;

export interface LogsSetup {
  dataDirectory: string;
  store: StoreIdentity;
  memories: readonly ShardMemory[];
  /** Of each shard, this thread's own array of held slabs. */
  held: readonly SharedArrayBuffer[];
}

/** The logs of all shards, as far as they were followed, and what the shards say of themselves. */
export class Logs {
  /** Shards as any reader sees them. */
  readonly lookups: readonly ShardLookup[];
  private readonly store: StoreIdentity;
  private readonly memories: readonly ShardMemory[];
  private readonly figures: readonly Float64Array[];
  private readonly indexes: readonly IndexReader[];
  private followers: readonly LogFollower[] = [];

  constructor({ dataDirectory, store, memories, held }: LogsSetup) {
    this.store = store;
    this.memories = memories;
    this.lookups = memories.map(
      (memory, shard) => new ShardLookup(dataDirectory, shard, store, memory, held[shard]),
    );
    this.figures = memories.map(({ figures }) => new Float64Array(figures));
    this.indexes = memories.map(({ index }) => new IndexReader(index));
  }

  /**
   * Follows them from these places on, or from where they ended at the start if that is before them.
   * @param skips see LogFollower
   */
  begin(places: readonly number[], skips: boolean): void {
    this.followers = this.lookups.map((lookup, shard) => {
      const from = Math.min(places[shard], this.figures[shard][FIGURE.openedEnd]);
      return new LogFollower(lookup, this.memories[shard], from, skips);
    });
  }

  /** Up to where each has been followed. */
  get places(): number[] {
    return this.followers.map(({ place }) => place);
  }

  /**
   * Follows them for a slice of time.
   * @param all see `LogFollower.follow`
   * @returns whether all that was published when this was called was met, or damage hides some of it
   */
  follow(slices: Slices, all: boolean, take: TakeRecord): "all" | "some" | "stuck" {
    slices.begin();
    let isStuck = false;
    for (const follower of this.followers) {
      while (!follower.follow(FOLLOW_RECORDS, all, take)) {
        isStuck ||= follower.isStuck;
        if (follower.isStuck) break;
        if (performance.now() >= slices.endsMs) return "some";
      }
      follower.publish();
    }
    return isStuck ? "stuck" : "all";
  }

  /** See `LogFollower.isBlind`. */
  isBlind(take: TakeRecord): boolean {
    return this.followers.some((follower) => follower.isBlind(take));
  }

  /** How much of them lies before the places, 0 to 1. */
  get progress(): number {
    const slabs = this.followers.map((follower) => follower.slabs);
    const total = slabs.reduce((sum, slab) => sum + slab.total, 0);
    const done = slabs.reduce((sum, slab) => sum + slab.done, 0);
    return total === 0 ? 0 : done / total;
  }

  /** Units between some places and those that were come to. */
  unitsSince(places: readonly number[]): number {
    return this.followers.reduce((sum, { place }, shard) => sum + place - places[shard], 0);
  }

  /**
   * Tells the shards up to where every key is known: what replaces a record before that is not fresh.
   * @param places null: nowhere
   */
  tellKnown(places: readonly number[] | null): void {
    for (const [shard, figures] of this.figures.entries())
      figures[FIGURE.watermark] = places === null ? 0 : places[shard];
  }

  /** Entries of all indexes. */
  get entries(): number {
    let entries = 0;
    for (const figures of this.figures)
      entries += figures[FIGURE.keys] + figures[FIGURE.tombstones] + figures[FIGURE.forgotten];
    return entries;
  }

  /** Whether an index has an entry with the tag of a key. */
  mayHave(key: Uint8Array): boolean {
    const hashA = hashKey(key, key.length, 0);
    const hashB = hashBOf(key, key.length, this.store.keyHash);
    return this.indexes[shardOf(hashA, hashB, this.store.shards)].find(hashA, hashB, ANY);
  }

  /** Lets go of maps that nobody needs. To be called now and then. */
  release(): void {
    for (const lookup of this.lookups) lookup.maps.release();
  }
}

const ANY = { matches: () => true };
