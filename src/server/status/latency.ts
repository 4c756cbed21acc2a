/**
 * A latency histogram in the way of HdrHistogram (Gil Tene): 128 buckets for each power of two, so every
 * percentile is within 1 % and memory is constant. Recording is a shift and an increment; hdr-histogram-js
 * itself, with its logarithm and power, took 5 % of the front's time under PUT load.
 */

/** Values are tenths of a microsecond: a read of two microseconds is more than one digit. */
const UNITS_PER_MS = 10_000;
const UNITS_PER_US = 10;
/** About 214 s; what takes longer counts as this. */
const UNITS_MAX = 2 ** 31 - 1;

const SUB_BITS = 7;
const SUB_COUNT = 1 << SUB_BITS;
/** Bits of a value that are kept: its first one and SUB_BITS more. */
const KEPT_BITS = SUB_BITS + 1;
const BUCKET_COUNT = bucketOf(UNITS_MAX) + 1;

export interface LatencySummary {
  count: number;
  p50: number;
  p90: number;
  p99: number;
  p999: number;
  max: number;
}

/** Numbers that a histogram takes: its buckets, then how many values there are, and the highest. */
export const LATENCY_NUMBERS = BUCKET_COUNT + 2;
const COUNT = BUCKET_COUNT;
const MAX = BUCKET_COUNT + 1;

export class Latencies {
  private readonly numbers: Float64Array<ArrayBufferLike>;

  /**
   * @param numbers LATENCY_NUMBERS of them, zero or of another histogram; other threads may read them
   * meanwhile
   */
  constructor(numbers: Float64Array<ArrayBufferLike> = new Float64Array(LATENCY_NUMBERS)) {
    this.numbers = numbers;
  }

  record(ms: number): void {
    const { numbers } = this;
    const units = Math.min(Math.max(Math.round(ms * UNITS_PER_MS), 0), UNITS_MAX);
    numbers[bucketOf(units)]++;
    numbers[COUNT]++;
    if (units > numbers[MAX]) numbers[MAX] = units;
  }

  /** Takes in what another histogram has counted. */
  add(other: Latencies): void {
    for (let index = 0; index < MAX; index++) this.numbers[index] += other.numbers[index];
    this.numbers[MAX] = Math.max(this.numbers[MAX], other.numbers[MAX]);
  }

  private get count(): number {
    return this.numbers[COUNT];
  }

  private get maxUnits(): number {
    return this.numbers[MAX];
  }

  /** In microseconds. */
  summary(): LatencySummary {
    return {
      count: this.count,
      p50: this.percentile(0.5),
      p90: this.percentile(0.9),
      p99: this.percentile(0.99),
      p999: this.percentile(0.999),
      max: this.maxUnits / UNITS_PER_US,
    };
  }

  private percentile(share: number): number {
    let left = Math.ceil(this.count * share);
    if (left === 0) return 0;
    let bucket = 0;
    for (; bucket < BUCKET_COUNT; bucket++) {
      left -= this.numbers[bucket];
      if (left <= 0) break;
    }
    return Math.min(highestOf(bucket), this.maxUnits) / UNITS_PER_US;
  }
}

/** Values under 256 have a bucket each; above, the buckets' width doubles with every power of two. */
function bucketOf(units: number): number {
  if (units < 2 * SUB_COUNT) return units;
  const shift = 32 - KEPT_BITS - Math.clz32(units);
  return shift * SUB_COUNT + (units >>> shift);
}

/** The highest value that falls into a bucket. */
function highestOf(bucket: number): number {
  if (bucket < 2 * SUB_COUNT) return bucket;
  const shift = (bucket >>> SUB_BITS) - 1;
  const kept = (bucket & (SUB_COUNT - 1)) + SUB_COUNT;
  return (kept + 1) * 2 ** shift - 1;
}
