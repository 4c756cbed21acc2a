/**
 * The accounts of a shard: how many keys and tombstones it has, and how many bytes of each slab are live.
 */

import { endAt } from "../../format/end.ts";
import { type ChunkRef, readManifest } from "../../format/manifest.ts";
import {
  TYPE_ENDED,
  TYPE_FORGOTTEN,
  TYPE_MANIFEST,
  TYPE_TOMBSTONE,
  UNIT_BYTES,
} from "../../format/offsets.ts";
import {
  isExtended,
  keyBytesOf,
  type RecordSource,
  recordUnits,
  typeOf,
  unitsAt,
} from "../../format/record.ts";
import { isAbsence, isValue } from "../../format/record-types.ts";
import type { Ends } from "../ends/ends.ts";
import { FIGURE } from "../slabs/figures.ts";
import type { SlabTable } from "../slabs/table.ts";
import type { ShardLookup } from "./lookup.ts";

/** A record that is durable and about to be the one that counts. */
export interface Published {
  readonly hashA: number;
  readonly hashB: number;
  readonly type: number;
  /** Where it stands in the open slab, and how long it is. */
  readonly unit: number;
  readonly units: number;
  /** The record it takes the place of; slot -1: none. */
  readonly oldSlot: number;
  readonly oldUnit: number;
  /** Of a value: its end of life, or 0. */
  readonly end: number;
  /** Of a manifest. */
  readonly chunks: readonly ChunkRef[];
  /** Of a floor: whose it is. */
  readonly partition: number;
}

/** What a start has counted, to be entered at once. */
export interface Totals {
  keys: number;
  tombstones: number;
  forgotten: number;
  /** Bytes of tombstones and forgotten records. */
  absenceBytes: number;
}

export class Ledger {
  private readonly slabs: SlabTable;
  private readonly lookup: ShardLookup;
  private readonly figures: Float64Array;
  private readonly ends: Ends;

  constructor(slabs: SlabTable, lookup: ShardLookup, figures: Float64Array, ends: Ends) {
    this.ends = ends;
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
    if (isEnding(map, unit, type)) this.ends.left(map.sequence, unit);
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

function isEnding(source: RecordSource, unit: number, type: number): boolean {
  return isExtended(source, unit) && isValue(type) && endAt(source, unit) !== 0;
}

function figureOf(type: number): number {
  if (type === TYPE_TOMBSTONE || type === TYPE_ENDED) return FIGURE.tombstones;
  return type === TYPE_FORGOTTEN ? FIGURE.forgotten : FIGURE.keys;
}
