/**
 * The latest changes of all shards in memory, for those who are close behind: turns of following the logs,
 * each with the places that it has led to. The oldest go when they take too much.
 *
 *   tail                                   head
 *    | turn | turn |        …       | turn |
 *    each change has a number, and is told by those who are before it
 */
import { isAtOrAfter } from "../../engine/feed/log-changes.ts";
import type { ShardPlace } from "../../engine/feed/place.ts";
import type { Ballot } from "../../format/record.ts";
import type { Change } from "./change.ts";

/** What the changes in memory may take, in bytes. */
export const RECENT_BYTES_MAX = 4 * 1024 * 1024;
/** What one takes beside its texts, about. */
const CHANGE_BYTES = 160;

export interface RecentChange extends Change {
  /** Its key's bytes as latin1 text. */
  readonly key: string;
  readonly ballot: Ballot;
  /** Where its record ends. */
  readonly shard: number;
  readonly sequence: number;
  readonly endUnit: number;
}

interface Turn {
  readonly from: number;
  readonly changes: readonly RecentChange[];
  /** Where the logs had been followed to before it. */
  readonly before: readonly ShardPlace[];
  readonly bytes: number;
}

export class Recent {
  private turns: Turn[] = [];
  private bytes = 0;
  private readonly bytesMax: number;
  /** Number of the change that comes next. */
  head: number;
  /** Up to where the logs have been followed. */
  places: readonly ShardPlace[];

  /** @param first number of the first change: above all that were given before */
  constructor(places: readonly ShardPlace[], first: number, bytesMax = RECENT_BYTES_MAX) {
    this.places = places;
    this.head = first;
    this.bytesMax = bytesMax;
  }

  /** Number of the oldest change that is there. */
  get tail(): number {
    return this.turns[0]?.from ?? this.head;
  }

  get count(): number {
    return this.head - this.tail;
  }

  /** The logs have been followed to `places`, and that was found. */
  add(changes: readonly RecentChange[], places: readonly ShardPlace[]): void {
    const before = this.places;
    this.places = places;
    if (changes.length === 0) return;
    const bytes = changes.reduce((sum, { key, text }) => sum + key.length + text.length + CHANGE_BYTES, 0);
    this.turns.push({ from: this.head, changes, before, bytes });
    this.head += changes.length;
    this.bytes += bytes;
    let gone = 0;
    // The latest turn stays: its changes are about to be told.
    while (this.bytes > this.bytesMax && gone < this.turns.length - 1) this.bytes -= this.turns[gone++].bytes;
    if (gone > 0) this.turns = this.turns.slice(gone);
  }

  /** Whether all changes from this number on are there. */
  holds(cursor: number): boolean {
    return cursor >= this.tail && cursor <= this.head;
  }

  /** Whether whoever is at these places has met all that is here. */
  isReachedBy(places: readonly ShardPlace[]): boolean {
    return places.every((place, shard) => isAtOrAfter(place, this.places[shard]));
  }

  /** The first number from `from` on, which is there, whose change lies behind these places. */
  numberAfter(places: readonly ShardPlace[], from: number): number {
    for (let number = from; number < this.head; number++) {
      const { shard, sequence, endUnit: unit } = this.at(number);
      if (!isAtOrAfter(places[shard], { sequence, unit, base: 0 })) return number;
    }
    return this.head;
  }

  /** The change with a number that is there. */
  at(cursor: number): RecentChange {
    const turn = this.turns[this.turnOf(cursor)];
    return turn.changes[cursor - turn.from];
  }

  /** The place before the change with this number, and after the one before it. */
  placesAt(cursor: number): readonly ShardPlace[] {
    if (cursor >= this.head) return this.places;
    const { from, changes, before } = this.turns[this.turnOf(cursor)];
    const places = [...before];
    for (const { shard, sequence, endUnit: unit } of changes.slice(0, cursor - from))
      places[shard] = { sequence, unit, base: places[shard].base };
    return places;
  }

  private turnOf(cursor: number): number {
    let low = 0;
    let high = this.turns.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.turns[middle].from <= cursor) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
