import assert from "node:assert/strict";
import { test } from "node:test";
import { RepairPace } from "../../src/cluster/sync/pacer.ts";

/** Milliseconds that so many turns take, a few of them waiting at once. */
async function turns(pace: RepairPace, count: number, busy: boolean): Promise<number> {
  const beganMs = performance.now();
  let left = count;
  const line = async () => {
    while (left-- > 0) await pace.turn(busy);
  };
  await Promise.all([line(), line(), line(), line()]);
  return performance.now() - beganMs;
}

test("pace: keys are taken over evenly while clients are served, and at once when not", async () => {
  let operations = 0;
  const idle = new RepairPace(() => operations);
  assert.ok((await turns(idle, 10_000, false)) < 1000);
  // 4,000 keys a second.
  assert.ok((await turns(idle, 800, true)) > 150, "a node that is asked serves clients");
  const serving = new RepairPace(() => {
    operations += 1000;
    return operations;
  });
  assert.ok((await turns(serving, 800, false)) > 150);
});

test("pace: a node that serves clients rests for as long as it worked", async () => {
  const pace = new RepairPace(() => 0);
  const beganMs = performance.now();
  await pace.rest(60, true);
  assert.ok(performance.now() - beganMs >= 55);
});
