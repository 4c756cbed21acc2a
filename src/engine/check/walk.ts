/**
 * Going through all records of one slab, good and bad: what `minivault verify` and `minivault inspect` have
 * in common. Nothing here writes.
 */
import { FIRST_UNIT, TYPE_FLOOR, TYPE_MARK, UNIT_BYTES } from "../../format/offsets.ts";
import {
  checksumOf,
  isIntact,
  isPlausible,
  keyOf,
  previousOf,
  type RecordSource,
  typeOf,
  unitsAt,
} from "../../format/record.ts";
import { type SlabFooter, tableType, tableUnit, tableWordAt, tableWords } from "../../format/slab.ts";
import { hash32, hashBOf, type KeyHash } from "../../util/hash.ts";
import { scanSlab } from "../slabs/scan.ts";
import type { HeldSlab } from "../start/slab-reader.ts";

/** One record of a slab, or a stretch in which there should be records. */
export interface WalkedRecord {
  unit: number;
  /** Up to where: the next record's unit, or the end. */
  endUnit: number;
  /** Null: whole and in its place. */
  problem: string | null;
  /** Its type as far as known, 0: unknown. */
  type: number;
  /** The key; null where no key can be read. */
  key: Uint8Array | null;
  /** The key has the hashes that its slab's table says, or belongs to a whole record. */
  keyIsCertain: boolean;
}

/** The records of a slab in order, and where they end. */
export interface SlabWalk {
  records: WalkedRecord[];
  endUnit: number;
  /** Its table, or what that would be as far as records can be followed. */
  table: Int32Array;
}

/**
 * Goes through a slab: along its table where it has a good one, and then table and records must say the same;
 * else from record to record.
 * @param held all of the slab
 * @param footer of the slab, from `decodeFooter`; null: none, or a bad one
 * @param place seed of the checksum of the record at a unit
 */
export function walkSlab(
  held: HeldSlab,
  footer: SlabFooter | null,
  place: (unit: number) => number,
  keyHash: KeyHash,
): SlabWalk {
  const { source: map, zerosFrom } = held;
  if (footer !== null) {
    const table = tableWords(map.bytes, footer);
    return { records: walkTable(map, footer, table, place, keyHash), endUnit: footer.endUnit, table };
  }
  const scan = scanSlab(map, place, keyHash, { readTo: () => {}, readRest: () => zerosFrom });
  const records: WalkedRecord[] = [];
  for (let at = 2; at < scan.table.length; at += 3) {
    const unit = tableUnit(scan.table[at]);
    records.push(whole(map, unit));
  }
  for (const [from, to] of scan.damage)
    records.push({
      unit: from,
      endUnit: to,
      problem: "no valid record, where there was one",
      type: 0,
      key: plausibleKey(map, from, to),
      keyIsCertain: false,
    });
  records.sort((a, b) => a.unit - b.unit);
  return { records, endUnit: scan.endUnit, table: Int32Array.from(scan.table) };
}

function whole(map: RecordSource, unit: number): WalkedRecord {
  return {
    unit,
    endUnit: unit + unitsAt(map, unit),
    problem: null,
    type: typeOf(map, unit),
    key: keyOf(map, unit),
    keyIsCertain: true,
  };
}

function plausibleKey(map: RecordSource, unit: number, endUnit: number): Uint8Array | null {
  return isPlausible(map, unit, endUnit) && typeOf(map, unit) !== TYPE_MARK ? keyOf(map, unit) : null;
}

function walkTable(
  map: RecordSource,
  footer: SlabFooter,
  table: Int32Array,
  place: (unit: number) => number,
  keyHash: KeyHash,
): WalkedRecord[] {
  const records: WalkedRecord[] = [];
  let expected = FIRST_UNIT;
  let previous: number | null = 0;
  for (let at = 0; at < table.length; at += 3) {
    const unit = tableUnit(table[at + 2]);
    const type = tableType(table[at + 2]);
    const endUnit = at + 3 < table.length ? tableUnit(table[at + 5]) : footer.endUnit;
    const isInside = unit >= FIRST_UNIT && endUnit > unit && endUnit <= footer.endUnit;
    const key = isInside ? plausibleKey(map, unit, endUnit) : null;
    const keyIsCertain =
      key !== null && hash32(key, 0) === table[at] && hashBOf(key, key.length, keyHash) === table[at + 1];
    let problem: string | null = null;
    if (!isInside || unit !== expected) problem = "the table has a hole";
    else if (!isIntact(map, unit, endUnit, place(unit))) problem = "the checksum does not hold";
    else if (
      unit + unitsAt(map, unit) !== endUnit ||
      table[at + 2] !== tableWordAt(map, unit, unit) ||
      !(keyIsCertain || type === TYPE_MARK || type === TYPE_FLOOR)
    )
      problem = "table and record differ";
    else if (previous !== null && previousOf(map, unit) !== previous)
      problem = "it does not follow the record before it";
    records.push({ unit, endUnit, problem, type, key, keyIsCertain });
    previous = problem === null ? checksumOf(map, unit) : null;
    expected = endUnit;
  }
  return records;
}

/**
 * Bytes after the end of an open slab's records: something was being written when the node ended, and nobody
 * was told that it is there.
 */
export function tornBytes({ source, zerosFrom }: HeldSlab, endUnit: number): number {
  const { bytes } = source;
  let last = Math.min(bytes.length, zerosFrom * UNIT_BYTES) - 1;
  const end = endUnit * UNIT_BYTES;
  while (last >= end && bytes[last] === 0) last--;
  return Math.max(0, last + 1 - end);
}
