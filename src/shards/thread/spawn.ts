/**
 * How threads are started. In the bundle each one's code is a text inside it (platform/thread-code.ts);
 * Piscina's own worker code, with the task handler in it, is one of them, and the build has Piscina start
 * that. From source, Piscina starts its worker from node_modules and that loads handler.ts.
 */
import { THREAD_CODE } from "../../platform/thread-code.ts";
import { fromSource, type ThreadStart } from "./from-source.ts";

/** Options of Piscina's constructor that say what to run. In the bundle the task says who takes it. */
export function poolOptions(handler: string): { filename: string; execArgv?: string[] } {
  if (THREAD_CODE !== null) return { filename: __filename };
  const [filename, options] = fromSource(handler);
  return { filename, ...options };
}

/** How a thread runs a source file whose code is in the bundle as a text. */
export function threadOf(file: string, code: string | undefined): ThreadStart {
  return code === undefined ? fromSource(file) : [code, { eval: true }];
}

/**
 * How a thread runs a source file; in the bundle it runs the whole bundle, and main.ts sees by its data what
 * it is.
 */
export function programThreadOf(file: string): ThreadStart {
  return THREAD_CODE === null ? fromSource(file) : [__filename, {}];
}
