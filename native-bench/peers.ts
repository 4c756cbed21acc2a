/**
 * `npm run bench:peers`: each kind of work beside what its users would pick instead, or beside what the machine allows: a bare uWS handler, Redis,
 * nginx, dd, the disk.
 *
 * A row is measured in rounds, the two sides in turns and in the other order in the next round; its result is the median of the rounds' ratios (or
 * differences). An answer that is not 2xx makes the run fail; a goal that is not reached does not: it is printed as not reached.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { type Build, parseBuilds, startBuilds } from "./builds.ts";
import { type Contender, fileSystemOf, fill, startCeiling, startMinivault } from "./contenders.ts";
import { measureDisk } from "./disk.ts";
import { type Job, keyPath, runWrk } from "./load.ts";
import { describeMachine, isInstalled } from "./machine.ts";
import { startNginx } from "./nginx.ts";
import { objectStage } from "./object-peers.ts";
import { type BenchOptions, parseOptions, readOrExit } from "./options.ts";
import { fillPage } from "./page.ts";
import { ensureProgram, run, temporaryFolder } from "./processes.ts";
import { type Redis, runRedis, startRedis } from "./redis.ts";
import { type Report, runBench } from "./report.ts";
import type { Row, Stage } from "./rows.ts";
import { byteSize, duration, median, pairedRatio, percent, shortNumber, spread } from "./statistics.ts";
import { watchStage } from "./watch-peers.ts";
import { ABSENT_KEY, fillZipf, runZipf } from "./zipf.ts";

const HELP = `npm run bench:peers -- [options]
  --rounds N      rounds of each row, the two sides in turns (5)
  --seconds N     seconds of each measurement (2)
  --only A,B      only rows whose name contains one of these texts
  --keys N        keys of the mixed load (1000000)
  --write         write docs/bench/peers.json and .md, and fill docs/benchmarks.md
  --program FILE  measure this file instead of dist/minivault.js
  --builds LIST   only several builds beside the first: NODE:FILE,NODE:FILE,…, NODE being the executable
  --tiny          shows that it works, not how fast it is`;

const SMALL_BYTES = 100;
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const REDIS_PROBE_REQUESTS = 2000;
/** Connections of a load of large values. */
const LARGE_CONNECTIONS = 16;

/** For the estimate of the time it takes: rows that measure so long, and the rest (filling, large files, starts). */
const MEASURED_ROWS = 20;
const AROUND_S = 150;

interface Options {
  rounds: number;
  seconds: number;
  only: string[];
  keys: number;
  write: boolean;
  tiny: boolean;
  program: string | null;
  builds: Build[];
}

interface Result {
  row: Row;
  ours: number[];
  theirs: number[];
  /** Ratio, difference or time. */
  figure: number;
}

/** Failed requests over the whole run. */
let failures = 0;

function readOptions(): Options | null {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string" },
      seconds: { type: "string" },
      only: { type: "string" },
      keys: { type: "string" },
      program: { type: "string" },
      builds: { type: "string" },
      write: { type: "boolean", default: false },
      tiny: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return null;
  const tiny = values.tiny === true;
  const number = (text: string | undefined, preset: number): number => {
    const value = text === undefined ? preset : Number(text);
    if (!(value > 0)) throw new Error(`${text} is not a positive number`);
    return value;
  };
  return {
    rounds: number(values.rounds, tiny ? 1 : 5),
    seconds: number(values.seconds, tiny ? 1 : 2),
    only: values.only?.split(",") ?? [],
    keys: number(values.keys, tiny ? 2000 : 1_000_000),
    write: values.write === true,
    tiny,
    program: values.program ?? null,
    builds: values.builds === undefined ? [] : parseBuilds(values.builds),
  };
}

async function measureRow(row: Row, rounds: number): Promise<Result> {
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const sides = [async () => ours.push(await row.ours()), async () => theirs.push(await row.theirs())];
    if (round % 2 === 1) sides.reverse();
    for (const side of sides) await side();
  }
  const figure =
    row.compare === "ratio" || row.compare === "latencies"
      ? pairedRatio(ours, theirs)
      : row.compare === "difference"
        ? median(ours.map((value, round) => value - theirs[round]))
        : median(ours);
  return { row, ours, theirs, figure };
}

