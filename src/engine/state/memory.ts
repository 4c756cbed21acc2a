/**
 * The memory that a shard's thread shares with the fronts: index, slab slots, figures. Made by the front, so
 * that it can read from the first moment; written by the shard's thread only.
 */
import { SLAB_SLOTS } from "../../format/offsets.ts";
import { createIndexMemory, type IndexMemory } from "../index/memory.ts";
import { FIGURES_BYTES, MISSING_PAGES_BYTES } from "../slabs/figures.ts";
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

/** What the shards on one disk share, for `DiskPressure`. */
export function createPressureMemory(): SharedArrayBuffer {
  const memory = new SharedArrayBuffer(Float64Array.BYTES_PER_ELEMENT);
  new Float64Array(memory)[0] = Number.NEGATIVE_INFINITY;
  return memory;
}

/** Reserves a shard's shared memory for `fronts` reading threads. Shards on one disk share `pressure`. */
export function createShardMemory(fronts: number, pressure = createPressureMemory()): ShardMemory {
  return {
    index: createIndexMemory(),
    slots: new SharedArrayBuffer(SLAB_SLOTS * 4),
    held: Array.from({ length: fronts }, () => new SharedArrayBuffer(SLAB_SLOTS * 4)),
    figures: new SharedArrayBuffer(FIGURES_BYTES),
    missingPages: new SharedArrayBuffer(MISSING_PAGES_BYTES),
    replication: createReplicationMemory(),
    pressure,
  };
}
