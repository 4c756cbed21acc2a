/** What a front asks the catalog thread, and what it is answered. */
import type { MessagePort } from "node:worker_threads";
import type { KeyRange } from "../../engine/catalog/runs/listing.ts";
import type { StoreIdentity } from "../../engine/directory/store-file.ts";
import type { ShardMemory } from "../../engine/state/memory.ts";
import type { ErrorCode } from "../../util/errors.ts";
import type { BellEnd } from "../arena/bell.ts";
import type { FeedAsked, FeedTold } from "../feed/messages.ts";

/** While the shards are read back, so that the start does not wait for it afterwards. */
export interface CatalogPrepareTask {
  kind: "prepare-catalog";
  addonDirectory: string | null;
}

export interface CatalogOpenTask {
  kind: "open-catalog";
  dataDirectory: string;
  store: StoreIdentity;
  memories: ShardMemory[];
  /** Number of this thread among those that read. */
  reader: number;
  readOnly: boolean;
  /** One for each front. */
  channels: MessagePort[];
  /** By which the shards' threads wake this one. */
  bell: BellEnd[];
  /** Float64 per figure of `CATALOG_FIGURE`. */
  figures: SharedArrayBuffer;
}

export interface CatalogCloseTask {
  kind: "close-catalog";
}

export type CatalogTask = CatalogPrepareTask | CatalogOpenTask | CatalogCloseTask;

/** Positions in the array of figures. */
export const CATALOG_FIGURE = {
  /** 0: building, 1: ready, 2: blind (see CatalogState). */
  state: 0,
  progress: 1,
  runs: 2,
  runKeys: 3,
  runBytes: 4,
  tailKeys: 5,
  memoryBytes: 6,
  builds: 7,
  flushes: 8,
  merges: 9,
  diskFull: 10,
} as const;
export const CATALOG_FIGURES_BYTES = 16 * Float64Array.BYTES_PER_ELEMENT;

/** Entries of a list. */
export interface ListQuestion {
  kind: "list";
  range: KeyRange;
  limit: number;
  values: boolean;
  /** Each entry as a line, prefixes between the keys as `{"prefix":…}`; else two parts of a document. */
  lines: boolean;
}

/** How many keys there are. */
export interface CountQuestion {
  kind: "count";
  range: KeyRange;
}

/** The keys by themselves. */
export interface NamesQuestion {
  kind: "names";
  range: KeyRange;
  limit: number;
}

/** What this replica holds, tombstones included. */
export interface HeldQuestion {
  kind: "held";
  /** With a delimiter, of the keys that are rolled up into one prefix only the first that has a value. */
  range: KeyRange;
  /** Of keys that are looked at. */
  limit: number;
}

export type CatalogQuestion = ListQuestion | CountQuestion | NamesQuestion | HeldQuestion;

/**
 * Keys that an answer leaves out since their end has come, by a clock at that moment: who passes the answer
 * on has that written down first (`Vault.end`).
 */
export interface Ended {
  keys: Uint8Array[];
  nowMs: number;
}

export interface ListAnswer {
  kind: "list";
  ended: Ended;
  /** JSON objects, one a key: lines, or with commas between them. */
  keys: Uint8Array;
  /** JSON texts with commas between them; empty where there are lines. */
  prefixes: Uint8Array;
  /** Of both. */
  count: number;
  /** What is left; null: nothing. */
  left: KeyRange | null;
}

export interface CountAnswer {
  kind: "count";
  ended: Ended;
  count: number;
  left: KeyRange | null;
}

export interface NamesAnswer {
  kind: "names";
  ended: Ended;
  keys: Uint8Array[];
  left: KeyRange | null;
}

export interface HeldAnswer {
  kind: "held";
  /** As decodeHeld (held.ts) reads them. */
  entries: Uint8Array;
  left: KeyRange | null;
}

export interface Refused {
  kind: "refused";
  code: ErrorCode;
  detail: string;
}

export type CatalogAnswer = ListAnswer | CountAnswer | NamesAnswer | HeldAnswer | Refused;

/** What an answer to a question is. */
export type AnswerTo<Question extends CatalogQuestion> = Extract<CatalogAnswer, { kind: Question["kind"] }>;

/** To the thread. The feed of changes (../feed) goes the same way. */
export type Asked = { id: number; question: CatalogQuestion } | { feed: FeedAsked[] };

/** From the thread: an answer, or what an operator should know. */
export type Told = { id: number; answer: CatalogAnswer } | { feed: FeedTold[] } | { warning: string };
