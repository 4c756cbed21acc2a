/** To whom the writes of a contested key go. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ReplicaGroup } from "../../src/cluster/layout/groups.ts";
import { HotKeys } from "../../src/cluster/node/hot-keys.ts";
import { prefixOf } from "../../src/util/hash-prefix.ts";

const KEY = Buffer.from("key");
const GROUP: ReplicaGroup = {
  ...{ epoch: 1, partition: 0, prefix: prefixOf(0, 1024) },
  ...{ nodes: ["a", "b", "c"], current: 7, previous: 7 },
};

test("hot keys: after a race a key's writes go to the first replica that is there, for a while", () => {
  let nowMs = 0;
  const away = new Set<string>();
  const keys = new HotKeys(
    "b",
    (node) => (away.has(node) ? Number.POSITIVE_INFINITY : 1),
    () => nowMs,
  );
  assert.equal(keys.coordinatorOf(KEY, GROUP), null);
  keys.raced(KEY);
  assert.equal(keys.coordinatorOf(KEY, GROUP), "a");
  assert.equal(keys.coordinatorOf(Buffer.from("other"), GROUP), null);
  away.add("a");
  assert.equal(keys.coordinatorOf(KEY, GROUP), null, "this node is the first now");
  away.add("b");
  assert.equal(keys.coordinatorOf(KEY, GROUP), "c");
  nowMs = 5001;
  assert.equal(keys.coordinatorOf(KEY, GROUP), null);
});

test("hot keys: a node to which keys are handed on tells who hands them on as long as several write them", () => {
  let nowMs = 0;
  const keys = new HotKeys(
    "a",
    () => 1,
    () => nowMs,
  );
  assert.equal(keys.begins(KEY, 1, true), false, "what only this node writes is not noted");
  assert.equal(keys.begins(KEY, 2, false), false);
  assert.equal(keys.begins(KEY, 2, false), false, "one writer alone");
  assert.equal(keys.begins(KEY, 1, true), true, "this node writes it, too");
  assert.equal(keys.begins(KEY, 1, true), true);
  assert.equal(keys.begins(KEY, 2, false), true);
  nowMs = 4000;
  assert.equal(keys.begins(KEY, 2, false), true);
  nowMs = 5001;
  assert.equal(keys.begins(KEY, 2, false), false, "the other one has written nothing for a while");
});
