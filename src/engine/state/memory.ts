/**
 * The memory that a shard's thread shares with the fronts: index, slab slots, figures. Made by the front, so
 * that it can read from the first moment; written by the shard's thread only.
 */
import { SLAB_SLOTS } from "../../format/offsets.ts";
import { createIndexMemory, type IndexMemory } from "../index/memory.ts";
import { createPressureMemory } from "../log/reserve.ts";
import { createReplicationMemory, type ReplicationMemory } from "./replication-memory.ts";

export interface ShardMemory {
  index: IndexMemory;
  /** Int32 per slot: sequence of the slab that lives there. */
  slots: SharedArrayBuffer;
  /** Int32 per slot, one array per front: sequence that it has mapped. */
  held: SharedArrayBuffer[];
  /** Float64 per figure of `FIGURE`. */
  figures: SharedArrayBuffer;
  /**
   * Int32s written by whoever meets them: pages of slabs that the disk could not give, in all, then by slot
   * (`missingOfSlot`).
   */
  missingPages: SharedArrayBuffer;
  replication: ReplicationMemory;
  /** Of all shards on a disk together: see DiskPressure. */
  pressure: SharedArrayBuffer;
}

/** Positions in the array of figures. */
export const FIGURE = {
  keys: 0,
  liveBytes: 1,
  storedBytes: 2,
  slabs: 3,
  tombstones: 4,
  damaged: 5,
  compactedBytes: 6,
  writesStopped: 7,
  diskFull: 8,
  /**
   * Sequence and unit before which damage hit records whose keys nobody knows; 0: none. "Absent" cannot be
   * said then, and a record from before that place may have been replaced by a lost one.
   */
  doubtSequence: 9,
  indexBytes: 10,
  doubtUnit: 11,
  /** Set by the front: the node is one of a cluster. */
  replicated: 12,
  /** Records that only keep older ones from coming back. */
  forgotten: 13,
  /** 1: the digests are complete. */
  digestsReady: 14,
  /** Highest clock of the ballots that recovery saw, in milliseconds since 1970. */
  clockMillis: 15,
  scrubbedBytes: 16,
  scrubPasses: 17,
  scrubDamaged: 18,
  /** Rises when damage is found: what readers have checked before counts no more. */
  damageGeneration: 19,
  indexGrowths: 20,
  /** Slabs that are missing, or not the ones that were listed. */
  missingSlabs: 21,
  /** 1: the data directory is not the one any more that was opened. */
  directoryGone: 22,
  /** 1: the list of slabs is on the disk. */
  listKept: 23,
  /** Bytes of the tombstones and forgotten records that count. */
  absenceBytes: 24,
  /** When a file could last not be opened because no descriptor was free, in milliseconds since 1970. */
  outOfDescriptorsMs: 25,
  /** Slabs that were cut, or of which the disk could not give a page. */
  brokenSlabs: 26,
} as const;
const FIGURES = 32;

/** All of a shard's missing pages; this only rises. */
export const MISSING_IN_ALL = 0;

/** Where the missing pages of the slab in a slot are counted. */
export function missingOfSlot(slot: number): number {
  return slot + 1;
}

/** Reserves a shard's shared memory for `fronts` reading threads. Shards on one disk share `pressure`. */
export function createShardMemory(fronts: number, pressure = createPressureMemory()): ShardMemory {
  return {
    index: createIndexMemory(),
    slots: new SharedArrayBuffer(SLAB_SLOTS * 4),
    held: Array.from({ length: fronts }, () => new SharedArrayBuffer(SLAB_SLOTS * 4)),
    figures: new SharedArrayBuffer(FIGURES * 8),
    missingPages: new SharedArrayBuffer((missingOfSlot(SLAB_SLOTS - 1) + 1) * 4),
    replication: createReplicationMemory(),
    pressure,
  };
}

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
