/** Whether a figure stays flat: its slope over the second half of the time. Pure. */
import { median } from "../../native-bench/statistics.ts";
import type { FigureName, Sample } from "./samples.ts";

/** Shorter soaks say nothing about growth: caches fill, deletes wait out the history. */
export const VERDICT_MINUTES_MIN = 20;
/** Flat is what grows by no more than this over the half. */
const GROWTH_SHARE_MAX = 0.05;
const MIB = 2 ** 20;

export interface Judged {
  figure: FigureName;
  /** What may be added over the half however small the figure is; null: it is told, not judged. */
  floor: number | null;
}

/**
 * Memory is judged at the worker that is never killed: at the others a restart would hide what grows. Resident memory is not: mapped data files
 * count there, which are page cache, so it follows the disk and what was read lately.
 */
export const JUDGED: readonly Judged[] = [
  { figure: "rssBytes", floor: null },
  { figure: "ownBytes", floor: 16 * MIB },
  { figure: "heapBytes", floor: 8 * MIB },
  { figure: "descriptors", floor: 4 },
  { figure: "diskBytes", floor: 64 * MIB },
];
const JUDGED_AT_ALL: readonly FigureName[] = ["diskBytes"];

export interface Row {
  node: number;
  figure: FigureName;
  median: number;
  /** Slope times the length of the half. */
  growth: number;
  /** null: it is not judged. */
  growthMax: number | null;
  isFlat: boolean;
}

/** The median of the slopes between all pairs of points (Theil, 1950; Sen, 1968): peaks do not bend it. NaN without two. */
export function slopeOf(points: readonly (readonly [number, number])[]): number {
  const slopes: number[] = [];
  points.forEach(([x, y], index) => {
    for (const [later, value] of points.slice(index + 1))
      if (later > x) slopes.push((value - y) / (later - x));
  });
  return median(slopes);
}

/** A row for each figure and node that is judged. */
export function judge(samples: readonly Sample[]): Row[] {
  const lastSeconds = Math.max(...samples.map(({ seconds }) => seconds));
  const half = samples.filter(({ seconds }) => seconds >= lastSeconds / 2);
  const nodes = [...new Set(samples.map(({ node }) => node))].sort((a, b) => a - b);
  return JUDGED.flatMap(({ figure, floor }) =>
    nodes
      .filter((node) => node === 0 || JUDGED_AT_ALL.includes(figure))
      .map((node) => {
        const points = half
          .filter((sample) => sample.node === node && Number.isFinite(sample[figure]))
          .map((sample) => [sample.seconds, sample[figure]] as const);
        const middle = median(points.map(([, value]) => value));
        const growth = slopeOf(points) * (lastSeconds / 2);
        const growthMax = floor === null ? null : Math.max(floor, middle * GROWTH_SHARE_MAX);
        // What could not be told is not flat.
        const isFlat = growthMax === null || growth <= growthMax;
        return { node, figure, median: middle, growth, growthMax, isFlat };
      }),
  );
}
