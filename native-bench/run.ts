/**
 * `npm run bench`: minivault as one process, over HTTP, beside the ceiling (ceiling.ts), the disk and, where it is installed, Redis.
 *
 * Every row is measured in rounds, the contenders in turns within a round and in the other order in the next, because on a shared
 * machine only ratios within a round mean something. An answer that is not 2xx makes the whole run fail.
 */
import { CURVE_SHARE, type OfferedRow, writeCharts } from "./charts.ts";
import { type Contender, fileSystemOf, fill, startCeiling, startMinivault } from "./contenders.ts";
import { type CpuTime, cpuPerRequest, cpuTimeOf } from "./cpu.ts";
import { type DiskFigure, measureDisk } from "./disk.ts";
import {
  type Generator,
  type Job,
  type LoadResult,
  MIXED_PUT_ONE_IN,
  runAutocannon,
  runWrk,
} from "./load.ts";
import { describeMachine, isInstalled } from "./machine.ts";
import { PERCENTILES, runOffered } from "./offered.ts";
import { type BenchOptions, generatorsOf, HELP, parseOptions, type Row, readOrExit } from "./options.ts";
import { fillPage } from "./page.ts";
import { ensureProgram, temporaryFolder } from "./processes.ts";
import { type Redis, runRedis, startRedis } from "./redis.ts";
import { type Report, runBench, type Table } from "./report.ts";
import { byteSize, duration, median, pairedRatio, percent, shortNumber, spread } from "./statistics.ts";

/** Redis is measured beside the rows of this size. */
const PEER_VALUE_BYTES = 100;
const PEER_REQUESTS_MIN = 1000;
const DISK_MS = 300;
/** The fixed-rate runs. */
const OFFERED_CONNECTIONS = 64;
const OFFERED_MS = 2000;
const OFFERED_SHARES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
const TINY_OFFERED = { ms: 200, shares: [CURVE_SHARE, 0.9] };
/** What a run costs besides its measurement: starting the generator, warming up. For the estimate only. */
const AROUND_RUN_S = 0.8;

interface Measured extends Row {
  generator: Generator;
  minivault: ServerResult[];
  ceiling: ServerResult[];
  /** Empty where Redis was not measured. */
  redis: LoadResult[];
}

/** What a run of load gave, and what it took from the server: seconds of processor time for one request. */
interface ServerResult extends LoadResult {
  cpu: CpuTime;
}

type Measure<Result> = () => Promise<Result>;

/** For contenders of another kind. */
const NO_CPU: CpuTime = { front: Number.NaN, others: Number.NaN };

/** Runs every contender once a round, in turns; answers the results of each. */
async function inTurns<Result>(rounds: number, contenders: readonly Measure<Result>[]): Promise<Result[][]> {
  const results: Result[][] = contenders.map(() => []);
  for (let round = 0; round < rounds; round++) {
    const order = contenders.map((_, index) => index);
    if (round % 2 === 1) order.reverse();
    for (const index of order) results[index].push(await contenders[index]());
  }
  return results;
}

async function measureRow(
  options: BenchOptions,
  row: Row,
  generator: Generator,
  servers: { minivault: Contender; ceiling: Contender; redis: Redis | null },
  scripts: string,
): Promise<Measured> {
  const { warmMs, measureMs } = options;
  const load = async ({ port, pid }: Contender): Promise<ServerResult> => {
    const job: Job = { ...row, port, warmMs, measureMs };
    const before = cpuTimeOf(pid);
    const result = await (generator === "wrk" ? runWrk(job, scripts) : runAutocannon(job));
    return { ...result, cpu: cpuPerRequest(before, cpuTimeOf(pid), result.requests) };
  };
  const contenders: Measure<ServerResult>[] = [() => load(servers.ceiling), () => load(servers.minivault)];
  // autocannon warms up within its run.
  if (generator === "wrk" && !options.tiny) for (const contender of contenders) await contender();
  const { operation, connections, valueBytes } = row;
  const { redis } = servers;
  if (redis !== null && operation !== "mixed" && valueBytes === PEER_VALUE_BYTES) {
    const probe = await runRedis(redis, operation, connections, valueBytes, PEER_REQUESTS_MIN);
    const requests = Math.max(PEER_REQUESTS_MIN, Math.round((probe.perSecond * measureMs) / 1000));
    contenders.push(async () => ({
      ...(await runRedis(redis, operation, connections, valueBytes, requests)),
      cpu: NO_CPU,
    }));
  }
  const [ceiling, minivault, peer = []] = await inTurns(options.rounds, contenders);
  return { ...row, generator, minivault, ceiling, redis: peer };
}

