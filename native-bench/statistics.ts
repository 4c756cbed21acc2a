/** The arithmetic of benchmarks: medians, spreads, ratios, and how numbers are written. Pure. */

/** The middle of a list (the mean of the two middle ones); NaN for an empty one. */
export function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** How far the rounds lie apart: (highest − lowest) / median. 0 for a single one. */
export function spread(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN;
  return (Math.max(...values) - Math.min(...values)) / median(values);
}

/**
 * Ratio of two contenders that were measured in turns: the median of the ratios of each round, so that what disturbs
 * both in one round does not count.
 */
export function pairedRatio(ours: readonly number[], theirs: readonly number[]): number {
  if (ours.length !== theirs.length) throw new Error("paired rounds must be equally many");
  return median(ours.map((value, round) => value / theirs[round]));
}

/** Three significant digits, with thousands separated: 0.123, 45.6, 12,345. */
export function shortNumber(value: number): string {
  if (!Number.isFinite(value)) return "–";
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en-US");
  return value === 0 ? "0" : String(Number(value.toPrecision(3)));
}

/** A duration given in seconds, in the unit that suits it. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "–";
  const units = [
    [1, "s"],
    [1e-3, "ms"],
    [1e-6, "µs"],
    [1e-9, "ns"],
  ] as const;
  const [size, name] = units.find(([unit]) => seconds >= unit) ?? units[3];
  return `${shortNumber(seconds / size)} ${name}`;
}

/** A size in bytes: 100 B, 100 KiB, 5 MiB. */
export function byteSize(bytes: number): string {
  if (bytes >= 2 ** 20) return `${shortNumber(bytes / 2 ** 20)} MiB`;
  return bytes >= 2 ** 10 ? `${shortNumber(bytes / 2 ** 10)} KiB` : `${bytes} B`;
}

/** 0.1234 → "12 %". */
export function percent(share: number): string {
  return Number.isFinite(share) ? `${Math.round(share * 100)} %` : "–";
}
