/**
 * The master's judgement under a clock of the test's own: who joins when, when a move ends, and what it refuses.
 */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { encodeLife } from "../../src/cluster/identity/life.ts";
import { ChangeError, checkedChanges } from "../../src/cluster/layout/changes.ts";
import { checked } from "../../src/cluster/layout/check.ts";
import { FEATURE_PARTITIONS, FEATURES } from "../../src/cluster/layout/features.ts";
import { type Layout, layoutDigest } from "../../src/cluster/layout/layout.ts";
import { firstLayout, startMove } from "../../src/cluster/layout/steps.ts";
import { DOWN_MS, type Heartbeat } from "../../src/cluster/membership/messages.ts";
import type { MasterState } from "../../src/master/layout/state.ts";
import { MASTER } from "../../src/master/presence/admission.ts";
import { SETTLE_MS, STATIC_WAIT_MS } from "../../src/master/steward/steward.ts";
import { loadHash } from "../../src/util/hash.ts";
import { Stage, stableStage, storeOf, urlOf } from "./stage.ts";

before(loadHash);

describe("steward: the first layout", () => {
  test("with as many partitions as were asked for, once all workers know of such layouts; never another number", () => {
    const names = ["a", "b", "c"];
    const stage = new Stage(names, null, { partitions: 4096 });
    stage.pass(3000, names, { features: FEATURE_PARTITIONS - 1 });
    assert.equal(stage.epoch, 0);
    assert.match(
      String(stage.steward.problem),
      /-partitions 4096 needs workers of feature level 5, which http:\/\/a:1, http:\/\/b:1, http:\/\/c:1 cannot do/,
    );
    stage.pass(1000, names, { features: FEATURE_PARTITIONS });
    assert.deepEqual([stage.epoch, stage.steward.layout?.partitions], [1, 4096]);
    assert.match(stage.hear("d").refused ?? "", /feature level 5, and it can do 1/);
    assert.doesNotMatch(stage.warnings.join(), /in force/);
    const again = new Stage(names, stage.disk, { partitions: 65_536 });
    again.pass(1000, names, { features: FEATURE_PARTITIONS, epoch: 1 });
    assert.equal(again.steward.layout?.partitions, 4096);
    assert.match(again.warnings.join(), /-partitions 65536 is not in force: the cluster was born with 4096 /);
  });

  test("all of -volumes at once, as soon as they are there", () => {
    const stage = new Stage(["a", "b", "c"]);
    stage.pass(3000, ["a", "b"]);
    assert.equal(stage.epoch, 0);
    stage.pass(1000, ["a", "b", "c"]);
    assert.deepEqual([stage.epoch, stage.nodes], [1, ["a", "b", "c"]]);
    assert.equal(stage.disk?.layout?.epoch, 1, "on disk");
    assert.deepEqual(stage.disk?.stores, {
      [urlOf("a")]: storeOf("a"),
      [urlOf("b")]: storeOf("b"),
      [urlOf("c")]: storeOf("c"),
    });
  });

  test("of -volumes, those that are there after a while; the rest joins by a move", () => {
    const stage = new Stage(["a", "b", "c"]);
    stage.pass(STATIC_WAIT_MS + 500, ["a", "b"]);
    assert.deepEqual([stage.epoch, stage.nodes], [1, ["a", "b"]]);
    stage.pass(SETTLE_MS + 2000, ["a", "b", "c"]);
    assert.deepEqual([stage.epoch, stage.nodes], [2, ["a", "b", "c"]]);
    assert.ok(stage.steward.layout?.previous);
  });

  test("never beside a cluster that may be there: most of -volumes have to come, and none with a layout", () => {
    const stage = new Stage(["a", "b", "c"]);
    stage.pass(3 * STATIC_WAIT_MS, ["c", "new"]);
    assert.equal(stage.epoch, 0);
    assert.match(String(stage.steward.problem), /waiting for http:\/\/a:1, http:\/\/b:1/);
    stage.hear("a", { epoch: 7, empty: false, voting: true });
    stage.pass(1000, ["b", "c", "new"]);
    assert.equal(stage.epoch, 0, "a knows the cluster: it is learned from there");
    assert.deepEqual(stage.steward.newerAt(stage.nowMs), [urlOf("a")]);
  });

  test("a directory that is a copy of another worker's does not count as one more", () => {
    const stage = stableStage("a");
    stage.pass(SETTLE_MS + 2000, ["a", "b"]);
    assert.ok(stage.nodes.includes("b"));
    stage.hear("twin", { store: storeOf("b") });
    const heard = stage.hear("twin", { store: storeOf("b") });
    assert.match(String(heard.refused), /is a copy of that of http:\/\/b:1/);
    // Also while the other is away, which may come back, and after a restart of the master.
    for (let seconds = 0; seconds < 30; seconds++) {
      stage.pass(1000, ["a"]);
      assert.match(String(stage.hear("twin", { store: storeOf("b") }).refused), /is a copy of/);
    }
    const again = new Stage([], stage.disk);
    assert.match(String(again.hear("twin", { store: storeOf("b") }).refused), /is a copy of/);
    stage.pass(SETTLE_MS + 1000, ["a", "b"]);
    assert.ok(!stage.nodes.includes("twin"));
  });

  test("without -volumes, those that came within a short time of each other", () => {
    const stage = new Stage();
    stage.pass(1000, ["a"]);
    stage.pass(1500, ["a", "b"]);
    assert.equal(stage.epoch, 0, "b has just come");
    stage.pass(2000, ["a", "b"]);
    assert.deepEqual([stage.epoch, stage.nodes], [1, ["a", "b"]]);
  });

  test("a worker with keys begins alone, the empty ones join; with two of them there is no layout", () => {
    const stage = new Stage(["a", "b"]);
    for (; stage.epoch === 0 && stage.nowMs < 1000; stage.nowMs += 250) {
      stage.hear("a", { empty: false });
      stage.hear("b");
      stage.steward.tick(stage.nowMs);
    }
    assert.deepEqual(stage.nodes, ["a"]);
    const two = new Stage(["a", "b"]);
    two.hear("a", { empty: false });
    const { refused } = two.hear("b", { empty: false });
    assert.match(refused ?? "", /keys of one worker, but 2 hold keys: http:\/\/a:1, http:\/\/b:1/);
    two.pass(1000, ["a", "b"], { empty: false });
    assert.equal(two.epoch, 0);
    assert.match(two.steward.problem ?? "", /2 hold keys/);
  });

  test("a master that learns the first layout before all its workers have it knows their stores: they are born, too", () => {
    const early = new Stage(["a", "b"]);
    early.pass(2000, ["a", "b"]);
    const { layout, birth } = early.hear("a", { epoch: 0 });
    assert.deepEqual(birth, { [urlOf("a")]: storeOf("a"), [urlOf("b")]: storeOf("b") });
    // Only a has heard of it, and does not vote yet.
    const late = new Stage(["a", "b"]);
    late.hear("a", { epoch: 1, voting: false });
    late.hear("b");
    assert.deepEqual(late.steward.newerAt(0), [urlOf("a")]);
    const document = {
      ...{ success: true as const, url: urlOf("a"), region: "a", host: "a", store: storeOf("a"), epoch: 1 },
      ...{ empty: true, voting: false, layout: checked(layout), birth: birth ?? {}, volumes: null },
    };
    assert.equal(late.steward.learn(0, document), true);
    const answer = late.hear("b", { voting: false });
    assert.deepEqual([answer.layout?.epoch, answer.store], [1, storeOf("b")]);
    // Later layouts have those who have synchronised since.
    const later = stableStage("a", "b", "c");
    later.steward.orders.drain(later.nowMs, urlOf("c"));
    const { layout: second, birth: none } = later.hear("a", { epoch: 1 });
    assert.deepEqual([second?.epoch, none], [2, undefined]);
  });

  test("no new layout while a worker knows one: it is learned", () => {
    const stage = new Stage(["a", "b"]);
    stage.hear("a", { epoch: 7, voting: true });
    stage.hear("b", { epoch: 7, voting: true });
    stage.steward.tick(0);
    assert.equal(stage.epoch, 0);
    assert.deepEqual(stage.steward.newerAt(0), [urlOf("a"), urlOf("b")]);
    const nodes = ["a", "b"].map((name) => ({ ...nodeOf(name) }));
    const layout = { ...firstLayout(nodes, 3), epoch: 7 };
    const document = {
      ...{ success: true as const, url: urlOf("a"), region: "a", host: "a", store: storeOf("a"), epoch: 7 },
      ...{ empty: true, voting: true, layout, birth: {}, volumes: null },
    };
    assert.equal(stage.steward.learn(0, document), true);
    assert.deepEqual(
      [stage.epoch, stage.disk?.stores],
      [7, { [urlOf("a")]: storeOf("a"), [urlOf("b")]: storeOf("b") }],
    );
    assert.equal(stage.steward.learn(0, document), false, "known already");
    const foreign = { ...layout, cluster: "f".repeat(32), epoch: 9 };
    assert.equal(stage.steward.learn(0, { ...document, layout: foreign }), false, "another cluster");
    const nameless = { ...layout, cluster: null, epoch: 9, nodes: [nodeOf("x")] };
    assert.equal(stage.steward.learn(0, { ...document, layout: nameless }), false, "nothing in common");
    const renewed = { ...layout, epoch: 9, nodes: [nodeOf("x")] };
    assert.equal(
      stage.steward.learn(0, { ...document, layout: renewed }),
      true,
      "all workers are others by now",
    );
  });
});

