/**
 * Prometheus' text format (exposition format 0.0.4): families of samples as text. Names, labels and help are
 * ours; values of labels may hold anything.
 */

export const PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

export interface Sample {
  labels?: Readonly<Record<string, string>>;
  value: number;
}

/** Counts of values up to each bound. */
export interface Histogram {
  /** In the unit of the metric, rising; "+Inf" is added. */
  bounds: readonly number[];
  /** Values up to each bound, and all: one more than bounds. */
  counts: readonly number[];
  sum: number;
}

export interface Family {
  name: string;
  kind: "counter" | "gauge" | "histogram";
  help: string;
  samples: readonly Sample[];
  /** Of a histogram, in place of samples. */
  histogram?: Histogram;
}

/** The families as text. One without samples is left out. */
export function prometheusText(families: readonly Family[]): string {
  return families.map(familyText).join("");
}

function familyText({ name, kind, help, samples, histogram }: Family): string {
  const lines =
    histogram === undefined ? samples.map((one) => line(name, one)) : histogramLines(name, histogram);
  if (lines.length === 0) return "";
  const text = help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
  return `# HELP ${name} ${text}\n# TYPE ${name} ${kind}\n${lines.join("")}`;
}

function line(name: string, { labels = {}, value }: Sample): string {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escaped(text)}"`);
  return `${name}${pairs.length === 0 ? "" : `{${pairs.join(",")}}`} ${number(value)}\n`;
}

function histogramLines(name: string, { bounds, counts, sum }: Histogram): string[] {
  const buckets = [...bounds.map(String), "+Inf"].map((le, index) =>
    line(`${name}_bucket`, { labels: { le }, value: counts[index] }),
  );
  return [
    ...buckets,
    line(`${name}_sum`, { value: sum }),
    line(`${name}_count`, { value: counts[counts.length - 1] }),
  ];
}

function escaped(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"');
}

function number(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return "+Inf";
  return value === Number.NEGATIVE_INFINITY ? "-Inf" : String(value);
}
