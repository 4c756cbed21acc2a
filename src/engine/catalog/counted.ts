import { keyOf } from "../../format/record.ts";
import { hash32, hashBOf } from "../../util/hash.ts";
import { IndexReader, type Matcher } from "../index/reader.ts";
import { slotOfSequence } from "../slabs/figures.ts";
import type { SlabMap } from "../slabs/maps.ts";
import type { ShardLookup } from "../state/lookup.ts";
import type { ShardMemory } from "../state/memory.ts";

/** Gets a record that was met: its key, whose bytes are only good during the call, and where it stands. */
export type TakeRecord = (key: Uint8Array, map: SlabMap, unit: number) => void;

/** A record as a table names it. */
export interface ListedRecord {
  sequence: number;
  unit: number;
  hashA: number;
  hashB: number;
}

/** Records of a shard that count, as its index has them, and those among them whose key cannot be read. */
export class Counted {
  private readonly lookup: ShardLookup;
  private readonly index: IndexReader;
  private readonly slots: Int32Array;
  private unread: ListedRecord[] = [];
  private wantedSlot = 0;
  private wantedUnit = 0;
  private readonly wanted: Matcher = {
    matches: (slot, unit) => slot === this.wantedSlot && unit === this.wantedUnit,
  };

  constructor(lookup: ShardLookup, memory: ShardMemory) {
    this.lookup = lookup;
    this.index = new IndexReader(memory.index);
    this.slots = new Int32Array(memory.slots);
  }

  /** Some that were met could not be read. */
  get hasUnread(): boolean {
    return this.unread.length > 0;
  }

  /** Gives a record to `take`, if it counts. One that cannot be read is kept. */
  meet(map: SlabMap, record: ListedRecord, take: TakeRecord): void {
    if (!this.has(record)) return;
    const key = this.keyOf(map, record);
    if (key !== null) take(key, map, record.unit);
    else if (this.has(record)) this.unread.push(record);
  }

  /** Tries again to read what is kept, as far as it still counts. */
  meetUnread(take: TakeRecord): void {
    this.unread = this.unread.filter((record) => {
      if (!this.has(record)) return false;
      const map = this.lookup.maps.bySequence(record.sequence);
      const key = map === null ? null : this.keyOf(map, record);
      if (key !== null) take(key, map as SlabMap, record.unit);
      return key === null;
    });
  }

  private has({ hashA, hashB, sequence, unit }: ListedRecord): boolean {
    const slot = slotOfSequence(sequence);
    if (this.slots[slot] !== sequence) return false;
    this.wantedSlot = slot;
    this.wantedUnit = unit;
    return this.index.find(hashA, hashB, this.wanted);
  }

  /** The key of a record, if it is the one with these hashes. */
  private keyOf(map: SlabMap, { hashA, hashB, unit }: ListedRecord): Uint8Array | null {
    const key = keyOf(map, unit).slice();
    const { keyHash } = this.lookup.store;
    return hash32(key, 0) === hashA && hashBOf(key, key.length, keyHash) === hashB ? key : null;
  }
}
