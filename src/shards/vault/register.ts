/** What replication asks of a vault and what it finds there: types only. */
import type { Ballot, RecordHead } from "../../format/record.ts";
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
