import assert from "node:assert/strict";
import { mock, test } from "node:test";
import type { Res } from "../../../src/server/http/http.ts";
import { LINGER_BYTES_MAX, LINGER_MS_MAX, Linger } from "../../../src/server/http/linger.ts";

/** A response that only counts how often it is closed; closing tells the linger, as uWS does. */
function lingering(): { linger: Linger; closes: () => number } {
  let closes = 0;
  const res = {
    close() {
      closes++;
      linger.aborted();
    },
  } as unknown as Res;
  const linger = new Linger(res);
  return { linger, closes: () => closes };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("linger: a body that trickles is dropped for a bounded time", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    const { linger, closes } = lingering();
    for (let second = 1; second < LINGER_MS_MAX / 1000; second++) {
      linger.drop(20_000, false);
      mock.timers.tick(1000);
    }
    await turn();
    assert.equal(closes(), 0);
    mock.timers.tick(1000);
    assert.equal(closes(), 1);
  } finally {
    mock.timers.reset();
  }
});

test("linger: the end of the body, and too much of it, close at once and only once", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    for (const [bytes, last] of [
      [10, true],
      [LINGER_BYTES_MAX + 1, false],
    ] as const) {
      const { linger, closes } = lingering();
      linger.drop(bytes, last);
      linger.drop(bytes, last);
      await turn();
      assert.equal(closes(), 1);
      mock.timers.tick(LINGER_MS_MAX * 2);
      assert.equal(closes(), 1);
    }
    const { linger, closes } = lingering();
    linger.aborted();
    mock.timers.tick(LINGER_MS_MAX * 2);
    linger.drop(1, true);
    await turn();
    assert.equal(closes(), 0, "a connection that is gone is not closed");
  } finally {
    mock.timers.reset();
  }
});
