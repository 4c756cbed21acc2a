/**
 * How a thread or process runs a source file. The build of the tests has this function name the programs
 * that it made of some.
 */
import { createRequire } from "node:module";

/** What a Worker is made with: its code, or the name of its file. */
export type ThreadStart = [codeOrFile: string, options: { execArgv?: string[]; eval?: boolean }];

export function fromSource(file: string): ThreadStart {
  // By its path, so that the current folder does not matter; its CommonJS half starts a third faster than all
  // of it.
  return [file, { execArgv: ["--require", createRequire(__filename).resolve("tsx/cjs")] }];
}
