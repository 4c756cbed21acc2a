/** The benchmarks of three nodes run, in their tiny form, so that they cannot rot. Their figures are not looked at. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import path from "node:path";
import { test } from "node:test";
import { assertRows, ROOT, runBenchmark } from "../native-bench/run-benchmark.ts";

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
