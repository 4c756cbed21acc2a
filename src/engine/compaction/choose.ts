/**
 * Which slab is compacted next, if any. Pure, so that thousands of mixtures can be played through
 * (test/engine/compaction-model.ts).
 *
 * What is copied is paid for by what becomes free: no slab is chosen of which more than LIVE_FRACTION_MAX
 * would be copied, and a slab is measured by the bytes in it, not by the size of its file: one that was
 * closed early, on a full disk, has nothing to give when all in it is live. So this comes to rest, and all
 * that is ever copied is at most LIVE_FRACTION_MAX / (1 - LIVE_FRACTION_MAX) times what was freed, and what
 * small slabs hold once more.
 */

/**
 * All files, as if each were full, may be this many times the live bytes, plus SLACK_SLABS, before compaction
 * starts on a disk that has room.
 */
const SPACE_FACTOR = 1.6;
const SLACK_SLABS = 2;
/** A slab of which more would be copied is not worth it, however full the disk is. */
export const LIVE_FRACTION_MAX = 0.9;
/** Nor is one that gives less than this, or this part of a slab: files take whole blocks. */
const GAIN_BYTES_MIN = 64 * 1024;
const GAIN_FRACTION_MIN = 1 / 64;
/**
 * With this share of tombstones (and at least TOMBSTONES_MIN), by number and by bytes, the oldest slab is
 * compacted, where they can be dropped: all older slabs are copied to get there.
 */
const TOMBSTONE_FRACTION_MAX = 0.2;
const TOMBSTONES_MIN = 10_000;
const TOMBSTONE_BYTES_FRACTION_MIN = 0.1;
/** What compaction on a full disk leaves of the reserve, for deletes; less where slabs are small. */
const DELETES_BYTES = 512 * 1024;
const DELETES_FRACTION = 1 / 64;
/** So many more files than the bytes need, and twice as many, are too many: the smallest are put together. */
const SPARE_FILES_MAX = 32;
/** Candidates that are measured for one choice. */
const MEASURED_MAX = 4;

export interface SlabAccount {
  readonly sequence: number;
  /** Bytes of all records in it, and of those that count. */
  readonly storedBytes: number;
  readonly liveBytes: number;
}

/**
 * ready: full, and free to go. open: the one that is appended to. kept: uploads, damage or its table keep it
 * where it is.
 */
export type SlabState = "ready" | "open" | "kept";

export interface Circumstances<Slab extends SlabAccount> {
  slabBytes: number;
  /** Only blocks that are allocated may be used; writes are refused. */
  full: boolean;
  /** The disk gives nothing more: any gain counts. */
  pressed: boolean;
  /** Bytes that copies can take of blocks that are allocated; and when the open slab is closed first. */
  roomBytes: number;
  spareBytes: number;
  /**
   * Entries of the index, and those among them that can be dropped in the oldest slab: their number and their
   * bytes.
   */
  entries: number;
  tombstones: number;
  tombstoneBytes: number;
  stateOf: (slab: Slab) => SlabState;
  /** Whether all deletes of a slab are so old that nobody who follows the log needs them. */
  isOutlived: (slab: Slab) => boolean;
  /**
   * Bytes that compacting a slab would write, to be asked for few: what is said of its chunks elsewhere
   * included, what can be dropped left out.
   */
  measure: (slab: Slab, oldest: boolean) => number;
}

/**
 * compact: copy what lives in that slab, and drop it. close: go on in the spare slab, so that the open one
 * can be compacted.
 */
export type Choice<Slab extends SlabAccount> =
  | { kind: "compact"; slab: Slab; oldest: boolean; copyBytes: number }
  | { kind: "close" }
  | null;

/** What compaction on a full disk leaves for deletes, in bytes. */
function deletesBytes(slabBytes: number): number {
  return Math.min(DELETES_BYTES, slabBytes * DELETES_FRACTION);
}