const isReached = ({ row, figure }: Result) =>
  row.compare === "ratio" ? figure >= row.goal : figure <= row.goal;
const inUnit = (unit: Row["unit"], value: number) =>
  unit === "s" ? duration(value) : unit === "B/s" ? `${byteSize(value)}/s` : `${shortNumber(value)}/s`;

function cellsOf(result: Result): string[] {
  const { row, ours, theirs, figure } = result;
  const { compare, goal, unit } = row;
  return [
    row.work,
    row.against,
    inUnit(unit, median(ours)),
    percent(spread(ours)),
    inUnit(unit, median(theirs)),
    percent(spread(theirs)),
    compare === "ratio" || compare === "latencies"
      ? figure.toFixed(2)
      : compare === "difference"
        ? `${figure < 0 ? "−" : "+"} ${duration(Math.abs(figure))}`
        : duration(figure),
    compare === "ratio" || compare === "latencies"
      ? `${compare === "ratio" ? "≥" : "≤"} ${goal}`
      : compare === "difference"
        ? `≤ + ${duration(goal)}`
        : `≤ ${duration(goal)}`,
    isReached(result) ? "yes" : "NO",
  ];
}

/** wrk on a server; throws nothing for refused requests but counts them. */
async function load(
  server: { port: number },
  operation: "GET" | "PUT",
  connections: number,
  valueBytes: number,
  options: Options,
  scripts: string,
): Promise<{ perSecond: number; p50: number }> {
  const job: Job = {
    port: server.port,
    operation,
    connections,
    valueBytes,
    warmMs: 0,
    measureMs: options.seconds * 1000,
  };
  const result = await runWrk(job, scripts);
  failures += result.failures;
  return { perSecond: result.perSecond, p50: result.p50 / 1e6 };
}

function redisRate(
  redis: Redis,
  operation: "GET" | "PUT",
  connections: number,
  options: Options,
): () => Promise<number> {
  let requests = 0;
  return async () => {
    if (requests === 0) {
      const probe = await runRedis(redis, operation, connections, SMALL_BYTES, REDIS_PROBE_REQUESTS);
      requests = Math.max(REDIS_PROBE_REQUESTS, Math.round(probe.perSecond * options.seconds));
    }
    return (await runRedis(redis, operation, connections, SMALL_BYTES, requests)).perSecond;
  };
}

/** Bytes a second of `count` PUTs of a file, one after another, by curl's own clock. */
async function putRate(server: Contender, file: string, bytes: number, count: number): Promise<number> {
  const words = Array.from({ length: count }, (_, number) => [
    "-T",
    file,
    "-H",
    "Expect:",
    "-o",
    "/dev/null",
    "-w",
    "%{http_code} %{time_total}\\n",
    `http://127.0.0.1:${server.port}${keyPath(number)}`,
  ]).flat();
  const lines = (await run("curl", ["-sS", ...words])).trim().split("\n");
  let seconds = 0;
  for (const line of lines) {
    const [status, took] = line.split(" ");
    if (!/^20[01]$/.test(status)) failures++;
    seconds += Number(took);
  }
  return (bytes * count) / seconds;
}

/** Bytes a second of as many runs of dd, by dd's own clock. */
function ddRate(folder: string, file: string, bytes: number, count: number): number {
  let seconds = 0;
  for (let number = 0; number < count; number++) {
    const words = [`if=${file}`, `of=${path.join(folder, `dd-${number}`)}`, "bs=1M", "conv=fdatasync"];
    const { status, stderr } = spawnSync("dd", words, {
      encoding: "utf8",
      env: { ...process.env, LC_ALL: "C" },
    });
    const took = /copied, ([\d.e+-]+) s/.exec(stderr);
    if (status !== 0 || took === null) throw new Error(`dd failed: ${stderr}`);
    seconds += Number(took[1]);
  }
  return (bytes * count) / seconds;
}

