import assert from "node:assert/strict";
import { test } from "node:test";
import { InFlight } from "../../../src/server/http/context.ts";
import { Vigil } from "../../../src/server/http/vigil.ts";

/** A vigil whose clock and event loop are the test's. */
function bench() {
  const inFlight = new InFlight();
  let nowMs = 0;
  let next: (() => void) | null = null;
  const vigil = new Vigil(
    inFlight,
    () => nowMs,
    (turn) => {
      assert.equal(next, null, "one turn at a time");
      next = turn;
    },
  );
  return {
    inFlight,
    vigil,
    get isAwake() {
      return next !== null;
    },
    /** One turn of the event loop, after so much time. */
    turn(afterMs: number) {
      nowMs += afterMs;
      const turn = next;
      next = null;
      turn?.();
    },
  };
}

test("vigil: looks for the next request for a short time, then sleeps", () => {
  const front = bench();
  front.vigil.request();
  front.turn(0.01);
  for (let turns = 0; turns < 9; turns++) {
    assert.ok(front.isAwake);
    front.turn(0.01);
  }
  front.turn(0.02);
  assert.ok(!front.isAwake);
});

test("vigil: goes on looking while requests come in time, and gives up when they do not", () => {
  const front = bench();
  for (let requests = 0; requests < 1000; requests++) {
    front.vigil.request();
    front.turn(0.05);
    assert.ok(front.isAwake, `after request ${requests}`);
  }
  let looked = 0;
  for (let requests = 0; requests < 1024; requests++) {
    front.vigil.request();
    front.turn(0);
    if (front.isAwake) looked++;
    front.turn(10);
  }
  assert.ok(looked < 200, `${looked} of 1024 waits`);
});

test("vigil: many requests at once, or one under way, are no reason to look", () => {
  const front = bench();
  for (let requests = 0; requests < 5; requests++) front.vigil.request();
  front.turn(0.01);
  assert.ok(!front.isAwake);
  front.vigil.request();
  front.inFlight.enter();
  front.turn(0.01);
  assert.ok(!front.isAwake, "what it waits for comes from elsewhere");
  front.inFlight.leave();
  assert.ok(front.isAwake);
  front.turn(0.01);
  assert.ok(front.isAwake);
});
