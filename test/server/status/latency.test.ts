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

test("latency: the histogram rises, holds every value, and knows their sum", () => {
  const latencies = new Latencies();
  let sum = 0;
  for (let step = 0; step < 20_000; step++) {
    const ms = 1.0007 ** step / 1000;
    latencies.record(ms);
    sum += Math.min(ms, (2 ** 31 - 1) / 10_000) / 1000;
  }
  const { bounds, counts, sum: known } = latencies.histogram();
  assert.equal(counts.length, bounds.length + 1);
  assert.equal(counts[bounds.length], 20_000);
  assert.ok(Math.abs(known - sum) < sum * 0.001, `${known} for ${sum}`);
  for (const [index, bound] of bounds.entries()) {
    // As many as there are values up to the bound, but for those within one percent of it.
    const upTo = (seconds: number) =>
      Math.min(20_000, Math.max(0, Math.floor(Math.log(seconds * 1e6) / Math.log(1.0007)) + 1));
    assert.ok(
      counts[index] >= upTo(bound * 0.985) && counts[index] <= upTo(bound * 1.01),
      `up to ${bound}: ${counts[index]}`,
    );
    assert.ok(index === 0 || bounds[index - 1] < bound);
  }
  const other = new Latencies();
  other.add(latencies);
  other.add(latencies);
  assert.ok(Math.abs(other.histogram().sum - 2 * known) < known * 1e-9);
  assert.deepEqual(new Latencies().histogram().counts, bounds.map(() => 0).concat(0));
});
