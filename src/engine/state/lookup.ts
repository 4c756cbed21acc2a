/**
 * Finding a key's record: index, then the record itself in its slab's map. Used by the fronts and by the
 * shard's own thread.
 */
import { RECORD_HEADER_BYTES, SLAB_UNIT_BITS, UNIT_BYTES, UNIT_SHIFT } from "../../format/offsets.ts";
import { checksumOf, isIntact, keyEquals, placeOf, RECORD_UNITS_MAX, unitsAt } from "../../format/record.ts";
import { type StoreIdentity, shardDirectory } from "../directory/store-file.ts";
import { IndexReader, type Matcher } from "../index/reader.ts";
import { FIGURE, MISSING_IN_ALL } from "../slabs/figures.ts";
import { type SlabMap, SlabMaps } from "../slabs/maps.ts";
import { isEndVisible } from "../slabs/record-end.ts";
import type { Residency } from "../slabs/residency.ts";
import type { ShardMemory } from "./memory.ts";

/**
 * Locations whose records were checked since the start, as a direct-mapped cache: two words each (sequence,
 * unit). Checking a 100-byte record costs 0.15 µs and a 1 MiB one 200 µs; the hot ones are found here
 * instead.
 */
const CHECKED_ENTRIES = 1 << 18;

/** A record's header is read with so much of what follows, most often all of it. */
const HEAD_READ_BYTES = 4096;

export type LookupState = "found" | "absent" | "damaged";

export class ShardLookup implements Matcher {
  readonly maps: SlabMaps;
  readonly store: StoreIdentity;
  readonly shard: number;
  private readonly index: IndexReader;
  private readonly figures: Float64Array;
  private readonly checked = new Int32Array(CHECKED_ENTRIES * 2);
  /** The damage generation in which they were checked. */
  private generation = 0;
  /** `missingPages` when `check` was last asked: what it called good was good until then. */
  missingAtCheck = 0;
  private readonly missing: Int32Array;
  private key: Uint8Array = new Uint8Array(0);
  private keyBytes = 0;
  private damage = false;
  private vanished = false;
  /**
   * Whether the last `find` found a record of the key, also one that it then called "damaged"; if so, where.
   */
  located = false;
  /** Entries with the tag of its key that the last `find` has met: all there are, if it found nothing. */
  met = 0;
  map!: SlabMap;
  unit = 0;
  /** Set while a search must not wait for the disk. */
  private residency: Residency | null = null;
  /** What the last search that ended "cold" missed: bytes of `map`. */
  private coldFrom = 0;
  private coldTo = 0;

  /** @param held this thread's own array of held slabs */
  constructor(
    dataDirectory: string,
    shard: number,
    store: StoreIdentity,
    memory: ShardMemory,
    held: SharedArrayBuffer,
    index?: IndexReader,
  ) {
    this.shard = shard;
    this.store = store;
    this.index = index ?? new IndexReader(memory.index);
    this.figures = new Float64Array(memory.figures);
    this.missing = new Int32Array(memory.missingPages);
    this.maps = new SlabMaps(
      shardDirectory(dataDirectory, shard),
      store.slabBytes,
      new Int32Array(memory.slots),
      new Int32Array(held),
      this.missing,
    );
  }

  /**
   * Pages of this shard that the disk could not give so far. They read as zeros: what was read of a checked
   * record between two equal numbers is what was checked, and after an unequal one it must be checked again.
   */
  get missingPages(): number {
    return Atomics.load(this.missing, MISSING_IN_ALL);
  }

  /**
   * Finds the newest record (value, manifest or tombstone) of a key. When "found", `map` and `unit` say
   * where; the map may be read until the caller returns to its event loop. The record's own bytes are not
   * checked yet: see `check`.
   */
  find(key: Uint8Array, keyBytes: number, hashA: number, hashB: number): LookupState {
    this.key = key;
    this.keyBytes = keyBytes;
    for (;;) {
      this.damage = this.vanished = false;
      this.met = 0;
      const doubt = this.figures[FIGURE.doubtSequence];
      this.located = this.index.find(hashA, hashB, this);
      if (this.located) return doubt !== 0 && this.isDoubtful(doubt) ? "damaged" : "found";
      if (this.vanished) continue; // a slab went away under the search: its records have moved
      return this.damage || doubt !== 0 ? "damaged" : "absent";
    }
  }

  /**
   * Like `find`, but never waits for the disk: "cold" where it would have to. `warm` then reads what was
   * missing. A record that is "found" is in memory as a whole.
   */
  findResident(
    residency: Residency,
    key: Uint8Array,
    keyBytes: number,
    hashA: number,
    hashB: number,
  ): LookupState | "cold" {
    this.residency = residency;
    this.coldTo = 0;
    const state = this.find(key, keyBytes, hashA, hashB);
    this.residency = null;
    return this.coldTo === 0 ? state : "cold";
  }

