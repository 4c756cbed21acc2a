/**
 * The mixed load of YCSB's workload B: keys drawn by a zipfian distribution, scrambled over the key space. The draws are made here, seeded, and given to
 * wrk as a list, so that reads alone and reads with writes cost the generator the same.
 */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { keyPath } from "./load.ts";
import { run } from "./processes.ts";

/** YCSB's constant. */
const THETA = 0.99;
/** Requests that wrk goes round. */
const DRAWS = 65_536;
const VALUE_BYTES = 100;
const FILL_CONNECTIONS = 256;
/** More keys than this are filled in longer slices. */
const SLICE_KEYS = 100_000;
const SLICES_MAX = 200;
const SEED = 20_240_229;

/** A key that nothing is ever stored under. */
export const ABSENT_KEY = "/absent-0000000000";

/** A small seeded generator of numbers in [0, 1) (Vigna's splitmix, 32 bits). */
function seeded(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
  };
}

/** Draws of ranks 0 … keys − 1 (Gray et al., "Quickly Generating Billion-Record Synthetic Databases", 1994), then scattered over the keys. */
export function zipfDraws(keys: number, count: number, seed: number): Uint32Array {
  const random = seeded(seed);
  let zeta = 0;
  for (let rank = 1; rank <= keys; rank++) zeta += rank ** -THETA;
  const zetaOfTwo = 1 + 0.5 ** THETA;
  const alpha = 1 / (1 - THETA);
  const eta = (1 - (2 / keys) ** (1 - THETA)) / (1 - zetaOfTwo / zeta);
  const draws = new Uint32Array(count);
  for (let index = 0; index < count; index++) {
    const u = random();
    const scaled = u * zeta;
    const rank =
      scaled < 1
        ? 0
        : scaled < zetaOfTwo
          ? 1
          : Math.min(keys - 1, Math.floor(keys * (eta * u - eta + 1) ** alpha));
    draws[index] = Math.imul(rank + 1, 0x9e3779b1) >>> 0;
    draws[index] %= keys;
  }
  return draws;
}

interface ZipfJob {
  keys: number;
  connections: number;
  /** Share of requests that are PUTs. */
  putShare: number;
  seconds: number;
  /** For wrk's script. */
  folder: string;
  /** Ask for this one path instead, and count 404 as a success. */
  path?: string;
  /** Draw all keys alike. */
  uniform?: boolean;
  /** Path of a key by its number, where it is not the usual one. */
  pathOf?: (number: number) => string;
}

function script(job: ZipfJob): string {
  const random = seeded(SEED + 1);
  const draws =
    job.path !== undefined
      ? new Uint32Array(1)
      : job.uniform
        ? Uint32Array.from({ length: DRAWS }, () => Math.floor(random() * job.keys))
        : zipfDraws(job.keys, DRAWS, SEED);
  const targets = Array.from(draws, (draw) => job.path ?? (job.pathOf ?? keyPath)(draw));
  const lines = targets.map((target) => (random() < job.putShare ? `p("${target}")` : `g("${target}")`));
  // Lua limits a function's size: the list is split.
  const chunks: string[] = [];
  for (let at = 0; at < lines.length; at += 4096)
    chunks.push(`function()\n${lines.slice(at, at + 4096).join("\n")}\nend`);
  return `
local body = string.rep("v", ${VALUE_BYTES})
local headers = { ["Content-Type"] = "application/octet-stream" }
local requests = {}
local next = 0
local function g(target) requests[#requests + 1] = wrk.format("GET", target) end
local function p(target) requests[#requests + 1] = wrk.format("PUT", target, headers, body) end
local chunks = {
${chunks.join(",\n")}
}
function init(args)
  for _, chunk in ipairs(chunks) do chunk() end
end
function request()
  next = next % #requests + 1
  return requests[next]
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n{"all":%d,"status":%d,"errors":%d,"duration":%d,"p99":%d}\\n', summary.requests, e.status, e.connect + e.read + e.write + e.timeout, summary.duration, latency:percentile(99)))
end
`;
}

export interface ZipfResult {
  perSecond: number;
  failures: number;
  /** In microseconds. */
  p99: number;
}

/** Runs the load. */
export async function runZipf(port: number, job: ZipfJob): Promise<ZipfResult> {
  const file = path.join(job.folder, "zipf.lua");
  writeFileSync(file, script(job));
  const seconds = Math.max(1, Math.round(job.seconds));
  const words = ["-t1", `-c${job.connections}`, `-d${seconds}s`, "--timeout", "10s", "-s", file];
  const output = await run("wrk", [...words, `http://127.0.0.1:${port}/`]);
  const line = output.split("\n").find((text) => text.startsWith("{"));
  if (line === undefined) throw new Error(`wrk printed no result:\n${output}`);
  const { all, status, errors, duration, p99 } = JSON.parse(line) as Record<string, number>;
  const refused = job.path === undefined ? status : all - status;
  return { perSecond: (all / duration) * 1e6, failures: errors + refused, p99 };
}

/** Stores a value under each of the keys, by wrk in slices of time (it knows no other end), and makes sure that all are there. */
export async function fillZipf(port: number, keys: number, folder: string): Promise<void> {
  const file = path.join(folder, "fill.lua");
  const storedKeys = async () =>
    ((await (await fetch(`http://127.0.0.1:${port}/_stats`)).json()) as { keys: number }).keys;
  const sliceSeconds = keys > SLICE_KEYS ? 5 : 1;
  for (let slice = 0, stored = 0; stored < keys; slice++) {
    if (slice === SLICES_MAX) throw new Error(`only ${stored} of ${keys} keys were stored`);
    // What was under way when the last slice ended may be missing.
    const from = Math.max(0, stored - 2 * FILL_CONNECTIONS);
    writeFileSync(
      file,
      `
local body = string.rep("v", ${VALUE_BYTES})
local headers = { ["Content-Type"] = "application/octet-stream" }
local number = ${from - 1}
function request()
  number = number + 1
  return wrk.format("PUT", string.format("/bench-%010d", number % ${keys}), headers, body)
end
`,
    );
    const words = ["-t1", `-c${FILL_CONNECTIONS}`, `-d${sliceSeconds}s`, "--timeout", "10s", "-s", file];
    await run("wrk", [...words, `http://127.0.0.1:${port}/`]);
    stored = await storedKeys();
  }
}
