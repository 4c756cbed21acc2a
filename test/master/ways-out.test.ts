/** Ways out of what a master was asked for and cannot do, or does not want any more, under a clock of the test's own. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { ChangeError } from "../../src/cluster/layout/changes.ts";
import { DOWN_MS } from "../../src/cluster/membership/messages.ts";
import { Admission } from "../../src/master/presence/admission.ts";
import { loadHash } from "../../src/util/hash.ts";
import { Stage, stableStage, storeOf, urlOf } from "./stage.ts";

before(loadHash);

const OLD = ["a", "b", "c"];
const REMOVE_MS = 60_000;

/** What members say that follow the layout. */
function following(stage: Stage): { voting: boolean; epoch: number } {
  return { voting: true, epoch: stage.epoch };
}

/** c is to be replaced by d, whom no voter can reach. */
function withReplacement(): Stage {
  const stage = stableStage(...OLD);
  for (const by of OLD) stage.cuts.push(["d", by]);
  stage.hear("d");
  stage.steward.orders.replace(stage.nowMs, urlOf("c"), urlOf("d"));
  assert.deepEqual([stage.epoch, stage.steward.queue.length], [1, 1]);
  return stage;
}

test("replace: while the new one cannot be reached, all the rest goes on, and why it waits is said", () => {
  const stage = withReplacement();
  assert.match(
    stage.steward.upkeep.hindrance ?? "",
    /that http:\/\/d:1 replaces http:\/\/c:1 waits: http:\/\/d:1/,
  );
  assert.equal(stage.steward.problem, null, "not before it has been so for a while");
  for (let second = 0; second < 12; second++) {
    stage.pass(1000, OLD, following(stage));
    stage.hear("d");
  }
  assert.match(stage.steward.problem ?? "", /cannot be reached under its public URL/);
  stage.pass(6000, [...OLD, "e"]);
  assert.deepEqual([stage.epoch, stage.nodes], [2, ["a", "b", "c", "e"]], "another one joins");
  stage.synchronise("e");
  stage.steward.orders.drain(stage.nowMs, urlOf("b"));
  assert.deepEqual([stage.epoch, stage.nodes], [4, ["-b", "a", "c", "e"]], "and one leaves");
  stage.synchronise("a", "c", "e");
  stage.cuts.length = 0;
  for (let second = 0; second < 4; second++) {
    stage.pass(1000, ["a", "c", "e"], following(stage));
    stage.hear("d");
  }
  assert.deepEqual([stage.epoch, stage.nodes, stage.steward.problem], [6, ["-c", "a", "d", "e"], null]);
});

test("replace: it is given up when the new one has been away for too long, and by remove of the new one", () => {
  const stage = withReplacement();
  // It counts as away from when it is suspect.
  stage.pass(REMOVE_MS + 5000, OLD, following(stage));
  assert.deepEqual(stage.steward.queue, []);
  assert.ok(stage.warnings.includes("a replacement waits for a worker that is not there: it is given up"));
  const removed = withReplacement();
  removed.pass(DOWN_MS + 1000, OLD, following(removed));
  removed.steward.orders.remove(removed.nowMs, urlOf("d"));
  assert.deepEqual([removed.steward.queue, removed.nodes], [[], OLD]);
  removed.steward.orders.drain(removed.nowMs, urlOf("c"));
  assert.deepEqual([removed.epoch, removed.nodes], [2, ["-c", "a", "b"]]);
});

test("replace: by one that is leaving is refused", () => {
  const stage = stableStage(...OLD, "d");
  stage.steward.orders.drain(stage.nowMs, urlOf("d"));
  assert.throws(
    () => stage.steward.orders.replace(stage.nowMs, urlOf("c"), urlOf("d")),
    (error: Error) => error instanceof ChangeError && /is leaving the cluster/.test(error.message),
  );
});

