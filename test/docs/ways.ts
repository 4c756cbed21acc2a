/**
 * Which files of src a request crosses, found by running it: nodes run from the source under V8's exact coverage, once with REQUESTS of one kind,
 * one after the other, and once without. A file is crossed when one of its functions was called at least once more for each request. What
 * docs/architecture.md lists between its markers is made here.
 *
 *   node --import tsx test/docs/ways.ts            prints the files of each way
 *   node --import tsx test/docs/ways.ts --write    writes them to docs/architecture.md
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../../native-bench/processes.ts";
import { cleanEnvironment, REPOSITORY, removeFolder, temporaryFolder } from "../rest/server.ts";

const PAGE = path.join(REPOSITORY, "docs/architecture.md");
const SMALL_BYTES = 100;
/** Above what goes through memory in one piece, so that it streams. */
const LARGE_BYTES = 5 * 2 ** 20;
const START_MS_MAX = 60_000;

export interface Way {
  /** As the page names it. */
  readonly name: string;
  readonly nodes: 1 | 3;
  readonly method: "GET" | "PUT";
  readonly bytes: number;
  readonly requests: number;
  /**
   * How many files it may cross at most: what it crosses today. It should shrink, but not at the price of files that are longer than a few
   * screens: each file that is divided by its subject adds one to a way that needs both parts.
   */
  readonly filesMax: number;
  /** How many it should cross; null: nobody has said. */
  readonly aim: number | null;
}

export const WAYS: readonly Way[] = [
  { name: "put", nodes: 1, method: "PUT", bytes: SMALL_BYTES, requests: 1000, filesMax: 71, aim: 20 },
  { name: "get", nodes: 1, method: "GET", bytes: SMALL_BYTES, requests: 1000, filesMax: 25, aim: 12 },
  { name: "quorum-get", nodes: 3, method: "GET", bytes: SMALL_BYTES, requests: 1000, filesMax: 80, aim: 30 },
  {
    name: "large-upload",
    nodes: 1,
    method: "PUT",
    bytes: LARGE_BYTES,
    requests: 20,
    filesMax: 92,
    aim: null,
  },
];

interface FunctionCoverage {
  functionName: string;
  ranges: { startOffset: number; endOffset: number; count: number }[];
}

/** Function → how often it was called, in all threads of all nodes. */
type Calls = Map<string, number>;

/** The files that a way crosses, below src, sorted. */
export async function filesOf(way: Way): Promise<string[]> {
  const without = await callsOf(way, 0);
  const files = new Set<string>();
  for (const [name, count] of await callsOf(way, way.requests))
    if (count - (without.get(name) ?? 0) >= way.requests) files.add(name.split(" ")[0]);
  return [...files].sort();
}

async function callsOf(way: Way, requests: number): Promise<Calls> {
  const folder = temporaryFolder();
  const nodes: ChildProcess[] = [];
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  try {
    const ports = await freePorts(way.nodes);
    for (const port of ports) nodes.push(startNode(folder, port, ports));
    for (const port of ports) await serves(port);
    const port = ports[0];
    const body = Buffer.alloc(way.bytes, 120);
    await ask(agent, port, "PUT", body);
    for (let request = 0; request < requests; request++) {
      const status = await ask(agent, port, way.method, way.method === "PUT" ? body : null);
      if (status !== 200) throw new Error(`${way.name}: answered ${status}`);
    }
    agent.destroy();
    await Promise.all(nodes.map(stop));
    return readCoverage(path.join(folder, "coverage"));
  } finally {
    agent.destroy();
    for (const node of nodes) node.kill("SIGKILL");
    removeFolder(folder);
  }
}

function startNode(folder: string, port: number, ports: readonly number[]): ChildProcess {
  const url = (one: number): string => `http://127.0.0.1:${one}`;
  const others = ports.filter((one) => one !== port).map(url);
  const cluster = others.length === 0 ? [] : ["-public-url", url(port), "-volumes", others.join(",")];
  const words = ["-port", String(port), "-host", "127.0.0.1", "-data", path.join(folder, `data-${port}`)];
  return spawn(process.execPath, ["--import", "tsx", "src/main.ts", ...words, "-threads", "1", ...cluster], {
    cwd: REPOSITORY,
    env: cleanEnvironment({
      NODE_V8_COVERAGE: path.join(folder, "coverage"),
      MINIVAULT_LOG: "error",
    }),
    stdio: ["ignore", "inherit", "inherit"],
  });
}

