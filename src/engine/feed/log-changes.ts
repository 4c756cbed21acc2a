/**
 * Changes, read from the logs of a store from a place on: every record of a key that is told, originals once
 * at least, and copies of those that were first appended at the place or later. Of what counts in the end
 * nothing is left out: a record that moves to the end of the log is met there (follower.ts).
 */
import { originOf } from "../../format/record.ts";
import type { TakeRecord } from "../catalog/counted.ts";
import { LogFollower } from "../catalog/follower.ts";
import { FIGURE, logPlace } from "../slabs/figures.ts";
import type { SlabMap } from "../slabs/maps.ts";
import type { ShardLookup } from "../state/lookup.ts";
import type { ShardMemory } from "../state/memory.ts";
import type { ShardPlace } from "./place.ts";

/** Gets a record that may be news; the bytes are only good during the call. */
export type TakeChange = (key: Uint8Array, map: SlabMap, unit: number, shard: number) => void;

interface Followed {
  readonly follower: LogFollower;
  readonly figures: Float64Array;
  base: number;
  /** From where all deletes that are read could be told when that was last asked. */
  good: ShardPlace;
}

export class LogChanges {
  private readonly shards: readonly Followed[];
  private isEnough = false;

  /** @param places one for each shard */
  constructor(
    lookups: readonly ShardLookup[],
    memories: readonly ShardMemory[],
    places: readonly ShardPlace[],
  ) {
    this.shards = lookups.map((lookup, shard) => ({
      follower: new LogFollower(lookup, memories[shard], logPlace(places[shard]), false),
      figures: new Float64Array(memories[shard].figures),
      base: places[shard].base,
      good: places[shard],
    }));
  }

  /** Whether something is published that was not met. */
  get isBehind(): boolean {
    for (const { follower } of this.shards) if (follower.place < follower.end) return true;
    return false;
  }

  /** Up to where all has been met. */
  get places(): ShardPlace[] {
    return this.shards.map(placeOf);
  }

  /**
   * Whether deletes that were to be told may be gone: some that stood where was read since this was last
   * asked were perhaps forgotten just before. To be asked after reading, before anything is told of it.
   */
  areDeletesGone(): boolean {
    if (this.shards.some(({ good, figures }) => isBeforeHorizon(good, figures))) return true;
    for (const shard of this.shards) shard.good = placeOf(shard);
    return false;
  }

  /** Whether damage hides what has changed. */
  isBlind(take: TakeChange): boolean {
    return this.shards.some(({ follower }, shard) => {
      return follower.isStuck || follower.isBlind((key, map, unit) => take(key, map, unit, shard));
    });
  }

  /** For `take` to call: the change that it was given is the last one of this `read`. */
  stop(): void {
    this.isEnough = true;
    for (const { follower } of this.shards) follower.stop();
  }

  /**
   * Goes on by about `records` records of each shard.
   * @returns whether all that was published when this was called has been met
   */
  read(records: number, take: TakeChange): boolean {
    let isDone = true;
    this.isEnough = false;
    for (const [index, shard] of this.shards.entries()) {
      if (this.isEnough) return false;
      const { follower } = shard;
      const tell: TakeRecord = (key, map, unit) => {
        const origin = originOf(map, unit);
        if (origin === 0 || origin >= shard.base) take(key, map, unit, index);
      };
      if (follower.follow(records, true, tell)) shard.base = follower.position.sequence;
      else isDone = false;
    }
    return isDone;
  }
}

function placeOf({ follower, base }: Followed): ShardPlace {
  const { sequence, unit } = follower.position;
  return { sequence, unit, base: Math.min(base, sequence) };
}

/** Whether one place of a shard is not before another. */
export function isAtOrAfter(a: ShardPlace, b: ShardPlace): boolean {
  return a.sequence > b.sequence || (a.sequence === b.sequence && a.unit >= b.unit);
}

/** Where all logs end now: what comes later is news from there on. */
export function endsOf(memories: readonly ShardMemory[]): ShardPlace[] {
  return memories.map(({ figures }) => placeAt(new Float64Array(figures)[FIGURE.publishedEnd]));
}

/** Whether a place lies within the logs, and all deletes after it can still be told. */
export function isTold(places: readonly ShardPlace[], memories: readonly ShardMemory[]): boolean {
  return places.every((place, shard) => {
    const figures = new Float64Array(memories[shard].figures);
    return logPlace(place) <= figures[FIGURE.publishedEnd] && !isBeforeHorizon(place, figures);
  });
}

function isBeforeHorizon({ sequence, unit, base }: ShardPlace, figures: Float64Array): boolean {
  const horizon = figures[FIGURE.horizon];
  // Of what was first appended from `base` on copies are still to come, deletes among them.
  return base < sequence
    ? logPlace({ sequence: base + 1, unit: 0 }) <= horizon
    : logPlace({ sequence, unit }) < horizon;
}

function placeAt(place: number): ShardPlace {
  const unit = place % SLAB_UNITS;
  const sequence = Math.floor(place / SLAB_UNITS);
  return { sequence, unit, base: sequence };
}

const SLAB_UNITS = logPlace({ sequence: 1, unit: 0 });
