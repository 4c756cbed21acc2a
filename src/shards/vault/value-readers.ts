/**
 * Readers of values that are sent in pieces. They pin the maps they read from, and check what they give: a
 * page that can be read now may be missing in a moment (found-record.ts).
 */
import { type SlabMap, touchPages } from "../../engine/slabs/maps.ts";
import type { Residency } from "../../engine/slabs/residency.ts";
import type { ShardLookup } from "../../engine/state/lookup.ts";
import type { ChunkRef } from "../../format/manifest.ts";
import { UNIT_BYTES } from "../../format/offsets.ts";
import { recordUnits, valueBytesOf, valueOffset } from "../../format/record.ts";
import { VaultError } from "../../util/errors.ts";
import { RECORD_KEY_BYTES_MAX } from "../../util/limits.ts";
import type { ValueReader } from "./vault.ts";

/** Pages that were missing when the bytes of a map were last seen to be good. */
class Steadiness {
  private readonly lookup: ShardLookup;
  private missing = -1;

  constructor(lookup: ShardLookup) {
    this.lookup = lookup;
  }

  /** Other bytes are looked at from now on. */
  reset(): void {
    this.missing = -1;
  }

  /**
   * Whether bytes that passed `check` are still there, all of them; `check` is made anew where that is not
   * sure.
   */
  holds(map: SlabMap, from: number, to: number, check: () => boolean): boolean {
    touchPages(map, from, to);
    const { missingPages } = this.lookup;
    // A zero at the end may be of a file that was cut within that page (record-end.ts).
    if (missingPages === this.missing && (to === from || map.bytes[to - 1] > 0)) return true;
    if (!check()) return false;
    this.missing = missingPages;
    // While it was checked others may have gone missing: then the next look checks again.
    return true;
  }
}

/** A value in one record. */
export class RecordReader implements ValueReader {
  readonly valueBytes: number;
  private readonly lookup: ShardLookup;
  private readonly map: SlabMap;
  private readonly unit: number;
  private readonly valueAt: number;
  private readonly steadiness: Steadiness;
  private closed = false;

  constructor(lookup: ShardLookup, map: SlabMap, unit: number) {
    this.lookup = lookup;
    this.map = map;
    this.unit = unit;
    this.valueAt = valueOffset(map, unit);
    this.valueBytes = valueBytesOf(map, unit);
    this.steadiness = new Steadiness(lookup);
    map.pins++;
  }

  read(offset: number): Uint8Array {
    if (!this.holds(offset, offset)) throw new VaultError("corrupt", "the disk cannot give the record");
    return this.map.bytes.subarray(this.valueAt + offset, this.valueAt + this.valueBytes);
  }

  holds(from: number, to: number): boolean {
    const { map, unit, valueAt, lookup } = this;
    return this.steadiness.holds(map, valueAt + from, valueAt + to, () => lookup.check(map, unit));
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.map.pins--;
  }
}

/** A value in chunks. */
export class ChunkReader implements ValueReader {
  readonly valueBytes: number;
  private readonly lookup: ShardLookup;
  private readonly residency: Residency;
  private readonly chunks: readonly ChunkRef[];
  private readonly maps: Map<number, SlabMap>;
  /** Where each chunk begins in the value; they may have any length. */
  private readonly starts: Float64Array;
  private readonly steadiness: Steadiness;
  /** Where the value of the chunk that was last read lies in its map. */
  private valueAt = 0;
  private closed = false;

  constructor(
    lookup: ShardLookup,
    residency: Residency,
    valueBytes: number,
    chunks: readonly ChunkRef[],
    maps: Map<number, SlabMap>,
  ) {
    this.lookup = lookup;
    this.residency = residency;
    this.valueBytes = valueBytes;
    this.chunks = chunks;
    this.maps = maps;
    this.starts = new Float64Array(chunks.length);
    for (let number = 1; number < chunks.length; number++)
      this.starts[number] = this.starts[number - 1] + chunks[number - 1].bytes;
    this.steadiness = new Steadiness(lookup);
    for (const map of maps.values()) map.pins++;
  }

  /** Which chunk holds a byte of the value. */
  private numberAt(offset: number): number {
    const { starts } = this;
    let low = 0;
    let high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (starts[middle] <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  read(offset: number): Uint8Array {
    const number = this.numberAt(offset);
    const { sequence, unit, bytes } = this.chunks[number];
    const map = this.maps.get(sequence) as SlabMap;
    this.steadiness.reset();
    this.valueAt = valueOffset(map, unit);
    if (!this.holds(offset, offset))
      throw new VaultError("corrupt", `chunk ${number} of the value is damaged`);
    return map.bytes.subarray(this.valueAt + offset - this.starts[number], this.valueAt + bytes);
  }

  holds(from: number, to: number): boolean {
    const number = this.numberAt(from);
    const { sequence, unit, bytes, checksum } = this.chunks[number];
    const map = this.maps.get(sequence) as SlabMap;
    const at = this.valueAt - this.starts[number];
    return this.steadiness.holds(
      map,
      at + from,
      at + to,
      () =>
        this.lookup.checkChunk(map, unit, checksum) &&
        valueBytesOf(map, unit) === bytes &&
        valueOffset(map, unit) === this.valueAt,
    );
  }

  ready(offset: number, then: () => void): boolean {
    const { sequence, unit, bytes } = this.chunks[this.numberAt(offset)];
    const map = this.maps.get(sequence) as SlabMap;
    const from = unit * UNIT_BYTES;
    // Key and content type of a chunk are not known yet: as long as they can be.
    const to = Math.min(map.bytes.length, from + recordUnits(RECORD_KEY_BYTES_MAX, 0, bytes) * UNIT_BYTES);
    if (from >= to || this.residency.isResident(map, from, to)) return true;
    this.residency.read(map, from, to, then);
    return false;
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    for (const map of this.maps.values()) map.pins--;
  }
}