/** The three reads of `bench:native`, in seconds by name of the value's size. */
async function readsInProcess(options: Options, folder: string): Promise<Map<string, number>> {
  const file = path.join(folder, "native.json");
  const words = ["--json", file, "--only", "readable view", ...(options.tiny ? ["--tiny"] : [])];
  await run("npm", ["run", "--silent", "bench:native", "--", ...words]);
  const { figures } = JSON.parse(readFileSync(file, "utf8")) as {
    figures: { name: string; median: number }[];
  };
  const found = new Map<string, number>();
  for (const [size, name] of [
    ["100 B", "GET 100 B to a readable view, one hot key"],
    ["100 KiB", "GET 100 KiB to a readable view"],
    ["5 MiB", "GET 5 MiB, opened and every chunk a readable view"],
  ])
    found.set(size, figures.find((figure) => figure.name === name)?.median ?? Number.NaN);
  return found;
}

/** All rows, in stages that share servers. */
function stagesOf(
  options: Options,
  folder: string,
  bench: BenchOptions,
  has: (program: string) => boolean,
): Stage[] {
  const { tiny } = options;
  const start = (name: string, sync: "always" | "os") => {
    const own = path.join(folder, name);
    mkdirSync(own);
    return startMinivault({ ...bench, sync }, own);
  };
  const small: Stage = async (result, wanted) => {
    const crowds = [64, 256];
    const getWork = (connections: number): string => `hot GET 100 B, ${connections} connections`;
    const putWork = (connections: number): string => `PUT 100 B, -sync always, ${connections} connections`;
    const missWork = "GET 100 B, a miss";
    const getAlone = "GET 100 B, one connection, p50";
    const putAlone = "PUT 100 B, -sync always, one connection, p50";
    const works = [...crowds.map(getWork), missWork, getAlone, ...crowds.map(putWork), putAlone];
    if (!works.some(wanted)) return;
    const server = await start("small", "always");
    const { get, put } = await fill(server.port, SMALL_BYTES);
    const ceiling = await startCeiling(get, put);
    const redis = has("redis-server") ? await startRedis("always") : null;
    const rate = (target: { port: number }, operation: "GET" | "PUT", connections: number) => async () =>
      (await load(target, operation, connections, SMALL_BYTES, options, folder)).perSecond;
    const latency = (target: { port: number }, operation: "GET" | "PUT") => async () =>
      (await load(target, operation, 1, SMALL_BYTES, options, folder)).p50;
    for (const connections of crowds) {
      const work = getWork(connections);
      const ours = rate(server, "GET", connections);
      await result({
        work,
        against: "bare uWS handler",
        unit: "/s",
        compare: "ratio",
        goal: 0.92,
        ours,
        theirs: rate(ceiling, "GET", connections),
      });
      if (redis !== null)
        await result({
          work,
          against: "Redis GET",
          unit: "/s",
          compare: "ratio",
          goal: 1,
          ours,
          theirs: redisRate(redis, "GET", connections, options),
        });
    }
    const missing = async () =>
      (
        await runZipf(server.port, {
          keys: 1,
          connections: 64,
          putShare: 0,
          seconds: options.seconds,
          folder,
          path: ABSENT_KEY,
        })
      ).perSecond;
    await result({
      work: missWork,
      against: "a hit",
      unit: "/s",
      compare: "ratio",
      goal: 1,
      ours: missing,
      theirs: rate(server, "GET", 64),
    });
    await result({
      work: getAlone,
      against: "bare uWS handler",
      unit: "s",
      compare: "difference",
      goal: 5e-6,
      ours: latency(server, "GET"),
      theirs: latency(ceiling, "GET"),
    });
    for (const connections of crowds) {
      const work = putWork(connections);
      const ours = rate(server, "PUT", connections);
      if (redis !== null)
        await result({
          work,
          against: "Redis SET, appendfsync always",
          unit: "/s",
          compare: "ratio",
          goal: connections === 64 ? 0.9 : 0.8,
          ours,
          theirs: redisRate(redis, "PUT", connections, options),
        });
      await result({
        work,
        against: "bare uWS handler",
        unit: "/s",
        compare: "ratio",
        goal: 0.6,
        ours,
        theirs: rate(ceiling, "PUT", connections),
      });
    }
    await result({
      work: putAlone,
      against: "pwrite and fdatasync",
      unit: "s",
      compare: "difference",
      goal: 60e-6,
      ours: latency(server, "PUT"),
      theirs: async () => measureDisk(folder, tiny ? 50 : options.seconds * 1000).median,
    });
    await redis?.stop();
    await ceiling.stop();
    await server.stop();
  };
  const os: Stage = async (result, wanted) => {
    const work = "PUT 100 B, -sync os, 64 connections";
    if (!wanted(work) || !has("redis-server")) return;
    const server = await start("os", "os");
    await fill(server.port, SMALL_BYTES);
    const redis = await startRedis("os");
    await result({
      work,
      against: "Redis SET, appendfsync everysec",
      unit: "/s",
      compare: "ratio",
      goal: 0.9,
      ours: async () => (await load(server, "PUT", 64, SMALL_BYTES, options, folder)).perSecond,
      theirs: redisRate(redis, "PUT", 64, options),
    });
    await redis.stop();
    await server.stop();
  };
  const mixed: Stage = async (result, wanted) => {
    const work = `95 % GET, 5 % PUT, zipfian, ${shortNumber(options.keys)} keys`;
    if (!wanted(work)) return;
    const server = await start("mixed", "always");
    await fillZipf(server.port, options.keys, folder);
    const mix = (putShare: number) => async () => {
      const result = await runZipf(server.port, {
        keys: options.keys,
        connections: 64,
        putShare,
        seconds: options.seconds,
        folder,
      });
      failures += result.failures;
      return result.perSecond;
    };
    await result({
      work,
      against: "own GET alone, same keys",
      unit: "/s",
      compare: "ratio",
      goal: 0.7,
      ours: mix(0.05),
      theirs: mix(0),
    });
    await server.stop();
  };
  const large: Stage = async (result, wanted) => {
    const sizes = [100 * 1024, MIB, 5 * MIB];
    const workOf = (bytes: number): string => `GET ${byteSize(bytes)}, ${LARGE_CONNECTIONS} connections`;
    if (!has("nginx") || !sizes.some((bytes) => wanted(workOf(bytes)))) return;
    const server = await start("large", "always");
    for (const bytes of sizes) {
      const nginx = await startNginx(
        Object.fromEntries(
          Array.from({ length: 16 }, (_, number) => [keyPath(number).slice(1), Buffer.alloc(bytes, "v")]),
        ),
      );
      await fill(server.port, bytes);
      const rate = (target: { port: number }) => async () =>
        (await load(target, "GET", LARGE_CONNECTIONS, bytes, options, folder)).perSecond;
      await result({
        work: workOf(bytes),
        against: "nginx, sendfile",
        unit: "/s",
        compare: "ratio",
        goal: 1,
        ours: rate(server),
        theirs: rate(nginx),
      });
      await nginx.stop();
    }
    await server.stop();
  };
  const uploads: Stage = async (result, wanted) => {
    const sizes = tiny ? [5 * MIB] : [5 * MIB, GIB];
    const workOf = (bytes: number): string => `PUT ${byteSize(bytes)}, -sync always`;
    if (!has("curl") || !sizes.some((bytes) => wanted(workOf(bytes)))) return;
    const server = await start("uploads", "always");
    for (const bytes of sizes) {
      const file = path.join(folder, "upload");
      writeFileSync(file, Buffer.alloc(bytes, "v"));
      const count = bytes < GIB ? 20 : 1;
      await result({
        work: workOf(bytes),
        against: "dd conv=fdatasync",
        unit: "B/s",
        compare: "ratio",
        goal: 0.8,
        ours: () => putRate(server, file, bytes, count),
        theirs: async () => ddRate(folder, file, bytes, count),
      });
    }
    await server.stop();
  };
  const inProcess: Stage = async (result, wanted) => {
    const goals = [
      ["100 B", 0.5e-6, 5e-6],
      ["100 KiB", 1e-6, 100e-6],
      ["5 MiB", 10e-6, 10e-3],
    ] as const;
    const workOf = (size: string): string => `in process: GET ${size} to a readable view`;
    if (!goals.some(([size]) => wanted(workOf(size)))) return;
    const reads = await readsInProcess(options, folder);
    for (const [size, goal, promise] of goals) {
      const took = reads.get(size) as number;
      await result({
        work: workOf(size),
        against: "what the seed promises",
        unit: "s",
        compare: "faster",
        goal,
        ours: async () => took,
        theirs: async () => promise,
      });
    }
  };
  const builds: Stage = async (result, wanted) => {
    const [base, ...others] = await startBuilds(options.builds, bench, folder, SMALL_BYTES);
    for (const operation of ["GET", "PUT"] as const)
      for (const { name, server } of others) {
        const work = `${operation} 100 B, 64 connections: ${name}`;
        const rate = (target: Contender) => async () =>
          (await load(target, operation, 64, SMALL_BYTES, options, folder)).perSecond;
        const sides = { ours: rate(server), theirs: rate(base.server) };
        if (wanted(work))
          await result({ work, against: base.name, unit: "/s", compare: "ratio", goal: 0.95, ...sides });
      }
    for (const { server } of [base, ...others]) await server.stop();
  };
  if (options.builds.length > 0) return [builds];
  const watches = watchStage({ tiny, has, start: () => start("watches", "os") });
  const objects = objectStage({
    tiny,
    seconds: options.seconds,
    program: options.program,
    folder,
    has,
    failed: (count) => (failures += count),
  });
  return [small, os, mixed, large, uploads, inProcess, watches, objects];
}

