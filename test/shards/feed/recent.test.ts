/** Changes in memory, and who goes on from where. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ShardPlace } from "../../../src/engine/feed/place.ts";
import { Recent, type RecentChange } from "../../../src/shards/feed/recent.ts";

const places = (...units: number[]): ShardPlace[] => units.map((unit) => ({ sequence: 1, unit, base: 0 }));

function change(shard: number, endUnit: number): RecentChange {
  const text = "";
  return { event: "put", text, key: "k", ballot: { ms: 1 } as never, shard, sequence: 1, endUnit };
}

test("recent changes: whoever has met some of them elsewhere goes on with the first that is news", () => {
  const recent = new Recent(places(10, 10), 7);
  assert.equal(recent.numberAfter(places(10, 10), 7), 7);
  recent.add([change(0, 12), change(1, 12), change(0, 14)], places(14, 12));
  recent.add([change(1, 20)], places(16, 20));
  for (const [place, number] of [
    [places(10, 10), 7],
    [places(12, 10), 8],
    [places(12, 12), 9],
    [places(14, 12), 10],
    [places(16, 20), 11],
    // Each shard is read for itself: rather is something told twice than left out.
    [places(14, 10), 8],
    [places(10, 20), 7],
  ] as const)
    assert.equal(recent.numberAfter(place, 7), number, JSON.stringify(place));
  assert.equal(recent.numberAfter(places(10, 10), 9), 9);
});
