/**
 * `npm run bench:changes`: increments in place over three nodes, all on one key and over many, and batches of small PUTs beside the same PUTs alone.
 *
 * Each counter is read at the end: it has no less than what was acknowledged, and no more than what was sent.
 */
import { mkdirSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { fileSystemOf, startMinivault } from "./contenders.ts";
import { type LoadRequest, type LoadResult, runWrkWith } from "./load.ts";
import { describeMachine, isInstalled, PROGRAM } from "./machine.ts";
import { type BenchOptions, parseOptions, readOrExit, wholeNumber } from "./options.ts";
import { ensureProgram, temporaryFolder } from "./processes.ts";
import { exchange } from "./raw-http.ts";
import { type Report, runBench, type Table } from "./report.ts";
import { duration, median, percent, shortNumber, spread } from "./statistics.ts";
import { startThreeMinivault, type Three } from "./three-nodes.ts";

const HELP = `npm run bench:changes -- [options]
  --rounds N        rounds of each row (3)
  --seconds N       seconds of each measurement (2)
  --only A,B        of counters, batches
  --program FILE    instead of dist/minivault.js
  --write           write docs/bench/changes.json and .md
  --tiny            shows that it works, not how fast it is`;

const COUNTER_CLIENTS = 64;
const COUNTERS = 1000;
const ONE_COUNTER_GOAL = 300;
const COUNTERS_GOAL = 5000;
/**
 * Of increments without an Idempotency-Key that race, so many may end unknown (503), in percent: all nodes
 * begin with the same counter at the same time.
 */
const UNKNOWN_PERCENT_MAX = 1;
const BATCH_CLIENTS = 16;
const BATCH_PUTS = 100;
const BATCHES_GOAL = 3;
/** Keys that PUTs go round, alone and in batches. */
const PUT_KEYS = 1600;
const VALUE_TEXT = JSON.stringify("v".repeat(98));

interface Options {
  rounds: number;
  seconds: number;
  only: readonly string[];
  program: string;
  write: boolean;
  tiny: boolean;
}

function readOptions(): Options | null {
  const text = { type: "string" } as const;
  const flag = { type: "boolean", default: false } as const;
  const { values } = parseArgs({
    options: { rounds: text, seconds: text, only: text, program: text, write: flag, tiny: flag, help: flag },
  });
  if (values.help) return null;
  const tiny = values.tiny === true;
  const only = values.only?.split(",") ?? ["counters", "batches"];
  for (const word of only)
    if (word !== "counters" && word !== "batches") throw new Error(`${word} is none of counters, batches`);
  return {
    rounds: wholeNumber(values.rounds ?? (tiny ? "1" : "3")),
    seconds: wholeNumber(values.seconds ?? (tiny ? "1" : "2")),
    only,
    program: path.resolve(values.program ?? PROGRAM),
    write: values.write === true,
    tiny,
  };
}

interface Load {
  perSecond: number;
  /** Answers, and those that were none or not as they should be. */
  requests: number;
  failures: number;
  p50: number;
}

/** wrk on each of the ports with its share of the connections. */
async function load(
  ports: readonly number[],
  requests: readonly LoadRequest[],
  connections: number,
  seconds: number,
  folder: string,
): Promise<Load> {
  const parts: LoadResult[] = await Promise.all(
    ports.map((port, number) => {
      const own = path.join(folder, String(port));
      mkdirSync(own, { recursive: true });
      const share = Math.floor(connections / ports.length) + (number < connections % ports.length ? 1 : 0);
      return runWrkWith(requests, { port, connections: share, seconds }, own);
    }),
  );
  const sum = (name: "perSecond" | "requests" | "failures"): number =>
    parts.reduce((total, part) => total + part[name], 0);
  return {
    perSecond: sum("perSecond"),
    requests: sum("requests"),
    failures: sum("failures"),
    p50: median(parts.map(({ p50 }) => p50)),
  };
}

function increments(prefix: string, count: number): LoadRequest[] {
  // Neighbours are not asked for one after another.
  return Array.from({ length: count }, (_, index) => ({
    ...{ method: "PATCH", path: `/${prefix}/${(index * 7) % count}` },
    body: '{"increment":1,"initial":0}',
  }));
}

/** What all counters have together. */
async function sumOf(port: number, prefix: string, count: number): Promise<number> {
  const operations = Array.from({ length: count }, (_, index) => ({ op: "get", key: `${prefix}/${index}` }));
  const body = Buffer.from(JSON.stringify({ operations }));
  const answer = await exchange(port, "POST", "/_batch", body, "application/json");
  const { results } = JSON.parse(answer.body.toString()) as { results: { value?: number }[] };
  return results.reduce((sum, { value = 0 }) => sum + value, 0);
}

type Row = Table["rows"][number];
interface Part {
  table: Table;
  data: object[];
  failures: number;
}

async function counters({ rounds, seconds, program }: Options, folder: string): Promise<Part> {
  const three: Three = await startThreeMinivault(program);
  const rows: Row[] = [];
  const data: object[] = [];
  let failures = 0;
  for (const [count, goal] of [
    [1, ONE_COUNTER_GOAL],
    [COUNTERS, COUNTERS_GOAL],
  ]) {
    const rates: number[] = [];
    const latencies: number[] = [];
    let [requests, unknown] = [0, 0];
    // The first round warms up, and is not counted.
    for (let round = 0; round <= rounds; round++) {
      const prefix = `counters-${count}-${round}`;
      const measured = await load(three.ports, increments(prefix, count), COUNTER_CLIENTS, seconds, folder);
      requests += measured.requests;
      unknown += measured.failures;
      const sum = await sumOf(three.ports[round % three.ports.length], prefix, count);
      // What was under way when wrk ended may have been counted as well.
      const done = measured.requests - measured.failures;
      if (sum < done || sum > measured.requests + COUNTER_CLIENTS)
        throw new Error(`${done} increments were acknowledged, and the counters have ${sum}`);
      if (round === 0) continue;
      rates.push(measured.perSecond);
      latencies.push(measured.p50);
    }
    const figure = median(rates);
    const unknownPercent = (100 * unknown) / requests;
    if (unknownPercent > UNKNOWN_PERCENT_MAX) failures += unknown;
    rows.push([
      `${COUNTER_CLIENTS} clients over three nodes, ${shortNumber(count)} ${count === 1 ? "counter" : "counters"}`,
      ...[`${shortNumber(figure)}/s`, percent(spread(rates)), duration(median(latencies) / 1e6)],
      ...[`${unknownPercent.toFixed(2)} %`, `≥ ${shortNumber(goal)}/s`, figure >= goal ? "yes" : "NO"],
    ]);
    data.push({ counters: count, rates, latencies, requests, unknown, goal });
  }
  await three.stop();
  const columns = ["increments", "rate", "±", "p50", "unknown", "goal", "reached"];
  return { table: { title: "Counters", columns, rows }, data, failures };
}

/** The same PUTs, alone and in batches. */
function puts(): { single: LoadRequest[]; batched: LoadRequest[] } {
  const keys = Array.from({ length: PUT_KEYS }, (_, index) => `puts/${index}`);
  const single = keys.map((key) => ({ method: "PUT", path: `/${key}`, body: `{"value":${VALUE_TEXT}}` }));
  const batched: LoadRequest[] = [];
  for (let from = 0; from < keys.length; from += BATCH_PUTS) {
    const lines = keys
      .slice(from, from + BATCH_PUTS)
      .map((key) => `{"op":"put","key":"${key}","value":${VALUE_TEXT}}`);
    batched.push({ method: "POST", path: "/_batch", body: `{"operations":[${lines.join(",")}]}` });
  }
  return { single, batched };
}

async function beside(
  name: string,
  ports: readonly number[],
  { rounds, seconds }: Options,
  folder: string,
): Promise<{ row: Row; data: object; failures: number }> {
  const { single, batched } = puts();
  // A batch is answered with 200 whatever has become of its operations.
  for (const { path: target, body } of batched) {
    const answer = await exchange(ports[0], "POST", target, Buffer.from(body), "application/json");
    const { results = [] } = JSON.parse(answer.body.toString()) as { results?: { status: number }[] };
    if (results.length !== BATCH_PUTS || results.some(({ status }) => status >= 300))
      throw new Error(`a batch was answered ${answer.body}`);
  }
  const rates: number[][] = [[], []];
  let failures = 0;
  for (let round = 0; round <= rounds; round++)
    for (const side of round % 2 === 0 ? [0, 1] : [1, 0]) {
      const measured = await load(ports, [single, batched][side], BATCH_CLIENTS, seconds, folder);
      failures += measured.failures;
      if (round > 0) rates[side].push(measured.perSecond * [1, BATCH_PUTS][side]);
    }
  const figure = median(rates[1].map((rate, index) => rate / rates[0][index]));
  const row = [
    name,
    ...rates.flatMap((rate) => [`${shortNumber(median(rate))}/s`, percent(spread(rate))]),
    ...[figure.toFixed(2), `≥ ${BATCHES_GOAL}`, figure >= BATCHES_GOAL ? "yes" : "NO"],
  ];
  return { row, data: { name, single: rates[0], batched: rates[1], figure }, failures };
}

async function batches(options: Options, folder: string): Promise<Part> {
  const { program } = options;
  const one = await startMinivault({ ...(parseOptions([]) as BenchOptions), program }, folder);
  const alone = await beside("one node", [one.port], options, folder);
  await one.stop();
  const columns = [
    "PUTs of 100 B",
    "alone",
    "±",
    `in batches of ${BATCH_PUTS}`,
    "±",
    "ratio",
    "goal",
    "reached",
  ];
  const title = `Batches, ${BATCH_CLIENTS} clients`;
  return { table: { title, columns, rows: [alone.row] }, data: [alone.data], failures: alone.failures };
}

async function bench(options: Options): Promise<Report & { failures: number }> {
  ensureProgram();
  if (!isInstalled("wrk"))
    throw new Error("wrk drives this suite and is not installed (Debian: apt-get install wrk)");
  const machine = describeMachine();
  const folder = temporaryFolder();
  const parts: Part[] = [];
  if (options.only.includes("counters")) parts.push(await counters(options, folder));
  if (options.only.includes("batches")) parts.push(await batches(options, folder));
  const { rounds, seconds, tiny } = options;
  return {
    name: "changes",
    title: "Changes in place, and batches",
    machine,
    notes: [
      `nodes and load (wrk) on one machine, data on ${fileSystemOf(folder)}, -sync always; ${rounds} round(s) of ${seconds} s, medians; ± is (highest − lowest) / median`,
      "counters: each is read after its round, and has what was acknowledged; without Idempotency-Key",
      ...(tiny ? ["TINY RUN: shows that the benchmark works; its figures mean nothing"] : []),
    ],
    tables: parts.map(({ table }) => table),
    data: parts.map(({ data }) => data),
    failures: parts.reduce((sum, part) => sum + part.failures, 0),
  };
}

runBench(readOrExit(readOptions, HELP), bench);