  /**
   * Reads what the last search missed, then calls back. To be called at once after the search that ended
   * "cold".
   */
  warm(residency: Residency, done: () => void): void {
    residency.read(this.map, this.coldFrom, this.coldTo, done);
  }

  /** Whether a record can be looked at without waiting for the disk; notes what is missing. */
  private isResident(residency: Residency, map: SlabMap, unit: number): boolean {
    const start = unit << UNIT_SHIFT;
    let end = start + RECORD_HEADER_BYTES;
    let wanted = start + HEAD_READ_BYTES;
    if (residency.isResident(map, start, end)) {
      end = Math.min(map.bytes.length, start + Math.min(unitsAt(map, unit), RECORD_UNITS_MAX) * UNIT_BYTES);
      if (residency.isResident(map, start, end)) return true;
      wanted = end;
    }
    this.map = map;
    this.unit = unit;
    this.coldFrom = start;
    this.coldTo = wanted;
    return false;
  }

  /** Whether the record found may have been replaced by one that damage took. */
  private isDoubtful(doubt: number): boolean {
    const { sequence } = this.map;
    return sequence < doubt || (sequence === doubt && this.unit < this.figures[FIGURE.doubtUnit]);
  }

  matches(slot: number, unit: number): boolean {
    this.met++;
    const map = this.maps.get(slot);
    if (map === null) {
      this.vanished = true;
      return false;
    }
    // Ends the search.
    if (this.residency !== null && !this.isResident(this.residency, map, unit)) return true;
    if (keyEquals(map, unit, this.key, this.keyBytes)) {
      this.map = map;
      this.unit = unit;
      return true;
    }
    // Another key with the same tag, or this key with damaged bytes: only the checksum can tell.
    if (!this.check(map, unit)) this.damage = true;
    return false;
  }

  /** The map of the slab in a slot that the index, a promise or a floor names. */
  mapOf(slot: number): SlabMap {
    const map = this.maps.get(slot);
    if (map === null) throw new Error(`shard ${this.shard}: the index points to a slab that is gone`);
    return map;
  }

  /** Whether the record is whole and in its place. Remembers good ones. */
  check(map: SlabMap, unit: number): boolean {
    const { missingPages } = this;
    if (this.generation !== this.figures[FIGURE.damageGeneration] || this.missingAtCheck !== missingPages) {
      this.generation = this.figures[FIGURE.damageGeneration];
      this.missingAtCheck = missingPages;
      this.checked.fill(0);
    }
    const at = checkedAt(map.sequence, unit);
    if (this.checked[at] === map.sequence && this.checked[at + 1] === unit && isEndVisible(map, unit))
      return true;
    const place = placeOf(this.store.salt, this.shard, map.sequence, unit);
    if (!isIntact(map, unit, map.bytes.length >>> 4, place)) return false;
    this.checked[at] = map.sequence;
    this.checked[at + 1] = unit;
    return true;
  }

  /**
   * Whether `check` has called a record good, as things were when it was last asked: asks nobody, so it
   * counts only while `missingPages` is still `missingAtCheck`.
   */
  wasChecked(map: SlabMap, unit: number): boolean {
    const at = checkedAt(map.sequence, unit);
    return (
      this.checked[at] === map.sequence &&
      this.checked[at + 1] === unit &&
      this.generation === this.figures[FIGURE.damageGeneration] &&
      isEndVisible(map, unit)
    );
  }

  /** Like `check`, but looks at the bytes as they are now, whatever was seen before. */
  checkAgain(map: SlabMap, unit: number): boolean {
    const at = checkedAt(map.sequence, unit);
    if (this.checked[at] === map.sequence && this.checked[at + 1] === unit) this.checked[at] = 0;
    return this.check(map, unit);
  }

  /** Remembers a record as good that this thread has just made. */
  vouch(sequence: number, unit: number): void {
    const at = checkedAt(sequence, unit);
    this.checked[at] = sequence;
    this.checked[at + 1] = unit;
  }

  /** Like `check`, for a chunk that must be the very one its manifest names. */
  checkChunk(map: SlabMap, unit: number, checksum: number): boolean {
    return unit < 1 << SLAB_UNIT_BITS && checksumOf(map, unit) === checksum && this.check(map, unit);
  }
}

/** Where a location's words are in the cache of checked ones. */
function checkedAt(sequence: number, unit: number): number {
  return ((Math.imul(sequence, 0x9e3779b1) ^ Math.imul(unit, 0x85ebca6b)) >>> 14) * 2;
}
