/** A change, as it is told. */
import type { Ballot } from "../../format/record.ts";

/** What happened to a key. */
export type ChangeEvent = "put" | "delete" | "expire";
export const CHANGE_EVENTS: readonly ChangeEvent[] = ["put", "delete", "expire"];

export interface Change {
  event: ChangeEvent;
  /** What a list says of the key, as JSON; of a key that is absent its name and version. */
  text: string;
}

/** Who knows what keys hold. */
export interface ChangeTeller {
  /**
   * What is told of a change that was met, by what the key holds now; null: something later says that, and is
   * met later.
   * @param met its version
   * @throws VaultError("corrupt") when nobody can tell
   */
  change(key: Uint8Array, met: Ballot, values: boolean): Change | null;
}
