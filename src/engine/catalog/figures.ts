import type { KeyRun } from "./runs/run.ts";
import type { Tail } from "./tail.ts";

/**
 * `building`: keys may be missing yet. `blind`: damage in a slab hides the keys of records that count, so
 * nobody knows all keys.
 */
export type CatalogState = "ready" | "building" | "blind";

export interface CatalogFigures {
  state: CatalogState;
  /** Of a build, 0 to 1. */
  progress: number;
  runs: number;
  runKeys: number;
  runBytes: number;
  tailKeys: number;
  memoryBytes: number;
  /** Builds from nothing since the start, and their reasons are in the log. */
  builds: number;
  flushes: number;
  merges: number;
  diskFull: boolean;
}

/** Those of the keys that are known. */
export function figuresOf(
  runs: readonly KeyRun[],
  tail: Tail,
): Pick<CatalogFigures, "runs" | "runKeys" | "runBytes" | "tailKeys" | "memoryBytes"> {
  const parts = runs.flatMap((run) => run.parts);
  return {
    runs: runs.length,
    runKeys: runs.reduce((sum, { keys }) => sum + keys, 0),
    runBytes: parts.reduce((sum, { bytes }) => sum + bytes, 0),
    tailKeys: tail.keys,
    memoryBytes: parts.reduce((sum, { fences }) => sum + fences.memoryBytes, tail.memoryBytes),
  };
}
