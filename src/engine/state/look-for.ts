import { VaultError } from "../../util/errors.ts";
import type { Residency } from "../slabs/residency.ts";
import type { LookupState, ShardLookup } from "./lookup.ts";

export type SeenState = LookupState | "unreadable";

/**
 * Looks a key up for those to whom no error could be told. "unreadable": a file cannot be opened now.
 * @param residency so as not to wait for the disk, which is "cold"; null: waits
 */
export function lookFor(
  lookup: ShardLookup,
  { bytes, length }: { bytes: Uint8Array; length: number },
  hashA: number,
  hashB: number,
  residency: Residency | null,
): SeenState | "cold" {
  try {
    if (residency === null) return lookup.find(bytes, length, hashA, hashB);
    return lookup.findResident(residency, bytes, length, hashA, hashB);
  } catch (error) {
    if (error instanceof VaultError) return "unreadable";
    throw error;
  }
}
