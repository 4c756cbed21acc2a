/**
 * What a figure is, and what is made of a table of them: documents in JSON, and metrics for Prometheus. A
 * figure is named once, in its table; nothing here knows any of them.
 */
import type { Family, Histogram, Sample } from "../../util/prometheus.ts";

/** One row of a table. `From` is what its figures are read from. */
export interface Figure<From> {
  /** Where it stands in /_stats, such as "queues.writes"; left out: not there. */
  stats?: string;
  /** Where it stands in /health; left out: not there. */
  health?: string;
  /** What these say; undefined: nothing is said now. */
  value?: (from: From) => unknown;
  /** Left out: it is not in /_metrics. */
  metric?: Metric<From>;
}

export interface Metric<From> {
  /** Whole, with its unit, by Prometheus' rules: a counter ends in _total. */
  name: string;
  kind: Family["kind"];
  help: string;
  /** A number; or one for each set of labels. */
  samples?: (from: From) => number | readonly Sample[];
  histogram?: (from: From) => Histogram;
}

/** The document that a table makes, in the order of its rows. */
export function documentOf<From>(
  figures: readonly Figure<From>[],
  from: From,
  of: "stats" | "health",
): Record<string, unknown> {
  const document: Record<string, unknown> = {};
  for (const figure of figures) {
    const place = figure[of];
    const value = place === undefined ? undefined : figure.value?.(from);
    if (place === undefined || value === undefined) continue;
    const names = place.split(".");
    let inside = document;
    for (const name of names.slice(0, -1)) {
      inside[name] ??= {};
      inside = inside[name] as Record<string, unknown>;
    }
    inside[names[names.length - 1]] = value;
  }
  return document;
}

/** The metrics of a table. */
export function familiesOf<From>(figures: readonly Figure<From>[], from: From): Family[] {
  return figures.flatMap(({ metric }) => {
    if (metric === undefined) return [];
    const { name, kind, help, samples, histogram } = metric;
    if (histogram !== undefined) return [{ name, kind, help, samples: [], histogram: histogram(from) }];
    const taken = samples?.(from) ?? [];
    return [{ name, kind, help, samples: typeof taken === "number" ? [{ value: taken }] : taken }];
  });
}

/** A name in camel case as metrics have it. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
