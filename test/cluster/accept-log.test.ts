/** What a replica remembers of the accepts that it took, and how it is asked for that. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { FIRST_WRITE } from "../../src/cluster/register/ports.ts";
import { AcceptLog } from "../../src/cluster/replica/accept-log.ts";
import { Verdicts } from "../../src/cluster/replica/verdicts.ts";
import { encodeRefused } from "../../src/cluster/wire/answer-frame.ts";
import {
  decodeRecall,
  decodeRecalled,
  encodeRecall,
  encodeRecalled,
  isRecall,
} from "../../src/cluster/wire/recall.ts";
import type { Ballot } from "../../src/format/record.ts";
import type { RegisterOutcome } from "../../src/rules/write.ts";
import type { WriteResult } from "../../src/shards/arena/write.ts";

function at(clockLow: number, node = 1): Ballot {
  return { clockLow, clockHigh: 2 ** 32 - 1, node, incarnation: 7 };
}

test("accept log: tells where an operation was taken, and whether another node was shown it", () => {
  const log = new AcceptLog(() => 1000);
  log.taken(at(1), 5, 6, 4);
  log.taken(at(2), 5, (6 | FIRST_WRITE) >>> 0, 4);
  log.taken(at(3), 5, 7, null);
  log.shown(at(4, 1), 5, 6);
  assert.deepEqual(log.recall(5, 6, 4, 1, 0), {
    kind: "yes",
    known: true,
    shown: false,
    ballots: [at(1), at(2)],
    certain: true,
  });
  assert.equal(log.recall(5, 7, 4, 1, 0).certain, false, "it may have been taken");
  assert.equal(log.recall(5, 6, 5, 1, 0).certain, false, "it was taken under an earlier layout");
  log.taken(at(4), 5, 8, 2 ** 32 - 1);
  assert.equal(log.recall(5, 8, 2 ** 32 - 1, 1, 0).certain, true);
  log.shown(at(5, 2 ** 32 - 1), 5, 6);
  assert.equal(log.recall(5, 6, 4, 1, 0).shown, true);
  assert.equal(log.recall(5, 7, 4, 1, 0).shown, false);
  assert.deepEqual(log.recall(9, 9, 4, 1, 0).ballots, []);
});

test("accept log: knows nothing from before it began, nor from before what it had to forget", () => {
  let nowMs = 50_000;
  const log = new AcceptLog(() => nowMs);
  assert.equal(log.recall(1, 1, 4, 1, 1).known, false);
  nowMs += 10;
  assert.equal(log.recall(1, 1, 4, 1, 10).known, true);
  // Slow enough that old ones are forgotten and no room is added.
  for (let index = 0; index < 3000; index++) {
    nowMs += 20;
    log.taken(at(index), index, 0, 4);
  }
  assert.equal(log.recall(2999, 0, 4, 1, 5000).ballots.length, 1);
  assert.equal(log.recall(0, 0, 4, 1, 55_000).known, false);
  // So fast that it grows: all of the last seconds is kept, in order.
  for (let index = 0; index < 40_000; index++) {
    nowMs += 0.1;
    log.taken(at(index), 100_000 + index, 0, 4);
  }
  for (const index of [0, 1, 1023, 1024, 20_000, 39_999]) {
    const { known, ballots } = log.recall(100_000 + index, 0, 4, 1, 5000);
    assert.deepEqual([known, ballots], [true, [at(index)]], `${index}`);
  }
});

test("accept log: what was accepted when the layout had just changed was not surely taken; what was refused was not", () => {
  const key = { bytes: Buffer.from("key"), hashA: 0 };
  const resultOf = (verdict: RegisterOutcome["verdict"]): WriteResult => ({
    ...{ error: null, detail: "", created: false, deleted: false, etag: null },
    register: { verdict, ballot: at(1), tombstone: false, ended: false, end: 0 } as RegisterOutcome,
  });
  const judge = (epoch: number, verdict: RegisterOutcome["verdict"], error: WriteResult["error"] = null) => {
    const log = new AcceptLog(() => 1000);
    const verdicts = new Verdicts({ epoch: () => 4, damaged: () => assert.fail() }, log);
    const proposal = { ballot: at(2), operationLow: 5, operationHigh: 6 };
    const { kind } = verdicts.accepted({ ...resultOf(verdict), error }, epoch, key, proposal);
    const { ballots, certain } = log.recall(5, 6, 4, 1, 0);
    return [kind, ballots.length, certain];
  };
  assert.deepEqual(judge(4, "yes"), ["yes", 1, true]);
  assert.deepEqual(judge(4, "already"), ["yes", 1, true]);
  assert.deepEqual(judge(3, "yes"), ["refused", 1, false]);
  assert.deepEqual(judge(4, "no"), ["no", 0, true]);
  assert.deepEqual(judge(4, "yes", "unavailable"), ["refused", 1, false]);
});

test("recall: request and answer go over the wire and come back as they were; what is none of them is refused", () => {
  const request = {
    epoch: 9,
    key: Buffer.from("key"),
    operationLow: 2 ** 32 - 1,
    operationHigh: 3,
    ageMs: 12,
    node: 2 ** 32 - 2,
  };
  const frame = encodeRecall(request);
  assert.equal(isRecall(frame), true);
  const decoded = decodeRecall(frame);
  assert.deepEqual({ ...decoded, key: Buffer.from(decoded?.key ?? []) }, request);
  for (let end = 0; end < frame.length - 2; end++) assert.equal(decodeRecall(frame.subarray(0, end)), null);
  const answer = { kind: "yes", known: true, shown: true, ballots: [at(1), at(2)], certain: true } as const;
  for (const one of [answer, { ...answer, certain: false }])
    assert.deepEqual(decodeRecalled(encodeRecalled(one)), one);
  const many = Array.from({ length: 65 }, (_, index) => at(index));
  assert.equal(
    (decodeRecalled(encodeRecalled({ ...answer, ballots: many })) as { known: boolean }).known,
    false,
  );
  assert.deepEqual(decodeRecalled(encodeRefused("not_voting", 3)), {
    kind: "refused",
    reason: "not_voting",
    epoch: 3,
  });
  const whole = encodeRecalled(answer);
  for (let end = 0; end < whole.length; end++) assert.equal(decodeRecalled(whole.subarray(0, end)), null);
});
