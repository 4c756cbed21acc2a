/**
 * What a shard keeps for a full disk, and when its disk counts as full. Pure: who owns the files tells it
 * what the disk said.
 *
 *   roomy ──refused──► full and refused ──gave──► full, refilling ──whole──► roomy
 *                            ▲                          │
 *                            └─────────refused──────────┘
 *
 * Refused: the disk has nothing to give, so compaction has to make room, out of the reserve. Refilling: the
 * disk gives, so the reserve grows first; compaction that went on would use it up as fast as it grows, and it
 * would never be whole.
 */

/** How long after a refusal the disk is not asked again, unless something was freed. */
export const ASK_AGAIN_MS = 1000;
/** For so long after a refusal the other shards on the disk compact as if they had been refused. */
const PRESSURE_MS = 3 * ASK_AGAIN_MS;
/** The spare slab grows in steps of this size: it is a multiple of it. */
const SPARE_BYTES_MIN = 1024 * 1024;
/**
 * Of a small store the spare has so large a share, up to a part of a slab: even the open slab can be
 * compacted then, when half of it is dead. Of short records more, since tombstones and the table of the next
 * slab need room beside what is copied.
 */
const SPARE_FRACTION_SMALL = 5 / 8;
const SPARE_SLAB_FRACTION_SMALL = 3 / 4;
const SHORT_RECORD_BYTES = 4096;
const SPARE_FRACTION_SHORT = 1;
const SPARE_SLAB_FRACTION_SHORT = 7 / 8;
/** Of a large one a quarter, up to a slab: with that any slab can be compacted. */
const SPARE_FRACTION = 1 / 4;

/**
 * Beside it, for each key, up to a slab: room for the tombstones of a fifth of all keys. When deletes have
 * used that up there is so much dead in the slabs that compaction has something to gain, and they have left
 * it a whole slab to do it in.
 */
const SPARE_BYTES_PER_ENTRY = 20;

/**
 * What the spare slabs should have, in bytes, beside `storedBytes` of records and so many entries of the
 * index: two slabs at most.
 */
export function spareTarget(storedBytes: number, entries: number, slabBytes: number): number {
  const whole = (bytes: number): number => bytes - (bytes % SPARE_BYTES_MIN);
  const areShort = storedBytes < entries * SHORT_RECORD_BYTES;
  const small = Math.min(
    storedBytes * (areShort ? SPARE_FRACTION_SHORT : SPARE_FRACTION_SMALL),
    slabBytes * (areShort ? SPARE_SLAB_FRACTION_SHORT : SPARE_SLAB_FRACTION_SMALL),
  );
  const bytes = Math.max(SPARE_BYTES_MIN, whole(small), whole(storedBytes * SPARE_FRACTION));
  return Math.min(slabBytes, bytes) + Math.min(slabBytes, whole(entries * SPARE_BYTES_PER_ENTRY));
}

/** Of a slab, so much is left ahead by what goes beyond the reserve. */
const LEFT_AHEAD_FRACTION = 1 / 16;

/**
 * Whether a write may go into the open slab of a full disk: what stays allocated behind it makes up for what
 * the spare slabs lack. In a small store one of them may have become the open slab, and be hardly used, while
 * compaction has nothing left to gain that would fill the next one.
 * @param aheadBytes of blocks that would be left in the open slab
 */
export function leavesReserve(
  aheadBytes: number,
  spareBytes: number,
  targetBytes: number,
  slabBytes: number,
): boolean {
  return aheadBytes >= slabBytes * LEFT_AHEAD_FRACTION + Math.max(0, targetBytes - spareBytes);
}

/** Where shards on one disk tell each other of refusals: when the last one was, by their common clock. */
export class DiskPressure {
  private readonly lastRefusal: Float64Array;

  constructor(memory: SharedArrayBuffer) {
    this.lastRefusal = new Float64Array(memory);
  }

  refused(nowMs: number): void {
    this.lastRefusal[0] = nowMs;
  }

  /** Whether some shard on this disk was refused lately. */
  isHigh(nowMs: number): boolean {
    return Math.abs(nowMs - this.lastRefusal[0]) < PRESSURE_MS;
  }
}

export class Reserve {
  private readonly pressure: DiskPressure;
  /** Writes are refused, and only blocks are used that are allocated already. */
  full = false;
  /** The disk has nothing to give, as far as is known. */
  refusing = false;
  private refusedAtMs = Number.NEGATIVE_INFINITY;

  constructor(pressure: DiskPressure) {
    this.pressure = pressure;
  }

  /** The disk had no room for something. */
  refused(nowMs: number): void {
    this.full = this.refusing = true;
    this.refusedAtMs = nowMs;
    this.pressure.refused(nowMs);
  }

  /** The disk gave what it was asked for. */
  gave(): void {
    this.refusing = false;
  }

  /** Blocks of this shard became free: the disk may be asked at once. */
  freed(): void {
    this.refusedAtMs = Number.NEGATIVE_INFINITY;
  }

  /** All that should be allocated is. */
  whole(): void {
    this.full = this.refusing = false;
  }

  mayAsk(nowMs: number): boolean {
    return !this.refusing || Math.abs(nowMs - this.refusedAtMs) >= ASK_AGAIN_MS;
  }

  /** Whether compaction must make room, for this shard or for another one on the same disk. */
  isPressed(nowMs: number): boolean {
    return this.full ? this.refusing : this.pressure.isHigh(nowMs);
  }
}