describe("steward: moves", () => {
  test("workers that come together join in one move, which ends when both have synchronised", () => {
    const stage = stableStage("a", "b", "c");
    stage.pass(1000, ["a", "b", "c", "d"]);
    stage.pass(3000, ["a", "b", "c", "d", "e"]);
    assert.deepEqual([stage.epoch, stage.nodes], [2, ["a", "b", "c", "d", "e"]]);
    assert.deepEqual(stage.steward.move(stage.nowMs)?.joining, [urlOf("d"), urlOf("e")]);
    stage.synchronise("d");
    assert.equal(stage.epoch, 2);
    const { done, total } = stage.steward.move(stage.nowMs) ?? { done: 0, total: 0 };
    assert.ok(done > 0 && done < total, `${done} of ${total}`);
    stage.synchronise("e");
    assert.deepEqual([stage.epoch, stage.steward.layout?.previous], [3, null]);
  });

  test("a report for another epoch does not end the move", () => {
    const stage = stableStage("a", "b", "c");
    stage.pass(4000, ["a", "b", "c", "d"], { progress: { epoch: 1, done: 9, total: 9 } });
    assert.equal(stage.epoch, 2);
  });

  test("drain moves away and takes off; the same store does not come back by itself, an empty new one does", () => {
    const stage = stableStage("a", "b", "c", "d");
    stage.steward.orders.drain(stage.nowMs, urlOf("d"));
    assert.deepEqual(stage.nodes, ["-d", "a", "b", "c"]);
    assert.throws(() => stage.steward.orders.drain(stage.nowMs, urlOf("d")), ChangeError);
    stage.synchronise("a", "b", "c");
    assert.deepEqual([stage.epoch, stage.nodes], [3, ["a", "b", "c"]]);
    stage.pass(5000, ["a", "b", "c", "d"]);
    assert.equal(stage.epoch, 3);
    assert.match(stage.hear("d").refused ?? "", /has left the cluster/);
    for (let second = 0; second < 4; second++) {
      stage.pass(1000, ["a", "b", "c"]);
      stage.hear("d", { store: storeOf("d", 1) });
    }
    assert.deepEqual([stage.epoch, stage.nodes], [4, ["a", "b", "c", "d"]]);
  });

  test("replace is one move", () => {
    const stage = stableStage("a", "b", "c");
    stage.hear("d");
    stage.steward.orders.replace(stage.nowMs, urlOf("c"), urlOf("d"));
    assert.equal(stage.epoch, 1, "nobody but the master has reached it");
    stage.pass(1250, ["a", "b", "c", "d"]);
    assert.deepEqual([stage.epoch, stage.nodes], [2, ["-c", "a", "b", "d"]]);
    stage.synchronise("d");
    assert.deepEqual([stage.epoch, stage.nodes], [3, ["a", "b", "d"]]);
    assert.throws(() => stage.steward.orders.replace(stage.nowMs, urlOf("a"), urlOf("x")), /is not up/);
  });

  test("remove is for the dead; one that dies while it joins gives its move up", () => {
    const stage = stableStage("a", "b", "c", "d");
    assert.throws(() => stage.steward.orders.remove(stage.nowMs, urlOf("d")), /is up: drain it/);
    assert.throws(() => stage.steward.orders.remove(stage.nowMs, urlOf("x")), /is not known/);
    stage.pass(4000, ["a", "b", "c", "d", "e"]);
    assert.deepEqual([stage.epoch, stage.nodes.length], [2, 5]);
    stage.pass(DOWN_MS + 1000, ["a", "b", "c"]);
    stage.steward.orders.remove(stage.nowMs, urlOf("e"));
    assert.deepEqual([stage.epoch, stage.nodes], [3, ["a", "b", "c", "d"]]);
    stage.steward.orders.remove(stage.nowMs, urlOf("d"));
    assert.deepEqual([stage.epoch, stage.nodes], [4, ["-d", "a", "b", "c"]]);
  });

  test("a dead worker is removed after its time, if the others are up and enough", () => {
    const stage = stableStage("a", "b", "c", "d");
    stage.pass(58_000, ["a", "b", "c"]);
    assert.equal(stage.epoch, 1);
    stage.pass(4000, ["a", "b", "c"]);
    assert.deepEqual([stage.epoch, stage.nodes], [2, ["-d", "a", "b", "c"]]);
    const three = stableStage("a", "b", "c");
    three.pass(120_000, ["a", "b"]);
    assert.equal(three.epoch, 1, "two are not enough for three copies");
    const two = stableStage("a", "b", "c", "d", "e");
    two.pass(120_000, ["a", "b", "c"]);
    assert.equal(two.epoch, 1, "two silent at once are rather a cut link");
  });
});

