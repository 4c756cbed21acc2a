import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import {
  abandon,
  advance,
  type Change,
  ChangeError,
  checkedChanges,
  isJoining,
  nodesAtEnd,
  type Plan,
  propose,
  withdraw,
} from "../../src/cluster/layout/changes.ts";
import { Placement } from "../../src/cluster/layout/groups.ts";
import type { LayoutNode } from "../../src/cluster/layout/layout.ts";
import { firstLayout } from "../../src/cluster/layout/steps.ts";
import { loadHash } from "../../src/util/hash.ts";

before(loadHash);

const node = (name: string): LayoutNode => {
  const url = `http://${name}:1`;
  return { id: url, url, region: name, host: name, state: "active" };
};
const urlOf = (name: string) => node(name).url;
const join = (...names: string[]): Change => ({ kind: "join", nodes: names.map(node) });
const leave = (name: string): Change => ({ kind: "leave", url: urlOf(name) });
const planOf = (...names: string[]): Plan => ({ layout: firstLayout(names.map(node), 3), queue: [] });
const names = (nodes: readonly LayoutNode[] = []) => nodes.map(({ region, state }) => `${region} ${state}`);

/** One step, with these nodes having synchronised. */
function step(plan: Plan, ...synchronised: string[]): Plan | null {
  assert.ok(plan.layout !== null);
  return advance(plan, new Placement(plan.layout), new Set(synchronised.map(urlOf)));
}

/** All steps, everybody synchronised at once. */
function finish(plan: Plan): Plan {
  let last = plan;
  for (;;) {
    const all = (last.layout?.nodes ?? []).map(({ region }) => region);
    const next = step(last, ...all);
    if (next === null) return last;
    last = next;
  }
}

describe("changes of the layout", () => {
  test("a join moves, waits for the new ones, and ends two epochs later", () => {
    const moving = step(propose(planOf("a", "b", "c"), join("d", "e"))) as Plan;
    assert.equal(moving.layout?.epoch, 2);
    assert.equal(moving.layout?.previous?.epoch, 1);
    assert.deepEqual(moving.queue, []);
    assert.equal(isJoining(moving.layout as never, urlOf("d")), true);
    assert.equal(isJoining(moving.layout as never, urlOf("a")), false);
    assert.equal(step(moving), null);
    assert.equal(step(moving, "d"), null, "one of two");
    const done = finish(moving);
    assert.deepEqual([done.layout?.epoch, done.layout?.previous], [3, null]);
    assert.equal(done.layout?.nodes.length, 5);
  });

  test("who leaves stays on the list, draining, until the others have its partitions", () => {
    const moving = step(propose(planOf("a", "b", "c", "d"), leave("b"))) as Plan;
    assert.deepEqual(names(moving.layout?.nodes), ["a active", "b draining", "c active", "d active"]);
    assert.deepEqual(names(finish(moving).layout?.nodes), ["a active", "c active", "d active"]);
  });

  test("one move at a time, the others in their order", () => {
    let plan = propose(planOf("a", "b", "c"), join("d"));
    plan = step(plan) as Plan;
    plan = propose(propose(plan, leave("a")), { kind: "replace", url: urlOf("b"), node: node("e") });
    assert.equal(step(plan), null, "d has not synchronised");
    assert.deepEqual(names(nodesAtEnd(plan)), ["c active", "d active", "e active"]);
    const done = finish(plan);
    assert.deepEqual(
      [done.layout?.epoch, names(done.layout?.nodes)],
      [7, ["c active", "d active", "e active"]],
    );
  });

  test("a change that makes no sense after those before it is refused", () => {
    const plan = propose(planOf("a", "b"), leave("a"));
    for (const change of [leave("a"), leave("x"), leave("b"), join("b")])
      assert.throws(() => propose(plan, change), ChangeError, JSON.stringify(change));
    assert.throws(() => propose({ layout: null, queue: [] }, join("a")), /no layout yet/);
    const moving = step(plan) as Plan;
    assert.throws(() => propose(moving, leave("a")), /leaving it already/);
    assert.doesNotThrow(() => propose(finish(moving), join("a")));
  });

  test("a move can be given up: the nodes of before, under a higher number", () => {
    const moving = step(propose(planOf("a", "b", "c"), join("d"))) as Plan;
    const back = abandon(moving);
    assert.deepEqual([back.layout?.epoch, back.layout?.previous], [3, null]);
    assert.deepEqual(names(back.layout?.nodes), ["a active", "b active", "c active"]);
    assert.throws(() => abandon(back), /nothing is moving/);
  });

  test("a worker can be taken off a change that waits", () => {
    const plan = propose(propose(planOf("a", "b"), join("c", "d")), leave("a"));
    assert.deepEqual(withdraw(plan, urlOf("c")).queue, [join("d"), leave("a")]);
    assert.deepEqual(withdraw(plan, urlOf("a")).queue, [join("c", "d")]);
  });

  test("stored changes are checked", () => {
    const changes: Change[] = [join("c"), leave("a"), { kind: "replace", url: urlOf("b"), node: node("e") }];
    assert.deepEqual(checkedChanges(JSON.parse(JSON.stringify(changes))), changes);
    for (const bad of [{}, [{ kind: "x" }], [{ kind: "join", nodes: [{}] }]])
      assert.throws(() => checkedChanges(bad));
  });
});
