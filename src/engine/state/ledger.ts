/**
 * The accounts of a shard: how many keys and tombstones it has, and how many bytes of each slab are live.
 */

import { type ChunkRef, readManifest } from "../../format/manifest.ts";
import { TYPE_FORGOTTEN, TYPE_MANIFEST, TYPE_TOMBSTONE, UNIT_BYTES } from "../../format/offsets.ts";
import { isAbsence, keyBytesOf, recordUnits, typeOf, unitsAt } from "../../format/record.ts";
import { FIGURE } from "../slabs/figures.ts";
import type { SlabTable } from "../slabs/table.ts";
import type { ShardLookup } from "./lookup.ts";

export class Ledger {
  private readonly slabs: SlabTable;
  private readonly lookup: ShardLookup;
  private readonly figures: Float64Array;

  constructor(slabs: SlabTable, lookup: ShardLookup, figures: Float64Array) {
    this.slabs = slabs;
    this.lookup = lookup;
    this.figures = figures;
  }

  /** Takes a record, and its chunks, out of the accounts of live bytes. */
  forget(slot: number, unit: number): void {
    const map = this.lookup.maps.get(slot);
    if (map === null) throw new Error("a record of a slab that is gone cannot be forgotten");
    const type = typeOf(map, unit);
    // Of a damaged record not even the length can be trusted: its bytes stay in the account and its slab
    // stays.
    if (!this.lookup.check(map, unit)) {
      this.count(type, -1, 0);
      return;
    }
    const bytes = unitsAt(map, unit) * UNIT_BYTES;
    this.slabs.live(slot, -bytes);
    if (type === TYPE_MANIFEST) this.countChunks(keyBytesOf(map, unit), readManifest(map, unit).chunks, -1);
    this.count(type, -1, bytes);
  }

  /** Adds a published record of so many bytes to the figures (`sign` 1), or takes it out (-1). */
  count(type: number, sign: 1 | -1, bytes: number): void {
    this.figures[figureOf(type)] += sign;
    if (isAbsence(type)) this.figures[FIGURE.absenceBytes] += sign * bytes;
  }

  /** Adds the chunks of a manifest to the live bytes of their slabs, or takes them out. */
  countChunks(keyBytes: number, chunks: readonly ChunkRef[], sign: 1 | -1): void {
    for (const chunk of chunks)
      this.slabs.liveIn(chunk.sequence, sign * recordUnits(keyBytes, 0, chunk.bytes) * UNIT_BYTES);
  }
}

function figureOf(type: number): number {
  if (type === TYPE_TOMBSTONE) return FIGURE.tombstones;
  return type === TYPE_FORGOTTEN ? FIGURE.forgotten : FIGURE.keys;
}
