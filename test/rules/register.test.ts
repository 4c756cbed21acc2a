import assert from "node:assert/strict";
import { test } from "node:test";
import type { Ballot } from "../../src/format/record.ts";
import {
  ballotMillis,
  compareBallots,
  INCARNATION_CLOCK_SHIFT,
  SECOND_CLOCK,
} from "../../src/format/version.ts";
import {
  ALREADY,
  canFoldPromise,
  compareRanks,
  confirmsTombstone,
  existsIn,
  floorWithout,
  holdsTombstone,
  isAhead,
  judgeAccept,
  judgePrepare,
  NO,
  obstacleOf,
  type RegisterState,
  YES,
} from "../../src/rules/register.ts";
import { BALLOT_AHEAD_MS_MAX, PROMISE_FOLD_MS } from "../../src/util/limits.ts";
import { Random, randomSeed } from "../random.ts";

/** Cluster time. */
const NOW = 1000;

const ballot = (clockLow: number, node = 1, incarnation = 1, clockHigh = 0): Ballot => ({
  clockLow,
  clockHigh,
  node,
  incarnation,
});

function state(promised: number | null, held: number | null, tombstone = false): RegisterState {
  return {
    promised: promised === null ? null : ballot(promised),
    ballot: held === null ? null : ballot(held),
    tombstone,
    ended: false,
    end: 0,
    operationLow: 7,
    operationHigh: 0,
  };
}

test("register: the mark that a value has ended ranks above that value and below every other ballot", () => {
  const value = { ...state(null, 5), end: 9 };
  const mark = { ...value, tombstone: true, ended: true };
  const rising = [null, value, mark, { ...value, ballot: ballot(6) }].map(
    (held) => held ?? state(null, null),
  );
  for (let i = 0; i < rising.length; i++)
    for (let j = 0; j < rising.length; j++)
      assert.equal(Math.sign(compareRanks(rising[i], rising[j])), Math.sign(i - j), `${i} and ${j}`);
  assert.equal(judgeAccept(value, null, ballot(5), true), YES, "in the place of the value");
  assert.equal(judgeAccept(mark, null, ballot(5)), ALREADY, "the value comes late");
  assert.equal(judgeAccept(mark, null, ballot(5), true), ALREADY);
  assert.equal(judgeAccept(mark, null, ballot(6)), YES);
  assert.equal(judgeAccept(state(null, 6), null, ballot(5), true), NO);
  assert.equal(judgeAccept(null, null, ballot(5), true), YES);
  assert.equal(judgeAccept(null, ballot(5), ballot(5), true), NO, "collected");
  assert.equal(judgeAccept({ ...value, promised: ballot(7) }, null, ballot(5), true), NO, "a higher promise");
  assert.equal(judgeAccept({ ...mark, promised: ballot(7) }, null, ballot(5)), ALREADY);
  assert.equal(existsIn(mark), false);
});

test("register: what is collected is exactly the mark, or exactly the tombstone", () => {
  const value = { ...state(null, 5), end: 9 };
  const mark = { ...value, tombstone: true, ended: true };
  assert.deepEqual(
    [value, mark, state(null, 5, true)].map((held) => holdsTombstone(held, ballot(5), true)),
    [false, true, false],
  );
  assert.equal(holdsTombstone(mark, ballot(5)), false);
  assert.equal(confirmsTombstone(value, ballot(9), ballot(5), true, NOW), false);
  assert.equal(confirmsTombstone(null, ballot(5), ballot(5), true, NOW), true, "collected here already");
});

test("register: ballots are ordered by clock, then node, then incarnation, all unsigned", () => {
  const rising = [
    ballot(1),
    ballot(1, 1, 2),
    ballot(1, 2, 1),
    ballot(1, 0xffff_ffff, 1),
    ballot(0xffff_ffff, 0),
    ballot(0, 0, 0, 1),
    ballot(0, 0, 0, 0xffff_ffff),
  ];
  for (let i = 0; i < rising.length; i++)
    for (let j = 0; j < rising.length; j++)
      assert.equal(Math.sign(compareBallots(rising[i], rising[j])), Math.sign(i - j));
});

test("register: prepare is promised only above the promise, the ballot and an absent key's floor", () => {
  assert.equal(judgePrepare(null, null, ballot(1)), YES);
  assert.equal(judgePrepare(null, ballot(5), ballot(5)), NO);
  assert.equal(judgePrepare(null, ballot(5), ballot(6)), YES);
  assert.equal(judgePrepare(state(8, 3), null, ballot(8)), NO, "not even the same one again");
  assert.equal(judgePrepare(state(8, 3), null, ballot(9)), YES);
  assert.equal(judgePrepare(state(3, 8), null, ballot(8)), NO);
  assert.equal(judgePrepare(state(null, 8), null, ballot(9)), YES);
  assert.equal(
    judgePrepare(state(null, 4), ballot(6), ballot(5)),
    YES,
    "a key that is there has its own ballot",
  );
  assert.equal(judgePrepare(state(4, null), ballot(6), ballot(5)), NO);
});

