/** A row of `bench:peers`: one kind of work beside what its users would pick instead. Pure. */

/**
 * How two figures are compared: ratio of rates (higher is better) or of latencies (lower is better), difference of latencies in seconds, or our own
 * latency alone (lower is better).
 */
export type Comparison = "ratio" | "latencies" | "difference" | "faster";

export interface Row {
  work: string;
  against: string;
  unit: "/s" | "B/s" | "s";
  compare: Comparison;
  /** Ratio of rates at least; ratio of latencies at most; difference at most, in seconds; time at most, in seconds. */
  goal: number;
  ours: () => Promise<number>;
  theirs: () => Promise<number>;
}

/** Some rows that share servers. `wanted` says whether a row of that name is measured. */
export type Stage = (
  results: (row: Row) => Promise<void>,
  wanted: (work: string) => boolean,
) => Promise<void>;
