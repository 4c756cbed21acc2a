/**
 * Cases that random histories meet too rarely: they need messages that are under way for longer than a replica waits before it rejoins.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Proposal } from "../../src/cluster/register/ports.ts";
import type { ReadResult } from "../../src/cluster/register/requests.ts";
import type { Ballot } from "../../src/format/record.ts";
import { REJOIN_WAIT_MS } from "../../src/util/limits.ts";
import { Random } from "../random.ts";
import { groupOf, KEY, type SimNode, type SimPayload, World } from "./cluster.ts";
import { crash } from "./faults.ts";
import { readThrough, runFor } from "./steps.ts";

const STILL = {
  latencyMs: 1,
  jitterMs: 0,
  loss: 0,
  duplicate: 0,
  slow: 0,
  slowMs: 0,
  detectsCrashes: true,
  fragile: 0,
};

function proposal(value: number, ballot: Ballot): Proposal {
  const payload: SimPayload = { tombstone: false, value, version: value, end: 0 };
  return { ballot, payload, operationLow: value, operationHigh: 0 };
}

/** Reads through a node; the number of the value. */
function read(world: World, node: SimNode): number {
  const { outcome, payload } = readThrough(world, node);
  assert.equal(outcome, "found");
  return (payload as SimPayload).value;
}

test("rejoin: a lost promise still keeps its word when its accept comes after the replica votes again", () => {
  const world = new World(new Random(1), STILL, [groupOf(1, "abc")], 3, {});
  const [a, b, c] = world.nodes;
  const first = c.ballots.next();
  for (const node of world.nodes) node.accept(1, proposal(1, first));
  // A PUT that reaches only c, and then a conditional write by another node that has prepared at a and b: it has seen the first value only.
  const put = proposal(2, c.ballots.next());
  assert.equal(c.accept(1, put).kind, "yes");
  b.ballots.observe(put.ballot);
  const conditional = proposal(3, b.ballots.next());
  assert.equal(a.prepare(1, conditional.ballot).kind, "yes");
  assert.equal(b.prepare(1, conditional.ballot).kind, "yes");
  crash(world, a, 10, true);
  runFor(world, REJOIN_WAIT_MS - 1000);
  assert.equal(a.voting, false);
  assert.equal(a.prepare(1, a.ballots.next()).kind, "refused");
  runFor(world, 3000);
  assert.equal(a.voting, true);
  const seen = read(world, a);
  // The accepts of the conditional write were under way all the time.
  for (const node of world.nodes) node.accept(1, conditional);
  for (const node of world.nodes) assert.equal(read(world, node), seen, "what was read once stays");
});

test("rejoin: without a majority of others that vote, a replica without data never votes", () => {
  const world = new World(new Random(1), STILL, [groupOf(1, "abc")], 3, {});
  const [a, b, c] = world.nodes;
  const first = proposal(1, c.ballots.next());
  for (const node of [a, b]) node.accept(1, first);
  crash(world, a, 10, true);
  crash(world, b, 10, true);
  runFor(world, 10 * REJOIN_WAIT_MS);
  assert.deepEqual([a.voting, b.voting, c.voting], [false, false, true]);
  let result: ReadResult | null = null;
  c.coordinator.read(KEY, (answer) => {
    result = answer;
  });
  runFor(world, 10_000);
  assert.equal((result as unknown as ReadResult).outcome, "no_quorum", "503, never 404");
});