const rates = (results: readonly LoadResult[]) => results.map((result) => result.perSecond);
const middle = (results: readonly LoadResult[], name: keyof LoadResult) =>
  median(results.map((one) => one[name]));
const micro = (results: readonly LoadResult[], name: keyof LoadResult) =>
  duration(middle(results, name) / 1e6);
/** Processor time for one request: of the front, and of all threads. */
const cpu = (results: readonly ServerResult[]) =>
  `${duration(median(results.map((one) => one.cpu.front)))} + ${duration(median(results.map((one) => one.cpu.others)))}`;
const rowName = ({ operation, valueBytes, connections }: Row) =>
  `${operation} ${byteSize(valueBytes)}, ${connections} conn.`;

function loadTable(generator: Generator, measured: readonly Measured[]): Table {
  return {
    title: `${generator}: minivault beside the ceiling`,
    columns: [
      "load",
      "ceiling /s",
      "±",
      "minivault /s",
      "±",
      "ratio",
      "p50",
      "ceiling",
      "p99",
      "ceiling",
      "p99.9",
      "CPU",
      "ceiling",
      "non-2xx",
    ],
    rows: measured
      .filter((one) => one.generator === generator)
      .map((one) => [
        rowName(one),
        shortNumber(median(rates(one.ceiling))),
        percent(spread(rates(one.ceiling))),
        shortNumber(median(rates(one.minivault))),
        percent(spread(rates(one.minivault))),
        pairedRatio(rates(one.minivault), rates(one.ceiling)).toFixed(2),
        micro(one.minivault, "p50"),
        micro(one.ceiling, "p50"),
        micro(one.minivault, "p99"),
        micro(one.ceiling, "p99"),
        micro(one.minivault, "p999"),
        cpu(one.minivault),
        cpu(one.ceiling),
        String(failuresOf(one)),
      ]),
  };
}

function peerTable(measured: readonly Measured[], redis: Redis, sync: string): Table {
  const fsync = sync === "always" ? "always" : "everysec";
  return {
    title: `minivault beside Redis ${redis.version} (appendonly yes, appendfsync ${fsync}; redis-benchmark, no pipelining)`,
    columns: [
      "load",
      "Redis /s",
      "±",
      "minivault /s",
      "±",
      "ratio",
      "p50",
      "Redis",
      "p99",
      "Redis",
      "driven by",
    ],
    rows: measured
      .filter((one) => one.redis.length > 0)
      .map((one) => [
        rowName(one).replace("PUT", "PUT/SET"),
        shortNumber(median(rates(one.redis))),
        percent(spread(rates(one.redis))),
        shortNumber(median(rates(one.minivault))),
        percent(spread(rates(one.minivault))),
        pairedRatio(rates(one.minivault), rates(one.redis)).toFixed(2),
        micro(one.minivault, "p50"),
        micro(one.redis, "p50"),
        micro(one.minivault, "p99"),
        micro(one.redis, "p99"),
        one.generator,
      ]),
  };
}

