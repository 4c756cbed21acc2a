/** Writes of one key in line: what is merged, what is refused without a round, and that every write is answered exactly once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { WAITING_MAX, WriteQueue } from "../../src/cluster/coordinator/write-queue.ts";
import type { ClusterKey, Payload } from "../../src/cluster/register/ports.ts";
import { TOMBSTONE } from "../../src/cluster/register/ports.ts";
import {
  NOTHING_DONE,
  type RegisterResult,
  type RegisterWrite,
} from "../../src/cluster/register/requests.ts";
import type { Ballot } from "../../src/format/record.ts";
import { compareBallots, compareOptionalBallots } from "../../src/format/version.ts";
import { OPERATION_MS_MAX } from "../../src/util/limits.ts";
import { Random, randomSeed } from "../random.ts";

const VALUE: Payload = { tombstone: false };

function keyOf(text: string): ClusterKey {
  return { bytes: Buffer.from(text), hashA: 0 };
}

function at(clockLow: number): Ballot {
  return { clockLow, clockHigh: 1, node: 1, incarnation: 1 };
}

function done(ballot: Ballot, more: Partial<RegisterResult> = {}): RegisterResult {
  return { ...NOTHING_DONE, outcome: "done", ballot, exists: true, replicas: 3, ...more };
}

/** What the clocks of the cluster show at first. */
const CLUSTER_MS = 1_700_000_000_000;

/** A queue whose writes the test answers. */
class Bench {
  nowMs = 0;
  readonly running: { request: RegisterWrite; weight: number; answer: (result: RegisterResult) => void }[] =
    [];
  readonly queue = new WriteQueue(
    (request, weight, answer) => this.running.push({ request, weight, answer }),
    () => this.nowMs,
    () => CLUSTER_MS + this.nowMs,
  );

  write(more: Partial<RegisterWrite> = {}, key = "k"): RegisterResult[] {
    const results: RegisterResult[] = [];
    const request = { payload: VALUE, operationLow: 0, operationHigh: 0, condition: null, ...more };
    this.queue.write({ key: keyOf(key), ...request }, (result) => results.push(result));
    return results;
  }

  /** Answers the write that began first. */
  answer(result: RegisterResult): void {
    const [first] = this.running.splice(0, 1);
    first.answer(result);
  }
}

const only = (ballot: Ballot) => (exists: boolean, version: Ballot | null) =>
  exists && compareOptionalBallots(version, ballot) === 0 ? null : ("precondition_failed" as const);

test("write queue: one write of a key at a time, other keys beside it", () => {
  const bench = new Bench();
  const [first, second, other] = [bench.write(), bench.write(), bench.write({}, "other")];
  assert.equal(bench.running.length, 2);
  bench.answer(done(at(1)));
  assert.equal(first.length, 1);
  assert.deepEqual([second.length, other.length, bench.running.length], [0, 0, 2]);
});

test("write queue: PUTs of values that end are not made one with others", () => {
  const bench = new Bench();
  bench.write();
  for (const operationLow of [1, 2, 3])
    bench.write({ operationLow, payload: { ...VALUE, end: operationLow === 2 ? CLUSTER_MS + 5 : 0 } });
  bench.answer(done(at(10)));
  assert.deepEqual([bench.running[0].weight, bench.running[0].request.operationLow], [2, 3]);
  bench.answer(done(at(12)));
  assert.deepEqual([bench.running[0].weight, bench.running[0].request.operationLow], [1, 2]);
});

test("write queue: nobody is refused by a value whose end has come", () => {
  for (const [end, refused] of [
    [0, true],
    [CLUSTER_MS + 5, true],
    [CLUSTER_MS, false],
  ] as const) {
    const bench = new Bench();
    bench.write();
    bench.write({ staged: true });
    const posts = bench.write({ condition: (exists) => (exists ? "exists" : null) });
    bench.answer(done(at(1)));
    bench.answer(done(at(2), { end }));
    assert.deepEqual([posts.length === 1, bench.running.length === 0], [refused, refused]);
  }
});

