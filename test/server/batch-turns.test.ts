/** The steps of all batches of a front: a slice of each turn of the event loop, whoever fails; and answers in parts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { bodyOf } from "../../src/server/batch/answer.ts";
import { Turns } from "../../src/server/batch/turns.ts";

/** Longer than half a slice: at most two begin in one. */
function spin(): void {
  const untilMs = performance.now() + 0.6;
  while (performance.now() < untilMs);
}

const rethrow = (error: unknown): void => {
  throw error;
};

test("turns: however many work, others come between two slices, and nobody waits for another one's end", async () => {
  const turns = new Turns();
  /** Of each turn of the event loop, whose steps came. */
  const steps: number[][] = [[]];
  let isOver = false;
  const next = (): void => {
    steps.push([]);
    if (!isOver) setImmediate(next);
  };
  setImmediate(next);
  const work = (number: number, count: number) =>
    new Promise<void>((resolve) => {
      let left = count;
      turns.add(() => {
        spin();
        steps[steps.length - 1].push(number);
        if (--left === 0) resolve();
        return left > 0;
      }, rethrow);
    });
  await Promise.all([work(0, 40), work(1, 5), work(2, 1), work(3, 5)]);
  isOver = true;
  // What is added has a slice at once, and the first turn may come before that of this test.
  assert.ok(Math.max(...steps.slice(1).map((those) => those.length)) <= 2, JSON.stringify(steps));
  assert.ok(steps[0].length <= 4, JSON.stringify(steps));
  const order = steps.flat();
  assert.equal(order.length, 51);
  const ends = [0, 1, 2, 3].map((number) => order.lastIndexOf(number));
  assert.equal(Math.max(...ends), ends[0]);
});

test("turns: what a step throws ends its own work, and no other", async () => {
  const turns = new Turns();
  const error = new Error("a step");
  const seen: unknown[] = [];
  let steps = 0;
  await new Promise<void>((resolve) => {
    turns.add(
      () => {
        // Another one's work is added meanwhile.
        turns.add(() => {
          if (++steps < 1000) return true;
          resolve();
          return false;
        }, rethrow);
        throw error;
      },
      (thrown) => seen.push(thrown),
    );
  });
  assert.deepEqual([seen, steps], [[error], 1000]);
});

test("batch: an answer that is made in parts is what it is in one", async () => {
  const turns = new Turns();
  for (const count of [0, 1, 2, 700, 5000])
    for (const length of [1, 100, 70_000]) {
      if (count * length > 5_000_000) continue;
      const results = Array.from(
        { length: count },
        (_, index) => `{"n":${index},"ä":"${"ö".repeat(length)}"\r\n}`,
      );
      const json = Buffer.from(await bodyOf(turns, results, false)).toString("utf8");
      assert.equal(json, `{"success":true,"results":[${results.join(",")}]}\n`);
      const lines = Buffer.from(await bodyOf(turns, results, true)).toString("utf8");
      assert.equal(lines, results.map((result) => `${result.replace("\r\n", "  ")}\n`).join(""));
    }
});
