/** The newest state of a key, as judges need it. */
import { TYPE_ENDED, TYPE_FORGOTTEN, TYPE_TOMBSTONE } from "../../format/offsets.ts";
import type { KeyState } from "../../rules/write.ts";

/** `slot` -1: the index has nothing of it. */
export interface Current {
  state: KeyState;
  /** Its tombstone says that a value has ended. */
  ended: boolean;
  /** End of life of its value, or of the one that has ended; 0: none. */
  end: number;
  slot: number;
  unit: number;
  /** Its record has fields. */
  isExtended: boolean;
  /** With slot -1: entries of the index that have the key's tag. */
  crowd: number;
}

/** What there is of a key that the index has nothing of. */
export function nothing(state: "absent" | "damaged", crowd: number): Current {
  return { state, ended: false, end: 0, slot: -1, unit: 0, isExtended: false, crowd };
}

/** What a record of this type says of its key. */
export function stateOf(type: number): KeyState {
  if (type === TYPE_TOMBSTONE || type === TYPE_ENDED) return "tombstone";
  return type === TYPE_FORGOTTEN ? "absent" : "value";
}