test("write queue: plain PUTs that wait are one write of the last value, with versions of their own that rise", () => {
  const bench = new Bench();
  bench.write();
  const waiting = [1, 2, 3].map((operationLow) => bench.write({ operationLow }));
  bench.answer(done(at(10)));
  assert.equal(bench.running.length, 1);
  assert.deepEqual([bench.running[0].request.operationLow, bench.running[0].weight], [3, 3]);
  bench.answer(done(at(20), { existed: false, previous: at(10) }));
  const results = waiting.map(([result]) => result);
  assert.deepEqual(
    results.map(({ ballot, existed, outcome }) => [ballot?.clockLow, existed, outcome]),
    [
      [18, false, "done"],
      [19, true, "done"],
      [20, true, "done"],
    ],
  );
});

test("write queue: merged PUTs whose versions might not rise are written after all", () => {
  for (const unsure of [{ previous: at(19) }, { certain: false }]) {
    const bench = new Bench();
    bench.write();
    const waiting = [1, 2].map((operationLow) => bench.write({ operationLow }));
    bench.answer(done(at(10)));
    bench.answer(done(at(20), { previous: at(10), ...unsure }));
    assert.deepEqual([waiting[0].length, waiting[1].length], [0, 1]);
    assert.equal(bench.running[0].request.operationLow, 1);
    bench.answer(done(at(30), { existed: true }));
    assert.equal(waiting[0][0].ballot?.clockLow, 30);
  }
});

test("write queue: of merged PUTs whose write has an unknown outcome only the one that was sent has it, too", () => {
  const bench = new Bench();
  bench.write();
  const [first, second] = [bench.write({ operationLow: 1 }), bench.write({ operationLow: 2 })];
  bench.answer(done(at(10)));
  bench.answer({ ...NOTHING_DONE, outcome: "unknown_outcome" });
  assert.deepEqual([first.length, second[0].outcome], [0, "unknown_outcome"]);
  bench.answer(done(at(30)));
  assert.equal(first[0].outcome, "done");
});

test("write queue: conditions of those that waited are judged by what was decided, those of later ones are not", () => {
  const bench = new Bench();
  bench.write();
  const holds = bench.write({ condition: only(at(20)) });
  const fails = bench.write({ condition: only(at(5)) });
  const creates = bench.write({ condition: (exists) => (exists ? "exists" : null) });
  // These three came after the first write was sent: what it decided may be older than they are.
  bench.answer(done(at(10)));
  assert.deepEqual([holds.length, fails.length, creates.length], [0, 0, 0]);
  const late = bench.write({ condition: only(at(5)) });
  bench.answer(done(at(20)));
  assert.deepEqual(
    [holds[0].outcome, fails[0].outcome, creates[0].outcome],
    ["done", "precondition_failed", "exists"],
  );
  assert.equal(fails[0].ballot?.clockLow, 20);
  assert.equal(late.length, 0);
  bench.answer({ ...done(at(20)), outcome: "precondition_failed" });
  assert.equal(late[0].outcome, "precondition_failed");
});

test("write queue: a refusal that found nothing refuses the others by that, and lets creates go on", () => {
  const bench = new Bench();
  bench.write();
  const [fails, alsoFails, creates] = [
    bench.write({ condition: only(at(1)) }),
    bench.write({ condition: only(at(2)) }),
    bench.write({ condition: (exists) => (exists ? "exists" : null) }),
  ];
  bench.answer(done(at(10), { exists: false }));
  bench.answer({ ...NOTHING_DONE, outcome: "precondition_failed" });
  assert.deepEqual([fails.length, alsoFails.length, creates.length], [1, 1, 0]);
  bench.answer(done(at(30)));
  assert.equal(creates[0].outcome, "done");
});

