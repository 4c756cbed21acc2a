import assert from "node:assert/strict";
import { test } from "node:test";
import { SteadyClock } from "../../src/util/clock.ts";
import { Random, randomSeed } from "../random.ts";

test("steady clock: follows the wall clock, and goes on where that is set back", () => {
  let [wall, monotonic] = [1000, 5];
  const clock = new SteadyClock(
    () => wall,
    () => monotonic,
  );
  assert.equal(clock.now(), 1000);
  wall = 1500;
  assert.equal(clock.now(), 1500);
  wall = 200;
  assert.equal(clock.now(), 1500);
  monotonic += 30;
  wall += 30;
  assert.equal(clock.now(), 1530);
  monotonic += 2000;
  wall = 3000;
  assert.equal(clock.now(), 3530, "it does not stand still until the wall clock has come up to it");
  wall = 9000;
  assert.equal(clock.now(), 9000);
  clock.observe(10_000);
  assert.equal(clock.now(), 10_000);
  clock.observe(9500);
  monotonic += 5;
  assert.equal(clock.now(), 10_005);
});

test("steady clock: never goes back", (t) => {
  const random = new Random(randomSeed(t));
  let [wall, monotonic, last] = [1e6, 0, 0];
  const clock = new SteadyClock(
    () => wall,
    () => monotonic,
  );
  for (let step = 0; step < 10_000; step++) {
    const ms = random.below(20);
    monotonic += ms;
    wall += random.below(10) === 0 ? random.below(2000) - 1000 : ms;
    if (random.below(50) === 0) clock.observe(last + random.below(100) - 50);
    const now = clock.now();
    assert.ok(now >= last && now >= wall);
    last = now;
  }
});
