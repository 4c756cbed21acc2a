/** The benchmarks of three nodes, and those beside other programs, run, in their tiny form, so that they cannot rot. Their figures are not looked at. */
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
