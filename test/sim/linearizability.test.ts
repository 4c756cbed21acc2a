import assert from "node:assert/strict";
import { test } from "node:test";
import { isLinearizable, type Recorded } from "./linearizability.ts";

/** Operations as [kind, called, answered, details]; numbered from 1. */
function history(...rows: [Recorded["kind"], number, number, Partial<Recorded>?][]): Recorded[] {
  return rows.map(([kind, called, answered, details], index) => ({
    id: index + 1,
    kind,
    called,
    answered,
    outcome: "done",
    value: 0,
    expected: 0,
    rewritten: Infinity,
    existed: null,
    ...details,
  }));
}

test("linearizability: one after the other, each must see what came before", () => {
  assert.ok(isLinearizable(history(["put", 0, 1], ["get", 2, 3, { value: 1 }])));
  assert.ok(!isLinearizable(history(["put", 0, 1], ["get", 2, 3, { value: 0 }])));
  assert.ok(!isLinearizable(history(["put", 0, 1], ["put", 2, 3], ["get", 4, 5, { value: 1 }])));
  assert.ok(isLinearizable(history(["put", 0, 1], ["delete", 2, 3], ["get", 4, 5, { value: 0 }])));
  assert.ok(!isLinearizable(history(["put", 0, 1], ["delete", 2, 3], ["get", 4, 5, { value: 1 }])));
});

test("linearizability: what overlaps may be in either order, but all must see the same one", () => {
  const overlapping = (first: number, second: number): Recorded[] =>
    history(
      ["put", 0, 10],
      ["put", 0, 10],
      ["get", 11, 12, { value: first }],
      ["get", 13, 14, { value: second }],
    );
  assert.ok(isLinearizable(overlapping(1, 1)));
  assert.ok(isLinearizable(overlapping(2, 2)));
  assert.ok(!isLinearizable(overlapping(1, 2)));
  const during = (first: number, second: number): Recorded[] =>
    history(["put", 0, 10], ["get", 1, 2, { value: first }], ["get", 3, 4, { value: second }]);
  assert.ok(isLinearizable(during(0, 1)));
  assert.ok(!isLinearizable(during(1, 0)), "a value once read stays");
});

test("linearizability: conditional writes take effect where their condition holds, and are refused where it does not", () => {
  assert.ok(isLinearizable(history(["post", 0, 1], ["post", 2, 3, { outcome: "refused" }])));
  assert.ok(!isLinearizable(history(["post", 0, 1], ["post", 2, 3])));
  assert.ok(!isLinearizable(history(["post", 0, 1, { outcome: "refused" }])));
  assert.ok(!isLinearizable(history(["post", 0, 9], ["post", 0, 9])), "one of two is created");
  const swap = (outcome: "done" | "refused", expected: number, rewritten = Infinity): Recorded[] =>
    history(["put", 0, 1], ["put", 2, 3], ["replaceIf", 4, 5, { outcome, expected, rewritten }]);
  assert.ok(isLinearizable(swap("done", 2)));
  assert.ok(!isLinearizable(swap("done", 1)));
  assert.ok(isLinearizable(swap("refused", 1)));
  assert.ok(!isLinearizable(swap("refused", 2)));
  assert.ok(isLinearizable(swap("refused", 2, 4.5)), "the version had changed by then");
  assert.ok(!isLinearizable(swap("refused", 2, 6)), "it changed only later");
  assert.ok(
    !isLinearizable(history(["put", 0, 1], ["deleteIf", 2, 3, { expected: 1 }], ["get", 4, 5, { value: 1 }])),
  );
});

test("linearizability: created and replaced must fit", () => {
  assert.ok(!isLinearizable(history(["put", 0, 1, { existed: true }])));
  assert.ok(isLinearizable(history(["put", 0, 1, { existed: false }], ["delete", 2, 3, { existed: true }])));
  assert.ok(!isLinearizable(history(["put", 0, 1], ["delete", 2, 3, { existed: false }])));
});

