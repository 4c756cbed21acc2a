/** What a front asks of the feed of changes, and what it is answered. */
import type { ErrorCode } from "../../util/errors.ts";

export interface FeedQuestion {
  /** Keys that begin with one of these are asked for; as latin1 text of their bytes. */
  prefixes: readonly string[];
  /** Only keys that are one of these. */
  exact: boolean;
  /** With each value, if it is small. */
  values: boolean;
  /** As events of a stream (text/event-stream), or as JSON objects with commas between them. */
  form: "events" | "objects";
  /** The place to go on from; null: now. */
  since: string | null;
  /** What the answer before this one said beside its place; -1: there was none. */
  cursor: number;
  /** What was shown before may be newer than the place: only what counts now may follow. */
  catchesUp: boolean;
  /** How long to wait while there is nothing; 0: not at all. */
  waitMs: number;
  /** The answer ends with the change that passes one of these. */
  bytesMax: number;
  countMax: number;
}

export interface FeedAnswer {
  kind: "changes";
  text: Uint8Array;
  count: number;
  /** Up to where all has been told. */
  place: string;
  cursor: number;
  /** There is more already. */
  more: boolean;
}

export interface FeedRefusal {
  kind: "refused";
  code: ErrorCode;
  detail: string;
}

export interface FeedAsked {
  id: number;
  /** Null: the answer is not needed any more. */
  question: FeedQuestion | null;
}

export interface FeedTold {
  id: number;
  answer: FeedAnswer | FeedRefusal;
}
