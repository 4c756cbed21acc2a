/**
 * `npm run bench:size`: what a node costs by the number of its keys: random GETs over all keys, memory and disk, then PUTs, and pages of lists. The stores are filled in this process through
 * the engine. They are measured in turns, all servers up at once, so that what disturbs the machine disturbs all sizes; each server's files are read once before,
 * so that none is measured from the disk.
 *
 * 65,536 different keys are drawn uniformly for each store and asked for in turn: of a large store they touch as many cache lines and pages as draws without end would,
 * up to what the processor's caches hold of them from one turn to the next.
 */
import { mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { fillStore, keyName } from "../test/engine/fill.ts";
import { hasProc, processMemory } from "../test/rest/process-memory.ts";
import { type Contender, fileSystemOf, startMinivault } from "./contenders.ts";
import { getJson, page } from "./list-client.ts";
import { describeMachine, isInstalled } from "./machine.ts";
import { type BenchOptions, parseOptions, readOrExit } from "./options.ts";
import { ensureProgram, temporaryFolder } from "./processes.ts";
import { type Report, runBench } from "./report.ts";
import { byteSize, duration, median, pairedRatio, percent, shortNumber, spread } from "./statistics.ts";
import { runZipf } from "./zipf.ts";

const HELP = `npm run bench:size -- [options]
  --keys A,B      numbers of keys (10000,1000000,20000000); the first is what the others are compared with
  --rounds N      rounds, the sizes in turns (5)
  --seconds N     seconds of each measurement (2)
  --write         write docs/bench/size.json and .md
  --tiny          shows that it works, not how fast it is`;

const VALUE_BYTES = 100;
const CONNECTIONS = 64;
const PAGES = 20;
const PAGE_KEYS = 1000;
/** What `stat` counts blocks in. */
const BLOCK_BYTES = 512;
/** For the estimate of the time it takes, filling and reading back. */
const KEY_S = 12e-6;

interface Options {
  keys: number[];
  rounds: number;
  seconds: number;
  write: boolean;
  tiny: boolean;
}

interface Sized {
  keys: number;
  folder: string;
  server: Contender;
  startSeconds: number;
  rates: number[];
  putRates: number[];
  /** Seconds for a page, a median each round. */
  pages: number[];
  diskBytes: number;
  /** Bytes; NaN where there is no /proc. */
  memory: number;
  indexBytesPerKey: number;
}

function readOptions(): Options | null {
  const text = { type: "string" } as const;
  const flag = { type: "boolean", default: false } as const;
  const { values } = parseArgs({
    options: { keys: text, rounds: text, seconds: text, write: flag, tiny: flag, help: flag },
  });
  if (values.help) return null;
  const tiny = values.tiny === true;
  const number = (word: string): number => {
    if (!(Number(word) > 0)) throw new Error(`${word} is not a positive number`);
    return Number(word);
  };
  return {
    keys: (values.keys ?? (tiny ? "1000,20000" : "10000,1000000,20000000")).split(",").map(number),
    rounds: number(values.rounds ?? (tiny ? "1" : "5")),
    seconds: number(values.seconds ?? (tiny ? "1" : "2")),
    write: values.write === true,
    tiny,
  };
}

/** Reads all files of a store, so that they are in the page cache. */
function readThrough(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true }))
    if (entry.isFile() && entry.name.endsWith(".slab")) readFileSync(path.join(entry.parentPath, entry.name));
}

/** What the files take on the disk, not how long they are: slabs are made longer than what is in them. */
function diskBytes(folder: string): number {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(path.join(entry.parentPath, entry.name)).blocks * BLOCK_BYTES, 0);
}

/** Waits until keys can be listed. */
async function listable(port: number): Promise<void> {
  while ((await getJson(port, "/_stats")).catalog.state !== "ready")
    await new Promise((resolve) => setTimeout(resolve, 100));
}

/** Seconds for a page at a random place, the median of some. */
async function pageSeconds(port: number, keys: number): Promise<number> {
  const taken: number[] = [];
  for (let number = 0; number < PAGES; number++) {
    const begun = performance.now();
    await page(port, `/?list&limit=${PAGE_KEYS}&after=${keyName(Math.floor(Math.random() * keys))}`);
    taken.push((performance.now() - begun) / 1000);
  }
  return median(taken);
}

async function prepare(keys: number): Promise<Sized> {
  const folder = temporaryFolder();
  const data = path.join(folder, "data");
  mkdirSync(data, { recursive: true });
  const begun = performance.now();
  await fillStore(data, { keys, valueBytes: VALUE_BYTES });
  console.error(`${shortNumber(keys)} keys filled in ${duration((performance.now() - begun) / 1000)}`);
  readThrough(data);
  const starting = performance.now();
  const server = await startMinivault(parseOptions([]) as BenchOptions, folder);
  const startSeconds = (performance.now() - starting) / 1000;
  return {
    ...{ keys, folder, server, startSeconds, rates: [], putRates: [], pages: [] },
    ...{ diskBytes: Number.NaN, memory: Number.NaN, indexBytesPerKey: Number.NaN },
  };
}