/** What to do next; null: there is nothing to gain. */
export function chooseVictim<Slab extends SlabAccount>(
  slabs: Iterable<Slab>,
  now: Circumstances<Slab>,
): Choice<Slab> {
  let first: Slab | null = null;
  let cheapest: Slab | null = null;
  let smallest: Slab | null = null;
  let live = 0;
  let stored = 0;
  let count = 0;
  for (const slab of slabs) {
    count++;
    live += slab.liveBytes;
    if (first === null || slab.sequence < first.sequence) first = slab;
    stored += slab.storedBytes;
    if (now.stateOf(slab) !== "ready") continue;
    if (cheapest === null || price(slab) < price(cheapest)) cheapest = slab;
    if (smallest === null || slab.storedBytes < smallest.storedBytes) smallest = slab;
  }
  const compact = (slab: Slab, copyBytes: number): Choice<Slab> => {
    return { kind: "compact", slab, oldest: slab === first, copyBytes };
  };
  if (cheapest !== null && cheapest.liveBytes <= 0) return compact(cheapest, 0);
  // The disk gives: the reserve comes first.
  if (now.full && !now.pressed) return null;
  const isDue = first !== null && now.stateOf(first) === "ready" && areTooManyTombstones(now, live);
  if (first !== null && isDue && (now.pressed || now.isOutlived(first))) {
    const copyBytes = now.measure(first, true);
    if (!now.pressed || fits(copyBytes, now.roomBytes, now)) return compact(first, copyBytes);
  }
  if (now.pressed) return underPressure([...slabs], first, now);
  if (cheapest === null || smallest === null) return null;
  const isMuch = count * now.slabBytes > live * SPACE_FACTOR + SLACK_SLABS * now.slabBytes;
  if (isMuch && price(cheapest) <= LIVE_FRACTION_MAX) return compact(cheapest, cheapest.liveBytes);
  const areTooMany = count > SPARE_FILES_MAX + 2 * Math.ceil(stored / now.slabBytes);
  return areTooMany && smallest.storedBytes <= now.slabBytes / 2
    ? compact(smallest, smallest.liveBytes)
    : null;
}

function price({ liveBytes, storedBytes }: SlabAccount): number {
  return liveBytes / Math.max(1, storedBytes);
}

function areTooManyTombstones(
  now: Pick<Circumstances<SlabAccount>, "tombstones" | "entries" | "tombstoneBytes">,
  live: number,
): boolean {
  return (
    now.tombstones >= TOMBSTONES_MIN &&
    now.tombstones > now.entries * TOMBSTONE_FRACTION_MAX &&
    now.tombstoneBytes > live * TOMBSTONE_BYTES_FRACTION_MIN
  );
}

/**
 * Any gain counts then, the cheapest first, but the copies must fit what is allocated, and leave some of it
 * to deletes.
 */
function underPressure<Slab extends SlabAccount>(
  slabs: Slab[],
  first: Slab | null,
  now: Circumstances<Slab>,
): Choice<Slab> {
  const measured = slabs
    .filter(
      (slab) => now.stateOf(slab) !== "kept" && isWorthIt(slab.storedBytes, slab.liveBytes, now.slabBytes),
    )
    .sort((a, b) => price(a) - price(b))
    .slice(0, MEASURED_MAX);
  // Of the oldest more may go than its account says.
  if (first !== null && now.stateOf(first) === "ready" && !measured.includes(first)) measured.push(first);
  for (const slab of measured) {
    const copyBytes = now.measure(slab, slab === first);
    if (!isWorthIt(slab.storedBytes, copyBytes, now.slabBytes)) continue;
    if (now.stateOf(slab) === "open") {
      if (fits(copyBytes, now.spareBytes, now)) return { kind: "close" };
    } else if (fits(copyBytes, now.roomBytes, now))
      return { kind: "compact", slab, oldest: slab === first, copyBytes };
  }
  return null;
}

function isWorthIt(storedBytes: number, copyBytes: number, slabBytes: number): boolean {
  const gainBytesMin = Math.min(GAIN_BYTES_MIN, slabBytes * GAIN_FRACTION_MIN);
  return copyBytes <= storedBytes * LIVE_FRACTION_MAX && storedBytes - copyBytes >= gainBytesMin;
}

function fits(
  copyBytes: number,
  roomBytes: number,
  { slabBytes }: Pick<Circumstances<SlabAccount>, "slabBytes">,
): boolean {
  return copyBytes === 0 || copyBytes + deletesBytes(slabBytes) <= roomBytes;
}
