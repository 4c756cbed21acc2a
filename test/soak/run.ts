/**
 * `npm run soak`: everything at once on a master and three workers, with faults, for an hour or so; see docs/soak.md, which it writes.
 * Exits with 1 when anything was wrong, or is not flat.
 */
import { appendFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describeMachine } from "../../native-bench/machine.ts";
import { readOrExit } from "../../native-bench/options.ts";
import { freePort } from "../../native-bench/processes.ts";
import { type Cluster, startCluster } from "../cluster/workers.ts";
import { Random } from "../random.ts";
import { removeFolder, runProgram, temporaryFolder } from "../rest/server.ts";
import { Doors } from "./doors.ts";
import { FAULT_NAMES, Faults, sleepUnless } from "./faults.ts";
import { Follower, watch } from "./followers.ts";
import { LargeClient, ObjectClient } from "./large-clients.ts";
import { HELP, type Options, readOptions } from "./options.ts";
import { RUN_FILE, type Run, readRun, SAMPLES_FILE, verdictOf, writeCharts, writePage } from "./page.ts";
import { csvOf, type Sample, sampleOf } from "./samples.ts";
import { SmallClient } from "./small-client.ts";
import { judge, VERDICT_MINUTES_MIN } from "./verdict.ts";

const WORKERS = 3;
const SMALL_CLIENTS = 16;
const LARGE_CLIENTS = 2;
const OBJECT_CLIENTS = 2;
const WATCHERS = 6;
const FOLLOWERS = 4;
/** Short, so that deletes do not pile up for all of the time. */
const FLAGS = ["-sync always", "-history 5m"];
const KEY = "the-nodes-own-key-of-a-soak";
/** Between two faults, and two backups, in an hour; shorter in shorter soaks. */
const FAULT_GAP_MS_MAX = 40_000;
const BACKUP_GAP_MS_MAX = 150_000;
const GAPS_MIN = 8;
/** A node that is asked at the end may have much to catch up with. */
const CHECK_TRIES = 60;
const CHECK_PAUSE_MS = 1000;

interface Token {
  token: string;
  accessKey: string;
  secretKey: string;
}

async function makeToken(file: string): Promise<Token> {
  const may = ["-prefix", "", "-allow", "read,list,write,delete,watch,metrics,admin", "-s3"];
  const { status, output } = await runProgram(["token", "soak", ...may, "-tokens", file, "-json"]);
  if (status !== 0) throw new Error(`no token was made: ${output}`);
  return JSON.parse(output) as Token;
}

async function startSoakCluster(
  folder: string,
): Promise<{ cluster: Cluster; token: Token; s3Ports: number[] }> {
  const tokens = path.join(folder, "tokens");
  const token = await makeToken(tokens);
  const flags = [...FLAGS.flatMap((flag) => flag.split(" ")), "-tokens", tokens];
  const cluster = await startCluster({ workers: 0, direct: true, key: KEY, token: token.token, flags });
  try {
    const s3Ports = await Promise.all(Array.from({ length: WORKERS }, () => freePort()));
    // One after the other, so that their numbers are in order; they need not wait for each other's start.
    await Promise.all(
      s3Ports.map(async (port, index) => {
        await sleep(index * 5);
        await cluster.add({ flags: ["-s3-port", String(port)] });
      }),
    );
    await cluster.ready();
    return { cluster, token, s3Ports: cluster.workers.map(({ number }) => s3Ports[number]) };
  } catch (error) {
    await cluster.dispose();
    throw error;
  }
}

