/**
 * `npm run bench:paired -- --base FILE`: this build beside another one, such as that of the commit before: what a change costs. Both programs are up
 * all the time; short rounds in turns, in the other order in the next round, so that what disturbs the machine disturbs both. A row's result is the
 * median of the rounds' ratios, new / base.
 */
import { mkdirSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { fill, startMinivault } from "./contenders.ts";
import { cpuTimeOf } from "./cpu.ts";
import { type Operation, runWrk } from "./load.ts";
import { isInstalled, PROGRAM } from "./machine.ts";
import { type BenchOptions, parseOptions } from "./options.ts";
import { awaitOutput, ensureProgram, freePort, start, temporaryFolder } from "./processes.ts";
import { median, pairedRatio, shortNumber } from "./statistics.ts";

const HELP = `npm run bench:paired -- --base FILE [options]
  --base FILE        the other build to measure beside
  --program FILE     instead of dist/minivault.js
  --rounds N         rounds of each row, in turns (11)
  --seconds N        seconds of each measurement (1)
  --connections N    (64)
  --bytes N          size of the values (100)
  --only A,B         only rows whose name contains one of these texts
  rows: GET, PUT always, PUT os, cluster GET, cluster PUT, signed GET, signed PUT (a cluster with a key)
  The last columns are processor time of all nodes for one request, which load beside it disturbs least.`;

const NODES = 3;
const KEY = "a-key-for-measuring";

interface Row {
  name: string;
  operation: Operation;
  sync: "always" | "os";
  cluster: boolean;
  /** With a key: what nodes say to each other is signed. */
  signed?: boolean;
}

const ROWS: readonly Row[] = [
  { name: "GET", operation: "GET", sync: "always", cluster: false },
  { name: "PUT always", operation: "PUT", sync: "always", cluster: false },
  { name: "PUT os", operation: "PUT", sync: "os", cluster: false },
  { name: "cluster GET", operation: "GET", sync: "always", cluster: true },
  { name: "cluster PUT", operation: "PUT", sync: "always", cluster: true },
  { name: "signed GET", operation: "GET", sync: "always", cluster: true, signed: true },
  { name: "signed PUT", operation: "PUT", sync: "always", cluster: true, signed: true },
];

interface Options {
  base: string;
  program: string;
  rounds: number;
  seconds: number;
  connections: number;
  bytes: number;
  rows: readonly Row[];
}

function readOptions(): Options | null {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    options: {
      base: text,
      program: text,
      rounds: text,
      seconds: text,
      connections: text,
      bytes: text,
      only: text,
      help: { type: "boolean", default: false },
    },
  });
  if (values.help === true) return null;
  if (values.base === undefined) throw new Error("--base FILE is missing");
  const whole = (name: "rounds" | "seconds" | "connections" | "bytes", otherwise: number): number => {
    const value = Number(values[name] ?? otherwise);
    if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} takes a whole number from 1 on`);
    return value;
  };
  const only = values.only?.split(",");
  const rows = ROWS.filter(({ name }) => only === undefined || only.some((part) => name.includes(part)));
  if (rows.length === 0) throw new Error(`no row's name contains ${values.only}`);
  return {
    base: path.resolve(values.base),
    program: path.resolve(values.program ?? PROGRAM),
    rounds: whole("rounds", 11),
    seconds: whole("seconds", 1),
    connections: whole("connections", 64),
    bytes: whole("bytes", 100),
    rows,
  };
}

interface Side {
  port: number;
  pids: readonly number[];
  stop(): Promise<void>;
}

/** Processor time that all of them have used, in seconds; NaN where the kernel does not say. */
function cpuSeconds(pids: readonly number[]): number {
  return pids
    .map(cpuTimeOf)
    .reduce((sum, time) => sum + (time === null ? Number.NaN : time.front + time.others), 0);
}

