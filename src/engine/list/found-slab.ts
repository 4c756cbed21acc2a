/** Whether a slab that was found is the one that was listed. Pure. */
import { FIRST_UNIT, UNIT_BYTES } from "../../format/offsets.ts";
import { checksumOf, type RecordSource } from "../../format/record.ts";
import { tableUnit } from "../../format/slab.ts";
import {
  LISTED_FULL,
  LISTED_OPEN,
  LISTED_UNKNOWN,
  type ListedSlab,
  type SlabEnd,
} from "../../format/slab-list.ts";

/** What was found in the file of a slab. */
export interface FoundSlab {
  map: RecordSource;
  /** Three words a record, as in a slab's table. */
  table: ArrayLike<number>;
  endUnit: number;
  /** The checksum in its footer; null: it has none. */
  seal: number | null;
}

/** Where in a slab's table the first record at `unit` or after it stands. */
export function firstFrom(table: ArrayLike<number>, unit: number): number {
  let low = 0;
  let high = table.length / 3;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (tableUnit(table[middle * 3 + 2]) < unit) low = middle + 1;
    else high = middle;
  }
  return low * 3;
}

/** The checksum of the record that ends at a unit; 0 at the very beginning; null: no record ends there. */
export function checksumBefore({ map, table, endUnit }: FoundSlab, unit: number): number | null {
  if (unit === FIRST_UNIT) return 0;
  const at = firstFrom(table, unit);
  const end = at < table.length ? tableUnit(table[at + 2]) : endUnit;
  return at === 0 || end !== unit ? null : checksumOf(map, tableUnit(table[at - 1]));
}

/** Why a slab is not the one that was listed, for a person; null: it is, as far as can be told. */
export function misfitOf(found: FoundSlab, listed: ListedSlab): string | null {
  const { state, endUnit, last, seal } = listed;
  if (state === LISTED_UNKNOWN) return null;
  if (state === LISTED_OPEN) return shortfallOf(found, listed);
  // The records decide, not the footer: a start may have made it anew, with another highest clock.
  if (found.seal === seal) return null;
  const fits = found.endUnit === endUnit && (last === 0 || checksumBefore(found, endUnit) === last);
  return fits
    ? null
    : `it had records up to byte ${endUnit * UNIT_BYTES}, and this file has others: a copy from another time, or a damaged one`;
}

/** Why a slab does not go as far as it once was durable, for a person; null: it does. */
export function shortfallOf(found: FoundSlab, { endUnit, last }: SlabEnd): string | null {
  return checksumBefore(found, endUnit) === last
    ? null
    : `it had records up to byte ${endUnit * UNIT_BYTES} at least, and this file has not: an older copy of it, or a damaged one`;
}

/** How a slab is listed that was found whole. */
export function listedAs(found: FoundSlab, sequence: number, open: boolean): ListedSlab {
  const { endUnit, seal } = found;
  const last = checksumBefore(found, endUnit);
  if (last === null || (!open && seal === null)) return unknownSlab(sequence);
  return { sequence, state: open ? LISTED_OPEN : LISTED_FULL, endUnit, last, seal: seal ?? 0 };
}

/** How a slab is listed of which nothing is known. */
export function unknownSlab(sequence: number): ListedSlab {
  return { sequence, state: LISTED_UNKNOWN, endUnit: 0, last: 0, seal: 0 };
}
