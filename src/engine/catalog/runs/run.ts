/**
 * Runs of keys: each key once, in order of bytes; in memory, or in files one after another. A run never
 * changes. What its blocks hold is checked each time one is read.
 */
import type { Fences } from "../../../format/keys/fences.ts";

/** A block of a run cannot be read: the catalog must be built anew. */
export class RunDamage extends Error {}

/** Blocks that belong together: a file of a run, or a run in memory. */
export interface RunPart {
  /** What damage is reported with. */
  readonly name: string;
  readonly fences: Fences;
  readonly keys: number;
  /** Bytes on the disk, or in memory. */
  readonly bytes: number;
  /** Copies a block to `target`; answers the seed of its checksum. */
  readBlock(block: number, target: Uint8Array): number;
}

/** A run of keys: parts whose keys follow each other. At least one part, none of them empty. */
export interface KeyRun {
  readonly parts: readonly RunPart[];
  readonly keys: number;
}

export function runOf(parts: readonly RunPart[]): KeyRun {
  return { parts, keys: parts.reduce((sum, { keys }) => sum + keys, 0) };
}
