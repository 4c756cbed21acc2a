/** Charts and the page's block are made from data alone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { chartsOf, type HttpData } from "../../native-bench/charts.ts";
import { PERCENTILES } from "../../native-bench/offered.ts";
import { benchBlock, expectedPage, withBlock } from "../../native-bench/page.ts";
import { drawChart, linearTicks, logarithmicTicks } from "../../native-bench/svg.ts";

const result = (perSecond: number) => ({
  perSecond,
  requests: 1,
  failures: 0,
  p50: 1,
  p90: 1,
  p99: 1,
  p999: 1,
  max: 1,
});

test("charts: marks are round and reach over the values", () => {
  assert.deepEqual(linearTicks(113_000), [0, 20_000, 40_000, 60_000, 80_000, 100_000, 120_000]);
  assert.deepEqual(linearTicks(6), [0, 1, 2, 3, 4, 5, 6]);
  assert.deepEqual(logarithmicTicks(0.05, 12), [0.01, 0.1, 1, 10, 100]);
});

test("charts: a chart has its axes, its legend and a point for each value, and leaves out what has no place", () => {
  const text = drawChart({
    title: "a < b",
    subtitle: "",
    x: { label: "connections" },
    y: { label: "ms", logarithmic: true },
    series: [
      {
        name: "one & two",
        points: [
          [1, 10],
          [2, 0],
          [3, Number.NaN],
          [4, 100],
        ],
      },
    ],
  });
  assert.equal(text.match(/<circle/g)?.length, 2);
  for (const part of ["a &lt; b", "one &amp; two", "connections", ">ms<", "prefers-color-scheme:dark"])
    assert.ok(text.includes(part), part);
  assert.doesNotMatch(text, /NaN|Infinity/);
  const nothing = { title: "", subtitle: "", x: { label: "" }, y: { label: "" }, series: [] };
  assert.throws(() => drawChart(nothing), /nothing to draw/);
});

test("charts: all three are drawn from what the benchmark writes", () => {
  const row = { valueBytes: 100, generator: "wrk", minivault: [result(9)], ceiling: [result(10)], redis: [] };
  const latencies = PERCENTILES.map((_, index) => 100 * (index + 1));
  const offered = {
    server: "minivault",
    share: 0.5,
    rate: 50,
    perSecond: 50,
    failures: 0,
    latencies,
  } as const;
  const data: HttpData = {
    sync: "always",
    rows: [1, 64].flatMap((connections) => [
      { ...row, operation: "GET" as const, connections },
      { ...row, operation: "PUT" as const, connections, redis: [result(8)] },
    ]),
    offered: [
      { ...offered, operation: "GET" },
      { ...offered, operation: "PUT" },
    ],
  };
  const charts = chartsOf(data);
  assert.deepEqual([...charts.keys()], ["throughput.svg", "latency.svg", "offered-load.svg"]);
  for (const text of charts.values()) assert.doesNotMatch(text, /NaN|undefined/);
  assert.match(charts.get("throughput.svg") as string, /Redis SET/);
  assert.equal(charts.get("latency.svg")?.match(/<circle/g)?.length, 2 * PERCENTILES.length);
  assert.deepEqual([...chartsOf({ ...data, offered: [] }).keys()], ["throughput.svg"]);
});

test("docs/benchmarks.md: the block between the markers is replaced, and nothing else", () => {
  const block = benchBlock(
    {
      machine: {
        processor: "P",
        cores: 2,
        memoryGiB: 4,
        kernel: "K",
        node: "v20",
        commit: "abc",
        load: 0,
        time: "2026-01-02T00:00:00Z",
      },
      notes: ["note"],
      tables: [{ title: "Goals", columns: ["work", "result"], rows: [["GET", "1.00"]] }],
    },
    true,
  );
  assert.match(block, /2026-01-02.*Note\.\n\n\| work \| result \|\n\| --- \| ---: \|\n\| GET \| 1\.00 \|/s);
  const text = withBlock("before\n<!-- bench:peers -->\nold\n<!-- /bench:peers -->\nafter\n", block);
  assert.equal(text, `before\n${block}\nafter\n`);
  assert.throws(() => withBlock("without", block), /has no/);
});

test("docs/benchmarks.md: its table is what the committed measurements make it", (t) => {
  const page = expectedPage();
  if (page === null) return t.skip("there is no docs/bench/peers.json");
  assert.equal(page.now, page.expected);
});
