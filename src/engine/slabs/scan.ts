/**
 * Following the records of a slab that has no table. FORMAT.md, "Reading it back", has the rules. Nothing
 * here writes.
 */
import { endAt } from "../../format/end.ts";
import {
  FIRST_UNIT,
  RECORD_HEADER_BYTES,
  TYPE_CHUNK,
  TYPE_ENDED,
  TYPE_MARK,
  UNIT_BYTES,
} from "../../format/offsets.ts";
import {
  checksumOf,
  durableOf,
  emptyHead,
  isIntact,
  keyBytesOf,
  keyOffset,
  previousOf,
  type RecordSource,
  readHead,
  typeOf,
  unitsAt,
} from "../../format/record.ts";
import { tableWordAt } from "../../format/slab.ts";
import { ballotOfMillis } from "../../format/version.ts";
import { hash32, hashBOf, type KeyHash } from "../../util/hash.ts";

const RECORD_HEADER_UNITS = RECORD_HEADER_BYTES / UNIT_BYTES;

/** Result of following a slab's records without a table. */
export interface SlabScan {
  /** Three words a record, as in a table. */
  table: number[];
  endUnit: number;
  /** Checksum of the last record. */
  previous: number;
  /** Units from and up to which synced data is damaged. */
  damage: [from: number, to: number][];
  clockHigh: number;
  clockLow: number;
}

/** Where records are followed in bytes that are read as they are needed. */
export interface ScannedPart {
  /** Has all that lies before a unit in the source. */
  readTo(unit: number): void;
  /** Has all of the file in the source; answers the unit from which on there are only zeros. */
  readRest(): number;
}

/**
 * Follows the records of a slab from its first unit and tells a torn tail from damage.
 * @param place seed of the checksum of the record at a unit
 * @param part what reads the source; left out: all of it is there
 */
export function scanSlab(
  map: RecordSource,
  place: (unit: number) => number,
  keyHash: KeyHash,
  part?: ScannedPart,
): SlabScan {
  const endUnit = map.bytes.length / UNIT_BYTES;
  const scan: SlabScan = {
    table: [],
    endUnit: FIRST_UNIT,
    previous: 0,
    damage: [],
    clockHigh: 0,
    clockLow: 0,
  };
  const head = emptyHead();
  const take = (unit: number): void => {
    const at = keyOffset(unit);
    const key = map.bytes.subarray(at, at + keyBytesOf(map, unit));
    const type = typeOf(map, unit);
    scan.table.push(hash32(key, 0), hashBOf(key, key.length, keyHash), tableWordAt(map, unit, unit));
    scan.previous = checksumOf(map, unit);
    scan.endUnit = unit + unitsAt(map, unit);
    if (type === TYPE_CHUNK || type === TYPE_MARK) return;
    readHead(map, unit, head);
    observe(scan, head.clockHigh, head.clockLow);
    if (type !== TYPE_ENDED) return;
    const { clockHigh, clockLow } = ballotOfMillis(endAt(map, unit));
    observe(scan, clockHigh, clockLow);
  };
  for (;;) {
    const unit = scan.endUnit;
    part?.readTo(unit + RECORD_HEADER_UNITS);
    if (part !== undefined && unit + RECORD_HEADER_UNITS <= endUnit) part.readTo(unit + unitsAt(map, unit));
    if (isIntact(map, unit, endUnit, place(unit)) && previousOf(map, unit) === scan.previous) {
      take(unit);
      continue;
    }
    const later = nextDurableRecord(map, unit, endUnit, place, part?.readRest());
    if (later < 0) return scan;
    scan.damage.push([unit, later]);
    take(later);
  }
}

function observe(scan: SlabScan, high: number, low: number): void {
  if (high < scan.clockHigh || (high === scan.clockHigh && low <= scan.clockLow)) return;
  scan.clockHigh = high;
  scan.clockLow = low;
}

/**
 * The first valid record after `bad` that was written when `bad` had been synced, or -1.
 * @param zerosFrom the unit from which on there are only zeros
 */
export function nextDurableRecord(
  map: RecordSource,
  bad: number,
  endUnit: number,
  place: (unit: number) => number,
  zerosFrom = endUnit,
): number {
  const { words } = map;
  for (let unit = bad + 1; unit < zerosFrom; unit++) {
    // Most of what lies beyond the end is zeros.
    if (words[unit * 4] === 0 && words[unit * 4 + 2] === 0) continue;
    if (
      durableOf(map, unit) > bad &&
      durableOf(map, unit) <= unit &&
      isIntact(map, unit, endUnit, place(unit))
    )
      return unit;
  }
  return -1;
}