test("write queue: who waits too long has had no effect and is told so; too many are refused", () => {
  const bench = new Bench();
  bench.write();
  const waiting = bench.write({ payload: TOMBSTONE });
  bench.nowMs += OPERATION_MS_MAX + 1;
  const young = bench.write({ payload: TOMBSTONE });
  bench.answer({ ...NOTHING_DONE, outcome: "unknown_outcome" });
  assert.equal(waiting[0].outcome, "no_quorum");
  assert.equal(young.length, 0);
  for (let count = 0; count < WAITING_MAX; count++) bench.write();
  assert.equal(bench.write()[0].outcome, "overloaded");
});

test("write queue: writes that are answered at once do not go deeper and deeper", () => {
  let clock = 0;
  const held: (() => void)[] = [];
  const queue = new WriteQueue(
    (_, __, answer) => (held.length === 0 ? held.push(() => answer(done(at(1)))) : answer(done(at(++clock)))),
    () => 0,
    () => CLUSTER_MS,
  );
  let answered = 0;
  for (let round = 0; round < WAITING_MAX; round++)
    queue.write(
      { key: keyOf("k"), payload: TOMBSTONE, operationLow: 0, operationHigh: 0, condition: null },
      () => answered++,
    );
  held[0]();
  assert.equal(answered, WAITING_MAX);
});

test("write queue: like a register, whatever is merged and refused", (t) => {
  const random = new Random(randomSeed(t));
  for (let history = 0; history < 300; history++) {
    const bench = new Bench();
    let state: { ballot: Ballot; exists: boolean } | null = null;
    let clock = 100;
    let versions = 0;
    let answered = 0;
    const given: Ballot[] = [];
    const total = 40;
    for (let sent = 0; answered < total; ) {
      if (sent < total && random.below(3) > 0) {
        sent++;
        const kind = random.below(4);
        const version = state?.ballot ?? at(1);
        const condition =
          kind === 0
            ? only(version)
            : kind === 1
              ? (exists: boolean) => (exists ? ("exists" as const) : null)
              : null;
        const results = bench.write({ payload: kind === 3 ? TOMBSTONE : VALUE, condition });
        // Each answer is looked at when it comes.
        Object.defineProperty(results, "push", {
          value: (result: RegisterResult) => {
            answered++;
            assert.equal(results.length, 0);
            if (result.outcome === "done") given.push(result.ballot as Ballot);
            return 1;
          },
        });
        continue;
      }
      if (bench.running.length === 0) continue;
      // The register itself: one write at a time.
      const { request, weight } = bench.running[0];
      const refusal = request.condition?.(state?.exists ?? false, state?.ballot ?? null) ?? null;
      const before = state;
      if (refusal === null) {
        clock += weight + random.below(3);
        versions += weight;
        state = { ballot: at(clock), exists: !request.payload.tombstone };
      }
      bench.answer({
        ...NOTHING_DONE,
        outcome: refusal ?? "done",
        ballot: state?.ballot ?? null,
        previous: before?.ballot ?? null,
        exists: state?.exists ?? false,
        existed: before?.exists ?? false,
      });
    }
    assert.equal(given.length, versions, "each version drawn is somebody's");
    for (let index = 1; index < given.length; index++)
      assert.ok(compareBallots(given[index], given[index - 1]) > 0, "versions rise");
  }
});

test("write queue: of a write that another node has sent, too, it is not said that it had no effect", () => {
  const bench = new Bench();
  bench.write();
  const [own, lost] = [bench.write(), bench.write({ lost: true })];
  bench.nowMs = OPERATION_MS_MAX + 1;
  bench.answer(done(at(1)));
  assert.deepEqual([own[0].outcome, lost[0].outcome], ["no_quorum", "unknown_outcome"]);
  bench.write();
  for (let waiting = 0; waiting < WAITING_MAX; waiting++) bench.write({ condition: only(at(1)) });
  assert.deepEqual(
    [bench.write()[0].outcome, bench.write({ lost: true })[0].outcome],
    ["overloaded", "unknown_outcome"],
  );
});
