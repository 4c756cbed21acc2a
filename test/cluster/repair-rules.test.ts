/**
 * The decisions of repair, one by one: who may rejoin from whom, what it takes over, which tombstones go. test/sim runs them together.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BallotSource, CEILING_STEP_MS } from "../../src/cluster/clock/ballots.ts";
import { collectTombstone, isOldTombstone } from "../../src/cluster/register/tombstones.ts";
import { agesFor, isCollectable } from "../../src/cluster/repair/collection.ts";
import {
  areMoveSources,
  areRejoinSources,
  mayRejoin,
  mergeFloors,
  mergeForMove,
  mergeForRejoin,
  type SourceState,
  wasCollected,
} from "../../src/cluster/sync/rejoin.ts";
import type { Ballot } from "../../src/format/record.ts";
import { ballotMillis, compareBallots } from "../../src/format/version.ts";
import type { RegisterState } from "../../src/rules/register.ts";
import { REJOIN_WAIT_MS, TOMBSTONE_AGE_MS } from "../../src/util/limits.ts";
import { groupOf } from "../sim/cluster.ts";

const at = (clockHigh: number): Ballot => ({ clockLow: 0, clockHigh, node: 9, incarnation: 1 });
const state = (held: number | null, promised: number | null = null): RegisterState => ({
  promised: promised === null ? null : at(promised),
  ballot: held === null ? null : at(held),
  tombstone: false,
  ended: false,
  end: 0,
  operationLow: 1,
  operationHigh: 0,
});
const source = (
  held: number | null,
  promised: number | null = null,
  floor: number | null = null,
): SourceState => ({
  state: held === null && promised === null ? null : state(held, promised),
  floor: floor === null ? null : at(floor),
});

test("rejoin: sources are a majority of the whole set without the one that rejoins, in both sets during a move", () => {
  const three = groupOf(1, "abc");
  assert.equal(areRejoinSources(three, 0b001, 0b110), true);
  assert.equal(areRejoinSources(three, 0b001, 0b011), false, "it does not count itself");
  assert.equal(areRejoinSources(groupOf(1, "abcde"), 0b00001, 0b00110), false);
  assert.equal(areRejoinSources(groupOf(1, "abcde"), 0b00001, 0b01110), true);
  // Bits: b, c, d, then a, which only the old set has.
  const moving = groupOf(2, "bcd", "abc");
  assert.equal(areRejoinSources(moving, 0b0100, 0b0011), true);
  assert.equal(areRejoinSources(moving, 0b0001, 0b0110), false, "d is not of the old set");
  assert.equal(areMoveSources(moving, 0b0011), true);
  assert.equal(areMoveSources(moving, 0b0101), false);
  assert.equal(mayRejoin(1000, 1000 + REJOIN_WAIT_MS - 1), false);
  assert.equal(mayRejoin(1000, 1000 + REJOIN_WAIT_MS), true);
});

test("rejoin: takes the highest record and promise, and settles where a promise is above different records", () => {
  assert.deepEqual(mergeForRejoin(null, [source(3), source(5)]), { kind: "take", from: 1, promised: null });
  assert.deepEqual(mergeForRejoin(null, [source(5, 9), source(5)]), {
    kind: "take",
    from: 0,
    promised: at(9),
  });
  assert.deepEqual(mergeForRejoin(null, [source(3, 4), source(5)]), {
    kind: "take",
    from: 1,
    promised: at(4),
  });
  assert.deepEqual(mergeForRejoin(null, [source(3, 9), source(5)]), { kind: "settle" });
  assert.deepEqual(mergeForRejoin(null, [source(null, 9), source(5)]), { kind: "settle" });
  assert.deepEqual(
    mergeForRejoin(null, [source(null, null, 9), source(5)]),
    { kind: "settle" },
    "a promise may be in the floor",
  );
  assert.deepEqual(mergeForRejoin(null, [source(null), source(null)]), {
    kind: "take",
    from: -1,
    promised: null,
  });
  assert.deepEqual(mergeForRejoin(null, [source(null, 4), source(null)]), {
    kind: "take",
    from: -1,
    promised: at(4),
  });
  assert.deepEqual(mergeForRejoin(state(3, 9), [source(5), source(5)]), { kind: "settle" }, "its own one");
  assert.deepEqual(mergeForRejoin(state(5, 9), [source(5), source(3)]), {
    kind: "take",
    from: 0,
    promised: null,
  });
  assert.deepEqual(mergeFloors([null, at(3), at(2)]), at(3));
  assert.equal(wasCollected(state(3), [source(null, null, 4), source(null)], at(4)), true);
  assert.equal(wasCollected(state(5), [source(null, null, 4), source(null)], at(4)), false);
  assert.equal(wasCollected(state(3), [source(2), source(null)], at(4)), false);
});

test("move: a new owner takes what is higher than its own, and settles where it has promised more", () => {
  assert.deepEqual(mergeForMove(null, [source(3), source(5)]), { kind: "take", from: 1 });
  assert.deepEqual(mergeForMove(state(5), [source(3), source(5)]), { kind: "nothing" });
  assert.deepEqual(mergeForMove(state(2, 9), [source(3)]), { kind: "settle" });
  assert.deepEqual(mergeForMove(state(null, 3), [source(3)]), { kind: "take", from: 0 });
  assert.deepEqual(mergeForMove(null, [source(null)]), { kind: "nothing" });
});

test("tombstones: go only when all replicas confirm, of both sets during a move", () => {
  const run = (confirming: string): { asked: string; collected: string } => {
    let asked = "";
    let collected = "";
    const group = groupOf(2, "bcd", "abc");
    collectTombstone(
      {
        confirm: (node, _, epoch, tombstone, ended, reply) => {
          assert.deepEqual([epoch, tombstone, ended], [2, at(1), true]);
          asked += node;
          reply(confirming.includes(node));
        },
        collect: (node) => {
          collected += node;
        },
      },
      group,
      { bytes: new Uint8Array(1), hashA: 0 },
      { ballot: at(1), ended: true, end: 5 },
      (done) => assert.equal(done, collected !== ""),
    );
    return { asked, collected };
  };
  assert.deepEqual(run("abcd"), { asked: "bcda", collected: "bcda" });
  assert.deepEqual(run("bcd"), { asked: "bcda", collected: "" });
  const millis = ballotMillis(at(30));
  const isOld = (end: number, nowMillis: number) =>
    isOldTombstone({ ballot: at(30), ended: end !== 0, end }, nowMillis, TOMBSTONE_AGE_MS);
  assert.equal(isOld(0, millis + TOMBSTONE_AGE_MS - 1), false);
  assert.equal(isOld(0, millis + TOMBSTONE_AGE_MS), true);
  assert.equal(isOld(millis + 5000, millis + TOMBSTONE_AGE_MS), false, "of a mark the end counts");
  assert.equal(isOld(millis + 5000, millis + TOMBSTONE_AGE_MS + 5000), true);
  assert.equal(isOld(millis - 5000, millis + TOMBSTONE_AGE_MS - 1), false, "unless the ballot is later");
});

test("collection: what follows changes finds its deletes as long as -history says, whatever they are", () => {
  const millis = ballotMillis(at(30));
  const isCollectableAt = (ageMs: number, ended: boolean, historyMs: number) =>
    isCollectable({ ballot: at(30), ended, end: ended ? millis : 0 }, millis + ageMs, agesFor(historyMs));
  const hour = 3_600_000;
  assert.deepEqual(
    [hour - 1, hour].map((ageMs) => isCollectableAt(ageMs, true, hour)),
    [false, true],
  );
  assert.deepEqual(
    [24 * hour - 1, 24 * hour].map((ageMs) => isCollectableAt(ageMs, false, hour)),
    [false, true],
  );
  for (const ended of [false, true])
    assert.deepEqual(
      [48 * hour - 1, 48 * hour].map((ageMs) => isCollectableAt(ageMs, ended, 48 * hour)),
      [false, true],
    );
});

test("rejoin: the mark that a value has ended is above that value, and one that some promise may not know is settled", () => {
  const held = (ended: boolean, promised: number | null = null): SourceState => ({
    state: { ...state(5, promised), tombstone: ended, ended, end: 7 },
    floor: null,
  });
  assert.deepEqual(mergeForRejoin(null, [held(false), held(true)]), {
    kind: "take",
    from: 1,
    promised: null,
  });
  assert.deepEqual(mergeForRejoin(null, [held(false, 9), held(true)]), { kind: "settle" });
  assert.deepEqual(mergeForRejoin(null, [held(true, 9), held(true)]), {
    kind: "take",
    from: 0,
    promised: at(9),
  });
  assert.deepEqual(mergeForMove(held(false).state, [held(true)]), { kind: "take", from: 0 });
  assert.deepEqual(mergeForMove(held(true).state, [held(false)]), { kind: "nothing" });
  assert.deepEqual(mergeForMove(held(false, 9).state, [held(true)]), { kind: "settle" });
});

test("ballots: rise over a restart with a clock that was set back, by the ceiling on disk", () => {
  let now = 1_700_000_000_000;
  let ceilingMillis = 0;
  let writes = 0;
  const start = (incarnation: number): BallotSource =>
    new BallotSource({
      node: 1,
      incarnation,
      now: () => now,
      ceilingMillis,
      persistCeiling: (millis) => {
        ceilingMillis = millis;
        writes++;
      },
    });
  const first = start(1);
  let last = first.next();
  for (let i = 0; i < 1000; i++) {
    now += 10;
    const ballot = first.next();
    assert.ok(compareBallots(ballot, last) > 0);
    assert.ok(ballotMillis(ballot) <= ceilingMillis);
    last = ballot;
  }
  assert.ok(
    writes <= 2 + (1000 * 10) / (CEILING_STEP_MS / 2),
    `${writes} writes of the ceiling in ten seconds`,
  );
  now -= 15_000;
  assert.ok(compareBallots(start(2).next(), last) > 0);
  now -= 3_600_000;
  assert.ok(
    ballotMillis(start(3).next()) <= now + 1,
    "a ceiling from a clock that was far wrong is not followed",
  );
});
