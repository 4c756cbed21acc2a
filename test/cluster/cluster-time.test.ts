/** Cluster time, the ballots that follow it, and keys whose records are from a time when clocks were wrong. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BallotSource, FOLLOW_MS_MAX } from "../../src/cluster/clock/ballots.ts";
import { CLOCK_HEARD_MS_MAX, ClusterTime } from "../../src/cluster/clock/cluster-time.ts";
import type { Ballot } from "../../src/format/record.ts";
import { ballotMillis, compareBallots, isFromSecondClock } from "../../src/format/version.ts";
import { BALLOT_AHEAD_MS_MAX } from "../../src/util/limits.ts";
import { Random, randomSeed } from "../random.ts";

const BIRTH_MS = 1_700_000_000_000;
const HOUR_MS = 3_600_000;

/** A node with clocks in the test's hand. */
function createNode(nodes: number) {
  const clocks = { steadyMs: 5000, offMs: 0 };
  const time = new ClusterTime({
    wall: () => BIRTH_MS + Math.floor(clocks.steadyMs) + clocks.offMs,
    steady: () => clocks.steadyMs,
    nodes: () => nodes,
  });
  const truth = (): number => BIRTH_MS + clocks.steadyMs;
  /** A pulse of a node whose clock is so far off. */
  const hear = (node: string, offMs: number, roundTripMs = 2): void =>
    time.heard(node, truth() + offMs - roundTripMs / 2, roundTripMs);
  return { clocks, time, truth, hear };
}

test("cluster time: the own clock until a majority is heard, then the lower median", () => {
  const { clocks, time, truth, hear } = createNode(3);
  clocks.offMs = HOUR_MS;
  assert.equal(time.now(), truth() + HOUR_MS);
  assert.equal(time.agreed, false);
  hear("b", 0);
  assert.equal(time.agreed, true);
  assert.equal(time.now(), truth(), "of two the lower one");
  assert.equal(time.skewMs(), HOUR_MS);
  hear("c", 90_000);
  assert.equal(time.now(), truth() + 90_000, "of three the middle one");
  hear("c", 4);
  assert.equal(time.now(), truth() + 4, "a clock that was set is believed at once");
  assert.deepEqual(time.skewOf("b"), { skewMs: -4, errorMs: 1 });
});

test("cluster time: when too few are heard it goes on from what was known last, whatever the own clock does", () => {
  const { clocks, time, truth, hear } = createNode(3);
  hear("b", 0);
  hear("c", 0);
  clocks.steadyMs += CLOCK_HEARD_MS_MAX + 1000;
  clocks.offMs = -HOUR_MS;
  assert.equal(time.now(), truth());
  assert.equal(time.agreed, false);
  assert.equal(time.skewOf("b"), null);
  hear("b", 0);
  assert.equal(time.now(), truth() - HOUR_MS, "of two the lower one");
  hear("c", 0);
  assert.equal(time.now(), truth());
  time.forget("c");
  assert.equal(time.now(), truth() - HOUR_MS);
});

test("cluster time: a step of all clocks is followed, both ways", () => {
  const { clocks, time, truth, hear } = createNode(3);
  for (const offMs of [0, 8 * HOUR_MS, 0, -8 * HOUR_MS]) {
    clocks.offMs = offMs;
    for (const node of ["b", "c"]) hear(node, offMs);
    assert.equal(time.now(), truth() + offMs);
    assert.equal(time.skewMs(), 0);
    clocks.steadyMs += 1000;
  }
});

test("cluster time: a worse measurement does not take the place of a better one that is fresh", () => {
  const { clocks, time, hear, truth } = createNode(2);
  hear("b", -20, 2);
  // The slow answer: within its own error of 200 ms, b's clock is where it was.
  time.heard("b", truth() - 120, 400);
  assert.equal(time.skewOf("b")?.errorMs, 1);
  clocks.steadyMs += 4000;
  time.heard("b", truth() - 120, 400);
  assert.equal(time.skewOf("b")?.errorMs, 200);
});