test("linearizability: an unknown outcome takes effect at any later time, or never, but once", () => {
  const unknown = { outcome: "unknown" as const };
  const later = (...values: number[]): Recorded[] =>
    history(
      ["put", 0, 1],
      ["put", 2, 3, unknown],
      ...values.map((value, index): [Recorded["kind"], number, number, Partial<Recorded>] => [
        "get",
        10 + 2 * index,
        11 + 2 * index,
        { value },
      ]),
    );
  assert.ok(isLinearizable(later(1, 1, 1)));
  assert.ok(isLinearizable(later(1, 1, 2, 2)));
  assert.ok(!isLinearizable(later(2, 1)));
  assert.ok(
    !isLinearizable(history(["get", 0, 1, { value: 2 }], ["put", 2, 3, unknown])),
    "not before its call",
  );
  assert.ok(
    isLinearizable(
      history(["put", 0, 1], ["replaceIf", 2, 3, { ...unknown, expected: 1 }], ["get", 4, 5, { value: 2 }]),
    ),
  );
  assert.ok(
    !isLinearizable(
      history(
        ["put", 0, 1],
        ["replaceIf", 2, 3, { ...unknown, expected: 1 }],
        ["put", 4, 5],
        ["get", 6, 7, { value: 3 }],
        ["get", 8, 9, { value: 2 }],
      ),
    ),
    "its condition must hold when it takes effect",
  );
});

test("linearizability: a value ends once, not before some clock has reached its end, and stays gone", () => {
  const end = (millis: number, reachedAt: number) => ({ end: { millis, owner: 1, reachedAt } });
  const ending = (reachedAt: number, ...reads: [number, number, boolean][]) =>
    history(
      ["put", 0, 1, end(500, reachedAt)],
      ...reads.map(
        ([called, answered, found]) =>
          ["get", called, answered, found ? { value: 1, endOwner: 1 } : {}] as [
            "get",
            number,
            number,
            object,
          ],
      ),
    );
  assert.ok(isLinearizable(ending(2, [3, 4, false])));
  assert.ok(isLinearizable(ending(2, [3, 4, true], [5, 6, false])));
  assert.ok(!isLinearizable(ending(2, [3, 4, false], [5, 6, true])), "it does not come back");
  assert.ok(isLinearizable(ending(2, [3, 6, false], [5, 7, true])), "at the same time both may be");
  assert.ok(!isLinearizable(ending(5, [3, 4, false])), "no clock had reached it");
  assert.ok(isLinearizable(ending(5, [3, 6, false])));
  assert.ok(!isLinearizable(ending(Infinity, [3, 4, false])));
  const judged = (clockMillis: number) =>
    history(["put", 0, 1, end(500, 2)], ["get", 3, 4, { value: 1, endOwner: 1, clockMillis }]);
  assert.ok(isLinearizable(judged(499)));
  assert.ok(!isLinearizable(judged(500)), "it had ended by the clock that judged");
  const over = history(
    ["put", 0, 1, end(500, 2)],
    ["post", 3, 4],
    ["get", 5, 6, { value: 2 }],
    ["put", 7, 8, { existed: true }],
  );
  assert.ok(isLinearizable(over), "what comes after it has no end");
  assert.ok(
    !isLinearizable(history(["put", 0, 1], ["post", 2, 3])),
    "without an end there is nothing to create",
  );
});

test("linearizability: a touch gives a value another version and another end, and who keeps an end has it", () => {
  const first = { end: { millis: 500, owner: 1, reachedAt: 2 } };
  const touched = { end: { millis: 900, owner: 2, reachedAt: 8 } };
  const read = (version: number, endOwner: number) => ({ value: 1, version, endOwner });
  const after = (called: number, answered: number, details: Partial<Recorded>) =>
    history(["put", 0, 1, first], ["touch", 1.2, 1.5, touched], ["get", called, answered, details]);
  assert.ok(isLinearizable(after(3, 4, read(2, 2))));
  assert.ok(!isLinearizable(after(3, 4, read(1, 1))), "the old version");
  assert.ok(!isLinearizable(after(3, 4, {})), "gone by the old end");
  assert.ok(isLinearizable(after(9, 10, {})));
  assert.ok(!isLinearizable(history(["touch", 0, 1, touched])), "there is nothing");
  assert.ok(isLinearizable(history(["touch", 0, 1, { ...touched, outcome: "refused" }])));
  const kept = (details: Partial<Recorded>) =>
    history(["put", 0, 1, first], ["keep", 1.2, 1.5, { existed: true }], ["get", 3, 4, details]);
  assert.ok(isLinearizable(kept({ value: 2, endOwner: 1 })));
  assert.ok(isLinearizable(kept({})));
  assert.ok(!isLinearizable(kept({ value: 2 })), "without an end");
});
