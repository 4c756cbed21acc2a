/** The benchmarks run, in their tiny form, so that they cannot rot. Their figures are not looked at. */
import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { zipfDraws } from "../../native-bench/zipf.ts";

const ROOT = path.join(__dirname, "../..");
const RUN_MS_MAX = 300_000;

interface Run {
  text: string;
  status: number;
}

function runBenchmark(file: string, ...words: string[]): Promise<Run> {
  return runAlone(process.execPath, "--import", "tsx", path.join("native-bench", file), ...words);
}

/** Runs a benchmark with a temporary folder of its own, and checks that it leaves nothing there. */
async function runAlone(program: string, ...words: string[]): Promise<Run> {
  const folder = mkdtempSync(path.join(tmpdir(), "minivault-test-"));
  try {
    const result = await new Promise<Run>((resolve) => {
      execFile(
        program,
        words,
        { cwd: ROOT, timeout: RUN_MS_MAX, env: { ...process.env, TMPDIR: folder } },
        (error, stdout, stderr) =>
          resolve({
            text: stdout + stderr,
            status: error === null ? 0 : typeof error.code === "number" ? error.code : -1,
          }),
      );
    });
    const left = readdirSync(folder).filter((name) => name.startsWith("minivault-"));
    assert.deepEqual(left, [], result.text);
    return result;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function assertRows(text: string, rows: readonly RegExp[]): void {
  for (const row of rows) assert.match(text, row);
  assert.doesNotMatch(text, /\bNaN\b|undefined/);
}

test("bench:native: its tiny form measures every operation", async () => {
  const { text, status } = await runAlone("npm", "run", "--silent", "bench:native", "--", "--tiny");
  assert.equal(status, 0, text);
  assertRows(text, [
    /xxHash of a 16-byte key/,
    /index lookup, hit/,
    /index lookup, miss/,
    /GET 100 B to a readable view.* ×/,
    /GET 100 KiB to a readable view.* ×/,
    /GET 5 MiB, opened and every chunk a readable view.* ×/,
    /append 100 B and fdatasync.* ×/,
    /append 100 B, 64 for each fdatasync.* ×/,
    /frame of 160 B to a node and its answer, 64 in a batch/,
    /JSON check of 100 B/,
    /JSON check of 100 KiB/,
    /Node v\d+.*commit/,
    /sync always/,
  ]);
});

test("bench: its tiny form measures the program beside the ceiling", async () => {
  const { text, status } = await runBenchmark("run.ts", "--tiny");
  assert.equal(status, 0, text);
  assertRows(text, [
    /autocannon: minivault beside the ceiling/,
    /GET 100 B, 4 conn\./,
    /PUT 100 B, 4 conn\./,
    /mixed 100 B, 4 conn\./,
    /wrk: minivault beside the ceiling|wrk is not installed/,
    /minivault beside Redis|redis-server is not installed/,
    /The disk alone/,
  ]);
});

test("scale: its tiny form computes every figure", async () => {
  const { text, status } = await runBenchmark("scale.ts", "--tiny");
  assert.equal(status, 0, text);
  assertRows(text, [
    /^3 nodes in 1 equal region/m,
    /^a node joins/m,
    /^2 random nodes down/m,
    /^heartbeats at the master/m,
  ]);
  const { status: refused } = await runBenchmark("scale.ts", "--nodes", "2", "--regions", "3");
  assert.equal(refused, 2);
});

test("bench: a bad option is refused with the help", async () => {
  const { text, status } = await runBenchmark("run.ts", "--rounds", "none");
  assert.equal(status, 2);
  assert.match(text, /none is not a positive number/);
  assert.match(text, /--rounds N/);
});

test("bench:peers: its tiny form measures each row that the machine has programs for", async (t) => {
  if (spawnSync("sh", ["-c", "command -v wrk"]).status !== 0) {
    t.skip("wrk is not installed");
    return;
  }
  const only =
    "hot GET 100 B, 64,one connection, p50,a miss,zipfian,GET 100 KiB,PUT 5 MiB,in process,write to its event,S3 PUT of 100 KiB";
  const { text, status } = await runBenchmark("peers.ts", "--tiny", "--only", only);
  assert.equal(status, 0, text);
  assertRows(text, [
    /hot GET 100 B, 64 connections .*bare uWS handler.* ≥ 0\.92/,
    /a miss .*a hit/,
    /zipfian, 2,000 keys .*own GET alone/,
    /PUT 5 MiB, -sync always .*dd conv=fdatasync/,
    /in process: GET 5 MiB to a readable view/,
    /nginx, sendfile|nginx is not installed/,
    /watch: from a write to its event .*Redis keyspace notifications.* ≤ 1|redis-server is not installed/,
    /S3 PUT of 100 KiB .*nginx, WebDAV.* ≥ 0\.7|nginx is not installed/,
  ]);
});

test("bench:peers: builds for several versions of Node.js get a row each, beside the first", async (t) => {
  if (spawnSync("sh", ["-c", "command -v wrk"]).status !== 0) {
    t.skip("wrk is not installed");
    return;
  }
  const build = `${process.execPath}:${path.join(ROOT, "dist/minivault.js")}`;
  const { text, status } = await runBenchmark("peers.ts", "--tiny", "--builds", `${build},${build}`);
  assert.equal(status, 0, text);
  const name = String.raw`Node [\d.]+, uWebSockets\.js [^ ]+.*`;
  assertRows(text, [
    new RegExp(`^GET 100 B, 64 connections: ${name}${name} ≥ 0\\.95`, "m"),
    new RegExp(`^PUT 100 B, 64 connections: ${name}${name} ≥ 0\\.95`, "m"),
  ]);
  assert.equal((await runBenchmark("peers.ts", "--builds", build)).status, 2);
});

test("bench:paired: measures two builds in turns, on one node and on three", async (t) => {
  if (spawnSync("sh", ["-c", "command -v wrk"]).status !== 0) {
    t.skip("wrk is not installed");
    return;
  }
  const words = ["--base", path.join(ROOT, "dist/minivault.js"), "--rounds", "1", "--only", "GET"];
  const { text, status } = await runBenchmark("paired.ts", ...words);
  assert.equal(status, 0, text);
  assertRows(text, [
    /^GET +[\d,]+\/s +[\d,]+\/s +\d\.\d{3}/m,
    /^cluster GET +[\d,]+\/s +[\d,]+\/s +\d\.\d{3}/m,
  ]);
  assert.doesNotMatch(text, /FAILED/);
  assert.equal((await runBenchmark("paired.ts")).status, 2);
});

test("bench:peers: zipfian draws favour few keys and reach many", () => {
  const draws = zipfDraws(1000, 100_000, 1);
  const counts = new Map<number, number>();
  for (const draw of draws) counts.set(draw, (counts.get(draw) ?? 0) + 1);
  const sorted = [...counts.values()].sort((a, b) => b - a);
  // With theta 0.99 and 1,000 keys the first rank has 1 / zeta(1,000) of all draws, about 13 %.
  assert.ok(sorted[0] > 11_000 && sorted[0] < 15_000, `${sorted[0]} draws of the hottest key`);
  assert.ok(sorted[0] / sorted[1] > 1.7 && sorted[0] / sorted[1] < 2.3, `${sorted[0]} and ${sorted[1]}`);
  assert.ok(counts.size > 500, `${counts.size} keys drawn`);
  for (const draw of counts.keys()) assert.ok(draw < 1000);
});

test("bench:size: its tiny form measures each number of keys", async (t) => {
  if (spawnSync("sh", ["-c", "command -v wrk"]).status !== 0) {
    t.skip("wrk is not installed");
    return;
  }
  const { text, status } = await runBenchmark("size.ts", "--tiny");
  assert.equal(status, 0, text);
  assertRows(text, [/^1,000 +[\d,]+ .* 1\.00 /m, /^20,000 +[\d,]+ /m, /index bytes a key/]);
  const { status: refused } = await runBenchmark("size.ts", "--keys", "1000,many");
  assert.equal(refused, 2);
});

test("bench:lists: its tiny form measures one node, three, and what stands beside them", async () => {
  const { text, status } = await runBenchmark("lists.ts", "--tiny");
  assert.equal(status, 0, text);
  assertRows(text, [
    /^page of 1,000 at a random place, p50 /m,
    /^stream of all keys +[\d,]+\/s/m,
    /^memory of the order, a key +[\d.]+ B/m,
    /^three nodes: stream of all keys +[\d,]+\/s/m,
    /^one prefix of 1,000 keys among [\d,]+: minivault/m,
  ]);
  assert.equal((await runBenchmark("lists.ts", "--keys", "many")).status, 2);
});

test("bench:three: its tiny form measures three nodes beside what is installed, and names what is not", async (t) => {
  if (spawnSync("sh", ["-c", "command -v wrk"]).status !== 0) {
    t.skip("wrk is not installed");
    return;
  }
  const { text, status } = await runBenchmark(
    "three.ts",
    "--tiny",
    "--only",
    "PUT 100 B, 6 connections to all",
  );
  // A machine that is busy enough lets requests end in a timeout; the rows are there all the same.
  assert.ok(status === 0 || /FAILED: \d+ request/.test(text), text);
  for (const [program, peer] of [
    ["etcd", "etcd"],
    ["nats-server", "NATS"],
  ]) {
    const isThere = spawnSync("sh", ["-c", `command -v ${program}`]).status === 0;
    const row = new RegExp(`^PUT 100 B, 6 connections to all three, beside ${peer}.* [\\d.,]+/s .*≥`, "m");
    assert.match(text, isThere ? row : new RegExp(`${program} is not installed`));
  }
  assert.equal((await runBenchmark("three.ts", "--rounds", "many")).status, 2);
});

test("bench:restart: its tiny form gets right answers after kill -9", async () => {
  const { text, status } = await runBenchmark("restart.ts", "--tiny");
  assert.equal(status, 0, text);
  assertRows(text, [/^5,000 +[\d.]+ m?s +0 % +≤ 2 s/m]);
  assert.equal((await runBenchmark("restart.ts", "--keys", "many")).status, 2);
});