async function stop(node: ChildProcess): Promise<void> {
  if (node.exitCode !== null) return;
  const ended = once(node, "exit");
  node.kill("SIGTERM");
  await ended;
}

/** Ports that are free now. */
async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) ports.push(await freePort());
  return ports;
}

async function serves(port: number): Promise<void> {
  const agent = new http.Agent();
  const until = Date.now() + START_MS_MAX;
  while (Date.now() < until) {
    const status = await ask(agent, port, "GET", null, "/health").catch(() => 0);
    if (status === 200) return;
    await sleep(100);
  }
  throw new Error(`the node on port ${port} did not serve within ${START_MS_MAX} ms`);
}

/** The status of the answer, once it is read to its end. */
function ask(
  agent: http.Agent,
  port: number,
  method: string,
  body: Buffer | null,
  target = "/key",
): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers =
      body === null ? {} : { "content-length": body.length, "content-type": "application/octet-stream" };
    const request = http.request(
      { host: "127.0.0.1", port, method, path: target, agent, headers },
      (response) => {
        response.resume();
        response.once("end", () => resolve(response.statusCode ?? 0));
        response.once("error", reject);
      },
    );
    request.once("error", reject);
    request.end(body ?? undefined);
  });
}

function readCoverage(folder: string): Calls {
  const calls: Calls = new Map();
  const source = `file://${path.join(REPOSITORY, "src")}/`;
  for (const file of fs.readdirSync(folder)) {
    const { result } = JSON.parse(fs.readFileSync(path.join(folder, file), "utf8")) as {
      result: { url: string; functions: FunctionCoverage[] }[];
    };
    for (const { url, functions } of result) {
      if (!url.startsWith(source)) continue;
      const name = url.slice(source.length).split("?")[0];
      for (const { functionName, ranges } of functions) {
        if (isCompilers(functionName, ranges[0])) continue;
        const key = `${name} ${functionName} ${ranges[0].startOffset}`;
        calls.set(key, (calls.get(key) ?? 0) + ranges[0].count);
      }
    }
  }
  return calls;
}

/** Whether a function is one of the compiler's: `NAME: () => NAME`, an export, makes a call of each look at a constant. */
function isCompilers(name: string, range: { startOffset: number; endOffset: number }): boolean {
  return name === "get" || name === "__name" || range.endOffset - range.startOffset === `()=>${name}`.length;
}

const begin = (name: string): string => `<!-- way:${name} -->`;
const end = (name: string): string => `<!-- /way:${name} -->`;

/** The files that the page lists for a way. Throws when it has no such list. */
export function listedFiles(way: Way): string[] {
  const text = fs.readFileSync(PAGE, "utf8");
  const [from, to] = [text.indexOf(begin(way.name)), text.indexOf(end(way.name))];
  if (from < 0 || to < from)
    throw new Error(`docs/architecture.md has no ${begin(way.name)} … ${end(way.name)}`);
  return [...text.slice(from, to).matchAll(/`([^`]+\.ts)`/g)].map(([, file]) => file);
}

function writeList(way: Way, files: readonly string[]): void {
  const text = fs.readFileSync(PAGE, "utf8");
  const [from, to] = [text.indexOf(begin(way.name)), text.indexOf(end(way.name))];
  if (from < 0 || to < from)
    throw new Error(`docs/architecture.md has no ${begin(way.name)} … ${end(way.name)}`);
  const aim = way.aim === null ? "" : ` (aim: ${way.aim})`;
  const list = `${files.length} files${aim}: ${files.map((file) => `\`${file}\``).join(", ")}.`;
  fs.writeFileSync(PAGE, `${text.slice(0, from)}${begin(way.name)}\n${list}\n${text.slice(to)}`);
}

async function main(): Promise<void> {
  for (const way of WAYS) {
    const files = await filesOf(way);
    const aim = way.aim === null ? "" : `, aim: ${way.aim}`;
    console.log(`${way.name}: ${files.length} files${aim}\n  ${files.join("\n  ")}`);
    if (process.argv.includes("--write")) writeList(way, files);
  }
}

if (require.main === module) void main();