function diskTable(figures: readonly DiskFigure[]): Table {
  const perSecond = figures.map((figure) => figure.perSecond);
  const medians = figures.map((figure) => figure.median);
  return {
    title: "The disk alone: one pwrite of 192 bytes and one fdatasync after another",
    columns: ["runs", "syncs /s", "±", "median", "±"],
    rows: [
      [
        String(figures.length),
        shortNumber(median(perSecond)),
        percent(spread(perSecond)),
        duration(median(medians)),
        percent(spread(medians)),
      ],
    ],
  };
}

function failuresOf(measured: Measured): number {
  return [...measured.minivault, ...measured.ceiling].reduce((sum, result) => sum + result.failures, 0);
}

/** What the reader must know about this run: the settings, and what is missing. */
function notesOf(options: BenchOptions, folder: string, missing: readonly string[]): string[] {
  const { sync, rounds, measureMs, tiny, generators } = options;
  const notes = [
    `-sync ${sync}, data on ${fileSystemOf(folder)}; ${rounds} round(s) of ${measureMs} ms, contenders in turns, generator on the same machine`,
    "ceiling: a bare uWS handler that sends the same bytes and headers; for PUT, one that swallows the body first",
    `figures are medians over the rounds, ± is (highest − lowest) / median, ratio is the median of each round's ratio; CPU: processor time for one request, of the front thread + of all others; mixed: 1 request in ${MIXED_PUT_ONE_IN} is a PUT`,
  ];
  if (generators.includes("autocannon"))
    notes.push(
      "one autocannon process saturates before uWS does: in its rows read the latencies and that nothing fails, not the throughput",
    );
  if (fileSystemOf(folder) === "tmpfs")
    notes.push("the data lies in memory (tmpfs): syncs cost nothing; set TMPDIR to a disk");
  if (tiny) notes.push("TINY RUN: shows that the benchmark works; its figures mean nothing");
  return [...notes, ...missing];
}

/** Latency at shares of the peak that the same generator reaches; the bare handler at the share that the latency curve is drawn for. */
async function measureOffered(
  tiny: boolean,
  servers: { minivault: Contender; ceiling: Contender },
): Promise<OfferedRow[]> {
  const rows: OfferedRow[] = [];
  for (const operation of ["GET", "PUT"] as const) {
    const job = {
      operation,
      connections: OFFERED_CONNECTIONS,
      valueBytes: PEER_VALUE_BYTES,
      measureMs: tiny ? TINY_OFFERED.ms : OFFERED_MS,
    };
    const { perSecond: peak } = await runOffered({ ...job, port: servers.minivault.port, rate: null });
    const measure = async (server: OfferedRow["server"], port: number, share: number) => {
      const rate = Math.max(1, Math.round(peak * share));
      const result = await runOffered({ ...job, port, rate });
      rows.push({ server, operation, share, rate, ...result });
      const p99 = duration(result.latencies[PERCENTILES.indexOf(99)] / 1e6);
      console.error(`${server} ${operation} at ${shortNumber(rate)}/s (${percent(share)}): p99 ${p99}`);
    };
    for (const share of tiny ? TINY_OFFERED.shares : OFFERED_SHARES)
      await measure("minivault", servers.minivault.port, share);
    await measure("bare handler", servers.ceiling.port, CURVE_SHARE);
  }
  return rows;
}

function offeredTable(rows: readonly OfferedRow[]): Table {
  const at = (row: OfferedRow, percentile: number) =>
    duration(row.latencies[PERCENTILES.indexOf(percentile)] / 1e6);
  return {
    title: `Latency at a fixed rate, ${OFFERED_CONNECTIONS} connections, from when a request was due`,
    columns: ["load", "of the peak", "offered /s", "answered /s", "p50", "p90", "p99", "p99.9", "non-2xx"],
    rows: rows.map((row) => [
      `${row.operation} ${PEER_VALUE_BYTES} B, ${row.server}`,
      percent(row.share),
      shortNumber(row.rate),
      shortNumber(row.perSecond),
      ...[50, 90, 99, 99.9].map((percentile) => at(row, percentile)),
      String(row.failures),
    ]),
  };
}

