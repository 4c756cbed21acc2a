/**
 * Who is the newest of a node: lives, marks and what proves a store, each without a network.
 */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import {
  decodeLife,
  decodeMarks,
  encodeLife,
  encodeMarks,
  type Life,
  lacks,
  parameterOf,
  targetFrom,
} from "../../src/cluster/identity/life.ts";
import { Lives, NOTHING_KNOWN, readKnown } from "../../src/cluster/identity/lives.ts";
import { bootId, RunFile } from "../../src/cluster/identity/run-file.ts";
import { isEnough, Standing, whyOld } from "../../src/cluster/identity/standing.ts";
import { witness } from "../../src/cluster/identity/witness.ts";
import { checked } from "../../src/cluster/layout/check.ts";
import { Placement } from "../../src/cluster/layout/groups.ts";
import {
  isForeign,
  type LayoutNode,
  layoutDigest,
  serialiseLayout,
} from "../../src/cluster/layout/layout.ts";
import { finishMove, firstLayout, startMove } from "../../src/cluster/layout/steps.ts";
import { loadHash } from "../../src/util/hash.ts";
import { removeFolder, temporaryFolder } from "../rest/server.ts";

before(loadHash);
const folder = temporaryFolder();
after(async () => {
  // They write in the background.
  for (const lives of opened) await lives.close();
  removeFolder(folder);
});

const A = "a".repeat(32);
const B = "b".repeat(32);
const URL = "http://one:1";

function life(more: Partial<Life> = {}): Life {
  return {
    ...{ cluster: null, epoch: 1, layout: null, store: A, incarnation: 1, session: "0".repeat(16) },
    ...{ votes: true, url: URL, ...more },
  };
}

const session = (number: number) => number.toString(16).padStart(16, "0");
const opened: Lives[] = [];
const fresh = () => open(mkdtempSync(path.join(folder, "lives-")));

function open(directory: string): Lives {
  const lives = new Lives(directory, assert.fail);
  opened.push(lives);
  return lives;
}

function node(name: string): LayoutNode {
  return { id: `http://${name}:1`, url: `http://${name}:1`, region: "r", host: name, state: "active" };
}

test("identity: a life goes through a request's target and back, whatever the URL", () => {
  for (const one of [
    life(),
    life({ cluster: B, layout: "0123abcd", epoch: 2 ** 32, votes: false, url: "https://[::1]:443" }),
  ]) {
    const target = targetFrom("/_peer/value?head=AA", encodeLife(one));
    assert.deepEqual(decodeLife(parameterOf(target.split("?")[1], "from") as string), one);
    assert.equal(parameterOf(target.split("?")[1], "head"), "AA");
  }
  const marks = [0, 4_194_304 * 7 + 256, 2 ** 52];
  assert.deepEqual(decodeMarks(encodeMarks(marks)), marks);
  for (const text of ["", "1", "2..1..a.1.0.1.x", encodeLife(life()).slice(2), `${encodeLife(life())}.x`])
    assert.equal(decodeLife(text), null, text);
  for (const text of ["", "x", ",", "ffffffffffffff"]) assert.equal(decodeMarks(text), null, text);
});

test("identity: a later start of a store is admitted, an earlier one, and a copy that was started as often, is not", () => {
  const lives = fresh();
  assert.equal(lives.admit(life({ session: session(1) })), true);
  assert.equal(lives.admit(life({ session: session(1) })), true, "the same process");
  assert.equal(lives.admit(life({ session: session(2) })), false, "a copy with the same number of starts");
  assert.equal(lives.admit(life({ incarnation: 2, session: session(3) })), true);
  assert.equal(lives.admit(life({ session: session(1) })), false, "the process before it");
  assert.equal(lives.isFenced(life({ session: session(1) })), true);
  assert.deepEqual(lives.knownOf(life({ incarnation: 2, session: session(4) })).incarnation, 2);
});

test("identity: what is known of lives survives a restart, marks as of the last flush", async () => {
  const directory = mkdtempSync(path.join(folder, "lives-"));
  const lives = open(directory);
  lives.admit(life({ session: session(1) }));
  lives.hear(life({ session: session(1) }), [10, 20]);
  lives.hear(life({ session: session(1) }), [9, 21]);
  lives.admit(life({ url: "http://two:1" }));
  await lives.close();
  const again = open(directory);
  const known = again.knownOf(life({ incarnation: 2, session: session(2) }));
  assert.deepEqual(known, { incarnation: 1, doubt: false, marks: encodeMarks([10, 21]), forgetful: false });
  assert.deepEqual(readKnown(JSON.parse(JSON.stringify(known))), known);
  assert.equal(again.admit(life({ session: session(3) })), false);
  const file = path.join(directory, "LIVES");
  const bytes = readFileSync(file);
  bytes[bytes.length >> 1] ^= 1;
  writeFileSync(file, bytes);
  assert.throws(() => new Lives(directory, assert.fail), /LIVES is damaged/);
});

