/**
 * Builds the index that a start would build, and compares it with the records that `verify` has read: every
 * record that says what a key holds is in it, or a newer record of the key is; and it has no other entries.
 * Changes nothing on the disk.
 */

import { keyOf } from "../../format/record.ts";
import { isIndexed } from "../../format/record-types.ts";
import { decodeFooter, tableType, tableUnit, tableWords } from "../../format/slab.ts";
import { hash32, hashBOf } from "../../util/hash.ts";
import type { StoreIdentity } from "../directory/store-file.ts";
import { Shard } from "../shard/shard.ts";
import { FIGURE } from "../slabs/figures.ts";
import type { SlabMap } from "../slabs/maps.ts";
import { createShardMemory } from "../state/memory.ts";
import type { State } from "../state/state.ts";

/** What reading the slabs has shown. */
export interface ReadSlabs {
  sequences: readonly number[];
  /** Of slabs without a good table: three words a record, as in a table. */
  tables: ReadonlyMap<number, Int32Array>;
  /** Whether the record at a unit of a slab is damaged. */
  isBad(sequence: number, unit: number): boolean;
  /** Any damage may have taken the newer record of a key. */
  isSound: boolean;
}

export interface IndexReport {
  /** A record that a start would not find although it counts; of a slab, at a unit. */
  lost(sequence: number, unit: number, key: Uint8Array): void;
  /** Something is wrong with the index as a whole. */
  damage(text: string): void;
  /** Called after each slab. */
  turn(): Promise<void>;
}

/**
 * Checks the index of a shard.
 * @returns what a start would serve
 * @throws Error why a start would fail
 */
export async function verifyIndex(
  dataDirectory: string,
  store: StoreIdentity,
  number: number,
  slabs: ReadSlabs,
  report: IndexReport,
): Promise<{ keys: number; tombstones: number }> {
  const { state } = Shard.examine(
    {
      dataDirectory,
      shard: number,
      // A snapshot is checked elsewhere; of this incarnation it does not fit, so that the slabs are read.
      store,
      sync: "always",
      memory: createShardMemory(0),
      now: Date.now,
      warn: () => {},
    },
    () => {},
  );
  let held = 0;
  for (const sequence of slabs.sequences) {
    const map = state.lookup.maps.bySequence(sequence);
    if (map === null) throw new Error(`slab ${sequence} cannot be mapped`);
    held += compare(state, map, slabs, report);
    await report.turn();
  }
  const { index, figures } = state;
  if (held !== index.entries) report.damage(`${index.entries} entries for ${held} records that count`);
  const [keys, tombstones] = [figures[FIGURE.keys], figures[FIGURE.tombstones]];
  if (keys + tombstones + figures[FIGURE.forgotten] !== index.entries)
    report.damage(`${index.entries} entries for ${keys} keys and ${tombstones} tombstones`);
  return { keys, tombstones };
}

/** Looks up all records of a slab; answers how many of them the index has. */
function compare(state: State, map: SlabMap, slabs: ReadSlabs, report: IndexReport): number {
  const { lookup, index, store } = state;
  const { sequence, slot } = map;
  const table = slabs.tables.get(sequence) ?? tableOf(map);
  let held = 0;
  for (let at = 0; at < table.length; at += 3) {
    const unit = tableUnit(table[at + 2]);
    if (!isIndexed(tableType(table[at + 2]))) continue;
    if (index.holds(table[at], table[at + 1], slot, unit)) {
      held++;
      continue;
    }
    if (slabs.isBad(sequence, unit)) continue;
    const key = keyOf(map, unit);
    lookup.find(key, key.length, hash32(key, 0), hashBOf(key, key.length, store.keyHash));
    const isNewer =
      lookup.located &&
      (lookup.map.sequence > sequence || (lookup.map.sequence === sequence && lookup.unit > unit));
    // A newer one that is damaged stands in the index under the key's hashes, and cannot be told from another
    // key's.
    if (!isNewer && (lookup.located || slabs.isSound)) report.lost(sequence, unit, key);
  }
  return held;
}

function tableOf(map: SlabMap): Int32Array {
  const footer = decodeFooter(map.bytes, map.sequence);
  if (footer === null) throw new Error(`slab ${map.sequence} changed while it was verified`);
  return tableWords(map.bytes, footer);
}
