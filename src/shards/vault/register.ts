/** What replication asks of a vault and what it finds there. */
import type { Residency } from "../../engine/slabs/residency.ts";
import type { LookupState, ShardLookup } from "../../engine/state/lookup.ts";
import type { Ballot, RecordHead } from "../../format/record.ts";
import { VaultError } from "../../util/errors.ts";
import type { KeyBytes } from "../arena/write.ts";
import type { Found } from "./vault.ts";

/**
 * What is held of a key. `head`: of a value or a tombstone. `found`: of a value. "unreadable": nobody knows
 * now, as the file cannot be opened; another try may.
 */
export interface FoundRegister {
  state: "found" | "tombstone" | "absent" | "damaged" | "unreadable";
  readonly head: RecordHead;
  found: Found;
  /** "tombstone": it says that the value of its ballot has ended. */
  ended: boolean;
  /** End of life of the value, or of the one that has ended, in milliseconds since 1970; 0: none. */
  end: number;
  /** Its recent operations, the field's bytes; null: it has none. */
  recent: Uint8Array | null;
}

export type HeldState = LookupState | "unreadable";

/**
 * What there is of a key. "unreadable": it cannot be seen, as a file cannot be opened now.
 * @param residency so as not to wait for the disk, which is "cold"; null: waits
 */
export function lookFor(
  lookup: ShardLookup,
  { bytes, length }: KeyBytes,
  hashA: number,
  hashB: number,
  residency: Residency | null,
): HeldState | "cold" {
  try {
    if (residency === null) return lookup.find(bytes, length, hashA, hashB);
    return lookup.findResident(residency, bytes, length, hashA, hashB);
  } catch (error) {
    if (error instanceof VaultError) return "unreadable";
    throw error;
  }
}

/** What another node, or this one as its own replica, asks to be held. */
export interface AcceptHead {
  key: KeyBytes;
  ballot: Ballot;
  operationLow: number;
  operationHigh: number;
  json: boolean;
  contentType: string;
  /** Fields to be kept with the value; of one that is staged they come with its accept. */
  trailer: Uint8Array;
  /** It is taken over from the others to make this replica whole: see Write. */
  repair?: boolean;
  /** Not a value: that of this ballot has ended; of the fields what such a record keeps. */
  ended?: boolean;
}
