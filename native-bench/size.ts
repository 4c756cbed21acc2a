/**
 * `npm run bench:size`: what a node costs by the number of its keys: random GETs over all keys, and memory. The stores are filled in this process through
 * the engine. They are measured in turns, all servers up at once, so that what disturbs the machine disturbs all sizes; each server's files are read once before,
 * so that none is measured from the disk.
 *
 * 65,536 different keys are drawn uniformly for each store and asked for in turn: of a large store they touch as many cache lines and pages as draws without end would,
 * up to what the processor's caches hold of them from one turn to the next.
 */
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { fillStore, keyName } from "../test/engine/fill.ts";
import { hasProc, processMemory } from "../test/rest/process-memory.ts";
import { type Contender, fileSystemOf, startMinivault } from "./contenders.ts";
import { describeMachine, isInstalled } from "./machine.ts";
import { type BenchOptions, parseOptions, readOrExit } from "./options.ts";
import { ensureProgram, temporaryFolder } from "./processes.ts";
import { printReport, type Report, writeReport } from "./report.ts";
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
  return { keys, folder, server, startSeconds, rates: [], memory: Number.NaN, indexBytesPerKey: Number.NaN };
}

async function bench(options: Options): Promise<Report & { failures: number }> {
  ensureProgram();
  if (!isInstalled("wrk"))
    throw new Error("wrk drives this suite and is not installed (Debian: apt-get install wrk)");
  const machine = describeMachine();
  const all = options.keys.reduce((sum, keys) => sum + keys, 0);
  const loads = options.keys.length * (options.rounds + 1) * (options.seconds + 1);
  if (!options.tiny) console.error(`about ${Math.ceil((all * KEY_S + loads) / 60)} minutes`);
  const sizes: Sized[] = [];
  for (const keys of options.keys) sizes.push(await prepare(keys));
  let failures = 0;
  const load = async ({ server, keys, folder }: Sized): Promise<number> => {
    const result = await runZipf(server.port, {
      keys,
      connections: CONNECTIONS,
      putShare: 0,
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
      const rate = await load(size);
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
    await size.server.stop();
  }
  const [first] = sizes;
  return {
    name: "size",
    title: "Cost by size",
    machine,
    notes: [
      `random GET of ${VALUE_BYTES} bytes by wrk over ${CONNECTIONS} connections, 65,536 keys drawn uniformly; data on ${fileSystemOf(first.folder)}, in the page cache`,
      `${options.rounds} round(s) of ${options.seconds} s, the sizes in turns; medians; ± is (highest − lowest) / median; ratio: median of each round's ratio to the first row`,
      "memory: resident, without mapped files, which are page cache",
      ...(options.tiny ? ["TINY RUN: shows that the benchmark works; its figures mean nothing"] : []),
    ],
    tables: [
      {
        title: "Random GET and memory by number of keys",
        columns: ["keys", "GET /s", "±", "ratio", "memory", "index bytes a key", "start"],
        rows: sizes.map(({ keys, rates, memory, indexBytesPerKey, startSeconds }) => [
          shortNumber(keys),
          shortNumber(median(rates)),
          percent(spread(rates)),
          pairedRatio(rates, first.rates).toFixed(2),
          Number.isFinite(memory) ? byteSize(memory) : "–",
          shortNumber(indexBytesPerKey),
          duration(startSeconds),
        ]),
      },
    ],
    data: sizes.map(({ keys, rates, memory, indexBytesPerKey, startSeconds }) => ({
      keys,
      rates,
      memory,
      indexBytesPerKey,
      startSeconds,
    })),
    failures,
  };
}

async function main(): Promise<void> {
  const options = readOrExit(readOptions, HELP);
  const { failures, ...report } = await bench(options);
  printReport(report);
  if (options.write) console.log(`\nwritten: ${writeReport(report).join(", ")}`);
  if (failures > 0) {
    console.error(`\nFAILED: ${failures} request(s) were not answered with 2xx`);
    process.exit(1);
  }
}

main().then(
  () => process.exit(process.exitCode ?? 0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
