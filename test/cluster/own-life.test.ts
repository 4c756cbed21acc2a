/** A process that others take for an earlier one of its node: it stops, and goes on where it was mistaken for that. */
import assert from "node:assert/strict";
import { mkdtempSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { decodeLife, type Life } from "../../src/cluster/identity/life.ts";
import { type Known, Lives } from "../../src/cluster/identity/lives.ts";
import { OwnLife } from "../../src/cluster/identity/own-life.ts";
import { RunFile } from "../../src/cluster/identity/run-file.ts";
import { Placement } from "../../src/cluster/layout/groups.ts";
import type { Layout } from "../../src/cluster/layout/layout.ts";
import { firstLayout } from "../../src/cluster/layout/steps.ts";
import { loadHash } from "../../src/util/hash.ts";
import { removeFolder, temporaryFolder } from "../rest/server.ts";

before(loadHash);
const folder = temporaryFolder();
after(() => removeFolder(folder));

const URL_ = "http://c:1";
const STORE = "a".repeat(32);
const OTHER = "b".repeat(32);
const MINUTES = 60_000;

const ALONE = () => firstLayout([{ id: URL_, url: URL_, region: "eu", host: "c", state: "active" }], 1);

const nobody = (): Promise<Known> => Promise.reject(new Error("nobody is asked"));

/** Until it has asked the others. */
async function proven({ told }: { told: { proven: number } }): Promise<void> {
  while (told.proven === 0) await new Promise((resolve) => setImmediate(resolve));
}

function started(answers: () => boolean, layout: Layout | null = ALONE(), hello = nobody, isMember = false) {
  const directory = mkdtempSync(path.join(folder, "own-"));
  const store = {
    ...{ url: URL_, layout, placement: layout === null ? null : new Placement(layout), member: STORE },
    ...{ incarnation: 1, isWhole: true },
    setWhole(isWhole: boolean) {
      store.isWhole = isWhole;
    },
    raiseIncarnation(above: number) {
      store.incarnation = above + 1;
    },
  };
  const told = { looks: 0, proven: 0 };
  const quiet = () => {};
  const own = new OwnLife({
    ...{ store, run: new RunFile(directory, "boot", true), openedEnds: [], proofWaitMs: undefined },
    hello,
    log: { info: quiet, warn: quiet, error: quiet },
    onProven: () => void told.proven++,
    async isReached() {
      told.looks++;
      return answers();
    },
  });
  own.start(isMember);
  return { own, store, told };
}

/** Lets timers fire, and what they have begun go on. */
async function pass(t: { mock: { timers: { tick(ms: number): void } } }, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 1000) {
    t.mock.timers.tick(1000);
    for (let turn = 0; turn < 10; turn++) await Promise.resolve();
  }
}

test("own life: what a wiped node had sent before comes late, and is taken for the later one: the node goes on by a new life, and synchronises", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { own, store, told } = started(() => true);
  const lives = new Lives(mkdtempSync(path.join(folder, "lives-")), () => {});
  const late: Life = { ...own.life(), store: OTHER, session: "0123456789abcdef" };
  const first = own.life();
  assert.equal(lives.admit(first), true);
  assert.equal(lives.admit(late), true, "a store that nobody knows is taken for a newer one");
  assert.equal(lives.admit(own.life()), false);
  own.fence(lives.refusalOf(own.life(), "at http://d:1"));
  assert.match(
    String(own.fenced),
    /another data directory has served as http:\/\/c:1 since, as is known at http:\/\/d:1/,
  );
  assert.deepEqual([own.isProven, own.votes], [false, false], "it stops at once");
  await pass(t, 3000);
  assert.deepEqual([own.fenced, own.isProven, own.votes, store.isWhole], [null, true, false, false]);
  assert.equal(told.proven, 1);
  const again = decodeLife(own.asText) as Life;
  assert.deepEqual([again.incarnation, again.session === first.session], [2, false]);
  assert.equal(lives.admit(again), true);
  assert.deepEqual([lives.admit(late), lives.isFenced(late)], [false, true]);
  assert.equal(lives.knownOf(again).doubt, true, "it has to synchronise before it votes");
  // Where it happens again two are reached in turns, which must not keep each other from synchronising.
  assert.equal(lives.admit({ ...late, incarnation: 2 }), true);
  own.fence(lives.refusalOf(own.life(), "at http://d:1"));
  await pass(t, 4 * MINUTES);
  assert.deepEqual([own.isProven, told.looks], [false, 1]);
  await pass(t, 2 * MINUTES);
  assert.deepEqual([own.isProven, store.incarnation, told.looks], [true, 3, 2]);
  own.close();
});