test("identity: another store under a URL is in doubt until it votes, and so is the old one when it comes back", () => {
  const lives = fresh();
  const oldOne = life({ session: session(1) });
  lives.admit(oldOne);
  lives.hear(oldOne, [100]);
  const newOne = life({ store: B, session: session(2), votes: false });
  assert.equal(lives.admit(newOne), true);
  assert.equal(lives.knownOf(newOne).doubt, true);
  lives.hear(newOne, [5]);
  assert.equal(lives.knownOf(newOne).doubt, true, "what does not vote says nothing of its log");
  assert.equal(lives.admit(oldOne), false, "the process whose store was replaced");
  const voting = { ...newOne, votes: true };
  lives.hear(voting, [6]);
  assert.deepEqual(lives.knownOf(voting), { incarnation: 0, doubt: false, marks: "6", forgetful: false });

  const back = life({ incarnation: 2, session: session(3) });
  assert.equal(lives.admit(back), true);
  assert.equal(
    whyOld(back, [100], lives.knownOf(back)),
    "another data directory has served under its URL since",
  );
  const again = life({ incarnation: 3, session: session(4) });
  lives.admit(again);
  assert.equal(lives.knownOf(again).doubt, true, "over restarts, too");
});

test("identity: a store is old when a later start, a longer log, or another number of shards is known", () => {
  const own = life({ incarnation: 5 });
  assert.equal(whyOld(own, [10, 10], NOTHING_KNOWN), null);
  assert.equal(
    whyOld(own, [10, 10], { ...NOTHING_KNOWN, incarnation: 4, marks: encodeMarks([10, 9]) }),
    null,
  );
  assert.match(String(whyOld(own, [10, 10], { ...NOTHING_KNOWN, incarnation: 5 })), /start 5 of it is known/);
  assert.match(
    String(whyOld(own, [10, 10], { ...NOTHING_KNOWN, marks: encodeMarks([9, 11]) })),
    /lacks records/,
  );
  assert.match(String(whyOld(own, [10], { ...NOTHING_KNOWN, marks: encodeMarks([9, 11]) })), /lacks records/);
  assert.equal(lacks([3], [3]), false);
});

test("identity: n − m + 1 others prove a store, in each partition and in both layouts of a move", () => {
  const three = new Placement(firstLayout(["a", "b", "c"].map(node), 3));
  const urls = (...names: string[]) => new Set(names.map((name) => `http://${name}:1`));
  assert.equal(isEnough(three, "http://a:1", urls("b")), false);
  assert.equal(isEnough(three, "http://a:1", urls("b", "c")), true);
  assert.equal(isEnough(three, "http://a:1", urls("b", "a")), false, "nobody proves itself");
  const five = new Placement(firstLayout(["a", "b", "c", "d", "e"].map(node), 5));
  assert.equal(isEnough(five, "http://a:1", urls("b", "c")), false);
  assert.equal(isEnough(five, "http://a:1", urls("b", "c", "d")), true);
  const one = new Placement(firstLayout([node("a")], 3));
  assert.equal(isEnough(one, "http://a:1", urls()), true);
  const moving = startMove(
    three.layout,
    ["a", "b", "d"].map(node).concat({ ...node("c"), state: "draining" }),
  );
  assert.equal(isEnough(new Placement(moving), "http://a:1", urls("b", "c")), false);
  assert.equal(isEnough(new Placement(moving), "http://a:1", urls("b", "c", "d")), true);
});

interface Trial {
  hello: (node: string) => Promise<typeof NOTHING_KNOWN>;
  master?: typeof NOTHING_KNOWN;
  /** What the last run may have lost. */
  doubt?: string;
  /** How often this run cannot be noted, or that the store is old. */
  failures?: number;
  oldFailures?: number;
  names?: string[];
}