/** Minutes that a run takes, about. */
function minutesOf(options: BenchOptions): number {
  const runs = options.rows.length * options.generators.length * (2 * options.rounds + 1);
  const offered = options.offered
    ? 2 * (OFFERED_SHARES.length + 2) * (OFFERED_MS / 1000 + AROUND_RUN_S + 1)
    : 0;
  return Math.ceil((runs * (options.measureMs / 1000 + AROUND_RUN_S) + offered) / 60);
}

async function bench(options: BenchOptions): Promise<Report & { failures: number }> {
  if (options.program === null) ensureProgram();
  const machine = describeMachine();
  const missing: string[] = [];
  if (options.generators.includes("wrk") && !isInstalled("wrk")) {
    options.generators = options.generators.filter((generator) => generator !== "wrk");
    missing.push("wrk is not installed: its rows are left out (Debian: apt-get install wrk)");
  }
  const hasRedis = isInstalled("redis-server") && isInstalled("redis-benchmark");
  if (options.redis && !hasRedis)
    missing.push("redis-server is not installed: the peer is left out (Debian: apt-get install redis)");
  if (!options.tiny) console.error(`about ${minutesOf(options)} minutes`);
  const folder = temporaryFolder();
  const minivault = await startMinivault(options, folder);
  const redis = options.redis && hasRedis ? await startRedis(options.sync) : null;
  const measured: Measured[] = [];
  const disk: DiskFigure[] = [];
  const offered: OfferedRow[] = [];
  for (const valueBytes of new Set(options.rows.map((row) => row.valueBytes))) {
    const { get, put } = await fill(minivault.port, valueBytes);
    const ceiling = await startCeiling(get, put);
    for (const row of options.rows.filter((one) => one.valueBytes === valueBytes)) {
      if (row.operation === "PUT") disk.push(measureDisk(folder, options.tiny ? DISK_MS / 10 : DISK_MS));
      const generators = generatorsOf(options, row);
      for (const generator of generators) {
        // Redis has its own generator; it is compared with our strongest.
        const peer = generator === generators.at(-1) ? redis : null;
        const one = await measureRow(options, row, generator, { minivault, ceiling, redis: peer }, folder);
        measured.push(one);
        const ratio = pairedRatio(rates(one.minivault), rates(one.ceiling)).toFixed(2);
        console.error(
          `${rowName(row)}, ${generator}: ${shortNumber(median(rates(one.minivault)))}/s, ratio ${ratio}`,
        );
      }
    }
    if (options.offered && valueBytes === PEER_VALUE_BYTES)
      offered.push(...(await measureOffered(options.tiny, { minivault, ceiling })));
    await ceiling.stop();
  }
  await redis?.stop();
  await minivault.stop();
  const tables = (["autocannon", "wrk"] as const)
    .filter((generator) => measured.some((one) => one.generator === generator))
    .map((generator) => loadTable(generator, measured));
  if (redis !== null && measured.some((one) => one.redis.length > 0))
    tables.push(peerTable(measured, redis, options.sync));
  if (offered.length > 0) tables.push(offeredTable(offered));
  if (disk.length > 0) tables.push(diskTable(disk));
  return {
    name: "http",
    title: "minivault over HTTP",
    machine,
    notes: notesOf(options, folder, missing),
    tables,
    data: {
      sync: options.sync,
      rounds: options.rounds,
      measureMs: options.measureMs,
      rows: measured,
      offered,
      disk,
    },
    failures: [...measured.map(failuresOf), ...offered.map((row) => row.failures)].reduce(
      (sum, count) => sum + count,
      0,
    ),
  };
}

runBench(
  readOrExit(() => parseOptions(process.argv.slice(2)), HELP),
  bench,
  () => {
    const charts = writeCharts();
    fillPage();
    return charts;
  },
);
