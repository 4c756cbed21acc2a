/** How writes differ that come by another protocol than ours. */
import type { Res } from "../http/http.ts";

/** Says why a write must not be done, or null: it may. */
export type Allow = (refusal: ((res: Res) => number) | null) => void;

/** What a write has to itself that comes by another protocol than ours. */
export interface Manner {
  /** Called once the whole body is there, before the write is done; calls `allow` once, perhaps at once. */
  ask(allow: Allow): void;
}