test("own life: a later start of the same store, and another process under the URL, keep it fenced", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const lives = new Lives(mkdtempSync(path.join(folder, "lives-")), () => {});
  const twin = started(() => true, ALONE(), nobody, true);
  await proven(twin);
  lives.admit({ ...twin.own.life(), incarnation: 2, session: "0123456789abcdef" });
  twin.own.fence(lives.refusalOf(twin.own.life(), "to the master"));
  assert.match(String(twin.own.fenced), /a later start of http:\/\/c:1 is known to the master/);
  let isReached = false;
  const replaced = started(() => isReached);
  lives.admit({ ...replaced.own.life(), store: OTHER, session: "1123456789abcdef", incarnation: 1 });
  replaced.own.fence(lives.refusalOf(replaced.own.life(), "at http://d:1"));
  await pass(t, MINUTES);
  assert.deepEqual([twin.told.looks, twin.own.isProven], [0, false]);
  assert.ok(replaced.told.looks > 10);
  assert.deepEqual([replaced.own.isProven, replaced.store.incarnation], [false, 1]);
  isReached = true;
  await pass(t, 3000);
  assert.deepEqual([replaced.own.isProven, replaced.store.incarnation], [true, 2]);
  twin.own.close();
  replaced.own.close();
});

test("own life: who came in as one that nobody knew, and is refused as an earlier start, asks the others, and goes on once it has synchronised", async () => {
  const lives = new Lives(mkdtempSync(path.join(folder, "lives-")), () => {});
  const names = ["c", "d"].map((name) => `http://${name}:1`);
  const nodes = names.map((url) => ({ ...ALONE().nodes[0], id: url, url, host: url }));
  const known: Known = { incarnation: 5, doubt: false, marks: null, forgetful: false };
  const came = started(
    () => true,
    firstLayout(nodes, 2),
    () => Promise.resolve(known),
  );
  assert.equal(came.own.isProven, true, "it was no member when it started");
  came.store.setWhole(false);
  lives.admit({ ...came.own.life(), incarnation: 5, session: "2123456789abcdef" });
  came.own.fence(lives.refusalOf(came.own.life(), "at http://d:1"));
  assert.deepEqual([came.own.fenced, came.own.isProven], [null, false]);
  await proven(came);
  assert.deepEqual([came.own.isProven, came.store.incarnation, came.store.isWhole], [true, 6, false]);
  assert.equal(lives.admit(came.own.life()), true);
  // From now on somebody else is the later one.
  lives.admit({ ...came.own.life(), incarnation: 7, session: "3123456789abcdef" });
  came.own.fence(lives.refusalOf(came.own.life(), "at http://d:1"));
  assert.match(String(came.own.fenced), /a later start of http:\/\/c:1 is known at/);
  came.own.close();
});

test("own life: who is no member learns from the master that its store is an old copy, and counts its start above; a member is told by others", () => {
  const known = { incarnation: 7, doubt: false, marks: null, forgetful: false };
  const member = started(() => true);
  member.own.hearMaster(known);
  assert.deepEqual(
    [member.store.incarnation, member.told.proven],
    [1, 0],
    "a later one is there: it is fenced",
  );
  const stranger = started(() => true, null);
  stranger.own.hearMaster({ ...known, incarnation: 0 });
  assert.deepEqual([stranger.store.incarnation, stranger.told.proven], [1, 0], "nothing is known of it");
  stranger.own.hearMaster(known);
  assert.deepEqual([stranger.store.incarnation, stranger.told.proven], [8, 1]);
  const full = started(() => true, null);
  full.store.raiseIncarnation = () => {
    throw new Error("ENOSPC");
  };
  full.own.hearMaster(known);
  assert.equal(full.told.proven, 0);
  for (const { own } of [member, stranger, full]) own.close();
});
