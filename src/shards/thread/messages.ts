/** The tasks that the front hands to a shard thread. Batches themselves travel in the arena (buffer.ts). */
import type { MessagePort } from "node:worker_threads";
import type { ShardCut } from "../../engine/backup/cut.ts";
import type { StoreIdentity } from "../../engine/directory/store-file.ts";
import type { SyncMode } from "../../engine/log/log.ts";
import type { ShardMemory } from "../../engine/state/memory.ts";
import type { ErrorCode } from "../../util/errors.ts";
import type { Arena } from "../arena/arena.ts";
import type { BellEnd } from "../arena/bell.ts";

/** The shard thread's end of the way to one front. */
export interface Channel {
  arena: Arena;
  /** To the front: a buffer has its answers (null), or warnings. From it: look at the arena. */
  answers: MessagePort;
}

export interface OpenTask {
  kind: "open";
  dataDirectory: string;
  /** Where extracted native addons go first; null: not in the data directory. */
  addonDirectory: string | null;
  store: StoreIdentity;
  sync: SyncMode;
  /** How long deletes are told to who follows the log. */
  historyMs: number;
  /** Nothing can be written. */
  readOnly: boolean;
  /** One for each front. */
  channels: Channel[];
  /** Wakes the thread that follows the logs. */
  follower: BellEnd;
  shards: { shard: number; memory: ShardMemory }[];
  /** Float64: bytes read back, bytes to read back. */
  progress: SharedArrayBuffer;
}

export interface CloseTask {
  kind: "close";
}

/**
 * For a backup: no batch is begun from now on, and no slab dropped. Whoever asks says soon that batches may
 * go on (they do by themselves after HOLD_MS_MAX), and later that slabs may be dropped.
 */
export interface CutTask {
  kind: "cut";
}

export interface ResumeTask {
  kind: "resume";
}

export interface ReleaseTask {
  kind: "release";
}

export type Task = OpenTask | CloseTask | CutTask | ResumeTask | ReleaseTask;

export const SHARD_TASK_KINDS: readonly Task["kind"][] = ["open", "close", "cut", "resume", "release"];

export interface TaskAnswer {
  /** What an operator should know, collected since the last answer. */
  warnings: string[];
  /** After a cut: the thread's shards; left out: they cannot be told, for this reason. */
  cuts?: ShardCut[];
  refused?: { code: ErrorCode; detail: string };
  /** After a resume: whether batches were held all the time. */
  held?: boolean;
}
