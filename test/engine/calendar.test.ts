import assert from "node:assert/strict";
import { test } from "node:test";
import { Calendar } from "../../src/engine/ends/calendar.ts";
import { Random, randomSeed } from "../random.ts";

test("calendar: gives places in order of their ends, whatever is entered between", (t) => {
  const random = new Random(randomSeed(t));
  const calendar = new Calendar();
  const model: [end: number, place: number][] = [];
  for (let step = 0; step < 100_000; step++) {
    if (random.below(5) < (step < 60_000 ? 3 : 2)) {
      const entry: [number, number] = [random.below(1000), step];
      calendar.add(...entry);
      model.push(entry);
    } else if (model.length > 0) {
      const next = calendar.next;
      const place = calendar.take();
      const at = model.findIndex(([, known]) => known === place);
      assert.equal(model[at][0], next);
      if (step % 1000 === 0) assert.equal(next, Math.min(...model.map(([end]) => end)));
      model[at] = model[model.length - 1];
      model.pop();
    }
    assert.equal(calendar.entries, model.length);
  }
  let last = 0;
  while (calendar.entries > 0) {
    assert.ok(calendar.next >= last);
    last = calendar.next;
    calendar.take();
  }
  assert.equal(calendar.next, Number.POSITIVE_INFINITY);
});

test("calendar: entries of values that are gone are thrown out when they are the larger part, a few at a time", () => {
  const calendar = new Calendar();
  const ENTRIES = 200_000;
  for (let place = 0; place < ENTRIES; place++) calendar.add(1e12 - place, place);
  const isThere = (place: number): boolean => place % 10 === 0;
  const values = ENTRIES / 10;
  let steps = 0;
  for (let more = true; more; steps++) {
    const before = calendar.entries;
    more = calendar.thin(values, isThere, 1000);
    assert.ok(before - calendar.entries <= 1000);
    // What comes meanwhile is not lost.
    if (steps === 10) calendar.add(5, 50);
  }
  assert.equal(calendar.entries, values + 1);
  assert.equal(calendar.take(), 50);
  assert.equal(calendar.thin(values, isThere, 1000), false, "there is little to gain");
  for (let place = ENTRIES - 10; place >= 0; place -= 10) assert.equal(calendar.take(), place);
  assert.equal(calendar.entries, 0);
});
