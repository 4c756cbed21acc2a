/**
 * How a shard thread is started. In the bundle, thread and front are the same file: Piscina's own worker code
 * is inside it (the build rewrites where Piscina looks for it), main.ts runs that code when it finds itself
 * in a shard thread, and the task handler is main.ts' default export. From source, Piscina starts its worker
 * from node_modules and that loads handler.ts.
 */
import { createRequire } from "node:module";
import { isMainThread, workerData } from "node:worker_threads";

/** Put in by the build; absent when run from source. */
declare const BUILD_INFO: unknown;

const SHARD_THREAD = "minivault shard thread";

export interface ThreadOptions {
  filename: string;
  workerData: string;
  execArgv?: string[];
}

/** Options of Piscina's constructor that say what to run. In the bundle the task says who takes it. */
export function threadOptions(handler: string): ThreadOptions {
  return { ...threadOf(handler), workerData: SHARD_THREAD };
}

/**
 * How a thread runs a source file; in the bundle it runs the bundle, and main.ts sees by `workerData` what it
 * is.
 */
export function threadOf(file: string): Omit<ThreadOptions, "workerData"> {
  if (typeof BUILD_INFO !== "undefined") return { filename: __filename };
  return {
    filename: file,
    // By its path, so that the current folder does not matter; its CommonJS half starts a third faster than
    // all of it.
    execArgv: ["--require", createRequire(__filename).resolve("tsx/cjs")],
  };
}

/** Whether this is a shard thread rather than the program's main thread. */
export function isShardThread(): boolean {
  return !isMainThread && Array.isArray(workerData)
    ? workerData.includes(SHARD_THREAD)
    : workerData === SHARD_THREAD;
}