describe("steward: admission", () => {
  test("nobody joins whom the master, or every voter, cannot reach; both say why, and it heals by itself", () => {
    for (const by of [["the master"], ["a", "b", "c"]]) {
      const stage = stableStage("a", "b", "c");
      stage.cuts.push(...by.map((from): [string, string] => ["d", from]));
      stage.pass(20_000, ["a", "b", "c", "d"]);
      assert.deepEqual([stage.epoch, stage.nodes], [1, ["a", "b", "c"]]);
      const { refused = "" } = stage.hear("d");
      assert.match(refused, /cannot be reached under its public URL \(.*: ECONNREFUSED/);
      assert.ok(by[0] === MASTER ? refused.includes(MASTER) : refused.includes(urlOf("a")), refused);
      assert.throws(() => stage.steward.orders.replace(stage.nowMs, urlOf("a"), urlOf("d")), /ECONNREFUSED/);
      stage.cuts.length = 0;
      stage.pass(SETTLE_MS + 2000, ["a", "b", "c", "d"]);
      assert.deepEqual([stage.epoch, stage.nodes], [2, ["a", "b", "c", "d"]]);
    }
  });

  test("one voter is enough, and one who cannot be reached keeps nobody else from joining", () => {
    const stage = stableStage("a", "b", "c");
    stage.cuts.push(["d", "a"], ["d", "b"], ["e", MASTER]);
    stage.pass(SETTLE_MS + 3000, ["a", "b", "c", "d", "e"]);
    assert.deepEqual([stage.epoch, stage.nodes], [2, ["a", "b", "c", "d"]]);
  });

  test("another store under the URL is tried anew", () => {
    const stage = stableStage("a", "b", "c");
    stage.hear("d");
    stage.pass(1000, ["a", "b", "c"]);
    stage.cuts.push(["d", MASTER]);
    for (let second = 0; second < 6; second++) {
      stage.hear("d", { store: storeOf("d", 1) });
      stage.pass(1000, ["a", "b", "c"]);
    }
    assert.equal(stage.epoch, 1);
    stage.cuts.length = 0;
    for (let second = 0; second < 6; second++) {
      stage.hear("d", { store: storeOf("d", 1) });
      stage.pass(1000, ["a", "b", "c"]);
    }
    assert.equal(stage.epoch, 2);
  });

  test("the first layout is made of those that can be reached; a stranger's word does not count", () => {
    const stage = new Stage();
    // b reaches nobody and nobody reaches it.
    stage.cuts.push(["b", MASTER], ["b", "a"], ["a", "b"]);
    stage.pass(SETTLE_MS + 2000, ["a", "b"]);
    assert.deepEqual([stage.epoch, stage.nodes], [1, ["a"]]);
    const alone = new Stage(["a", "b", "c"]);
    alone.cuts.push(["c", MASTER]);
    alone.pass(STATIC_WAIT_MS + 2000, ["a", "b", "c"]);
    assert.deepEqual([alone.epoch, alone.nodes], [1, ["a", "b"]]);
    assert.match(alone.hear("c").refused ?? "", /the master: ECONNREFUSED/);
  });
});

describe("steward: settings", () => {
  test("another region of a worker, and another -replicas of the master, are moves of the layout", () => {
    const stage = stableStage("a", "b", "c", "d");
    const others = ["a", "b", "c"];
    for (let half = 0; half < 8; half++) {
      stage.hear("d", { region: half < 2 ? "east" : "a" });
      stage.pass(500, others);
      if (half < 4) assert.equal(stage.epoch, 1, "not before it has stayed so for a while");
    }
    assert.deepEqual([stage.epoch, stage.nodes], [2, ["a", "a", "b", "c"]]);
    assert.ok(stage.steward.layout?.previous);
    stage.synchronise("a", "b", "c", "d");
    assert.equal(stage.epoch, 3);
    const again = new Stage([], JSON.parse(JSON.stringify(stage.disk)), { replicas: 4 });
    again.hear("d", { region: "a" });
    again.pass(500, others);
    assert.deepEqual([again.epoch, again.steward.layout?.replicas], [4, 4]);
    again.synchronise("a", "b", "c", "d");
    const same = new Stage([], JSON.parse(JSON.stringify(again.disk)));
    same.hear("d", { region: "a" });
    same.pass(3000, others);
    assert.deepEqual(
      [same.epoch, same.steward.layout?.replicas],
      [5, 4],
      "what is only preset changes nothing",
    );
  });

  test("a change that waits survives a restart", () => {
    const stage = stableStage("a", "b", "c");
    stage.pass(4000, ["a", "b", "c", "d"]);
    const plan = {
      ...(stage.disk as MasterState),
      queue: [{ kind: "adjust", regions: { [urlOf("a")]: "x" }, replicas: 2 }],
    };
    assert.deepEqual(checkedChanges(JSON.parse(JSON.stringify(plan.queue))), plan.queue);
    for (const wrong of [
      { regions: { a: 7 }, replicas: null },
      { regions: { a: "x" }, replicas: 99 },
    ])
      assert.throws(() => checkedChanges([{ kind: "adjust", ...wrong }]));
  });
});

describe("steward: ways out", () => {
  test("a move whose new owner has died is given up after a time; who joined by it may join again with what it holds", () => {
    const stage = stableStage("a", "b", "c");
    stage.pass(4000, ["a", "b", "c", "d", "e"]);
    assert.deepEqual([stage.epoch, stage.nodes.length], [2, 5]);
    stage.synchronise("d");
    const beganMs = stage.nowMs;
    while (stage.epoch === 2) {
      stage.pass(1000, ["a", "b", "c", "d"]);
      assert.ok(stage.nowMs < beganMs + 70_000, "given up by itself");
    }
    assert.ok(stage.nowMs > beganMs + 60_000, "not before its time");
    assert.deepEqual([stage.nodes, stage.steward.layout?.previous], [["a", "b", "c"], null]);
    assert.equal(stage.hear("d", { empty: false }).refused, undefined);
    stage.pass(4000, ["a", "b", "c", "d"], { empty: false });
    assert.deepEqual([stage.epoch, stage.nodes], [4, ["a", "b", "c", "d"]]);
    // Over a restart, too; and only with the store that it had.
    const again = new Stage([], JSON.parse(JSON.stringify(stage.disk)));
    assert.equal(again.hear("e", { empty: false }).refused, undefined);
    assert.match(again.hear("e", { empty: false, store: storeOf("e", 1) }).refused ?? "", /holds keys/);
  });

  test("a move goes on while the new owner is there or has synchronised, and while it is the master that is cut off", () => {
    const stage = stableStage("a", "b", "c");
    stage.pass(4000, ["a", "b", "c", "d"]);
    stage.pass(120_000, ["a", "b", "c", "d"]);
    assert.equal(stage.epoch, 2, "slow is not dead");
    stage.pass(120_000, ["a"]);
    assert.equal(stage.epoch, 2, "most others are silent as well");
    const two = stableStage("a", "b", "c");
    two.pass(4000, ["a", "b", "c", "d", "e"]);
    two.synchronise("d");
    two.pass(80_000, ["a", "b", "c", "e"]);
    two.synchronise("e");
    // d had told all that was needed of it; then it is removed, as it is dead.
    assert.deepEqual([two.epoch, two.nodes], [4, ["-d", "a", "b", "c", "e"]]);
  });

  test("any move can be given up by somebody who saw it; what joined by it has left", () => {
    const stage = stableStage("a", "b", "c");
    assert.throws(() => stage.steward.orders.abandon(stage.nowMs, 1), /nothing is moving/);
    stage.pass(4000, ["a", "b", "c", "d"]);
    assert.throws(() => stage.steward.orders.abandon(stage.nowMs, 1), /changed meanwhile/);
    stage.steward.orders.abandon(stage.nowMs, 2);
    assert.deepEqual([stage.epoch, stage.nodes], [3, ["a", "b", "c"]]);
    assert.match(stage.hear("d").refused ?? "", /has left the cluster/);
    stage.pass(5000, ["a", "b", "c", "d"]);
    assert.equal(stage.epoch, 3);
  });

  test("a move is given up while another change of who joined by it waits: that is let go of, and the rest goes on", () => {
    const stage = stableStage("a", "b", "c");
    stage.pass(4000, ["a", "b", "c", "d"]);
    // Only the master reaches e yet.
    for (const by of ["a", "b", "c"]) stage.cuts.push(["e", by]);
    stage.hear("e");
    stage.steward.orders.replace(stage.nowMs, urlOf("d"), urlOf("e"));
    stage.steward.orders.abandon(stage.nowMs, 2);
    assert.deepEqual([stage.epoch, stage.nodes, stage.steward.queue], [3, ["a", "b", "c"], []]);
    stage.cuts.length = 0;
    stage.pass(5000, ["a", "b", "c", "d", "e"]);
    assert.ok(stage.warnings.includes("a change that waited is not possible any more"));
    assert.deepEqual([stage.epoch, stage.nodes], [4, ["a", "b", "c", "e"]]);
  });

  test("who is to take another's place and is not reached holds up no other change, is told why, and can be removed", () => {
    const stage = stableStage("a", "b", "c", "d");
    for (const by of ["a", "b", "c", "d"]) stage.cuts.push(["e", by]);
    stage.hear("e");
    stage.steward.orders.replace(stage.nowMs, urlOf("b"), urlOf("e"));
    stage.steward.orders.drain(stage.nowMs, urlOf("a"));
    assert.deepEqual([stage.epoch, stage.nodes], [2, ["-a", "b", "c", "d"]]);
    stage.pass(3000, ["a", "b", "c", "d", "e"]);
    assert.match(stage.hear("e").refused ?? "", /cannot be reached under its public URL/);
    stage.synchronise("b", "c", "d");
    stage.pass(DOWN_MS + 1000, ["b", "c", "d"], { voting: true, epoch: stage.epoch });
    assert.deepEqual([stage.nodes, stage.steward.queue.length], [["b", "c", "d"], 1]);
    stage.steward.orders.remove(stage.nowMs, urlOf("e"));
    assert.deepEqual([stage.nodes, stage.steward.queue], [["b", "c", "d"], []]);
  });

  test("a master that has just started does not say that nothing has to be given up", () => {
    const stage = stableStage("a", "b", "c");
    const again = new Stage([], structuredClone(stage.disk));
    again.pass(2000, ["a"], { voting: true, epoch: 1 });
    const recover = (missing: string[]) => again.steward.orders.recover(again.nowMs, 1, missing);
    assert.throws(() => recover([]), /has not heard of http:\/\/b:1, http:\/\/c:1 yet: try again/);
    again.pass(DOWN_MS, ["a"], { voting: true, epoch: 1 });
    recover([urlOf("b"), urlOf("c")]);
    assert.deepEqual(again.nodes, ["a"]);
  });

  test("where partitions have no majority nothing moves, and why is said; recover goes on with what is left", () => {
    const stage = stableStage("a", "b", "c");
    assert.throws(() => stage.steward.orders.recover(stage.nowMs, 1, []), /nothing has to be given up/);
    stage.pass(DOWN_MS + 1000, ["a"]);
    assert.match(
      stage.steward.problem ?? "",
      /1024 of 1,024 partitions have no majority.*b:1, http:\/\/c:1.*recover/,
    );
    assert.throws(
      () => stage.steward.orders.remove(stage.nowMs, urlOf("c")),
      /cannot be removed.*minivault recover/,
    );
    stage.steward.orders.drain(stage.nowMs, urlOf("b"));
    stage.pass(5000, ["a"]);
    assert.equal(stage.epoch, 1, "a change waits");
    assert.throws(() => stage.steward.orders.recover(stage.nowMs, 1, [urlOf("c")]), /not the same workers/);
    assert.throws(
      () => stage.steward.orders.recover(stage.nowMs, 9, [urlOf("b"), urlOf("c")]),
      /changed meanwhile/,
    );
    stage.steward.orders.recover(stage.nowMs, 1, [urlOf("c"), urlOf("b")]);
    assert.deepEqual([stage.epoch, stage.nodes, stage.steward.queue], [1001, ["a"], []]);
    assert.throws(() => stage.steward.orders.abandon(stage.nowMs, 1001), /recovers/);
    stage.synchronise("a");
    assert.deepEqual([stage.epoch, stage.steward.layout?.lost], [1002, undefined]);
    assert.match(
      stage.hear("b").refused ?? "",
      /has left the cluster/,
      "a lost one does not come back with its data",
    );
    stage.pass(4000, ["a", "d"]);
    assert.deepEqual([stage.epoch, stage.nodes], [1003, ["a", "d"]]);
    assert.equal(stage.steward.problem, null);
  });

  test("a change waits for the majority of every partition, also where its new layout would have one", () => {
    const stage = stableStage("a", "b", "c", "d", "e");
    stage.pass(DOWN_MS + 1000, ["a", "b", "c"]);
    // Without the fourth, no partition lacks more than the fifth; but its move needs those that have both.
    stage.steward.orders.drain(stage.nowMs, urlOf("d"));
    stage.pass(5000, ["a", "b", "c"]);
    assert.equal(stage.epoch, 1);
    stage.pass(5000, ["a", "b", "c", "e"]);
    assert.equal(stage.epoch, 2);
  });

  test("members that cannot synchronise because most do not vote count as a majority that is gone; they are what is left", () => {
    const stage = stableStage("a", "b");
    stage.pass(30_000, ["a"], { voting: true, epoch: 1 });
    stage.steward.orders.drain(stage.nowMs, urlOf("a"));
    assert.equal(stage.epoch, 1, "a move waits");
    for (let second = 0; second < 60; second++) {
      stage.hear("b", { store: storeOf("b", 1), epoch: 1 });
      stage.pass(1000, ["a"], { voting: true, epoch: 1 });
    }
    assert.equal(stage.epoch, 1);
    assert.match(stage.steward.problem ?? "", /http:\/\/b:1 lost data and cannot synchronise/);
    stage.steward.orders.recover(stage.nowMs, 1, []);
    assert.deepEqual([stage.epoch, stage.nodes, stage.steward.layout?.lost], [1001, ["a", "b"], []]);
  });
});

describe("steward: moves that could not end", () => {
  test("one does not begin while those who would be left do not vote; what can go on goes first", () => {
    const stage = stableStage("a", "b", "c");
    for (let second = 0; second < 3; second++) {
      stage.hear("b", { store: storeOf("b", 1), epoch: 1 });
      stage.pass(1000, ["a", "c"], { voting: true, epoch: 1 });
    }
    stage.steward.orders.drain(stage.nowMs, urlOf("c"));
    assert.deepEqual([stage.epoch, stage.steward.queue.length], [1, 1], "a and b alone: b could not rejoin");
    stage.steward.orders.drain(stage.nowMs, urlOf("b"));
    assert.deepEqual([stage.epoch, stage.nodes, stage.steward.queue.length], [2, ["-b", "a", "c"], 1]);
    stage.synchronise("a", "c");
    assert.deepEqual([stage.epoch, stage.nodes], [4, ["-c", "a"]]);
  });

  test("who comes is let in while what waits cannot begin, and with it that can", () => {
    const stage = stableStage("a", "b", "c");
    stage.pass(DOWN_MS + 1000, ["b", "c"], { voting: true, epoch: 1 });
    for (const name of ["b", "c"]) stage.steward.orders.drain(stage.nowMs, urlOf(name));
    assert.deepEqual([stage.epoch, stage.steward.queue.length], [1, 2], "neither could end without a");
    assert.throws(() => stage.steward.orders.remove(stage.nowMs, urlOf("a")), /the last worker/);
    for (let second = 0; second < SETTLE_MS / 1000 + 2; second++) {
      for (const name of ["e", "f"]) stage.hear(name, { epoch: stage.epoch });
      stage.pass(1000, ["b", "c"], { voting: true, epoch: stage.epoch });
    }
    assert.deepEqual([stage.epoch, stage.nodes], [2, ["a", "b", "c", "e", "f"]]);
    stage.synchronise("e", "f");
    assert.deepEqual([stage.epoch, stage.nodes], [4, ["-b", "a", "c", "e", "f"]]);
  });

  test("removing a dead worker gives up the move that waits for it, and not one that does not", () => {
    const stage = stableStage("a", "b", "c", "d");
    stage.pass(DOWN_MS + 1000, ["b", "c", "d"], { voting: true, epoch: 1 });
    stage.steward.orders.drain(stage.nowMs, urlOf("b"));
    assert.deepEqual([stage.epoch, stage.nodes], [2, ["-b", "a", "c", "d"]]);
    stage.steward.orders.remove(stage.nowMs, urlOf("a"));
    assert.deepEqual([stage.epoch, stage.nodes, stage.steward.queue], [4, ["-a", "b", "c", "d"], []]);
  });
});

describe("steward: who is who", () => {
  test("a joiner with keys of its own is refused", () => {
    const stage = stableStage("a", "b", "c");
    assert.match(stage.hear("d", { empty: false }).refused ?? "", /holds keys that are not this cluster's/);
    stage.pass(5000, ["a", "b", "c"]);
    assert.equal(stage.epoch, 1);
  });

  test("another store under a member's URL is told so, until it votes again", () => {
    const stage = stableStage("a", "b", "c");
    assert.equal(stage.hear("a").store, storeOf("a"));
    const wiped = { store: storeOf("a", 1) };
    assert.equal(stage.hear("a", wiped).store, storeOf("a"));
    assert.equal(stage.hear("a", { ...wiped, voting: true, epoch: 1 }).store, storeOf("a", 1));
    assert.equal(stage.disk?.stores[urlOf("a")], storeOf("a", 1));
  });

  test("answers carry a layout that is newer, and who is not up", () => {
    const stage = stableStage("a", "b", "c");
    assert.equal(stage.hear("a").layout?.epoch, 1);
    assert.equal(stage.hear("a", { epoch: 1 }).layout, undefined);
    stage.pass(5000, ["a", "b"]);
    assert.deepEqual([stage.hear("a").suspect, stage.hear("a").down], [[urlOf("c")], []]);
    stage.pass(DOWN_MS, ["a", "b"]);
    assert.deepEqual([stage.hear("a").suspect, stage.hear("a").down], [[], [urlOf("c")]]);
  });

  test("a restart forgets nobody: layout, queue, stores and workers", () => {
    const stage = stableStage("a", "b", "c");
    stage.pass(4000, ["a", "b", "c", "d"]);
    stage.steward.orders.drain(stage.nowMs, urlOf("a"));
    const again = new Stage([], JSON.parse(JSON.stringify(stage.disk)));
    assert.deepEqual([again.epoch, again.nodes], [2, ["a", "b", "c", "d"]]);
    assert.equal(again.steward.queue.length, 1);
    assert.deepEqual(
      again.registry.list(0).map((row) => [row.url, row.state]),
      ["a", "b", "c", "d"].map((name) => [urlOf(name), "suspect"]),
    );
    // Most of those that hold the data have to be heard of first.
    again.synchronise("d");
    assert.equal(again.epoch, 2);
    again.synchronise("a", "b");
    assert.deepEqual([again.epoch, again.nodes], [4, ["-a", "b", "c", "d"]]);
  });

  test("a state that cannot be kept changes nothing", () => {
    const stage = stableStage("a", "b", "c", "d");
    stage.isFull = true;
    assert.throws(() => stage.steward.orders.drain(stage.nowMs, urlOf("d")), /no space/);
    assert.deepEqual([stage.epoch, stage.steward.queue.length], [1, 0]);
    stage.isFull = false;
    stage.steward.orders.drain(stage.nowMs, urlOf("d"));
    assert.equal(stage.epoch, 2);
  });

  test("where workers do not agree which master is the first, that is said", () => {
    const stage = new Stage(["a", "b"]);
    stage.hear("a");
    stage.hear("b", { rank: 1 });
    stage.steward.tick(0);
    assert.match(stage.steward.problem ?? "", /http:\/\/a:1 says that it is this one, http:\/\/b:1 another/);
    stage.pass(1000, ["a", "b"]);
    assert.deepEqual([stage.epoch, stage.steward.problem], [1, null]);
  });

  test("a standby changes nothing", () => {
    const stage = new Stage(["a", "b"]);
    stage.pass(15_000, ["a", "b"], { rank: 1 });
    assert.equal(stage.epoch, 0);
    assert.throws(() => stage.steward.orders.drain(stage.nowMs, urlOf("a")), /is a standby/);
  });
});

function nodeOf(name: string) {
  return { id: urlOf(name), url: urlOf(name), region: name, host: name, state: "active" as const };
}

describe("steward: the feature level", () => {
  const NAMES = ["a", "b", "c"];

  test("begins with what all of the first can do", () => {
    for (const [levels, level] of [
      [[2, 2, 2], 2],
      [[2, undefined, 2], undefined],
      [[9, 2, 3], 2],
    ] as const) {
      const stage = new Stage(NAMES);
      for (let round = 0; round < 4; round++) {
        NAMES.forEach((name, i) => {
          const features = levels[i];
          stage.hear(name, features === undefined ? {} : { features });
        });
        stage.pass(250, []);
      }
      assert.deepEqual([stage.epoch, stage.steward.layout?.features], [1, level]);
    }
  });

  test("is raised by word alone, once all members can do it, are there, and nothing moves", () => {
    const stage = stableStage(...NAMES);
    const refused = (pattern: RegExp): void =>
      assert.throws(() => stage.steward.orders.upgrade(stage.nowMs, stage.epoch), pattern);
    refused(new RegExp(`can do level 1 of ${FEATURES}`));
    stage.pass(2000, NAMES, { features: FEATURES, epoch: 1 });
    assert.equal(stage.steward.layout?.features, undefined);
    stage.pass(DOWN_MS + 1000, ["a", "b"], { features: FEATURES, epoch: 1 });
    refused(/c.* is not up/);
    stage.pass(2000, NAMES, { features: FEATURES, epoch: 1 });
    assert.throws(() => stage.steward.orders.upgrade(stage.nowMs, 7), ChangeError);
    stage.steward.orders.upgrade(stage.nowMs, 1);
    assert.deepEqual([stage.epoch, stage.steward.layout?.features, stage.nodes], [2, FEATURES, NAMES]);
    assert.equal(stage.disk?.layout?.features, FEATURES, "on disk");
    stage.steward.orders.upgrade(stage.nowMs, 1);
    assert.equal(stage.epoch, 2, "twice is once");
  });

  test("keeps those out that cannot do it, and is kept by moves", () => {
    const stage = stableStage(...NAMES);
    stage.pass(2000, NAMES, { features: FEATURES, epoch: 1 });
    stage.steward.orders.upgrade(stage.nowMs, 1);
    assert.match(stage.hear("d").refused ?? "", new RegExp(`feature level ${FEATURES}, and it can do 1`));
    stage.pass(SETTLE_MS + 1000, NAMES, { features: FEATURES, epoch: 2 });
    assert.equal(stage.epoch, 2);
    assert.equal(stage.hear("e", { features: FEATURES }).refused, undefined);
    stage.pass(SETTLE_MS + 1000, [...NAMES, "e"], { features: FEATURES, epoch: 2 });
    assert.deepEqual([stage.epoch, stage.steward.layout?.features], [3, FEATURES]);
    assert.throws(() => stage.steward.orders.drain(stage.nowMs, urlOf("zz")), ChangeError);
  });
});

describe("steward: a master that was put back from a copy, or is not the only one", () => {
  const copyOf = (stage: Stage): MasterState => JSON.parse(JSON.stringify(stage.disk));

  /** What a worker says that follows a layout. */
  const following = (name: string, layout: Layout): Partial<Heartbeat> => {
    const cluster = layout.cluster;
    const about = { store: storeOf(name), incarnation: 1, session: "0123456789abcdef", votes: true };
    const life = { cluster, epoch: layout.epoch, layout: layoutDigest(layout), ...about, url: urlOf(name) };
    return { epoch: layout.epoch, voting: true, life: encodeLife(life) };
  };

  const document = (name: string, layout: Layout) => ({
    ...{ success: true as const, url: urlOf(name), region: name, host: name, store: storeOf(name) },
    ...{ epoch: layout.epoch, empty: true, voting: true, layout, birth: {}, volumes: null },
  });

  test("nothing changes before most of the workers have been heard of; what waited in the copy is not done again", () => {
    const stage = stableStage("a", "b", "c", "d");
    stage.steward.orders.drain(stage.nowMs, urlOf("d"));
    stage.steward.orders.drain(stage.nowMs, urlOf("c"));
    const copy = copyOf(stage);
    assert.deepEqual([copy.layout?.epoch, copy.queue.length], [2, 1]);
    // The move of d ends, that of c is withdrawn, a new one joins.
    const again = new Stage([], copy);
    again.pass(DOWN_MS - 1000, ["a"]);
    assert.equal(again.epoch, 2, "one of four says nothing for the others");
    const later = { ...(stage.steward.layout as Layout), epoch: 6, previous: null };
    for (const name of ["a", "b", "c"]) again.hear(name, following(name, checked(later)));
    again.steward.tick(again.nowMs);
    assert.equal(again.epoch, 2);
    assert.deepEqual(again.steward.newerAt(again.nowMs), ["a", "b", "c"].map(urlOf));
    assert.throws(
      () => again.steward.orders.abandon(again.nowMs, 2),
      /http:\/\/a:1 knows a newer layout, which this master learns just now/,
    );
    assert.equal(again.steward.learn(again.nowMs, document("a", checked(later))), true);
    assert.deepEqual([again.epoch, again.steward.queue], [6, []]);
  });

  test("what is asked of it after its start is done when it has learned", () => {
    const stage = stableStage("a", "b", "c", "d");
    const again = new Stage([], copyOf(stage));
    again.steward.orders.drain(again.nowMs, urlOf("d"));
    assert.deepEqual([again.epoch, again.steward.queue.length], [1, 1]);
    const later = checked({ ...(stage.steward.layout as Layout), epoch: 5 });
    for (const name of ["a", "b", "c"]) again.hear(name, following(name, later));
    assert.equal(again.steward.learn(again.nowMs, document("a", later)), true);
    again.steward.tick(again.nowMs);
    assert.equal(again.epoch, 5, "nobody has said yet that it follows that one");
    for (const name of ["a", "b", "c"]) again.hear(name, following(name, later));
    again.steward.tick(again.nowMs);
    assert.deepEqual([again.epoch, again.nodes], [6, ["-d", "a", "b", "c"]]);
  });

  test("another layout under the same number: its progress does not count, and where most follow it, it is taken over", () => {
    const stage = stableStage("a", "b", "c", "d");
    const before = stage.steward.layout as Layout;
    stage.steward.orders.drain(stage.nowMs, urlOf("d"));
    assert.equal(stage.epoch, 2);
    const other = startMove(
      before,
      before.nodes.map((node) => (node.url === urlOf("c") ? { ...node, state: "draining" } : node)),
    );
    const done = { epoch: 2, done: 9, total: 9 };
    for (const name of ["a", "b"]) stage.hear(name, { ...following(name, other), progress: done });
    for (const name of ["c", "d"])
      stage.hear(name, { ...following(name, checked(stage.steward.layout)), progress: done });
    stage.steward.tick(stage.nowMs);
    assert.equal(stage.epoch, 2, "that move is not this one");
    assert.match(
      String(stage.steward.problem),
      /a:1, http:\/\/b:1: another layout is known there under the number 2/,
    );
    assert.deepEqual(stage.steward.newerAt(stage.nowMs), []);
    assert.equal(stage.steward.learn(stage.nowMs, document("a", other)), false, "of two halves none counts");
    stage.hear("c", { ...following("c", other), progress: done });
    assert.notDeepEqual(stage.steward.newerAt(stage.nowMs), []);
    assert.equal(stage.steward.learn(stage.nowMs, document("a", other)), true);
    assert.deepEqual([stage.epoch, stage.nodes], [2, ["-c", "a", "b", "d"]]);
    for (const name of ["a", "b", "c", "d"]) stage.hear(name, { ...following(name, other), progress: done });
    stage.steward.tick(stage.nowMs);
    assert.deepEqual([stage.epoch, stage.nodes], [3, ["a", "b", "d"]]);
  });

  test("another layout under the same number, at few of them: this one gets the next number, so that they learn it", () => {
    const stage = stableStage("a", "b", "c", "d");
    const own = checked(stage.steward.layout);
    const other = checked({ ...own, nodes: own.nodes.slice(0, 3) });
    for (const name of ["a", "b", "c"]) stage.hear(name, following(name, own));
    stage.hear("d", following("d", other));
    for (let ticks = 0; ticks < 3; ticks++) stage.steward.tick(stage.nowMs);
    assert.deepEqual([stage.epoch, stage.nodes], [2, ["a", "b", "c", "d"]]);
    assert.equal(stage.hear("d", following("d", other)).layout?.epoch, 2);
    for (const name of ["a", "b", "c", "d"]) stage.hear(name, following(name, checked(stage.steward.layout)));
    stage.steward.tick(stage.nowMs);
    assert.deepEqual([stage.epoch, stage.steward.problem], [2, null], "once");
  });
});
