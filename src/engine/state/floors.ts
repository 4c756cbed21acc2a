/**
 * Floors: of each partition of the index, the ballot up to which a key without a record takes nothing
 * (register.ts says why). Several partitions of a layout may share one: it may be higher than one of them
 * needs, as it may be for one of its keys, and is never lower. In shared memory: written by the shard's
 * thread, read by the fronts. Each floor is one small record in the log; where it stands is kept here, so
 * that compaction carries it on.
 */
import type { Ballot } from "../../format/record.ts";
import { compareOptionalBallots } from "../../format/version.ts";
import { hash32, INDEX_PARTITIONS } from "../../util/hash.ts";

const BALLOT_WORDS = 4;
/** Bytes of shared memory: a counter that is odd while a floor changes, then four words a partition. */
export const FLOORS_BYTES = (1 + INDEX_PARTITIONS * BALLOT_WORDS) * 4;

/** The key of a partition's floor record. */
export function floorKey(partition: number): Uint8Array {
  return Uint8Array.of(partition & 0xff, partition >>> 8);
}

export class FloorReader {
  protected readonly words: Int32Array;

  constructor(memory: SharedArrayBuffer) {
    this.words = new Int32Array(memory);
  }

  /** The floor of a partition, or null: none. */
  of(partition: number): Ballot | null {
    const { words } = this;
    const at = 1 + partition * BALLOT_WORDS;
    for (;;) {
      const sequence = Atomics.load(words, 0);
      if ((sequence & 1) !== 0) continue;
      const ballot = {
        clockLow: words[at] >>> 0,
        clockHigh: words[at + 1] >>> 0,
        node: words[at + 2] >>> 0,
        incarnation: words[at + 3] >>> 0,
      };
      if (Atomics.load(words, 0) !== sequence) continue;
      return (words[at] | words[at + 1] | words[at + 2] | words[at + 3]) === 0 ? null : ballot;
    }
  }
}

/** Where a record stands. */
export interface Place {
  slot: number;
  unit: number;
}

/** The owner's side. */
export class Floors extends FloorReader {
  private readonly places = new Map<number, Place>();

  /** Where the record of a partition's floor stands. */
  placeOf(partition: number): Place | undefined {
    return this.places.get(partition);
  }

  /** Where all records of floors that count stand. */
  all(): Iterable<Place> {
    return this.places.values();
  }

  /**
   * Takes a floor over from its record, unless a higher one counts already.
   * @returns the place whose record is dead now: the former one, or the given one; null: none
   */
  raise(partition: number, ballot: Ballot, place: Place): Place | null {
    if (compareOptionalBallots(ballot, this.of(partition)) <= 0) return place;
    const { words } = this;
    const at = 1 + partition * BALLOT_WORDS;
    Atomics.add(words, 0, 1);
    words[at] = ballot.clockLow;
    words[at + 1] = ballot.clockHigh;
    words[at + 2] = ballot.node;
    words[at + 3] = ballot.incarnation;
    Atomics.add(words, 0, 1);
    const former = this.places.get(partition) ?? null;
    this.places.set(partition, place);
    return former;
  }

  /** A copy of the record that counts stands elsewhere now. */
  moved(partition: number, place: Place): void {
    this.places.set(partition, place);
  }
}

let partitionsByHash: Map<number, number> | null = null;

/**
 * Partition of a floor record from hash A of its key, so that a damaged one is still known. -1: it is no
 * floor's.
 */
export function partitionOfFloor(hashA: number): number {
  if (partitionsByHash === null) {
    partitionsByHash = new Map();
    for (let partition = 0; partition < INDEX_PARTITIONS; partition++)
      partitionsByHash.set(hash32(floorKey(partition), 0), partition);
  }
  return partitionsByHash.get(hashA) ?? -1;
}
