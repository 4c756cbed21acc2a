/**
 * A shard's figures in the form of /_stats.
 */
import { FIGURE, MISSING_IN_ALL } from "../slabs/figures.ts";
import type { ShardMemory } from "./memory.ts";

/** Figures of one shard, for /_stats. */
export interface ShardStats {
  shard: number;
  keys: number;
  liveBytes: number;
  storedBytes: number;
  slabs: number;
  indexBytes: number;
  /** How often a part of the index has grown. */
  indexGrowths: number;
  tombstones: number;
  damagedRecords: number;
  compactedBytes: number;
  /** What the background scrub has read, how often it got through, and the places it found damaged. */
  scrubbedBytes: number;
  scrubPasses: number;
  scrubDamaged: number;
  /** How often a page of a slab could not be read: its file was cut, or the disk refused. */
  missingPages: number;
  /** The slabs with such pages, and those that were cut, as far as that was noticed. */
  brokenSlabs: number;
  writesStopped: boolean;
  /** Slabs that are missing, or not the ones that were listed. */
  missingSlabs: number;
  /** Whether a slab was lost and nobody knows which keys were in it: absent ones answer 500 then. */
  inDoubt: boolean;
  /** The data directory is not the one any more that was opened. */
  directoryGone: boolean;
  diskFull: boolean;
  /** Within the last OUT_OF_DESCRIPTORS_MS a write failed because no more files could be opened. */
  outOfDescriptors: boolean;
}

/** So long a lack of descriptors is told after it was last met. */
const OUT_OF_DESCRIPTORS_MS = 10_000;

/** A shard's figures in the form of /_stats. */
export function readFigures(shard: number, memory: ShardMemory): ShardStats {
  const figures = new Float64Array(memory.figures);
  return {
    shard,
    keys: figures[FIGURE.keys],
    liveBytes: figures[FIGURE.liveBytes],
    storedBytes: figures[FIGURE.storedBytes],
    slabs: figures[FIGURE.slabs],
    indexBytes: figures[FIGURE.indexBytes],
    indexGrowths: figures[FIGURE.indexGrowths],
    tombstones: figures[FIGURE.tombstones],
    damagedRecords: figures[FIGURE.damaged],
    compactedBytes: figures[FIGURE.compactedBytes],
    scrubbedBytes: figures[FIGURE.scrubbedBytes],
    scrubPasses: figures[FIGURE.scrubPasses],
    scrubDamaged: figures[FIGURE.scrubDamaged],
    brokenSlabs: figures[FIGURE.brokenSlabs],
    missingPages: Atomics.load(new Int32Array(memory.missingPages), MISSING_IN_ALL),
    writesStopped: figures[FIGURE.writesStopped] !== 0,
    missingSlabs: figures[FIGURE.missingSlabs],
    inDoubt: figures[FIGURE.doubtSequence] !== 0,
    directoryGone: figures[FIGURE.directoryGone] !== 0,
    diskFull: figures[FIGURE.diskFull] !== 0,
    outOfDescriptors: Math.abs(Date.now() - figures[FIGURE.outOfDescriptorsMs]) < OUT_OF_DESCRIPTORS_MS,
  };
}
