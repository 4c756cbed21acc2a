/**
 * `npm run bench:lists`: lists of keys in order: pages at random places, a stream of all, counts, one prefix among many, GETs beside a stream; what the
 * order costs in memory and on the disk, and at a start; the same over three nodes; and one prefix in Redis and in etcd with as many keys.
 *
 * Keys have 40 bytes: 1,000 of them below each prefix of 24 bytes, ending in 16 hexadecimal digits that look random, stored in an order of their own.
 */
import { mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { fillStore } from "../test/engine/fill.ts";
import { type Contender, startMinivault } from "./contenders.ts";
import { cpuTimeOf } from "./cpu.ts";
import { count, getJson, type Listed, type Page, page, stream } from "./list-client.ts";
import { describeMachine, isInstalled, PROGRAM } from "./machine.ts";
import { type BenchOptions, parseOptions, readOrExit } from "./options.ts";
import { loadEtcd, loadRedis, type OrderedPeer } from "./ordered-peers.ts";
import { ensureProgram, freePort, start, temporaryFolder } from "./processes.ts";
import { type Report, runBench } from "./report.ts";
import { duration, median, shortNumber } from "./statistics.ts";
import { runZipf, type ZipfResult } from "./zipf.ts";

const HELP = `npm run bench:lists -- [options]
  --keys N           keys of the single node (10000000)
  --cluster-keys N   keys of the three nodes (1000000)
  --peer-keys N      keys of Redis and etcd, and of the node beside them (1000000)
  --only A,B         parts: node, cluster, peers (all)
  --data DIR         a directory of the keys that an earlier run has filled
  --pages N          pages of each kind (300)
  --program FILE     another build
  --write            write docs/bench/lists.json and .md
  --tiny             shows that it works, not how fast it is`;

const PARTS = ["node", "cluster", "peers"] as const;
const VALUE_BYTES = 16;
const PREFIX_KEYS = 1000;
const LIMIT = 1000;
const GET_SECONDS = 4;
const BATCH = 5000;

interface Options {
  keys: number;
  clusterKeys: number;
  peerKeys: number;
  only: readonly string[];
  pages: number;
  write: boolean;
  tiny: boolean;
  program?: string;
  data?: string;
}

interface Row {
  what: string;
  figure: string;
  goal: string;
}

function readOptions(): Options | null {
  const text = { type: "string" } as const;
  const flag = { type: "boolean", default: false } as const;
  const { values } = parseArgs({
    options: {
      ...{
        keys: text,
        "cluster-keys": text,
        "peer-keys": text,
        only: text,
        pages: text,
        program: text,
        data: text,
      },
      ...{ write: flag, tiny: flag, help: flag },
    },
  });
  if (values.help) return null;
  const tiny = values.tiny === true;
  const number = (word: string | undefined, preset: number, small: number): number => {
    const value = word === undefined ? (tiny ? small : preset) : Number(word);
    if (!(value > 0)) throw new Error(`${word} is not a positive number`);
    return value;
  };
  return {
    keys: number(values.keys, 10_000_000, 8000),
    clusterKeys: number(values["cluster-keys"], 1_000_000, 3000),
    peerKeys: number(values["peer-keys"], 1_000_000, 3000),
    only: values.only?.split(",") ?? PARTS,
    pages: number(values.pages, 300, 5),
    write: values.write === true,
    tiny,
    ...(values.data === undefined ? {} : { data: values.data }),
    ...(values.program === undefined ? {} : { program: values.program }),
  };
}

function prefixOf(number: number): string {
  return `tenants/${String(Math.floor(number / PREFIX_KEYS)).padStart(8, "0")}/things/`;
}

/** The key of a number: 40 bytes. */
function keyOf(number: number): string {
  let mixed = Math.imul(number ^ (number >>> 16), 0x21f0aaad);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
  const low = (mixed ^ (mixed >>> 15)) >>> 0;
  return `${prefixOf(number)}${low.toString(16).padStart(8, "0")}${number.toString(16).padStart(8, "0")}`;
}

/** Keys 0 … count − 1 in an order that is not theirs. */
function scattered(index: number, keys: number): number {
  // A prime that no sensible number of keys is a multiple of.
  return (index * 7_368_787) % keys;
}

const randomKey = (keys: number): string => keyOf(Math.floor(Math.random() * keys));

/** The value below which a share of all is. */
function quantile(times: readonly number[], share: number): number {
  const sorted = [...times].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

const inMs = (ms: number): string => duration(ms / 1000);
const rate = (what: number, ms: number): string => `${shortNumber((what / ms) * 1000)}/s`;

/** Asks until there are so many keys, or no more: a page may be short where the machine is busy. */
async function pagesOf(port: number, path: string): Promise<number> {
  let keys = 0;
  for (let cursor: string | null = ""; cursor !== null && keys < LIMIT; ) {
    const found: Page = await page(port, cursor === "" ? path : `${path}&cursor=${cursor}`);
    keys += found.keys.length;
    cursor = found.cursor;
  }
  return keys;
}

async function timed(times: number, run: () => Promise<void>): Promise<number[]> {
  const taken: number[] = [];
  for (let i = 0; i < times; i++) {
    const begun = performance.now();
    await run();
    taken.push(performance.now() - begun);
  }
  return taken;
}

const randomPages = (port: number, keys: number, pages: number, more = ""): Promise<number[]> =>
  timed(pages, async () => {
    await pagesOf(port, `/?list&limit=${LIMIT}&after=${randomKey(keys)}${more}`);
  });

const prefixes = (port: number, keys: number, pages: number): Promise<number[]> =>
  timed(pages, async () => {
    const prefix = prefixOf(Math.floor(Math.random() * keys));
    const found = await pagesOf(port, `/${prefix}?list&limit=${LIMIT}`);
    if (found !== Math.min(PREFIX_KEYS, keys)) throw new Error(`${found} keys begin with ${prefix}`);
  });

function wholeOf({ keys, ms }: Listed, wanted: number): string {
  if (keys !== wanted) throw new Error(`a stream has ${keys} of ${wanted} keys`);
  return rate(keys, ms);
}

/** Processor time of some processes while something is done, for each key, in microseconds. */
async function cpuOf(pids: readonly number[], keys: number, run: () => Promise<unknown>): Promise<string> {
  const used = (): number =>
    pids.reduce((sum, pid) => {
      const time = cpuTimeOf(pid);
      return sum + (time === null ? Number.NaN : time.front + time.others);
    }, 0);
  const before = used();
  await run();
  return `${(((used() - before) / keys) * 1e6).toFixed(1)} µs`;
}

/** Waits until the catalog has all keys; answers its figures. */
async function catalogOf(port: number): Promise<{ memoryBytes: number; runs: number; runBytes: number }> {
  for (;;) {
    const { catalog } = await getJson(port, "/_stats");
    if (catalog.state === "ready") return catalog;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function bytesBelow(folder: string): number {
  return readdirSync(folder).reduce((sum, name) => sum + statSync(path.join(folder, name)).size, 0);
}

async function filled(keys: number, options: Options): Promise<{ server: Contender; folder: string }> {
  const folder = temporaryFolder();
  const data = path.join(folder, "data");
  mkdirSync(data, { recursive: true });
  const nameOf = (number: number): string => keyOf(scattered(number, keys));
  await fillStore(data, { keys, valueBytes: VALUE_BYTES, nameOf });
  return { server: await startNode(folder, options), folder };
}

/** What is there already; all but the values is made anew. */
async function opened(data: string, options: Options): Promise<{ server: Contender; folder: string }> {
  rmSync(path.join(data, "keys"), { recursive: true, force: true });
  const folder = path.dirname(data);
  return { server: await startNode(folder, options), folder };
}

function startNode(folder: string, { program }: Options): Promise<Contender> {
  const base = parseOptions([]) as BenchOptions;
  return startMinivault({ ...base, sync: "os", ...(program === undefined ? {} : { program }) }, folder);
}

async function measureNode(options: Options): Promise<Row[]> {
  const { keys, pages } = options;
  const building = performance.now();
  const first =
    options.data === undefined ? await filled(keys, options) : await opened(options.data, options);
  const fillMs = performance.now() - building;
  const built = performance.now();
  await catalogOf(first.server.port);
  const buildMs = performance.now() - built;
  console.error(`filled in ${inMs(fillMs)}, order built in ${inMs(buildMs)}`);
  await first.server.stop();
  const starting = performance.now();
  const server = await startNode(first.folder, options);
  const startMs = performance.now() - starting;
  const { port } = server;
  const catalog = await catalogOf(port);
  const readyMs = performance.now() - starting;
  const folder = path.join(first.folder, "data", "keys");
  const rows: Row[] = [];
  const add = (what: string, figure: string, goal = ""): void => {
    rows.push({ what, figure, goal });
    console.error(`${what}: ${figure}`);
  };
  await stream(port, "/?list");
  const times = await randomPages(port, keys, pages);
  add("page of 1,000 at a random place, p50", inMs(median(times)), "3 ms");
  add("the same, p99", inMs(quantile(times, 0.99)), "15 ms");
  const back = await randomPages(port, keys, Math.ceil(pages / 3), "&reverse");
  add("the same in reverse, p50", inMs(median(back)));
  const small = await prefixes(port, keys, pages);
  add("all 1,000 keys of one prefix, p50", inMs(median(small)));
  const folders = await page(port, `/tenants/?list&delimiter=/&limit=${LIMIT}`);
  const rolled = performance.now();
  await page(port, `/tenants/?list&delimiter=/&limit=${LIMIT}`);
  add(`page of ${shortNumber(folders.prefixes.length)} prefixes`, inMs(performance.now() - rolled));
  add("stream of all keys", wholeOf(await stream(port, "/?list"), keys), "250,000/s");
  const cpu = await cpuOf([server.pid], keys, () => stream(port, "/?list"));
  add("processor time of a stream, a key", cpu);
  const counted = await count(port, "/?list&count");
  add("count of all keys", wholeOf(counted, keys));
  const load = (): Promise<ZipfResult> =>
    runZipf(port, {
      ...{ keys, connections: 16, putShare: 0, uniform: true, folder: first.folder },
      seconds: options.tiny ? 1 : GET_SECONDS,
      pathOf: (number) => `/${keyOf(number)}`,
    });
  if (isInstalled("wrk")) {
    const ratios: number[] = [];
    for (let round = 0; round < (options.tiny ? 1 : 5); round++) {
      const alone = await load();
      let isOver = false;
      const streams = (async () => {
        while (!isOver) await stream(port, "/?list", () => isOver);
      })();
      const beside = await load();
      isOver = true;
      await streams;
      console.error(`GET p99 alone ${alone.p99} µs, beside a stream ${beside.p99} µs`);
      ratios.push(beside.p99 / alone.p99);
    }
    add("GET p99 beside a stream of all keys, in GET p99 without", median(ratios).toFixed(2), "2");
  }
  add("memory of the order, a key", `${(catalog.memoryBytes / keys).toFixed(2)} B`, "1 B");
  add("its files, a key", `${(bytesBelow(folder) / keys).toFixed(1)} B`, "40 B");
  add("building the order anew", `${inMs(buildMs)}, ${rate(keys, buildMs)}`);
  add("start until it serves", inMs(startMs));
  add("start until it lists", inMs(readyMs));
  await server.stop();
  return rows;
}

/** Starts three nodes that know each other, and fills them by batches. */
async function startThree(
  keys: number,
  program: string,
): Promise<{ ports: number[]; pids: number[]; stop(): Promise<void> }> {
  const ports = [await freePort(), await freePort(), await freePort()];
  const urls = ports.map((port) => `http://127.0.0.1:${port}`);
  const programs = ports.map((port, i) =>
    start(process.execPath, [
      ...[program, "-port", String(port), "-host", "127.0.0.1", "-public-url", urls[i], "-sync", "os"],
      ...["-volumes", urls.filter((url) => url !== urls[i]).join(), "-data", temporaryFolder()],
    ]),
  );
  const batches = Math.ceil(keys / BATCH);
  let next = 0;
  const lane = async (port: number): Promise<void> => {
    while (next < batches) {
      const from = next++ * BATCH;
      const lines = Array.from({ length: Math.min(BATCH, keys - from) }, (_, i) => {
        const key = keyOf(scattered(from + i, keys));
        return `{"op":"put","key":"${key}","value":"${"v".repeat(VALUE_BYTES)}"}\n`;
      });
      await batch(port, lines);
    }
  };
  await Promise.all([...ports, ports[0]].map(lane));
  return {
    ports,
    pids: programs.map(({ child }) => child.pid as number),
    async stop() {
      for (const running of programs) await running.stop();
    },
  };
}

/** Sends puts until each has been done: a node that has just started may refuse some. */
async function batch(port: number, lines: readonly string[]): Promise<void> {
  for (let left = lines; left.length > 0; ) {
    let results: number[] = [];
    try {
      const headers = { "Content-Type": "application/x-ndjson" };
      const reply = await fetch(`http://127.0.0.1:${port}/_batch`, {
        method: "POST",
        headers,
        body: left.join(""),
      });
      const text = await reply.text();
      if (reply.status === 200)
        results = text
          .trim()
          .split("\n")
          .map((line) => JSON.parse(line).status);
    } catch {
      // Not there yet.
    }
    left = left.filter((_, i) => !(results[i] === 200 || results[i] === 201));
    if (left.length > 0) await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function measureCluster(options: Options): Promise<Row[]> {
  const { clusterKeys: keys, pages } = options;
  const begun = performance.now();
  const { ports, pids, stop } = await startThree(keys, options.program ?? PROGRAM);
  console.error(`three nodes filled in ${inMs(performance.now() - begun)}`);
  for (const port of ports) await catalogOf(port);
  const rows: Row[] = [];
  const add = (what: string, figure: string, goal = ""): void => {
    rows.push({ what, figure, goal });
    console.error(`${what}: ${figure}`);
  };
  await stream(ports[0], "/?list");
  const times = await randomPages(ports[1], keys, pages);
  add("three nodes: page of 1,000 at a random place, p50", inMs(median(times)), "15 ms");
  add("three nodes: the same, p99", inMs(quantile(times, 0.99)));
  add("three nodes: all 1,000 keys of one prefix, p50", inMs(median(await prefixes(ports[2], keys, pages))));
  const folders = `/tenants/?list&delimiter=/&limit=${LIMIT}`;
  const rolled = await timed(Math.ceil(pages / 10), async () => void (await page(ports[0], folders)));
  add(
    `three nodes: page of ${(await page(ports[0], folders)).prefixes.length} prefixes, p50`,
    inMs(median(rolled)),
  );
  add("three nodes: stream of all keys", wholeOf(await stream(ports[0], "/?list"), keys), "100,000/s");
  const cpu = await cpuOf(pids, keys, () => stream(ports[0], "/?list"));
  add("three nodes: processor time of a stream, a key, all nodes", cpu);
  add("three nodes: count of all keys", wholeOf(await count(ports[0], "/?list&count"), keys));
  await stop();
  return rows;
}

async function measurePeers(options: Options): Promise<Row[]> {
  const { peerKeys: keys, pages } = options;
  const rows: Row[] = [];
  const { server } = await filled(keys, options);
  await catalogOf(server.port);
  await prefixes(server.port, keys, pages);
  const ours = median(await prefixes(server.port, keys, pages));
  await server.stop();
  const add = (what: string, figure: string, goal = ""): void => {
    rows.push({ what, figure, goal });
    console.error(`${what}: ${figure}`);
  };
  add(`one prefix of 1,000 keys among ${shortNumber(keys)}: minivault, p50`, inMs(ours));
  const all = function* (): Generator<string> {
    for (let number = 0; number < keys; number++) yield keyOf(scattered(number, keys));
  };
  const measure = async (peer: OrderedPeer, times: number, goal: string): Promise<void> => {
    const taken: number[] = [];
    for (let i = 0; i < times; i++) {
      const prefix = prefixOf(Math.floor(Math.random() * keys));
      const begun = performance.now();
      const found = await peer.keysOf(prefix);
      taken.push(performance.now() - begun);
      if (found !== Math.min(PREFIX_KEYS, keys)) throw new Error(`${peer.name} finds ${found} keys`);
    }
    await peer.stop();
    const ratio = (median(taken) / ours).toFixed(1);
    add(`the same: ${peer.name}, p50`, `${inMs(median(taken))}, ${ratio} ×`, goal);
  };
  if (isInstalled("redis-server")) await measure(await loadRedis(all()), Math.ceil(pages / 20), "100 ×");
  if (isInstalled("etcd")) await measure(await loadEtcd(all()), pages, "more than 1 ×");
  return rows;
}

async function bench(options: Options): Promise<Report> {
  ensureProgram();
  const machine = describeMachine();
  const rows: Row[] = [];
  const part = (name: (typeof PARTS)[number]): boolean => options.only.includes(name);
  if (part("node")) rows.push(...(await measureNode(options)));
  if (part("cluster")) rows.push(...(await measureCluster(options)));
  if (part("peers")) rows.push(...(await measurePeers(options)));
  return {
    name: "lists",
    title: "Keys in order",
    machine,
    notes: [
      `${shortNumber(options.keys)} keys of 40 bytes on one node, ${shortNumber(options.clusterKeys)} on three nodes of this machine, ${shortNumber(options.peerKeys)} beside Redis and etcd; values of ${VALUE_BYTES} bytes`,
      "a client in one process, one request at a time, on the machine of the servers; in the page cache",
      ...(options.tiny ? ["TINY RUN: shows that the benchmark works; its figures mean nothing"] : []),
    ],
    tables: [
      {
        title: "Lists",
        columns: ["what", "figure", "goal"],
        rows: rows.map(({ what, figure, goal }) => [what, figure, goal]),
      },
    ],
    data: rows,
  };
}

runBench(readOrExit(readOptions, HELP), bench);
