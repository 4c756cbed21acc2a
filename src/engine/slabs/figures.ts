/**
 * What a shard's thread counts in memory that the fronts can read: the figures, and the pages of its slabs
 * that the disk could not give. The one place that says where in that memory each number stands.
 */
import { SLAB_SLOTS, SLAB_UNIT_BITS } from "../../format/offsets.ts";

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
  /** Slabs that were cut, whose header is damaged, or of which the disk could not give a page. */
  brokenSlabs: 26,
  /**
   * Up to where the log was answered, and where it ended when it was opened: sequence × 2^22 + unit (see
   * `logPlace`).
   */
  answeredEnd: 27,
  openedEnd: 28,
  /** Set by who keeps lists of keys: up to where they know every key of this shard, likewise. 0: nowhere. */
  watermark: 29,
  /** Up to where the log is in the index, copies included; readers follow it up to here. A place, too. */
  publishedEnd: 30,
  /**
   * Set by who keeps lists of keys: it has met the key of every record before this place that counts. 0:
   * nowhere.
   */
  followedEnd: 31,
  /** The last record whose key may be news to who keeps lists: none comes after it that is. A place, too. */
  lastNews: 32,
  /** Before this place the log does not tell all deletes any more. */
  horizon: 33,
  /**
   * Set by the front, on a node of a cluster: values that end up to this time may be marked as ended; 0:
   * none.
   */
  endTime: 34,
  /** Values with an end of life. */
  ending: 35,
  /** Values that were marked as ended, in all. */
  marked: 36,
  /** Ends that the calendar has, those of values that are gone included. */
  calendar: 37,
  /**
   * When a write call last failed for another reason than a lack of room or of descriptors, in milliseconds
   * since 1970.
   */
  writeFailedMs: 38,
} as const;
/** Bytes of the array of figures. */
export const FIGURES_BYTES = 40 * Float64Array.BYTES_PER_ELEMENT;

/** A place in a shard's log as one number, which only grows. */
export function logPlace({ sequence, unit }: { sequence: number; unit: number }): number {
  return sequence * 2 ** SLAB_UNIT_BITS + unit;
}

/** All of a shard's missing pages; this only rises. */
export const MISSING_IN_ALL = 0;

/** Where the missing pages of the slab in a slot are counted. */
export function missingOfSlot(slot: number): number {
  return slot + 1;
}

/** Bytes of the array of missing pages. */
export const MISSING_PAGES_BYTES = (missingOfSlot(SLAB_SLOTS - 1) + 1) * Int32Array.BYTES_PER_ELEMENT;

/** The place of a slab in the arrays that say which slabs there are. */
export function slotOfSequence(sequence: number): number {
  return sequence % SLAB_SLOTS;
}
