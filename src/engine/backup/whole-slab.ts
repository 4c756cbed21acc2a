/** Whether a slab of a copy is the whole one that its list names. */
import fs from "node:fs";
import { FOOTER_BYTES } from "../../format/offsets.ts";
import { placeOf, recordSource } from "../../format/record.ts";
import { footerSeal, looksSealed } from "../../format/slab.ts";
import { LISTED_FULL, LISTED_UNKNOWN, type ListedSlab } from "../../format/slab-list.ts";
import type { StoreIdentity } from "../directory/store-file.ts";
import { misfitOf } from "../list/found-slab.ts";
import { readSlab } from "../slabs/files.ts";
import { scanSlab } from "../slabs/scan.ts";

/**
 * Whether a slab is there, as long as it was made, and ends as it is listed. That is told by the end of a
 * full one; one that was open, or whose end is another one, is read. Single records may be damaged all the
 * same.
 * @param size of its file, -1: there is none
 */
export function isWholeSlab(
  file: string,
  size: number,
  { slabBytes, salt, keyHash }: StoreIdentity,
  shard: number,
  listed: ListedSlab,
): boolean {
  if (size < slabBytes) return false;
  const { sequence, state } = listed;
  if (state === LISTED_UNKNOWN) return true;
  const sealBytes = readSlab(file, slabBytes - FOOTER_BYTES, FOOTER_BYTES, () => {});
  const seal = looksSealed(sealBytes) ? footerSeal(sealBytes) : null;
  if (state === LISTED_FULL && seal === listed.seal) return true;
  const map = recordSource(readSlab(file, 0, slabBytes, () => {}));
  const { table, endUnit } = scanSlab(map, (unit) => placeOf(salt, shard, sequence, unit), keyHash);
  return misfitOf({ map, table, endUnit, seal }, listed) === null;
}

/** Size of a file, -1: there is none. */
export function sizeOf(file: string): number {
  return fs.statSync(file, { throwIfNoEntry: false })?.size ?? -1;
}