test("changes that wait can be given up, and say what they wait for", () => {
  const stage = stableStage(...OLD);
  stage.pass(DOWN_MS + 1000, ["a", "b"], following(stage));
  stage.steward.orders.drain(stage.nowMs, urlOf("a"));
  assert.match(
    stage.steward.upkeep.hindrance ?? "",
    /that http:\/\/a:1 leaves waits: its move could not end while these are down or do not vote: http:\/\/c:1;/,
  );
  stage.pass(DOWN_MS + 1000, ["a", "b"], following(stage));
  assert.match(stage.steward.problem ?? "", /http:\/\/a:1 leaves waits/);
  assert.throws(() => stage.steward.orders.abandon(stage.nowMs, 7), /changed meanwhile/);
  stage.steward.orders.abandon(stage.nowMs, 1);
  stage.pass(5000, OLD, following(stage));
  assert.deepEqual([stage.epoch, stage.steward.queue, stage.steward.problem], [1, [], null]);
});

test("remove of one that died while it joined: who joined with it comes in again with what it holds", () => {
  const stage = stableStage(...OLD);
  stage.pass(4000, [...OLD, "d", "e"]);
  assert.deepEqual([stage.epoch, stage.nodes.length], [2, 5]);
  stage.pass(DOWN_MS + 1000, [...OLD, "d"], following(stage));
  stage.steward.orders.remove(stage.nowMs, urlOf("e"));
  assert.deepEqual([stage.epoch, stage.nodes], [3, OLD]);
  assert.equal(stage.hear("d", { empty: false }).refused, undefined);
  for (let second = 0; second < 4; second++) {
    stage.pass(1000, OLD, following(stage));
    stage.hear("d", { empty: false });
  }
  assert.deepEqual([stage.epoch, stage.nodes], [4, [...OLD, "d"]]);
});

test("a move for another region, or other copies, that was given up is not begun again; another wish is", () => {
  const others = ["a", "b", "c", "e", "f"];
  const stage = stableStage(...others, "d");
  const restarted = (region: string): void => {
    for (let half = 0; half < 8; half++) {
      stage.hear("d", { region, ...following(stage) });
      stage.pass(500, others, following(stage));
    }
  };
  restarted("a");
  assert.deepEqual([stage.epoch, stage.nodes], [2, ["a", "a", "b", "c", "e", "f"]]);
  stage.steward.orders.abandon(stage.nowMs, 2);
  restarted("a");
  assert.deepEqual([stage.epoch, stage.nodes], [3, ["a", "b", "c", "d", "e", "f"]]);
  restarted("b");
  assert.deepEqual([stage.epoch, stage.nodes], [4, ["a", "b", "b", "c", "e", "f"]]);
});

test("a dead worker that somebody wants to stay is not removed by itself before it was there again", () => {
  const stage = stableStage(...OLD, "d");
  stage.pass(REMOVE_MS + 2000, OLD, following(stage));
  assert.deepEqual([stage.epoch, stage.nodes], [2, ["-d", ...OLD]]);
  stage.steward.orders.abandon(stage.nowMs, 2);
  stage.pass(REMOVE_MS + 2000, OLD, following(stage));
  assert.deepEqual([stage.epoch, stage.nodes], [3, [...OLD, "d"]]);
  stage.pass(2000, [...OLD, "d"], following(stage));
  stage.pass(REMOVE_MS + 2000, OLD, following(stage));
  assert.deepEqual([stage.epoch, stage.nodes], [4, ["-d", ...OLD]]);
});

test("other copies wait until all members are there: their move would be given up, and begin again", () => {
  const names = ["a", "b", "c", "d", "e"];
  const four = new Stage([], stableStage(...names).disk, { replicas: 4 });
  four.pass(3 * REMOVE_MS, names.slice(0, 4), { voting: true, epoch: 1 });
  assert.deepEqual([four.epoch, four.nodes], [1, names]);
  four.pass(2000, names, { voting: true, epoch: 1 });
  assert.deepEqual([four.epoch, four.steward.layout?.replicas], [2, 4]);
});

test("admission: what reports name of workers that nobody knows is bounded", () => {
  const admission = new Admission(() => {});
  for (let number = 0; number < 5000; number++)
    admission.note(`http://n${number}:1`, storeOf("n"), "http://a:1", null);
  const kept = (number: number): boolean =>
    !admission.lacks(`http://n${number}:1`, storeOf("n"), "http://a:1");
  assert.deepEqual([kept(0), kept(1023), kept(1024), kept(4999)], [true, true, false, false]);
  admission.keepOnly(new Set(["http://n7:1"]));
  admission.note("http://b:1", storeOf("b"), "http://a:1", null);
  assert.equal(admission.lacks("http://b:1", storeOf("b"), "http://a:1"), false);
});
