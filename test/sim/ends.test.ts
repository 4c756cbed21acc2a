/**
 * Cases of ends that random histories meet too rarely: they need clocks, messages and replicas that stand just so.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { RegisterResult, RegisterWrite } from "../../src/cluster/register/requests.ts";
import { Random } from "../random.ts";
import { groupOf, KEY, type Mutation, type SimNode, type SimPayload, World } from "./cluster.ts";
import { collect } from "./faults.ts";
import { readThrough, runFor } from "./steps.ts";

const STILL = {
  ...{ latencyMs: 1, jitterMs: 0, loss: 0, duplicate: 0, slow: 0, slowMs: 0 },
  ...{ detectsCrashes: true, fragile: 0, ownClocks: true },
};
/** How far a clock is off that is off. */
const OFF_MS = 5000;
const LIFE_MS = 100;

/** Three nodes; what their clocks for ends are off by. */
function worldOf(mutation: Mutation, ...offsMs: number[]): World {
  const world = new World(new Random(1), STILL, [groupOf(1, "abc")], 3, mutation);
  world.nodes.forEach((node, index) => {
    node.endOffsetMs = offsMs[index];
  });
  return world;
}

/** Reads through a node; the number of the value, 0: it is absent. */
function read(world: World, node: SimNode): number {
  const { outcome, payload } = readThrough(world, node);
  assert.notEqual(outcome, "no_quorum");
  return outcome === "absent" ? 0 : (payload as SimPayload).value;
}

/** Writes a value that ends, as the clock of the node says; or does what `more` says. */
function write(
  world: World,
  node: SimNode,
  value: number,
  more: Partial<RegisterWrite> = {},
): RegisterResult {
  let result: RegisterResult | null = null;
  const end = node.clock() + LIFE_MS;
  const payload: SimPayload = { tombstone: false, value, version: value, end };
  node.coordinator.write(
    { key: KEY, payload, operationLow: value, operationHigh: 0, condition: null, ...more },
    (answer) => {
      result = answer;
    },
  );
  runFor(world, 20);
  return result as unknown as RegisterResult;
}

test("ends: what one node has told gone no node finds again, however far its clock is behind", () => {
  const world = worldOf({}, OFF_MS, 0, -OFF_MS);
  const [a, b, c] = world.nodes;
  assert.equal(write(world, b, 1).outcome, "done");
  assert.equal(read(world, c), 1);
  // By the clock of a it has ended long ago.
  assert.equal(read(world, a), 0);
  for (const node of [c, b, a]) assert.equal(read(world, node), 0);
  assert.ok(world.nodes.every(({ state }) => state?.ended === true));
});

test("ends: told by clocks alone it would be found again", () => {
  const world = worldOf({ endsByOwnClock: true }, OFF_MS, 0, -OFF_MS);
  const [, b, c] = world.nodes;
  assert.equal(write(world, b, 1).outcome, "done");
  runFor(world, LIFE_MS);
  assert.equal(read(world, c), 1);
});

/** Two replicas mark the value by themselves, the third does not, and one of them tries to collect the mark. Then all are asked. */
function collecting(mutation: Mutation): number[] {
  const world = worldOf(mutation, 0, 0, -OFF_MS);
  const [a, b, c] = world.nodes;
  assert.equal(write(world, a, 1).outcome, "done");
  runFor(world, 2 * LIFE_MS);
  for (const node of [a, b, c]) node.sweep();
  assert.deepEqual([a.state?.ended, b.state?.ended, c.state?.ended], [true, true, false]);
  collect(a);
  runFor(world, 50);
  return [a, c].map((node) => read(world, node));
}

test("ends: a mark is collected only when all replicas hold it, or who has missed it brings the value back", () => {
  assert.deepEqual(collecting({}), [0, 0]);
  assert.deepEqual(collecting({ collectsUnmarked: true }), [0, 1], "the simulator shows what would happen");
});

test("ends: a mark that all hold is collected, and the floor keeps out what comes late", () => {
  const world = worldOf({}, 0, 0, 0);
  const [a, b, c] = world.nodes;
  assert.equal(write(world, a, 1).outcome, "done");
  const late = b.record();
  runFor(world, 2 * LIFE_MS);
  for (const node of [a, b, c]) node.sweep();
  collect(a);
  runFor(world, 50);
  assert.ok(world.nodes.every(({ state }) => state === null));
  assert.ok(late !== null && b.accept(1, late).kind === "no");
  for (const node of world.nodes) assert.equal(read(world, node), 0);
});

test("ends: a POST creates what has ended for its own node, and then it is there for all", () => {
  const world = worldOf({}, OFF_MS, 0, -OFF_MS);
  const [a, b, c] = world.nodes;
  const create = { condition: (exists: boolean) => (exists ? ("exists" as const) : null) };
  assert.equal(write(world, b, 1, create).outcome, "done");
  assert.equal(write(world, c, 2, create).outcome, "exists", "not yet by the clock of c");
  assert.equal(write(world, a, 3, create).outcome, "done");
  assert.equal(read(world, c), 3);
});