/** Backups of some worker, one after the other, each removed again. Answers how many were made. */
async function backUp(
  cluster: Cluster,
  doors: Doors,
  random: Random,
  gapMs: number,
  over: () => boolean,
  wrong: (what: string) => void,
): Promise<number> {
  let made = 0;
  for (;;) {
    await sleepUnless(over, gapMs / 2 + random.below(gapMs));
    if (over()) return made;
    const worker = cluster.workers[random.below(cluster.workers.length)];
    const directory = `${worker.data}.backup`;
    const query = `/_admin/backup?directory=${encodeURIComponent(directory)}`;
    const reply = await doors.ask(random, "POST", query, { node: worker, timeoutMs: 60_000 });
    if (!("failed" in reply)) {
      const last = reply.body.toString().trimEnd().split("\n").at(-1) ?? "";
      if (last.includes('"success":true')) made++;
      else wrong(`a backup of worker ${worker.number} is answered ${reply.status}: ${last}`);
    }
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Tries until a client could look at everything at a node. */
async function untilChecked(check: () => Promise<boolean>): Promise<boolean> {
  for (let attempt = 0; attempt < CHECK_TRIES; attempt++) {
    if (await check()) return true;
    await sleep(CHECK_PAUSE_MS);
  }
  return false;
}

async function verifyDirectories(cluster: Cluster, wrong: (what: string) => void): Promise<string> {
  await Promise.all(cluster.workers.map((worker) => worker.kill("SIGTERM")));
  let whole = 0;
  for (const { number, data } of cluster.workers) {
    const { status, output } = await runProgram(["verify", data]);
    if (status === 0) whole++;
    else wrong(`minivault verify of worker ${number}'s directory ends with ${status}: ${output.slice(-500)}`);
  }
  return `\`minivault verify\` found ${whole} of ${cluster.workers.length} data directories whole, after SIGTERM`;
}

async function soak(options: Options): Promise<Run> {
  const { minutes, seed, everySeconds, results } = options;
  const machine = describeMachine();
  mkdirSync(results, { recursive: true });
  const wrongs: string[] = [];
  let begun = performance.now();
  const seconds = (): number => (performance.now() - begun) / 1000;
  const wrong = (what: string): void => {
    wrongs.push(`after ${Math.round(seconds())} s: ${what}`);
    console.error(`WRONG: ${wrongs[wrongs.length - 1]}`);
  };
  const folder = temporaryFolder();
  const { cluster, token, s3Ports } = await startSoakCluster(folder);
  try {
    const lengthMs = minutes * 60_000;
    begun = performance.now();
    const untilMs = begun + lengthMs;
    const over = (): boolean => performance.now() >= untilMs;
    const gapMs = (most: number): number => Math.min(most, lengthMs / GAPS_MIN);
    let lanes = 0;
    const random = (): Random => new Random(seed + lanes++);
    const many = <One>(count: number, make: (number: number) => One): One[] =>
      Array.from({ length: count }, (_, number) => make(number));
    const doors = new Doors(cluster.workers, token.token, wrong);
    const access = { accessKey: token.accessKey, secretKey: token.secretKey, ports: s3Ports };
    const small = many(SMALL_CLIENTS, (number) => new SmallClient(number, doors, random(), wrong));
    const large = many(LARGE_CLIENTS, (number) => new LargeClient(number, doors, random(), wrong));
    const objects = many(
      OBJECT_CLIENTS,
      (number) => new ObjectClient(number, doors, access, random(), wrong),
    );
    const followers = many(FOLLOWERS, (number) => new Follower(small[number].prefix, doors, random()));
    const faults = new Faults(cluster, random());
    const prefixes = new Random(seed);
    const prefixDrawn = (): string => small[prefixes.below(small.length)].prefix;
    // One that fails is wrong, and the others go on.
    const guard = <Result>(lane: Promise<Result>, instead: Result): Promise<Result> =>
      lane.catch((error: Error) => {
        wrong(`a client of the soak fails: ${error.stack}`);
        return instead;
      });
    const clients = [...small, ...large, ...objects];
    const watching = many(WATCHERS, () => guard(watch(prefixDrawn, doors, random(), over), 0));
    const backups = guard(backUp(cluster, doors, random(), gapMs(BACKUP_GAP_MS_MAX), over, wrong), 0);
    await Promise.all([
      ...[...clients, ...followers].map((client) => guard(client.run(over), undefined)),
      ...[...watching, backups],
      guard(look(cluster, doors, faults, everySeconds, seconds, over, results), undefined),
      guard(faults.run(gapMs(FAULT_GAP_MS_MAX), over, wrong), undefined),
    ]);
    console.error("all clients have ended; now they read everything at every worker");
    const answers = doors.answers;
    let checked = 0;
    await Promise.all(
      clients.map(async (client) => {
        for (const worker of cluster.workers)
          if (await untilChecked(() => client.check(worker))) checked++;
          else wrong(`worker ${worker.number} does not answer a client's last reads`);
      }),
    );
    const differences = await Promise.all(
      followers.map((follower, number) => follower.check(cluster.workers[number % WORKERS])),
    );
    for (const difference of differences) if (difference !== null) wrong(difference);
    for (const client of objects) client.close();
    doors.close();
    const same = differences.filter((difference) => difference === null).length;
    const told = (await Promise.all(watching)).reduce((sum, count) => sum + count, 0);
    const checks = [
      `${checked} of ${clients.length * WORKERS} last looks (each client at each worker) were answered in full`,
      `${same} of ${followers.length} followers' copies are what is listed`,
      await verifyDirectories(cluster, wrong),
    ];
    return {
      ...{ machine, seed, minutes, everySeconds, answers, checks, wrong: wrongs },
      clients: {
        ...{ small: SMALL_CLIENTS, large: LARGE_CLIENTS, objects: OBJECT_CLIENTS },
        ...{ watchers: WATCHERS, followers: FOLLOWERS },
      },
      flags: [...FLAGS, "-tokens", "-s3-port"],
      did: {
        "changes told to watchers": told,
        "to followers": followers.reduce((sum, { told: count }) => sum + count, 0),
        backups: await backups,
      },
      faults: Object.fromEntries(FAULT_NAMES.map((name) => [name, faults.count.get(name) ?? 0])),
    };
  } finally {
    for (const worker of cluster.workers)
      writeFileSync(path.join(results, `worker-${worker.number}.log`), worker.log());
    await cluster.dispose();
    removeFolder(folder);
  }
}

/** Looks at every node again and again, and writes each sample down at once. */
async function look(
  cluster: Cluster,
  doors: Doors,
  faults: Faults,
  everySeconds: number,
  seconds: () => number,
  over: () => boolean,
  results: string,
): Promise<void> {
  const file = path.join(results, SAMPLES_FILE);
  writeFileSync(file, csvOf([]));
  for (let next = performance.now() + everySeconds * 1000; !over(); next += everySeconds * 1000) {
    await sleepUnless(over, next - performance.now());
    const tallies = doors.takeTallies();
    const now = seconds();
    const samples: Sample[] = await Promise.all(
      cluster.workers.map((worker) =>
        sampleOf(worker, now, faults.starts[worker.number], tallies[worker.number], doors),
      ),
    );
    appendFileSync(file, csvOf(samples).split("\n").slice(1).join("\n"));
    const mib = (bytes: number): string => (Number.isFinite(bytes) ? `${Math.round(bytes / 2 ** 20)}` : "–");
    console.error(
      `${Math.round(now)} s: ${samples
        .map(
          ({ node, rssBytes, diskBytes, descriptors, gets, puts }) =>
            `[${node}] ${mib(rssBytes)} MiB, disk ${mib(diskBytes)} MiB, ${descriptors} fds, ${gets} GETs, ${puts} PUTs`,
        )
        .join("  ")}`,
    );
  }
}

async function main(): Promise<void> {
  const options = readOrExit(readOptions, HELP);
  if (options.page !== null) {
    writePage(options.page);
    return;
  }
  console.error(`${options.minutes} minutes, SEED=${options.seed}; results in ${options.results}`);
  const run = await soak(options);
  writeFileSync(path.join(options.results, RUN_FILE), `${JSON.stringify(run, null, 2)}\n`);
  const { samples } = readRun(options.results);
  writeCharts(samples, options.results);
  const rows = judge(samples);
  for (const { figure, node, median, growth, growthMax } of rows)
    console.log(
      `${figure} of worker ${node}: median ${Math.round(median)}, growth over the second half ${Math.round(growth)}${growthMax === null ? "" : `, flat is at most ${Math.round(growthMax)}`}`,
    );
  console.log(verdictOf(run, rows));
  if (options.write) writePage(options.results);
  const isJudged = options.minutes >= VERDICT_MINUTES_MIN;
  if (run.wrong.length > 0 || (isJudged && rows.some(({ isFlat }) => !isFlat))) process.exitCode = 1;
}

main().then(
  () => process.exit(process.exitCode ?? 0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
