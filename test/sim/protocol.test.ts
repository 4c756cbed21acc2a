/**
 * The cluster's protocol in simulation: many short histories in bad weather, each judged by the checker; and the same with one rule of the
 * protocol left out, which the checker must notice. The long form is test/storm/protocol.test.ts.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Random, randomSeed } from "../random.ts";
import { race, runHistories, runHistory } from "./history.ts";
import { describe } from "./linearizability.ts";
import { MUTANTS, type Mutant } from "./mutations.ts";

const HISTORIES = Number(process.env.HISTORIES ?? 20_000);

test("simulator: histories are linearizable", (t) => {
  const summary = runHistories(randomSeed(t), HISTORIES);
  const { histories, bad, operations, unknown, noQuorum, moves } = summary;
  t.diagnostic(
    `${histories} histories, ${operations} operations, ${unknown} of unknown outcome, ${noQuorum} without quorum, ${moves} finished moves, ${bad} bad`,
  );
  assert.equal(bad, 0, summary.firstBad);
  // Not empty: most operations have an outcome, and the cluster recovers.
  assert.ok(unknown + noQuorum < operations * 0.3);
  assert.ok(summary.finalReadsAnswered > summary.finalReads * 0.9);
  assert.ok(moves > histories * 0.05);
});

test("simulator: histories in which values end are linearizable, and each value ends once", (t) => {
  const summary = runHistories(randomSeed(t), HISTORIES / 4, ["ends"]);
  const { histories, bad, operations, unknown, noQuorum } = summary;
  t.diagnostic(
    `${histories} histories, ${operations} operations, ${unknown} of unknown outcome, ${noQuorum} without quorum, ${bad} bad`,
  );
  assert.equal(bad, 0, summary.firstBad);
  assert.ok(unknown + noQuorum < operations * 0.3);
  assert.ok(summary.finalReadsAnswered > summary.finalReads * 0.9);
});

test("simulator: histories in which writes are sent again, by their Idempotency-Key, are linearizable", (t) => {
  const summary = runHistories(randomSeed(t), HISTORIES / 4, ["once"]);
  const { histories, bad, operations, unknown, noQuorum } = summary;
  t.diagnostic(
    `${histories} histories, ${operations} operations, ${unknown} of unknown outcome, ${noQuorum} without quorum, ${bad} bad`,
  );
  assert.equal(bad, 0, summary.firstBad);
  assert.ok(unknown + noQuorum < operations * 0.3);
  assert.ok(summary.finalReadsAnswered > summary.finalReads * 0.9);
});

test("simulator: what was learned from single histories of a million", () => {
  for (const [seed, faults] of [
    // A write of which recall showed that an earlier try was done told what a later one would have replaced.
    [105290111, ["ends"]],
    // What a paused node had put off went on in the process after its crash.
    [1090488455, []],
    // A replica that had restarted did not know that it had taken a write.
    [114896457, []],
  ] as const) {
    const { linearizable, history } = runHistory(seed, {}, faults);
    assert.ok(linearizable, `seed ${seed}: ${describe(history)}`);
  }
});

test("simulator: a seed gives the same history again", () => {
  for (let seed = 1; seed < 200; seed++) assert.deepEqual(runHistory(seed).history, runHistory(seed).history);
});

test("simulator: in good weather every operation has its outcome", () => {
  const still = { loss: 0, duplicate: 0, slow: 0, fragile: 0, jitterMs: 0.1, latencyMs: 1 };
  for (let seed = 1; seed < 300; seed++) {
    const outcome = runHistory(seed, {}, [], still, []);
    assert.ok(outcome.linearizable);
    assert.equal(outcome.noQuorum, 0, `seed ${seed}`);
    assert.equal(outcome.finalReadsAnswered, outcome.finalReads);
  }
});

/** Whether a mutant's history is right. The world itself notices when one ballot is given to two values. */
function holds(seed: number, { mutation, faults, weather }: Mutant): boolean {
  try {
    return runHistory(seed, mutation, faults, weather).linearizable;
  } catch (error) {
    if (/^one ballot is used for operations/.test((error as Error).message)) return false;
    throw error;
  }
}

for (const mutant of MUTANTS)
  test(`simulator: notices when ${mutant.name}`, (t) => {
    const random = new Random(randomSeed(t));
    for (let tried = 1; tried <= mutant.histories; tried++) {
      const seed = random.below(2 ** 31);
      if (holds(seed, mutant)) continue;
      t.diagnostic(`caught by history ${tried} (seed ${seed})`);
      return;
    }
    assert.fail(`not noticed in ${mutant.histories} histories`);
  });

test("simulator: of three POSTs at once on a calm network exactly one creates the key, and each of them knows", () => {
  for (let seed = 1; seed <= 500; seed++)
    assert.deepEqual(race(seed), { done: 1, exists: 2, no_quorum: 0, unsure: 0 }, `race ${seed}`);
});

test("simulator: of three large values at once, on a calm network, none is given up because of the others", () => {
  for (const tripMs of [1, 20, 60])
    for (let seed = 1; seed <= 300; seed++) {
      const { no_quorum, done } = race(seed, tripMs, true);
      assert.deepEqual([no_quorum, done > 0], [0, true], `race ${seed} of ${tripMs} ms`);
    }
});
