/**
 * The benchmarks run, in their tiny form, so that they cannot rot; those of three nodes, and those beside other programs, are in test/storm.
 * Their figures are not looked at.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { zipfDraws } from "../../native-bench/zipf.ts";
import { assertRows, runAlone, runBenchmark } from "./run-benchmark.ts";

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

test("bench:restart: its tiny form gets right answers after kill -9", async () => {
  const { text, status } = await runBenchmark("restart.ts", "--tiny");
  assert.equal(status, 0, text);
  assertRows(text, [/^5,000 +[\d.]+ m?s +0 % +≤ 2 s/m]);
  assert.equal((await runBenchmark("restart.ts", "--keys", "many")).status, 2);
});

test("bench:changes: its tiny form measures batches beside the same PUTs alone", async (t) => {
  if (spawnSync("sh", ["-c", "command -v wrk"]).status !== 0) {
    t.skip("wrk is not installed");
    return;
  }
  const { text, status } = await runBenchmark("changes.ts", "--tiny", "--only", "batches");
  // A machine that is busy enough lets requests end in a timeout; the row is there all the same.
  assert.ok(status === 0 || /FAILED: \d+ request/.test(text), text);
  assertRows(text, [/^one node +[\d.,]+\/s .* ≥ 3 /m]);
  assert.equal((await runBenchmark("changes.ts", "--only", "many")).status, 2);
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
