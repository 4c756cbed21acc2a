/**
 * What a figure is, and what is made of a table of them: documents in JSON, and metrics for Prometheus. A
 * figure is named once, in its table; nothing here knows any of them.
 */
import type { Family, Histogram, Sample } from "../../util/prometheus.ts";
import type { Schema } from "../describe/schema.ts";
import { NUMBER } from "../describe/shapes.ts";

/** One row of a table. `From` is what its figures are read from. */
export interface Figure<From> {
  /** Where it stands in /_stats, such as "queues.writes"; left out: not there. */
  stats?: string;
  /** Where it stands in /health; left out: not there. */
  health?: string;
  /** What these say; undefined: nothing is said now. */
  value?: (from: From) => unknown;
  /** Of that; left out: it is a number. */
  schema?: Schema;
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

/**
 * What such a document looks like.
 * @param more members that are no figures
 */
export function schemaOf<From>(
  figures: readonly Figure<From>[],
  of: "stats" | "health",
  more: Readonly<Record<string, Schema>> = {},
): Schema {
  const members: Record<string, Schema> = { ...more };
  const groups: Record<string, Figure<From>[]> = {};
  for (const figure of figures) {
    const [name, rest] = (figure[of] ?? "").split(".");
    if (rest !== undefined) {
      groups[name] ??= [];
      groups[name].push({ ...figure, [of]: rest });
    } else if (name !== "") {
      const description = figure.metric?.help;
      members[name] = { ...(figure.schema ?? NUMBER), ...(description === undefined ? {} : { description }) };
    }
  }
  for (const [name, rows] of Object.entries(groups)) members[name] = schemaOf(rows, of);
  return { type: "object", properties: members, additionalProperties: false };
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