/** What becomes of a store with a log up to 10 in its fifth start. */
function stand(trial: Trial): Promise<string[]> {
  const { hello, master, doubt, failures = 0, oldFailures = 0, names = ["a", "b", "c"] } = trial;
  const said: string[] = [];
  let incarnation = 5;
  let left = failures;
  let oldLeft = oldFailures;
  const placement = new Placement(firstLayout(names.map(node), 3));
  // Its own timers keep no process alive.
  const alive = setInterval(() => {}, 1000);
  return new Promise<string[]>((resolve) => {
    new Standing({
      ...{ self: "http://a:1", placement: () => placement, ends: [10], hello, waitMs: 900 },
      life: () => life({ incarnation, url: "http://a:1" }),
      master: () => master ?? null,
      raise: (above) => {
        incarnation = above + 1;
        said.push(`raised to ${incarnation}`);
      },
      demote: () => {
        if (oldLeft-- > 0) throw new Error("no room");
        said.push("demoted");
      },
      doubt: doubt ?? null,
      settle: () => {
        if (left-- > 0) throw new Error("no room");
        said.push("settled");
      },
      proven: () => resolve([...said, "proven"]),
      info: () => {},
      warn: (_, text) =>
        said.push(text.startsWith("too few") ? "warned" : text.startsWith("this run") ? "not noted" : "told"),
    });
  }).finally(() => clearInterval(alive));
}

test("standing: proven by both others; old as soon as one knows more; else after a while, with a warning", async () => {
  const knows = (more: Partial<typeof NOTHING_KNOWN>) => async () => ({ ...NOTHING_KNOWN, ...more });
  assert.deepEqual(await stand({ hello: knows({ incarnation: 4, marks: "a" }) }), ["settled", "proven"]);
  assert.deepEqual(await stand({ hello: knows({ marks: "b" }) }), ["told", "demoted", "settled", "proven"]);
  assert.deepEqual(await stand({ hello: knows({ incarnation: 7 }) }), [
    "told",
    "raised to 8",
    "demoted",
    "settled",
    "proven",
  ]);
  const onlyB = async (url: string) => {
    if (url !== "http://b:1") throw new Error("not there");
    return NOTHING_KNOWN;
  };
  assert.deepEqual(await stand({ hello: onlyB }), ["warned", "settled", "proven"]);
  assert.deepEqual(
    await stand({ hello: onlyB, master: { ...NOTHING_KNOWN, doubt: true } }),
    ["told", "demoted", "settled", "proven"],
    "the master knows",
  );
  assert.deepEqual(
    await stand({ hello: knows({ forgetful: true }) }),
    ["warned", "settled", "proven"],
    "who has lost its own memory proves nothing",
  );
  assert.deepEqual(
    await stand({ hello: knows({ forgetful: true, doubt: true }) }),
    ["told", "demoted", "settled", "proven"],
    "but what it knows counts",
  );
});

test("standing: what the last run may have lost is taken over from others, where there are enough of them", async () => {
  const doubt = "the machine went down";
  const nothing = async () => NOTHING_KNOWN;
  assert.deepEqual(await stand({ hello: nothing, doubt }), ["told", "demoted", "settled", "proven"]);
  const onlyB = async (url: string) => {
    if (url !== "http://b:1") throw new Error("not there");
    return NOTHING_KNOWN;
  };
  const alone = ["warned", "settled", "proven"];
  assert.deepEqual(await stand({ hello: onlyB, doubt }), alone, "one other is no majority");
  const two = ["a", "b"];
  assert.deepEqual(await stand({ hello: nothing, names: two }), ["settled", "proven"]);
  assert.deepEqual(await stand({ hello: nothing, doubt, names: two }), alone, "nor is the other of two");
  const forgetful = async () => ({ ...NOTHING_KNOWN, forgetful: true });
  assert.deepEqual(
    await stand({ hello: forgetful, doubt }),
    alone,
    "nobody can tell after a power loss of all",
  );
});

test("standing: nothing is proven before it is noted on the disk", async () => {
  const hello = async () => NOTHING_KNOWN;
  assert.deepEqual(await stand({ hello, failures: 2 }), ["not noted", "settled", "proven"]);
  const doubtful = await stand({ hello, failures: 2, doubt: "the machine went down" });
  assert.deepEqual([...new Set(doubtful)], ["told", "demoted", "not noted", "settled", "proven"]);
});

test("standing: what is old stays so on a full disk, however long that takes it to be noted, and whoever answers", async () => {
  const hello = async (url: string) => ({ ...NOTHING_KNOWN, marks: url === "http://b:1" ? "b" : null });
  // Longer than it would wait for answers.
  assert.deepEqual(await stand({ hello, oldFailures: 6 }), [
    ...["told", "not noted", "demoted", "settled", "proven"],
  ]);
});

