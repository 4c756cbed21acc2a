import assert from "node:assert/strict";
import { test } from "node:test";
import { Latencies } from "../../../src/server/status/latency.ts";

test("latency: percentiles of known values are within one percent", () => {
  const latencies = new Latencies();
  for (let us = 1; us <= 100_000; us++) latencies.record(us / 1000);
  const summary = latencies.summary();
  assert.equal(summary.count, 100_000);
  assert.equal(summary.max, 100_000);
  for (const [name, exact] of [
    ["p50", 50_000],
    ["p90", 90_000],
    ["p99", 99_000],
    ["p999", 99_900],
  ] as const) {
    assert.ok(Math.abs(summary[name] - exact) <= exact * 0.01, `${name} ${summary[name]}`);
  }
});

test("latency: nothing recorded, one value, values out of range", () => {
  const empty = new Latencies();
  assert.deepEqual(empty.summary(), { count: 0, p50: 0, p90: 0, p99: 0, p999: 0, max: 0 });
  const one = new Latencies();
  one.record(0.0021);
  assert.deepEqual(one.summary(), { count: 1, p50: 2.1, p90: 2.1, p99: 2.1, p999: 2.1, max: 2.1 });
  const extremes = new Latencies();
  extremes.record(-1);
  extremes.record(1e12);
  const summary = extremes.summary();
  assert.equal(summary.p50, 0);
  assert.equal(summary.p99, summary.max);
});