/** A source of ballots by a clock in the test's hand. */
function createSource(node = 1, incarnation = 1) {
  const clock = { nowMs: BIRTH_MS };
  const ceilings: number[] = [];
  const source = new BallotSource({
    node,
    incarnation,
    now: () => clock.nowMs,
    ceilingMillis: 0,
    persistCeiling: (millis) => ceilings.push(millis),
  });
  return { clock, source, ceilings };
}

function ballotAt(millis: number, node = 9): Ballot {
  return {
    clockHigh: Math.floor(millis / 0x10000),
    clockLow: (millis % 0x10000) * 0x10000,
    node,
    incarnation: 1,
  };
}

test("ballots: when all clocks are set back they start over near cluster time, and none is given twice", (t) => {
  const random = new Random(randomSeed(t));
  const { clock, source } = createSource();
  const given = new Set<string>();
  for (let i = 0; i < 20_000; i++) {
    const draw = random.below(1000);
    if (draw === 0) clock.nowMs += random.below(8 * HOUR_MS);
    else if (draw === 1) clock.nowMs -= random.below(8 * HOUR_MS);
    else clock.nowMs += random.below(3);
    const far = draw === 2 ? ballotAt(clock.nowMs + random.below(HOUR_MS)) : null;
    const ballot = source.next(far);
    if (far !== null) assert.ok(compareBallots(ballot, far) > 0);
    else assert.ok(ballotMillis(ballot) <= clock.nowMs + FOLLOW_MS_MAX + 1, `ballot ${i}`);
    given.add(JSON.stringify(ballot));
  }
  assert.equal(given.size, 20_000);
});

test("ballots: above a record that is far ahead they come from the second clock, which ordinary ones never read", () => {
  const { clock, source } = createSource();
  const far = ballotAt(clock.nowMs + HOUR_MS);
  const first = source.next(far);
  assert.ok(compareBallots(first, far) > 0 && isFromSecondClock(first));
  const again = source.next(far);
  assert.ok(compareBallots(again, first) > 0, "not the same one for another value");
  source.observe(far);
  source.observe(again);
  const ordinary = source.next();
  assert.equal(isFromSecondClock(ordinary), false);
  assert.ok(ballotMillis(ordinary) <= clock.nowMs + 1);
  assert.equal(ordinary.incarnation, 1, "it did not have to start over");
  const near = ballotAt(clock.nowMs + FOLLOW_MS_MAX);
  const above = source.next(near);
  assert.ok(compareBallots(above, near) > 0 && !isFromSecondClock(above));
  assert.ok(ballotMillis(above) < clock.nowMs + BALLOT_AHEAD_MS_MAX, "the others take it");
});

test("ballots: none is given twice when the clocks come back to the very same moment", () => {
  const { clock, source } = createSource();
  const given = new Set<string>();
  for (const nowMs of [BIRTH_MS, BIRTH_MS + 8 * HOUR_MS, BIRTH_MS, BIRTH_MS + 8 * HOUR_MS, BIRTH_MS]) {
    clock.nowMs = nowMs;
    for (let i = 0; i < 3; i++) given.add(JSON.stringify(source.next()));
  }
  assert.equal(given.size, 15);
});

test("ballots: of one start and of the next differ, whatever the clocks", () => {
  const given = new Set<string>();
  for (let incarnation = 1; incarnation <= 3; incarnation++) {
    const { clock, source } = createSource(1, incarnation);
    for (const nowMs of [BIRTH_MS + 8 * HOUR_MS, BIRTH_MS, BIRTH_MS - 8 * HOUR_MS]) {
      clock.nowMs = nowMs;
      given.add(JSON.stringify(source.next()));
      given.add(JSON.stringify(source.next(ballotAt(nowMs + HOUR_MS))));
    }
  }
  assert.equal(given.size, 18);
});
