/** The task handler of the bundle, where all threads are one file: who takes a task is said by the task. */
import handleShards from "../thread/handler.ts";
import type { Task } from "../thread/messages.ts";
import handleCatalog from "./handler.ts";
import type { CatalogTask } from "./messages.ts";

export default function handle(task: Task | CatalogTask): Promise<unknown> {
  return task.kind === "open" || task.kind === "close" ? handleShards(task) : handleCatalog(task);
}