async function bench(options: Options): Promise<Report & { failures: number }> {
  ensureProgram();
  if (!isInstalled("wrk"))
    throw new Error("wrk drives this suite and is not installed (Debian: apt-get install wrk)");
  const machine = describeMachine();
  const all = options.keys.reduce((sum, keys) => sum + keys, 0);
  const loads = options.keys.length * (2 * options.rounds + 1) * (options.seconds + 1);
  if (!options.tiny) console.error(`about ${Math.ceil((all * KEY_S + loads) / 60)} minutes`);
  const sizes: Sized[] = [];
  for (const keys of options.keys) sizes.push(await prepare(keys));
  let failures = 0;
  const load = async ({ server, keys, folder }: Sized, putShare: number): Promise<number> => {
    const result = await runZipf(server.port, {
      keys,
      connections: CONNECTIONS,
      putShare,
      seconds: options.seconds,
      folder,
      uniform: true,
      pathOf: (number) => `/${keyName(number)}`,
    });
    failures += result.failures;
    return result.perSecond;
  };
  // The first round is not counted: maps and compiled code come with it.
  for (let round = options.tiny ? 0 : -1; round < options.rounds; round++) {
    for (const size of round % 2 === 0 ? sizes : [...sizes].reverse()) {
      const rate = await load(size, 0);
      if (round >= 0) size.rates.push(rate);
      console.error(`${shortNumber(size.keys)} keys: ${shortNumber(rate)}/s`);
    }
  }
  for (const size of sizes) {
    const stats = (await (await fetch(`http://127.0.0.1:${size.server.port}/_stats`)).json()) as {
      keys: number;
      indexBytesPerKey: number;
    };
    if (stats.keys !== size.keys) throw new Error(`${stats.keys} keys are there, ${size.keys} were filled`);
    size.indexBytesPerKey = stats.indexBytesPerKey;
    if (hasProc) size.memory = processMemory(size.server.pid).own;
  }
  // Only now: what is written over is garbage that the rounds before would have had beside them.
  for (const size of sizes) {
    await listable(size.server.port);
    size.diskBytes = diskBytes(size.folder);
  }
  for (let round = 0; round < options.rounds; round++)
    for (const size of round % 2 === 0 ? sizes : [...sizes].reverse()) {
      size.putRates.push(await load(size, 1));
      size.pages.push(await pageSeconds(size.server.port, size.keys));
      console.error(`${shortNumber(size.keys)} keys: ${shortNumber(size.putRates[round])} PUT/s`);
    }
  for (const size of sizes) await size.server.stop();
  const [first] = sizes;
  return {
    name: "size",
    title: "Cost by size",
    machine,
    notes: [
      `random GET of ${VALUE_BYTES} bytes by wrk over ${CONNECTIONS} connections, 65,536 keys drawn uniformly; data on ${fileSystemOf(first.folder)}, in the page cache`,
      `${options.rounds} round(s) of ${options.seconds} s, the sizes in turns; medians; ± is (highest − lowest) / median; ratio: median of each round's ratio to the first row`,
      `PUT: the same keys, values of the same size, -sync always; list: a page of ${shortNumber(PAGE_KEYS)} keys at a random place, right after a round of PUTs, one at a time`,
      "disk: what the files take before the PUTs, the order for lists among them; memory: resident, without mapped files, which are page cache",
      ...(options.tiny ? ["TINY RUN: shows that the benchmark works; its figures mean nothing"] : []),
    ],
    tables: [
      {
        title: "Cost by number of keys",
        columns: [
          ...["keys", "GET /s", "±", "ratio", "PUT /s", "±", "ratio", "list", "memory", "index bytes a key"],
          ...["disk", "disk bytes a key", "start"],
        ],
        rows: sizes.map(
          ({ keys, rates, putRates, pages, memory, indexBytesPerKey, diskBytes, startSeconds }) => [
            shortNumber(keys),
            shortNumber(median(rates)),
            percent(spread(rates)),
            pairedRatio(rates, first.rates).toFixed(2),
            shortNumber(median(putRates)),
            percent(spread(putRates)),
            pairedRatio(putRates, first.putRates).toFixed(2),
            duration(median(pages)),
            Number.isFinite(memory) ? byteSize(memory) : "–",
            shortNumber(indexBytesPerKey),
            byteSize(diskBytes),
            shortNumber(diskBytes / keys),
            duration(startSeconds),
          ],
        ),
      },
    ],
    data: sizes.map(({ folder: _folder, server: _server, ...size }) => size),
    failures,
  };
}

runBench(readOrExit(readOptions, HELP), bench);
