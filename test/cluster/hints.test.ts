/** Hints: what is kept for a node that is away, over restarts and damage, with its bounds. */
import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { before, test } from "node:test";
import { HINTS_MAX, type HintOutcome } from "../../src/cluster/repair/hint-queue.ts";
import { Hints } from "../../src/cluster/repair/hints.ts";
import { clusterKey } from "../../src/cluster/replica/cluster-key.ts";
import type { Ballot } from "../../src/format/record.ts";
import { loadHash } from "../../src/util/hash.ts";
import { removeFolder, temporaryFolder, waitUntil } from "../rest/server.ts";

const NODE = "http://node-b:3000";
const at = (clockLow: number): Ballot => ({ clockLow, clockHigh: 7, node: 9, incarnation: 1 });
const keyOf = (text: string) => clusterKey(Buffer.from(text));

before(loadHash);

/** Hints over a folder, and what they have sent. */
function open(directory: string, answer: (key: string) => HintOutcome = () => "done") {
  const world = { up: false, sent: [] as [string, number][], warnings: [] as string[] };
  const hints = new Hints({
    directory,
    isUp: () => world.up,
    send: async (_node, key, ballot) => {
      const text = Buffer.from(key).toString();
      const outcome = answer(text);
      if (outcome === "done") world.sent.push([text, ballot.clockLow]);
      return outcome;
    },
    warn: (message) => world.warnings.push(message),
  });
  return { hints, world };
}

test("hints: wait until the node is up, only the newest of a key, in order", async () => {
  const folder = temporaryFolder();
  let refusals = 3;
  const { hints, world } = open(folder, (key) => (key === "b" && refusals-- > 0 ? "later" : "done"));
  try {
    hints.add(NODE, keyOf("a"), at(5));
    hints.add(NODE, keyOf("b"), at(1));
    hints.add(NODE, keyOf("a"), at(3));
    hints.add(NODE, keyOf("b"), at(2));
    assert.deepEqual(hints.counts(NODE), { waiting: 2, sent: 0, dropped: 0 });
    world.up = true;
    await waitUntil("all are sent", () => hints.counts(NODE).waiting === 0);
    assert.deepEqual(world.sent, [
      ["a", 5],
      ["b", 2],
    ]);
    await waitUntil("the file is gone", () => readdirSync(path.join(folder, "hints")).length === 0);
  } finally {
    await hints.close();
    removeFolder(folder);
  }
});

test("hints: are there after a restart, whatever the end of the file looks like", async () => {
  const folder = temporaryFolder();
  try {
    let { hints, world } = open(folder);
    for (let number = 0; number < 500; number++) hints.add(NODE, keyOf(`key-${number}`), at(number + 1));
    await hints.close();
    const file = path.join(folder, "hints", readdirSync(path.join(folder, "hints"))[0]);
    const whole = readFileSync(file);
    appendFileSync(file, Buffer.from("torn"));
    ({ hints, world } = open(folder));
    assert.equal(hints.counts(NODE).waiting, 500);
    hints.add(NODE, keyOf("one more"), at(1));
    await hints.close();
    ({ hints, world } = open(folder));
    assert.equal(hints.counts(NODE).waiting, 501, "what was added behind the torn end");
    await hints.close();
    const bad = Buffer.from(whole);
    bad[Math.floor(bad.length / 2)] ^= 1;
    writeFileSync(file, bad);
    ({ hints, world } = open(folder));
    const kept = hints.counts(NODE).waiting;
    assert.ok(kept > 200 && kept < 300, `${kept} of 500 lie before the damage`);
    world.up = true;
    await waitUntil("all are sent", () => world.sent.length === kept);
    assert.ok(world.sent.every(([key, clock]) => key === `key-${clock - 1}`));
    await hints.close();
  } finally {
    removeFolder(folder);
  }
});

test("hints: a file that cannot be read, or says terabytes, is named, and keeps nobody else's from being read", async () => {
  const folder = temporaryFolder();
  try {
    const first = open(folder);
    first.hints.add(NODE, keyOf("a"), at(1));
    await first.hints.close();
    mkdirSync(path.join(folder, "hints", "0"));
    writeFileSync(path.join(folder, "hints", "00"), "http://node-c:3000\n");
    truncateSync(path.join(folder, "hints", "00"), 2 ** 40);
    const { hints, world } = open(folder);
    assert.equal(hints.counts(NODE).waiting, 1);
    assert.match(world.warnings[0], /hints\/0 could not be read/);
    assert.match(world.warnings[1], /hints\/00 could not be read: .* has 1099511627776 bytes/);
    await hints.close();
  } finally {
    removeFolder(folder);
  }
});

test("hints: the queue is bounded, what does not fit is counted", async () => {
  const folder = temporaryFolder();
  const { hints } = open(folder);
  try {
    for (let number = 0; number < HINTS_MAX + 10; number++) hints.add(NODE, keyOf(`${number}`), at(1));
    assert.deepEqual(hints.counts(NODE), { waiting: HINTS_MAX, sent: 0, dropped: 10 });
    hints.keepOnly(new Set(["http://another"]));
    assert.equal(hints.counts(NODE).waiting, 0);
  } finally {
    await hints.close();
    removeFolder(folder);
  }
});
