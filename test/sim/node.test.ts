/**
 * The whole shipped node in simulation: workers and a master over a simulated network, simulated disks and clocks. Each history is judged
 * for what clients were told, and for whether all is well again some time after the last fault. The long form is test/storm/node.test.ts.
 */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { loadHash } from "../../src/util/hash.ts";
import { randomSeed } from "../random.ts";
import { FAULTS, GIVEN_UP, MAJORITY_DEAD } from "./node/faults.ts";
import { runHistory } from "./node/history.ts";

const HISTORIES = Number(process.env.NODE_HISTORIES ?? 8);

/** One of so many has more partitions. */
const HISTORIES_EACH = 7;

const EACH = [...FAULTS, GIVEN_UP];

/** Faults that all histories are to have. */
const ASKED = EACH.filter((fault) => (process.env.NODE_FAULTS ?? "").split(",").includes(fault));

before(loadHash);

test("simulated nodes: what clients are told is true, and all is well again after the faults", async (t) => {
  const first = randomSeed(t);
  const total = { operations: 0, unknown: 0, silent: 0, refused: 0, healedMs: 0 };
  for (let seed = first; seed < first + HISTORIES; seed++) {
    // Each fault has its turn, whatever chance has, and a cluster of more partitions than the fewest.
    const partitions = seed % HISTORIES_EACH === 0 ? 2048 : 1024;
    const faults = ASKED.length > 0 ? ASKED : [EACH[seed % EACH.length]];
    const outcome = await runHistory(seed, faults, partitions);
    assert.equal(outcome.problem, null, `seed ${seed}, faults ${outcome.faults}`);
    assert.equal(outcome.partitions, partitions, `seed ${seed}`);
    total.operations += outcome.operations;
    total.unknown += outcome.unknown;
    total.silent += outcome.silent;
    total.refused += outcome.refused;
    total.healedMs = Math.max(total.healedMs, outcome.healedMs);
  }
  t.diagnostic(
    `${HISTORIES} histories, ${total.operations} operations, ${total.unknown} of unknown outcome and ${total.silent} without an answer, ${total.refused} without effect, well again after ${total.healedMs} ms at the latest`,
  );
  // Not empty.
  assert.ok(total.operations > HISTORIES * 20);
});

test("simulated nodes: where a majority is dead for good, recover makes a cluster of what is left", async (t) => {
  const seed = randomSeed(t);
  const { problem, faults } = await runHistory(seed, [MAJORITY_DEAD]);
  assert.equal(problem, null, `seed ${seed}, faults ${faults}`);
});

test("simulated nodes: a seed gives the same history again", async (t) => {
  const seed = randomSeed(t);
  const [once, again] = [await runHistory(seed), await runHistory(seed)];
  assert.deepEqual(again, once);
});