/** One node, or three that know each other without a master; requests go to the first. */
async function startSide(program: string, { sync, cluster, signed }: Row): Promise<Side> {
  const folder = temporaryFolder();
  const options = { ...(parseOptions(["--sync", sync]) as BenchOptions), program };
  if (!cluster) {
    const one = await startMinivault(options, folder);
    return { ...one, pids: [one.pid] };
  }
  const ports = await Promise.all(Array.from({ length: NODES }, freePort));
  const nodes = ports.map((port, number) => {
    const others = ports.filter((other) => other !== port).map((other) => `http://127.0.0.1:${other}`);
    const data = path.join(folder, `node-${number}`);
    mkdirSync(data, { mode: 0o700 });
    const words = ["-port", `${port}`, "-host", "127.0.0.1", "-public-url", `http://127.0.0.1:${port}`];
    return start(process.execPath, [
      program,
      ...words,
      "-data",
      data,
      "-sync",
      sync,
      "-volumes",
      others.join(","),
      ...(signed === true ? ["-auth", KEY] : []),
    ]);
  });
  for (const node of nodes) await awaitOutput(node, /listening on/);
  await Promise.all(ports.map(healthy));
  return {
    port: ports[0],
    pids: nodes.map((node) => node.child.pid as number),
    stop: async () => {
      await Promise.all(nodes.map((node) => node.stop()));
    },
  };
}

async function healthy(port: number): Promise<void> {
  for (const end = Date.now() + 30_000; ; ) {
    const answer = await fetch(`http://127.0.0.1:${port}/health`).catch(() => null);
    if (answer?.ok === true) return;
    if (Date.now() > end) throw new Error(`the node at port ${port} does not become healthy`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function measureRow(row: Row, options: Options): Promise<string> {
  const { base, program, rounds, seconds, connections, bytes } = options;
  const folder = temporaryFolder();
  const sides = [await startSide(program, row), await startSide(base, row)];
  const rates: number[][] = [[], []];
  const costs: number[][] = [[], []];
  const key = row.signed === true ? { key: KEY } : {};
  let failures = 0;
  for (const { port } of sides) await fill(port, bytes, key.key);
  // The first round warms both up and is not counted.
  for (let round = 0; round <= rounds; round++) {
    for (const side of round % 2 === 0 ? [0, 1] : [1, 0]) {
      const job = { operation: row.operation, connections, valueBytes: bytes, warmMs: 0, ...key };
      const before = cpuSeconds(sides[side].pids);
      const result = await runWrk({ ...job, port: sides[side].port, measureMs: seconds * 1000 }, folder);
      failures += result.failures;
      const cost = ((cpuSeconds(sides[side].pids) - before) / result.requests) * 1e6;
      if (round === 0) continue;
      rates[side].push(result.perSecond);
      costs[side].push(cost);
    }
  }
  for (const side of sides) await side.stop();
  const [ours, theirs] = rates;
  const ratios = ours.map((rate, round) => rate / theirs[round]).sort((a, b) => a - b);
  const span = `${ratios[0].toFixed(3)} to ${ratios[ratios.length - 1].toFixed(3)}`;
  return [
    row.name.padEnd(12),
    `${shortNumber(median(ours))}/s`.padStart(12),
    `${shortNumber(median(theirs))}/s`.padStart(12),
    pairedRatio(ours, theirs).toFixed(3).padStart(8),
    `  (${span})  ${costs.map((cost) => median(cost).toFixed(1)).join(" and ")} µs, ratio ${pairedRatio(costs[0], costs[1]).toFixed(3)}`,
    `${failures > 0 ? `  ${failures} FAILED` : ""}`,
  ].join("");
}

async function main(): Promise<void> {
  let options: Options | null;
  try {
    options = readOptions();
  } catch (error) {
    console.error(`${(error as Error).message}\n${HELP}`);
    process.exitCode = 2;
    return;
  }
  if (options === null) {
    console.log(HELP);
    return;
  }
  if (!isInstalled("wrk")) throw new Error("wrk is not installed; on Debian: apt-get install wrk");
  ensureProgram();
  console.log(
    `${options.bytes} B, ${options.connections} connections, ${options.rounds} rounds of ${options.seconds} s`,
  );
  console.log(
    `${"".padEnd(12)}${"new".padStart(12)}${"base".padStart(12)}${"ratio".padStart(8)}  (spread)  processor`,
  );
  for (const row of options.rows) console.log(await measureRow(row, options));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
