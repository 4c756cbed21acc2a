/**
 * A latency histogram in the way of HdrHistogram (Gil Tene): 128 buckets for each power of two, so every
 * percentile is within 1 % and memory is constant. Recording is a shift and an increment; hdr-histogram-js
 * itself, with its logarithm and power, took 5 % of the front's time under PUT load.
 */

import type { Histogram } from "../../util/prometheus.ts";

/** Values are tenths of a microsecond: a read of two microseconds is more than one digit. */
const UNITS_PER_MS = 10_000;
const UNITS_PER_US = 10;
const UNITS_PER_SECOND = 10_000_000;
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

/** Numbers that a histogram takes: its buckets, then the count of values, their sum, and the highest. */
export const LATENCY_NUMBERS = BUCKET_COUNT + 3;
const COUNT = BUCKET_COUNT;
const SUM = BUCKET_COUNT + 1;
const MAX = BUCKET_COUNT + 2;

/** Bounds in which monitoring gets latencies, in seconds. */
const BOUNDS_SECONDS = [
  ...[0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005],
  ...[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
];

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
    numbers[SUM] += units;
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

  /** In seconds, within 1 %: a value near a bound may count for the next one. */
  histogram(): Histogram {
    const counts: number[] = [];
    let bucket = 0;
    let count = 0;
    for (const bound of BOUNDS_SECONDS) {
      const units = Math.round(bound * UNITS_PER_SECOND);
      for (; highestOf(bucket) <= units; bucket++) count += this.numbers[bucket];
      counts.push(count);
    }
    return {
      bounds: BOUNDS_SECONDS,
      counts: [...counts, this.count],
      sum: this.numbers[SUM] / UNITS_PER_SECOND,
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
