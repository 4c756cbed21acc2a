/** The task handler of the bundle, where all threads are one file: who takes a task is said by the task. */
import handleShards from "../thread/handler.ts";
import { SHARD_TASK_KINDS, type Task } from "../thread/messages.ts";
import handleCatalog from "./handler.ts";
import type { CatalogTask } from "./messages.ts";

export default function handle(task: Task | CatalogTask): Promise<unknown> {
  return isShardTask(task) ? handleShards(task) : handleCatalog(task);
}

const SHARD_TASKS: ReadonlySet<string> = new Set(SHARD_TASK_KINDS);

function isShardTask(task: Task | CatalogTask): task is Task {
  return SHARD_TASKS.has(task.kind);
}
