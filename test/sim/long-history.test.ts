import assert from "node:assert/strict";
import { test } from "node:test";
import { Random, randomSeed } from "../random.ts";
import { isLinearizable, type Recorded } from "./linearizability.ts";
import { judgeLong } from "./long-history.ts";

const STEPS_MAX = 1_000_000;
const KINDS = ["get", "put", "post", "delete", "replaceIf", "deleteIf"] as const;

/** Operations with any answers: about as many histories that fit as that do not. */
function anyHistory(random: Random): Recorded[] {
  const history: Recorded[] = [];
  const count = 2 + random.below(7);
  let now = 0;
  for (let id = 1; id <= count; id++) {
    now += random.below(4);
    const kind = KINDS[random.below(KINDS.length)];
    const unknown = kind !== "get" && random.below(4) === 0;
    const refused = !unknown && (kind === "post" || kind.endsWith("If")) && random.below(2) === 0;
    history.push({
      id,
      kind,
      called: now,
      answered: unknown ? Infinity : now + 1 + random.below(8),
      outcome: unknown ? "unknown" : refused ? "refused" : "done",
      value: kind === "get" ? random.below(id) : 0,
      expected: kind.endsWith("If") ? random.below(id) : 0,
      rewritten: Infinity,
      existed: (kind === "put" || kind === "delete") && random.below(3) === 0 ? random.below(2) === 0 : null,
    });
  }
  return history;
}

test("long histories: the judgement is that of the short ones", (t) => {
  const random = new Random(randomSeed(t));
  let good = 0;
  const rounds = 20_000;
  for (let round = 0; round < rounds; round++) {
    const history = anyHistory(random);
    const expected = isLinearizable(history);
    good += expected ? 1 : 0;
    assert.equal(
      judgeLong(history, STEPS_MAX),
      expected ? "linearizable" : "not linearizable",
      JSON.stringify(history),
    );
  }
  assert.ok(good > rounds / 50 && good < rounds * 0.9, `${good} of ${rounds} fit`);
});

test("long histories: one wrong read among a thousand operations is found, also beside unknown outcomes", () => {
  const history: Recorded[] = [];
  const add = (kind: Recorded["kind"], details: Partial<Recorded> = {}): void => {
    const id = history.length + 1;
    history.push({
      ...{ id, kind, called: id, answered: id + 2.5, outcome: "done" },
      ...{ value: 0, expected: 0, rewritten: Infinity, existed: null, ...details },
    });
  };
  for (let round = 0; round < 250; round++) {
    add("put");
    add("put", round % 20 === 0 ? { outcome: "unknown", answered: Infinity } : {});
    add("get", { value: history.length });
    add("get", { value: history.length - 1 });
  }
  assert.equal(judgeLong(history, STEPS_MAX), "linearizable");
  const bad = history.map((operation) => ({ ...operation }));
  bad[902].value = bad[899].id - 12;
  assert.equal(judgeLong(bad, STEPS_MAX), "not linearizable");
});
