/** The benchmarks' arithmetic, and how they read what others print. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { MIXED_PUT_ONE_IN, requestsOf } from "../../native-bench/load.ts";
import { sampleDocument } from "../../native-bench/native-cases.ts";
import { generatorsOf, parseOptions } from "../../native-bench/options.ts";
import { selfTimes } from "../../native-bench/profile.ts";
import { asCeiling } from "../../native-bench/raw-http.ts";
import { parseRedis } from "../../native-bench/redis.ts";
import { markdownTable, textTable } from "../../native-bench/report.ts";
import {
  byteSize,
  duration,
  median,
  pairedRatio,
  shortNumber,
  spread,
} from "../../native-bench/statistics.ts";
import { ValueScanner } from "../../src/value/scanner.ts";

test("statistics: median, spread and the ratio of paired rounds", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.ok(Number.isNaN(median([])));
  assert.equal(spread([90, 100, 110]), 0.2);
  assert.equal(spread([5]), 0);
  // A round in which the machine was half as fast for both does not change the ratio.
  assert.equal(pairedRatio([80, 40, 80], [100, 50, 100]), 0.8);
  assert.throws(() => pairedRatio([1], [1, 2]));
});

test("statistics: numbers for people", () => {
  assert.deepEqual([12_345.6, 12.345, 0.01234, 0, Number.NaN].map(shortNumber), [
    "12,346",
    "12.3",
    "0.0123",
    "0",
    "–",
  ]);
  assert.deepEqual([2, 0.0015, 0.000_012_3, 4.5e-8].map(duration), ["2 s", "1.5 ms", "12.3 µs", "45 ns"]);
  assert.deepEqual([100, 102_400, 5_242_880].map(byteSize), ["100 B", "100 KiB", "5 MiB"]);
});

test("report: tables are aligned, and valid Markdown", () => {
  const table = { title: "T", columns: ["a", "bb"], rows: [["long", "1"]] };
  assert.equal(textTable(table), "T\na     bb\n----  --\nlong   1");
  assert.equal(markdownTable(table), "### T\n\n| a | bb |\n| --- | ---: |\n| long | 1 |");
});

test("load: a mixed round writes every key equally often", () => {
  const requests = requestsOf("mixed", 100);
  const puts = requests.filter(({ method }) => method === "PUT").map(({ path }) => path);
  assert.equal(requests.length, puts.length * MIXED_PUT_ONE_IN);
  assert.equal(new Set(puts).size, puts.length);
  assert.equal(requestsOf("PUT", 5 * 2 ** 20).length, 1);
});

test("options: lists, the tiny form, and what is wrong", () => {
  const options = parseOptions([
    "--sizes",
    "100",
    "--connections",
    "64",
    "--operations",
    "GET,PUT",
    "--sync",
    "os",
  ]);
  assert.ok(options !== null);
  assert.equal(options.sync, "os");
  assert.deepEqual(
    options.rows.map((row) => row.operation),
    ["GET", "PUT"],
  );
  const tiny = parseOptions(["--tiny"]);
  assert.ok(tiny !== null && tiny.rounds === 1 && tiny.rows.length === 3);
  assert.deepEqual(generatorsOf(tiny, { valueBytes: 100, connections: 4, operation: "GET" }), ["autocannon"]);
  assert.equal(parseOptions(["--help"]), null);
  assert.throws(() => parseOptions(["--operations", "get"]), /get is none of/);
  assert.throws(() => parseOptions(["--rounds", "0"]), /not a positive number/);
  assert.throws(() => parseOptions(["--no-such-option"]));
});

test("ceiling: repeats status and headers, but those that uWS writes itself", () => {
  const head = 'HTTP/1.1 200 OK\r\nETag: "1"\r\nDate: now\r\nuWebSockets: 20\r\nContent-Length: 2';
  assert.deepEqual(asCeiling({ status: 200, head, body: Buffer.from("ab") }), {
    head: '200 OK\r\nETag: "1"',
    body: "YWI=",
  });
});

test("redis: reads the CSV of redis-benchmark", () => {
  const csv =
    '"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"\n"SET","52631.58","0.6","0.1","0.5","0.9","1.5","3.0"\n';
  const { perSecond, p50, p99, max } = parseRedis(csv);
  assert.deepEqual({ perSecond, p50, p99, max }, { perSecond: 52631.58, p50: 500, p99: 1500, max: 3000 });
  assert.throws(() => parseRedis("nothing"));
});

test("profile: self time is shared out over what was busy", () => {
  const node = (id: number, functionName: string) => ({
    id,
    callFrame: { functionName, url: "", lineNumber: 0 },
  });
  const nodes = [node(1, "(idle)"), node(2, "find"), node(3, "hash")];
  const { busy, functions } = selfTimes({ nodes, samples: [1, 2, 2, 3], timeDeltas: [60, 10, 20, 10] });
  assert.equal(busy, 0.4);
  assert.deepEqual(functions, [
    { name: "find", share: 0.75 },
    { name: "hash", share: 0.25 },
  ]);
});

test("native: the sample documents are valid and as long as asked", () => {
  for (const bytes of [100, 1000, 102_400]) {
    const document = sampleDocument(bytes);
    assert.equal(document.length, bytes);
    const scanner = new ValueScanner();
    assert.ok(scanner.feed(document, 0, bytes) && scanner.finish(), scanner.detail);
    JSON.parse(document.toString());
  }
});
