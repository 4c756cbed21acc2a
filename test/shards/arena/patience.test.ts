/** When a waiter looks on for a while, and when it sleeps at once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Patience } from "../../../src/shards/arena/patience.ts";

const MAX_MS = 0.2;
const WAITS = 2000;

/** Share of waits of `waitMs` that begin with a look. */
function looks(waitMs: number, busy: boolean, maxMs = MAX_MS): number {
  let nowMs = 1000;
  const patience = new Patience(maxMs, () => nowMs);
  let looked = 0;
  for (let wait = 0; wait < WAITS; wait++) {
    patience.begin(busy);
    if (patience.lasts) looked++;
    nowMs += waitMs;
    assert.ok(waitMs < maxMs || !patience.lasts, "nobody looks for longer than that");
    patience.end();
  }
  return looked / WAITS;
}

test("patience: who is answered soon looks", () => {
  assert.ok(looks(0.1, false) > 0.85);
});

test("patience: who waits long sleeps, but for a trial now and then", () => {
  const share = looks(5, false);
  assert.ok(share > 0 && share < 0.1, `${share}`);
});

test("patience: where others need the processor nobody looks", () => {
  assert.equal(looks(0.1, true), 0);
});

test("patience: without processors to spare nobody looks", () => {
  assert.equal(looks(0.1, false, 0), 0);
});
