import assert from "node:assert/strict";
import { test } from "node:test";
import { type ConnectionCounts, Connections, connectionsMax } from "../../../src/server/http/connections.ts";

function countsOf(fronts: number): ConnectionCounts[] {
  const all = Array.from({ length: fronts }, () => new Float64Array(1));
  return all.map((own) => ({ own, all, refusedMs: new Float64Array(1) }));
}

test("connections: those beyond the bound are to be closed, and their going makes room for nobody else", () => {
  const [counts] = countsOf(1);
  const told: number[] = [];
  const connections = new Connections(counts, 2, (max) => told.push(max));
  assert.deepEqual([connections.opened(), connections.opened()], [true, true]);
  for (let more = 0; more < 3; more++) {
    assert.equal(connections.opened(), false);
    connections.closed();
  }
  assert.deepEqual(told, [2], "told once, not for each");
  assert.ok(Math.abs(counts.refusedMs[0] - Date.now()) < 5000);
  connections.closed();
  assert.equal(connections.opened(), true);
  assert.equal(counts.own[0], 2);
});

test("connections: all front threads share one bound", () => {
  const counts = countsOf(3);
  const fronts = counts.map((count) => new Connections(count, 4, () => {}));
  for (const front of [0, 1, 2, 0]) assert.equal(fronts[front].opened(), true);
  assert.equal(fronts[2].opened(), false);
  fronts[2].closed();
  fronts[0].closed();
  assert.equal(fronts[2].opened(), true);
});

test("connections: without a limit of the system all are taken; with one, some descriptors are kept", () => {
  const [counts] = countsOf(1);
  const connections = new Connections(counts, null, () => assert.fail("told"));
  for (let one = 0; one < 1000; one++) assert.equal(connections.opened(), true);
  const max = connectionsMax();
  if (process.platform === "linux") assert.ok(max !== null && max >= 1);
});
