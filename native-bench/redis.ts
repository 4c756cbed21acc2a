/** The peer: Redis with an append-only file that is synced on every write, driven by its own redis-benchmark. */

import type { LoadResult, Operation } from "./load.ts";
import { awaitOutput, freePort, type Running, run, start, temporaryFolder } from "./processes.ts";

export interface Redis {
  readonly port: number;
  readonly version: string;
  stop(): Promise<void>;
}

/** Starts redis-server with the durability that `sync` has in minivault. */
export async function startRedis(
  sync: "always" | "os",
  more: Readonly<Record<string, string>> = {},
): Promise<Redis> {
  const folder = temporaryFolder();
  const port = await freePort();
  const fsync = sync === "always" ? "always" : "everysec";
  const flags = {
    port: String(port),
    bind: "127.0.0.1",
    dir: folder,
    save: "",
    appendonly: "yes",
    appendfsync: fsync,
    ...more,
  };
  const program: Running = start(
    "redis-server",
    Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]),
  );
  await awaitOutput(program, /[Rr]eady to accept connections/);
  const version = /version[=: ]+v?([\d.]+)/i.exec(program.output())?.[1] ?? "unknown";
  return { port, version, stop: () => program.stop() };
}

/** Runs redis-benchmark, which counts requests and not time: `requests` says how many. No pipelining. */
export async function runRedis(
  redis: Redis,
  operation: Exclude<Operation, "mixed">,
  connections: number,
  valueBytes: number,
  requests: number,
): Promise<LoadResult> {
  const test = operation === "GET" ? "get" : "set";
  const words = [
    "-h",
    "127.0.0.1",
    "-p",
    String(redis.port),
    "-c",
    String(connections),
    "-d",
    String(valueBytes),
  ];
  const output = await run("redis-benchmark", [...words, "-n", String(requests), "-t", test, "--csv"]);
  return { ...parseRedis(output), requests };
}

/** redis-benchmark's CSV: "test","rps","avg_latency_ms","min","p50","p95","p99","max" (Redis 6.2 and later). */
export function parseRedis(csv: string): LoadResult {
  const lines = csv.trim().split("\n").slice(-2);
  const cells = lines.map((line) => line.split(",").map((cell) => cell.replaceAll('"', "")));
  const value = (name: string) => Number(cells[1][cells[0].indexOf(name)]);
  const micro = (name: string) => value(name) * 1000;
  const result = {
    perSecond: value("rps"),
    requests: 0,
    failures: 0,
    p50: micro("p50_latency_ms"),
    p90: Number.NaN,
    p99: micro("p99_latency_ms"),
    p999: Number.NaN,
    max: micro("max_latency_ms"),
  };
  if (!(result.perSecond > 0)) throw new Error(`redis-benchmark printed no result:\n${csv}`);
  return result;
}
