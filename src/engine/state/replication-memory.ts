/**
 * The memory that a shard of a cluster's node shares with the fronts beside what every shard has.
 */

import { DIGEST_BYTES } from "../../rules/digest.ts";
import { createIndexMemory, type IndexMemory } from "../index/memory.ts";
import { FLOORS_BYTES } from "./floors.ts";

export interface ReplicationMemory {
  /** Index of the promises that stand. */
  promises: IndexMemory;
  /** See floors.ts. */
  floors: SharedArrayBuffer;
  /** See digests.ts. */
  digests: SharedArrayBuffer;
}

/** Reserves it. */
export function createReplicationMemory(): ReplicationMemory {
  return {
    promises: createIndexMemory(),
    floors: new SharedArrayBuffer(FLOORS_BYTES),
    digests: new SharedArrayBuffer(DIGEST_BYTES),
  };
}
