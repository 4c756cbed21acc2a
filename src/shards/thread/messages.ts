/** The tasks that the front hands to a shard thread. Batches themselves travel in the arena (buffer.ts). */
import type { MessagePort } from "node:worker_threads";
import type { StoreIdentity } from "../../engine/directory/store-file.ts";
import type { SyncMode } from "../../engine/log/log.ts";
import type { ShardMemory } from "../../engine/state/memory.ts";
import type { Arena } from "../arena/arena.ts";

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
  shards: { shard: number; memory: ShardMemory }[];
  /** Float64: bytes read back, bytes to read back. */
  progress: SharedArrayBuffer;
}

export interface CloseTask {
  kind: "close";
}

export type Task = OpenTask | CloseTask;

/** What an operator should know, collected since the last answer. */
export interface TaskAnswer {
  warnings: string[];
}
