/** What `minivault top` shows of nodes, as figures and as a table. Pure. */
import { shown } from "../subcommand/shown.ts";
import { sizeOf } from "../subcommand/transfer.ts";

/** Of `/_stats`, what is shown. */
export interface Stats {
  uptimeSeconds: number;
  keys: number;
  liveBytes: number;
  diskFull?: boolean;
  queues: { writes: number; requestsInFlight: number; connections: number };
  requests: Record<string, Record<string, number>>;
  latencyMicroseconds: Record<"read" | "write", { count: number; p50?: number; p99?: number }>;
  memory: { rss: number };
  cluster?: { url?: string; peers?: { url: string }[] } | null;
}

export interface NodePicture {
  url: string;
  /** Null: it answers. */
  problem: string | null;
  atMs: number;
  keys: number;
  bytes: number;
  /** Requests a second since the look before; null at the first one. */
  readsPerSecond: number | null;
  writesPerSecond: number | null;
  errorsPerSecond: number | null;
  readP99Ms: number | null;
  writeP99Ms: number | null;
  waiting: number;
  connections: number;
  memoryBytes: number;
  /** What the rates are counted from. */
  counts: { reads: number; writes: number; errors: number; uptimeSeconds: number };
}

const READS = ["get", "head"];
const WRITES = ["put", "post", "delete", "other"];

function count(stats: Stats, verbs: readonly string[], statuses: readonly string[]): number {
  return verbs.reduce(
    (sum, verb) => sum + statuses.reduce((all, status) => all + (stats.requests[verb]?.[status] ?? 0), 0),
    0,
  );
}

/** @param stats a text says why there are none */
export function pictureOf(url: string, stats: Stats | string, before: NodePicture | undefined): NodePicture {
  const nothing = { readsPerSecond: null, writesPerSecond: null, errorsPerSecond: null };
  const atMs = performance.now();
  if (typeof stats === "string") {
    const last = { readP99Ms: null, writeP99Ms: null, waiting: 0, connections: 0, memoryBytes: 0 };
    const counts = { reads: 0, writes: 0, errors: 0, uptimeSeconds: -1 };
    const { keys = 0, bytes = 0 } = before ?? {};
    return { url, problem: stats, atMs, keys, bytes, ...nothing, ...last, counts };
  }
  const all = ["2xx", "3xx", "4xx", "5xx"];
  const counts = {
    reads: count(stats, READS, all),
    writes: count(stats, WRITES, all),
    errors: count(stats, [...READS, ...WRITES], ["5xx"]),
    uptimeSeconds: stats.uptimeSeconds,
  };
  // A node that was started anew counts from 0 again.
  const isSame =
    before !== undefined && before.problem === null && before.counts.uptimeSeconds <= counts.uptimeSeconds;
  const seconds = isSame ? Math.max(0.001, (atMs - before.atMs) / 1000) : 0;
  const rate = (of: "reads" | "writes" | "errors") =>
    isSame ? Math.max(0, (counts[of] - before.counts[of]) / seconds) : null;
  const { read, write } = stats.latencyMicroseconds;
  return {
    ...{ url, problem: null, atMs, keys: stats.keys, bytes: stats.liveBytes },
    ...{ readsPerSecond: rate("reads"), writesPerSecond: rate("writes"), errorsPerSecond: rate("errors") },
    readP99Ms: read.p99 === undefined ? null : read.p99 / 1000,
    writeP99Ms: write.p99 === undefined ? null : write.p99 / 1000,
    waiting: stats.queues.writes + stats.queues.requestsInFlight - 1,
    connections: stats.queues.connections,
    memoryBytes: stats.memory.rss,
    counts,
  };
}

const HEADS = [
  "NODE",
  "KEYS",
  "BYTES",
  "READS/s",
  "WRITES/s",
  "5xx/s",
  "READ p99",
  "WRITE p99",
  "WAITING",
  "CLIENTS",
  "MEMORY",
];

/** @param columns longer lines are cut */
export function tableOf(nodes: readonly NodePicture[], columns: number): string {
  const rows = nodes.map((node) =>
    node.problem === null
      ? [
          node.url,
          String(node.keys),
          sizeOf(node.bytes),
          rateText(node.readsPerSecond),
          rateText(node.writesPerSecond),
          rateText(node.errorsPerSecond),
          timeText(node.readP99Ms),
          timeText(node.writeP99Ms),
          String(Math.max(0, node.waiting)),
          String(node.connections),
          sizeOf(node.memoryBytes),
        ]
      : [node.url, ...HEADS.slice(1).map(() => "-")],
  );
  const widths = HEADS.map((head, i) => Math.max(head.length, ...rows.map((row) => row[i].length)));
  const line = (cells: readonly string[]) =>
    cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("  ");
  const problems = nodes.flatMap(({ url, problem }) =>
    problem === null ? [] : [shown(`${url}: ${problem}`)],
  );
  return `${[line(HEADS), ...rows.map(line), ...problems].map((text) => text.slice(0, columns)).join("\n")}\n`;
}

function rateText(rate: number | null): string {
  return rate === null ? "-" : rate >= 10 || rate === 0 ? String(Math.round(rate)) : rate.toFixed(1);
}

function timeText(ms: number | null): string {
  return ms === null ? "-" : `${ms >= 10 ? Math.round(ms) : ms.toFixed(1)} ms`;
}