test("register: accept is taken at the promise or above it, and only above the ballot", () => {
  assert.equal(judgeAccept(null, null, ballot(1)), YES);
  assert.equal(judgeAccept(null, ballot(5), ballot(5)), NO);
  assert.equal(judgeAccept(null, ballot(5), ballot(6)), YES);
  assert.equal(judgeAccept(state(8, 3), null, ballot(7)), NO);
  assert.equal(judgeAccept(state(8, 3), null, ballot(8)), YES);
  assert.equal(judgeAccept(state(8, 3), null, ballot(9)), YES);
  assert.equal(judgeAccept(state(null, 8), null, ballot(8)), ALREADY);
  assert.equal(
    judgeAccept(state(9, 8), null, ballot(8)),
    ALREADY,
    "held is held, whatever was promised since",
  );
  assert.equal(judgeAccept(state(null, 8), null, ballot(7)), NO);
  assert.equal(judgeAccept(state(null, 4), ballot(6), ballot(5)), YES);
  assert.equal(judgeAccept(state(4, null), ballot(6), ballot(5)), NO);
});

test("register: a ballot more than a minute ahead is refused, unless the key is there already or it comes from a second clock", () => {
  const millis = 1_700_000_000_000;
  const at = ballot((millis % 0x10000) * 0x10000 + 9, 1, 1, Math.floor(millis / 0x10000));
  assert.equal(ballotMillis(at), millis);
  assert.equal(isAhead(at, null, millis - 60_000), false);
  assert.equal(isAhead(at, null, millis - 60_001), true);
  const near = ballot(at.clockLow, 1, 1, at.clockHigh);
  assert.equal(isAhead(at, near, millis - 3_600_000), false, "the key has a record from then");
  const older = ballot(0, 1, 1, at.clockHigh - 2);
  assert.equal(isAhead(at, older, millis - 3_600_000), true, "its record is minutes older");
  const second = { ...at, incarnation: ((SECOND_CLOCK << INCARNATION_CLOCK_SHIFT) | 1) >>> 0 };
  assert.equal(isAhead(second, null, 0), false);
});

test("register: exists, tombstones and promises that are folded into the floor", () => {
  assert.equal(existsIn(null), false);
  assert.equal(existsIn(state(4, null)), false);
  assert.equal(existsIn(state(4, 2)), true);
  assert.equal(existsIn(state(4, 2, true)), false);
  assert.equal(holdsTombstone(state(4, 2, true), ballot(2)), true);
  assert.equal(holdsTombstone(state(4, 2, true), ballot(3)), false);
  assert.equal(holdsTombstone(state(4, 2), ballot(2)), false);
  assert.equal(holdsTombstone(null, ballot(2)), false);
  assert.equal(confirmsTombstone(state(null, 2, true), null, ballot(2), false, NOW), true);
  assert.equal(
    confirmsTombstone(state(null, 1), ballot(2), ballot(2), false, NOW),
    false,
    "an older value is there",
  );
  const promising = (millis: number): RegisterState => {
    const promised = {
      ...ballot(0),
      clockHigh: Math.floor(millis / 0x10000),
      clockLow: (millis % 0x10000) * 0x10000,
    };
    return { ...state(null, 2, true), promised };
  };
  assert.equal(confirmsTombstone(promising(NOW + 1000), null, ballot(2), false, NOW), true);
  const ahead = promising(NOW + BALLOT_AHEAD_MS_MAX + 1);
  assert.equal(confirmsTombstone(ahead, null, ballot(2), false, NOW), false, "the floor would be ahead");
  assert.equal(confirmsTombstone(null, ballot(1), ballot(2), false, NOW), false);
  assert.equal(confirmsTombstone(null, null, ballot(2), false, NOW), false);
  assert.equal(confirmsTombstone(state(4, null), ballot(2), ballot(2), false, NOW), true, "collected before");
  assert.deepEqual(floorWithout(state(4, 2, true), ballot(1)), ballot(4));
  assert.deepEqual(floorWithout(state(null, 2, true), null), ballot(2));
  assert.deepEqual(floorWithout(state(null, 2, true), ballot(9)), ballot(9));
  assert.equal(canFoldPromise(state(4, null), PROMISE_FOLD_MS), false);
  assert.equal(canFoldPromise(state(4, null), PROMISE_FOLD_MS + 1), true);
  assert.equal(canFoldPromise(state(4, 2), 90_000), false, "a promise beside a record stays with it");
});

test("register: a no is a no for ever, over any further steps and over collection", (t) => {
  const random = new Random(randomSeed(t));
  for (let round = 0; round < 2000; round++) {
    let kept: RegisterState | null = null;
    let floor: Ballot | null = null;
    const refused: Ballot[] = [];
    for (let step = 0; step < 30; step++) {
      const b = ballot(random.below(20), random.below(2));
      const known: RegisterState = kept ?? state(null, null);
      switch (random.below(4)) {
        case 0:
          if (judgePrepare(kept, floor, b) === YES) kept = { ...known, promised: b };
          break;
        case 1:
        case 2: {
          const verdict = judgeAccept(kept, floor, b);
          const obstacle = obstacleOf(kept, floor);
          if (verdict === YES) kept = { ...known, ballot: b, tombstone: random.below(2) === 0 };
          else if (verdict === NO) {
            refused.push(b);
            assert.ok(obstacle !== null && compareBallots(obstacle, b) >= 0, "a no names what is in the way");
          }
          break;
        }
        default:
          if (kept !== null && !existsIn(kept)) {
            floor = floorWithout(kept, floor);
            kept = null;
          }
      }
      for (const b of refused) assert.equal(judgeAccept(kept, floor, b), NO);
    }
  }
});