test("run file: a run that did not end in order, under another boot, may have lost something", (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), "minivault-run-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const run = (boot: string, isSynced = false) => new RunFile(directory, boot, isSynced);
  assert.equal(run("a").doubt, null, "there was none");
  run("a").begin();
  assert.equal(run("a").doubt, null, "the system still has all that a crash of the process left");
  assert.match(String(run("b").doubt), /went down/);
  assert.match(String(run("b", true).doubt), /went down/, "whatever this run does");
  assert.match(String(run("b").doubt), /went down/, "until it is settled");
  run("b").begin();
  assert.equal(run("b").doubt, null);
  run("b").end();
  assert.equal(run("c").doubt, null, "it ended in order");
  run("c").begin();
  run("c", true).begin();
  assert.equal(run("d").doubt, null, "with -sync always, what is acknowledged is on the disk");
  run("c", true).end();
  assert.equal(existsSync(path.join(directory, "RUN")), false);
  // A system that does not tell its boots apart.
  run("").begin();
  assert.match(String(run("").doubt), /went down/);
  writeFileSync(path.join(directory, "RUN"), "cut o");
  assert.match(String(run("d").doubt), /damaged/);
  run("d").begin();
  assert.equal(run("d").doubt, null);
  const file = path.join(directory, "boot_id");
  writeFileSync(file, "a-boot\n");
  assert.equal(bootId(file), "a-boot");
  assert.equal(bootId(`${file}-that-is-not-there`), "");
});

test("identity: a master remembers members, fences the earlier life, and takes nothing of another cluster", () => {
  const lives = fresh();
  const layout = firstLayout([node("one")], 1);
  const report = { url: URL, marks: "20" };
  const first = life({ cluster: layout.cluster, session: session(1) });
  assert.deepEqual(witness(lives, layout, first, report, true).known?.incarnation, 0);
  const later = { ...first, incarnation: 2, session: session(2) };
  assert.deepEqual(witness(lives, layout, later, report, true).known?.marks, "20");
  assert.match(String(witness(lives, layout, first, report, true).fenced), /^fenced: a later start/);
  assert.match(String(witness(lives, layout, { ...first, cluster: B }, report, true).foreign), /^foreign: /);
  assert.deepEqual(witness(lives, layout, first, { url: "http://else:1" }, true), {});
});

test("layout: a cluster has an id from its birth, kept by every change; an older layout gets one with its next change", () => {
  const first = firstLayout(["a", "b"].map(node), 3);
  assert.match(String(first.cluster), /^[0-9a-f]{32}$/);
  assert.notEqual(firstLayout(["a", "b"].map(node), 3).cluster, first.cluster);
  const moved = startMove(first, ["a", "b", "c"].map(node));
  assert.deepEqual([moved.cluster, finishMove(moved).cluster], [first.cluster, first.cluster]);
  const { cluster: _, ...older } = first;
  const read = checked(JSON.parse(JSON.stringify(older)));
  assert.equal(read.cluster, null);
  const renewed = startMove(read, ["a", "b", "c"].map(node));
  assert.match(String(renewed.cluster), /^[0-9a-f]{32}$/);
  assert.deepEqual(checked(JSON.parse(serialiseLayout(renewed))), renewed);
  assert.equal(isForeign(read.cluster, first.cluster), false, "what has no name yet is not another one");
  assert.equal(isForeign(A, B), true);
  assert.notEqual(layoutDigest(first), layoutDigest(moved));
  assert.throws(() => checked({ ...moved, previous: { ...first, cluster: B } }), /of the same cluster/);
  for (const cluster of ["", "A".repeat(32), 1])
    assert.throws(() => checked({ ...first, cluster }), /32 hex digits/);
});

test("lives: nodes that come and go under ever new URLs make room for each other, and for none of the cluster's", () => {
  const place = { name: "memory", paceMs: 1e6, read: () => null, write() {}, writeSoon: async () => true };
  const lives = new Lives(place, assert.fail);
  opened.push(lives);
  const admit = (number: number, isNeeded: (url: string) => boolean): boolean =>
    lives.admit(life({ url: `http://n${number}:1`, incarnation: 5, session: session(number) }), isNeeded);
  const isOurs = (url: string): boolean => url === "http://n0:1" || url === "http://n1:1";
  for (let number = 0; number < 5000; number++) assert.equal(admit(number, isOurs), true);
  const known = (number: number): number =>
    lives.knownOf(life({ url: `http://n${number}:1`, session: session(9999) })).incarnation;
  assert.deepEqual([known(0), known(1), known(2), known(2951), known(4999)], [5, 5, 0, 0, 5]);
  assert.equal(admit(4999, isOurs), true, "it is known still");
  assert.throws(() => admit(5000, () => true), /too many nodes have been here/);
});
