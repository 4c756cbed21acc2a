/**
 * Load on a server: what a job is, and how its generators run, each as a process of its own.
 *
 * autocannon is JavaScript: one process of it saturates long before uWS does, so that its throughput says little about a fast
 * server; its latencies, in microseconds by hdr-histogram, include its own queue. wrk, in C, drives a server to its limit.
 */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { run } from "./processes.ts";

export type Operation = "GET" | "PUT" | "mixed";

/** In the mixed load, one request in so many is a PUT. */
export const MIXED_PUT_ONE_IN = 20;
/** Keys that the load goes round; each must hold a value. One for large values: every connection of a generator holds all its requests. */
export function keysOf(valueBytes: number): number {
  return valueBytes <= 2 ** 20 ? 16 : 1;
}

/** Keys of loads on three nodes, which begin at different ones: few clients write the same few keys. */
export const SPREAD_KEYS = 1000;

export interface Job {
  port: number;
  operation: Operation;
  connections: number;
  valueBytes: number;
  warmMs: number;
  measureMs: number;
  /** Key of clients that the server asks for, with wrk. */
  key?: string;
  /** With wrk: sent in turn in place of the keys' paths. */
  paths?: readonly string[];
}

export interface LoadResult {
  /** Answers with a 2xx status, per second. */
  perSecond: number;
  /** All answers, those to the warm-up included. */
  requests: number;
  /** Answers with another status, plus errors of sockets and timeouts. */
  failures: number;
  /** Latencies in microseconds. */
  p50: number;
  p90: number;
  p99: number;
  p999: number;
  max: number;
}

export type Generator = "autocannon" | "wrk";

export function keyPath(number: number): string {
  return `/bench-${String(number).padStart(10, "0")}`;
}

/** Method and path of each request that a connection sends in turn. */
export function requestsOf(
  operation: Operation,
  valueBytes: number,
): { method: "GET" | "PUT"; path: string }[] {
  const keys = keysOf(valueBytes);
  if (operation !== "mixed") {
    return Array.from({ length: keys }, (_, number) => ({ method: operation, path: keyPath(number) }));
  }
  // A round in which each key's turn to be written comes once, and the writes are spread evenly.
  return Array.from({ length: keys * MIXED_PUT_ONE_IN }, (_, number) => ({
    method: number % MIXED_PUT_ONE_IN === MIXED_PUT_ONE_IN - 1 ? "PUT" : "GET",
    path: keyPath((number * 7 + Math.floor(number / MIXED_PUT_ONE_IN)) % keys),
  }));
}

/** Runs a job with autocannon. */
export async function runAutocannon(job: Job): Promise<LoadResult> {
  const generator = path.join(__dirname, "generator.ts");
  return JSON.parse(
    await run(process.execPath, ["--import", "tsx", generator, JSON.stringify(job)]),
  ) as LoadResult;
}

/** How a Lua program for wrk prints its result as JSON. */
const DONE = `
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\n{"perSecond":%.1f,"requests":%d,"failures":%d,"p50":%d,"p90":%d,"p99":%d,"p999":%d,"max":%d}\\n',
    (summary.requests - e.status) / summary.duration * 1e6, summary.requests, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency:percentile(99.9), latency.max))
end
`;

/** The Lua program that tells wrk what to send, and prints its result as JSON. */
export function wrkScript(
  operation: Operation,
  valueBytes: number,
  key?: string,
  paths?: readonly string[],
): string {
  const sent =
    paths?.map((target) => ({ method: operation, path: target })) ?? requestsOf(operation, valueBytes);
  const puts = sent.map(({ method, path: target }) =>
    method === "GET"
      ? `requests[#requests + 1] = wrk.format("GET", "${target}"${key === undefined ? "" : ", access"})`
      : `requests[#requests + 1] = wrk.format("PUT", "${target}", headers, body)`,
  );
  const authorization = key === undefined ? "" : `["Authorization"] = "Bearer ${key}"`;
  return `
local body = string.rep("v", ${valueBytes})
local access = { ${authorization} }
local headers = { ["Content-Type"] = "application/octet-stream", ${authorization} }
local requests = {}
local next = 0
function init(args)
  ${puts.join("\n  ")}
end
function request()
  next = next % #requests + 1
  return requests[next]
end
${DONE}`;
}

/** A request as it is sent. */
export interface LoadRequest {
  method: string;
  path: string;
  /** JSON. */
  body: string;
}

/** Sends these requests over and over with wrk, each connection of its thread the next one. */
export async function runWrkWith(
  requests: readonly LoadRequest[],
  { port, connections, seconds }: { port: number; connections: number; seconds: number },
  folder: string,
): Promise<LoadResult> {
  const script = path.join(folder, `requests-${port}.lua`);
  const lines = requests.map(
    ({ method, path: target, body }) =>
      `requests[#requests + 1] = wrk.format("${method}", "${target}", headers, [==[${body}]==])`,
  );
  writeFileSync(
    script,
    `
local headers = { ["Content-Type"] = "application/json" }
local requests = {}
local next = 0
local function add(from)
  from()
end
function init(args)
${chunksOf(lines)}
end
function request()
  next = next % #requests + 1
  return requests[next]
end
${DONE}`,
  );
  return readWrk(
    await run("wrk", [
      ...["-t1", `-c${connections}`, `-d${seconds}s`, "--timeout", "10s", "-s", script],
      `http://127.0.0.1:${port}/`,
    ]),
  );
}

/** A function of Lua has room for so many constants only. */
function chunksOf(lines: readonly string[]): string {
  const chunks: string[] = [];
  for (let from = 0; from < lines.length; from += 1000)
    chunks.push(`add(function()\n${lines.slice(from, from + 1000).join("\n")}\nend)`);
  return chunks.join("\n");
}

/** Runs a job with wrk, which takes whole seconds and has no warm-up of its own. Its script goes into `folder`. */
export async function runWrk(job: Job, folder: string): Promise<LoadResult> {
  const script = path.join(folder, `${job.operation}-${job.valueBytes}.lua`);
  writeFileSync(script, wrkScript(job.operation, job.valueBytes, job.key, job.paths));
  const seconds = Math.max(1, Math.round(job.measureMs / 1000));
  const words = ["-t1", `-c${job.connections}`, `-d${seconds}s`, "--timeout", "10s", "-s", script];
  return readWrk(await run("wrk", [...words, `http://127.0.0.1:${job.port}/`]));
}

function readWrk(output: string): LoadResult {
  const line = output.split("\n").find((text) => text.startsWith("{"));
  if (line === undefined) throw new Error(`wrk printed no result:\n${output}`);
  return JSON.parse(line) as LoadResult;
}