async function bench(options: Options): Promise<Report> {
  if (options.program === null && options.builds.length === 0) ensureProgram();
  const machine = describeMachine();
  const folder = temporaryFolder();
  const notes: string[] = [];
  const has = (program: string): boolean => {
    if (isInstalled(program)) return true;
    const note = `${program} is not installed: its rows are left out`;
    if (!notes.includes(note)) notes.push(note);
    return false;
  };
  if (!has("wrk"))
    throw new Error("wrk drives this suite and is not installed (Debian: apt-get install wrk)");
  const bench = { ...(parseOptions([]) as BenchOptions), program: options.program };
  const results: Result[] = [];
  if (options.only.length === 0 && options.builds.length === 0)
    console.error(
      `about ${Math.ceil((MEASURED_ROWS * 2 * options.rounds * options.seconds + AROUND_S) / 60)} minutes`,
    );
  const wanted = (work: string): boolean =>
    options.only.length === 0 || options.only.some((text) => work.includes(text));
  for (const stage of stagesOf(options, folder, bench, has))
    await stage(async (row) => {
      if (!wanted(row.work)) return;
      const result = await measureRow(row, options.rounds);
      results.push(result);
      const cells = cellsOf(result);
      console.error(`${cells[0]} / ${cells[1]}: ${cells[6]} (goal ${cells[7]}: ${cells[8]})`);
    }, wanted);
  if (results.length === 0 && notes.length === 0)
    throw new Error(`no row's name contains ${options.only.join(" or ")}`);
  const columns = ["work", "against", "minivault", "±", "peer", "±", "result", "goal", "reached"];
  return {
    ...(options.builds.length > 0
      ? { name: "builds", title: "Builds for several versions of Node.js" }
      : { name: "peers", title: "minivault beside its peers" }),
    machine,
    notes: [
      `data on ${fileSystemOf(folder)}; ${options.rounds} round(s) of ${options.seconds} s, the two sides in turns, generator (wrk, redis-benchmark, curl) on the same machine`,
      "result: median over the rounds of ours / theirs, or of ours − theirs for latencies (ratios of latencies where the goal is one: lower is better); ± is (highest − lowest) / median",
      ...(options.tiny ? ["TINY RUN: shows that the benchmark works; its figures mean nothing"] : []),
      ...notes,
    ],
    tables: [{ title: "Goals", columns, rows: results.map(cellsOf) }],
    data: results.map((result) => ({
      ...result.row,
      ours: result.ours,
      theirs: result.theirs,
      figure: result.figure,
      reached: isReached(result),
    })),
  };
}

runBench(
  readOrExit(readOptions, HELP),
  async (options) => ({ ...(await bench(options)), failures }),
  () => {
    fillPage();
    return [];
  },
);
