/**
 * The SVG charts of docs/bench, drawn from what `npm run bench -- --write` measured. `npm run bench:charts` draws them again from the written JSON.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { LoadResult, Operation } from "./load.ts";
import { type OfferedResult, PERCENTILES } from "./offered.ts";
import { BENCH_FOLDER } from "./report.ts";
import { median, shortNumber } from "./statistics.ts";
import { drawChart, type Series } from "./svg.ts";

const VALUE_BYTES = 100;
/** The share of the peak that the latency curve is taken at. */
export const CURVE_SHARE = 0.5;

export interface OfferedRow extends OfferedResult {
  server: "minivault" | "bare handler";
  operation: "GET" | "PUT";
  /** Of the peak that the same generator reaches. */
  share: number;
  /** Offered, per second. */
  rate: number;
}

/** The part of http.json that is drawn. */
export interface HttpData {
  sync: string;
  rows: {
    operation: Operation;
    valueBytes: number;
    connections: number;
    generator: string;
    minivault: LoadResult[];
    ceiling: LoadResult[];
    redis: LoadResult[];
  }[];
  offered: OfferedRow[];
}

function throughput({ rows, sync }: HttpData): string | null {
  const generator = rows.some((row) => row.generator === "wrk") ? "wrk" : "autocannon";
  const chosen = rows.filter((row) => row.generator === generator && row.valueBytes === VALUE_BYTES);
  const series: Series[] = [];
  for (const [side, name] of [
    ["minivault", "minivault"],
    ["ceiling", "bare handler"],
    ["redis", "Redis"],
  ] as const)
    for (const operation of ["GET", "PUT"] as const)
      series.push({
        name: `${name} ${side === "redis" && operation === "PUT" ? "SET" : operation}`,
        points: chosen
          .filter((row) => row.operation === operation && row[side].length > 0)
          .map((row) => [row.connections, median(row[side].map((one) => one.perSecond))] as const),
      });
  if (series.every(({ points }) => points.length === 0)) return null;
  const ticks = [...new Set(chosen.map((row) => row.connections))].sort((a, b) => a - b);
  return drawChart({
    title: "Throughput by connections",
    subtitle: `values of ${VALUE_BYTES} bytes, sync ${sync}, driven by ${generator} (Redis by redis-benchmark)`,
    x: { label: "connections", logarithmic: true, ...(ticks.length > 1 ? { ticks } : {}) },
    y: { label: "requests per second", text: (value) => shortNumber(value) },
    series,
  });
}

function latencyCurve({ offered }: HttpData): string | null {
  const chosen = offered.filter((row) => row.share === CURVE_SHARE);
  if (chosen.length === 0) return null;
  return drawChart({
    title: "Latency by percentile",
    subtitle: `values of ${VALUE_BYTES} bytes at ${CURVE_SHARE * 100} % of the peak, fixed rate, from when a request was due`,
    x: {
      label: "percentile",
      logarithmic: true,
      ticks: [2, 10, 100, 1000, 10_000],
      text: (value) => `${Number((100 - 100 / value).toFixed(2))} %`,
    },
    y: { label: "latency, ms", logarithmic: true },
    series: chosen.map(({ server, operation, rate, latencies }) => ({
      name: `${server} ${operation}, ${shortNumber(rate / 1000)}k/s`,
      points: PERCENTILES.map(
        (percentile, index) => [100 / (100 - percentile), latencies[index] / 1000] as const,
      ),
    })),
  });
}

function offeredLoad({ offered }: HttpData): string | null {
  const chosen = offered.filter((row) => row.server === "minivault");
  if (chosen.length === 0) return null;
  return drawChart({
    title: "p99 against offered load",
    subtitle: `values of ${VALUE_BYTES} bytes, fixed rates, latency from when a request was due`,
    x: { label: "offered requests per second", text: (value) => shortNumber(value) },
    y: { label: "p99 latency, ms", logarithmic: true },
    series: (["GET", "PUT"] as const).map((operation) => ({
      name: `minivault ${operation}`,
      points: chosen
        .filter((row) => row.operation === operation)
        .map((row) => [row.rate, row.latencies[PERCENTILES.indexOf(99)] / 1000] as const),
    })),
  });
}

/** The charts that the data suffices for, by file name. */
export function chartsOf(data: HttpData): Map<string, string> {
  const charts = new Map<string, string>();
  for (const [name, text] of [
    ["throughput.svg", throughput(data)],
    ["latency.svg", latencyCurve(data)],
    ["offered-load.svg", offeredLoad(data)],
  ] as const)
    if (text !== null) charts.set(name, text);
  return charts;
}

/** Draws docs/bench/http.json into its folder; answers the paths. */
export function writeCharts(folder = BENCH_FOLDER): string[] {
  const file = path.join(folder, "http.json");
  if (!existsSync(file))
    throw new Error("there is no docs/bench/http.json: npm run bench -- --write makes it");
  const { data } = JSON.parse(readFileSync(file, "utf8")) as { data: HttpData };
  return [...chartsOf(data)].map(([name, text]) => {
    writeFileSync(path.join(folder, name), text);
    return path.join(folder, name);
  });
}

if (require.main === module) console.log(writeCharts().join("\n"));
