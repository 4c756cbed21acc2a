import assert from "node:assert/strict";
import { test } from "node:test";
import { HybridClock } from "../../src/util/clock.ts";

const value = (clock: HybridClock): bigint => (BigInt(clock.high) << 32n) | BigInt(clock.low);

test("clock: rises strictly while the wall clock stands, runs backwards and jumps", () => {
  let now = 1_700_000_000_000;
  const clock = new HybridClock(() => now);
  let last = 0n;
  for (let i = 0; i < 200_000; i++) {
    if (i === 150_000) now -= 5000;
    if (i === 180_000) now += 60_000;
    clock.tick();
    assert.ok(value(clock) > last);
    last = value(clock);
  }
  assert.equal(last >> 16n, BigInt(now));
});

test("clock: goes on above what it observed", () => {
  const clock = new HybridClock(() => 1000);
  clock.observe(5, 0xffff_fffe);
  clock.tick();
  assert.deepEqual([clock.high, clock.low], [5, 0xffff_ffff]);
  clock.tick();
  assert.deepEqual([clock.high, clock.low], [6, 0]);
  clock.observe(1, 1);
  clock.tick();
  assert.deepEqual([clock.high, clock.low], [6, 1]);
});
