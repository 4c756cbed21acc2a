import assert from "node:assert/strict";
import { test } from "node:test";
import type { Res } from "../../../src/server/http/http.ts";
import { Pacer } from "../../../src/server/http/pace.ts";
import { BodyFlow, SLOW_BEATS_MAX } from "../../../src/server/writes/body-flow.ts";

/** A flow whose beats the test gives. */
function flowing(slowBeatsMax = SLOW_BEATS_MAX) {
  const calls: string[] = [];
  const res = {
    pause: () => calls.push("pause"),
    resume: () => calls.push("resume"),
  } as unknown as Res;
  const taker = { receivedBytes: 0, isReceiving: true, stalled: () => calls.push("stalled"), slowBeatsMax };
  const flow = new BodyFlow(res, new Pacer(), taker);
  const beat = (bytes: number) => {
    calls.length = 0;
    taker.receivedBytes += bytes;
    flow.beat();
    return calls.join();
  };
  return { flow, taker, beat };
}

const ALIVE = "pause,resume";
const ENOUGH = 4096;
const LITTLE = 100;

test("body flow: a body that moves is kept alive for ever", () => {
  const { flow, beat } = flowing();
  for (let number = 0; number < 100; number++) assert.equal(beat(ENOUGH), ALIVE);
  flow.end();
});

test("body flow: one that stands still, or nearly, is kept alive for some beats, then given up", () => {
  for (const bytes of [0, LITTLE]) {
    const { flow, beat } = flowing();
    for (let number = 0; number < SLOW_BEATS_MAX; number++) assert.equal(beat(bytes), ALIVE, String(number));
    assert.equal(beat(bytes), "stalled");
    flow.end();
  }
});

test("body flow: whoever takes it may have more patience", () => {
  const { flow, beat } = flowing(2 * SLOW_BEATS_MAX);
  for (let number = 0; number < 2 * SLOW_BEATS_MAX; number++) assert.equal(beat(0), ALIVE, String(number));
  assert.equal(beat(0), "stalled");
  flow.end();
});

test("body flow: slow beats count only one after the other", () => {
  const { flow, beat } = flowing();
  for (let round = 0; round < 10; round++) {
    for (let number = 1; number < SLOW_BEATS_MAX; number++) assert.equal(beat(LITTLE), ALIVE);
    assert.equal(beat(ENOUGH), ALIVE);
  }
  flow.end();
});

test("body flow: while we hold the client back, or it waits for us, it is not slow", () => {
  const { flow, taker, beat } = flowing();
  flow.setPaused(true);
  for (let number = 0; number < 10; number++) assert.equal(beat(0), "", "paused");
  flow.setPaused(false);
  for (let number = 1; number < SLOW_BEATS_MAX; number++) assert.equal(beat(0), ALIVE);
  taker.isReceiving = false;
  for (let number = 0; number < 10; number++) assert.equal(beat(0), ALIVE, "committing");
  flow.end();
});
