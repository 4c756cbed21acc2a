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

export class Latencies {
  private readonly buckets = new Float64Array(BUCKET_COUNT);
  private count = 0;
  private maxUnits = 0;

  record(ms: number): void {
    const units = Math.min(Math.max(Math.round(ms * UNITS_PER_MS), 0), UNITS_MAX);
    this.buckets[bucketOf(units)]++;
    this.count++;
    if (units > this.maxUnits) this.maxUnits = units;
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
      left -= this.buckets[bucket];
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
