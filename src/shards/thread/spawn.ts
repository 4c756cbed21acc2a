/**
 * How threads are started. In the bundle each one's code is a text inside it (platform/thread-code.ts);
 * Piscina's own worker code, with the task handler in it, is one of them, and the build has Piscina start
 * that. From source, Piscina starts its worker from node_modules and that loads handler.ts.
 */
import { createRequire } from "node:module";
import type { WorkerOptions } from "node:worker_threads";
import { THREAD_CODE } from "../../platform/thread-code.ts";

/** What a Worker is made with: its code, or the name of its file. */
export type ThreadStart = [codeOrFile: string, options: WorkerOptions];

/** Options of Piscina's constructor that say what to run. In the bundle the task says who takes it. */
export function poolOptions(handler: string): { filename: string; execArgv?: string[] } {
  return THREAD_CODE === null ? { filename: handler, execArgv: fromSource() } : { filename: __filename };
}

/** How a thread runs a source file whose code is in the bundle as a text. */
export function threadOf(file: string, code: string | undefined): ThreadStart {
  return code === undefined ? [file, { execArgv: fromSource() }] : [code, { eval: true }];
}

/**
 * How a thread runs a source file; in the bundle it runs the whole bundle, and main.ts sees by its data what
 * it is.
 */
export function programThreadOf(file: string): ThreadStart {
  return THREAD_CODE === null ? threadOf(file, undefined) : [__filename, {}];
}

function fromSource(): string[] {
  // By its path, so that the current folder does not matter; its CommonJS half starts a third faster than all
  // of it.
  return ["--require", createRequire(__filename).resolve("tsx/cjs")];
}
