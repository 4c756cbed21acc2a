/**
 * Single steps of the coordinator, against scripted replicas in simulated time. Whether the whole is right is the simulator's question (test/sim).
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BallotSource, lowerBallot } from "../../src/cluster/clock/ballots.ts";
import { Coordinator } from "../../src/cluster/coordinator/coordinator.ts";
import { RECALL_MS_MAX } from "../../src/cluster/coordinator/doubt/doubt.ts";
import { HEDGE_MS } from "../../src/cluster/coordinator/read.ts";
import { FEATURE_DECIDED } from "../../src/cluster/layout/features.ts";
import type { ReplicaGroup } from "../../src/cluster/layout/groups.ts";
import {
  type AcceptAnswer,
  type ClusterKey,
  FIRST_WRITE,
  LOST,
  type LookAnswer,
  type PrepareAnswer,
  type Proposal,
  type RecallAnswer,
  type RefusalReason,
  type Refused,
  TOMBSTONE,
  UNAVAILABLE,
} from "../../src/cluster/register/ports.ts";
import type { ReadResult, RegisterResult, RegisterWrite } from "../../src/cluster/register/requests.ts";
import { NAME_BYTES, REQUEST_BYTES } from "../../src/format/fields/recent.ts";
import type { Ballot } from "../../src/format/record.ts";
import { compareBallots, isFromSecondClock } from "../../src/format/version.ts";
import { guard } from "../../src/rules/recent.ts";
import { prefixOf } from "../../src/util/hash-prefix.ts";
import { OPERATION_MS_MAX } from "../../src/util/limits.ts";
import { EventQueue } from "../sim/events.ts";

const KEY: ClusterKey = { bytes: new Uint8Array([107]), hashA: 0 };
const GROUP: ReplicaGroup = {
  ...{ epoch: 4, partition: 0, prefix: prefixOf(0, 1024) },
  ...{ nodes: ["a", "b", "c"], current: 7, previous: 7 },
};
const VALUE = { tombstone: false, text: "value" };
/** It came with an `Idempotency-Key`. */
const ONLY = { once: new Uint8Array(NAME_BYTES + REQUEST_BYTES), again: () => VALUE };
const NOT_VOTING: Refused = { kind: "refused", reason: "not_voting", epoch: 0 };

const at = (clockHigh: number): Ballot => ({ clockLow: 0, clockHigh, node: 9, incarnation: 1 });
const taken: AcceptAnswer = { kind: "yes", already: false, previous: null, existed: false };
const absent: PrepareAnswer = {
  kind: "yes",
  ballot: null,
  tombstone: false,
  ended: false,
  end: 0,
  operationLow: 0,
  operationHigh: 0,
  floor: null,
};
const no = (higher: Ballot): AcceptAnswer & PrepareAnswer => ({ kind: "no", higher });
const holds = (ballot: Ballot, operationLow = 77, tombstone = false): PrepareAnswer & LookAnswer => ({
  kind: "yes",
  ballot,
  tombstone,
  ended: false,
  end: 0,
  operationLow,
  operationHigh: 0,
  floor: null,
  payload: null,
});

type Kind = "prepare" | "accept" | "look" | "read" | "recall";
type Answer = PrepareAnswer | AcceptAnswer | LookAnswer | RecallAnswer;
/** What a replica answers, and after how many ms; null: never. `sent` counts the requests of this kind to this node, from 1 on. */
type Script = (kind: Kind, node: string, sent: number, proposal: Proposal | null) => [number, Answer] | null;

class Bench {
  readonly queue = new EventQueue();
  readonly sent: string[] = [];
  /** Of each recall: how old the write was said to be, and how old it was, in ms. */
  readonly ages: [number, number][] = [];
  readonly proposals: Proposal[] = [];
  readonly missed: string[] = [];
  readonly staleEpochs: number[] = [];
  readonly unreachable = new Set<string>();
  readonly coordinator: Coordinator;
  clockMs: number;
  /** Whether the time of the cluster is known. */
  knowsTime = true;
  /** Whether all nodes know FEATURE_DECIDED. */
  buildsOnDecided = true;
  /** How late the timers of operations are. */
  lateMs = 0;

  constructor(script: Script, clockMs = 0x20000) {
    this.clockMs = clockMs;
    const counts = new Map<string, number>();
    const ask = (
      kind: Kind,
      node: string,
      proposal: Proposal | null,
      reply: (answer: never) => void,
    ): void => {
      const name = `${kind} ${node}`;
      this.sent.push(name);
      if (proposal !== null && this.proposals.at(-1) !== proposal) this.proposals.push(proposal);
      const count = (counts.get(name) ?? 0) + 1;
      counts.set(name, count);
      const answer = script(kind, node, count, proposal);
      if (answer !== null) this.queue.after(answer[0], () => reply(answer[1] as never));
    };
    this.coordinator = new Coordinator({
      port: {
        prepare: (node, _, epoch, __, reply) => {
          assert.equal(epoch, GROUP.epoch);
          ask("prepare", node, null, reply);
        },
        accept: (node, _, __, proposal, reply) => ask("accept", node, proposal, reply),
        recall: (node, _, __, ___, ____, ageMs, reply) => {
          this.ages.push([ageMs, this.queue.now]);
          ask("recall", node, null, reply);
        },
        look: (node, _, __, reply) => ask("look", node, null, reply),
        read: (node, _, __, reply) => ask("read", node, null, reply),
      },
      ballots: new BallotSource({
        node: 1,
        incarnation: 1,
        now: () => this.clockMs + this.queue.now,
        ceilingMillis: 0,
        persistCeiling: () => {},
      }),
      groupOf: () => GROUP,
      distance: (node) => (this.unreachable.has(node) ? Infinity : node.charCodeAt(0) - 97),
      now: () => this.queue.now,
      clusterMillis: () => this.clockMs + this.queue.now,
      knowsTime: () => this.knowsTime,
      features: () => (this.buildsOnDecided ? FEATURE_DECIDED : FEATURE_DECIDED - 1),
      random: () => 0.5,
      after: (ms, callback) => this.queue.after(ms + (ms === OPERATION_MS_MAX ? this.lateMs : 0), callback),
      cancel: (timer) => this.queue.cancel(timer as never),
      staleEpoch: (epoch) => this.staleEpochs.push(epoch),
      missed: (_, __, nodes) => this.missed.push(...nodes),
    });
  }

  /** Runs a write to its answer; then the rest. */
  write(
    condition: RegisterWrite["condition"] = null,
    staged = false,
    change: RegisterWrite["change"] = null,
    versions = 1,
    at: RegisterWrite["at"] = null,
  ): { result: RegisterResult; ms: number } {
    const results: { result: RegisterResult; ms: number }[] = [];
    this.coordinator.write(
      {
        key: KEY,
        payload: VALUE,
        change,
        operationLow: 1,
        operationHigh: 0,
        staged,
        at,
        versions,
        condition,
      },
      (result) => results.push({ result, ms: this.queue.now }),
    );
    while (this.queue.step());
    assert.equal(results.length, 1, "answered exactly once");
    return results[0];
  }

  read(how: "read" | "readOne" | "settle" = "read"): { result: ReadResult; ms: number } {
    const results: { result: ReadResult; ms: number }[] = [];
    this.coordinator[how](KEY, (result) => results.push({ result, ms: this.queue.now }));
    while (this.queue.step());
    assert.equal(results.length, 1, "answered exactly once");
    return results[0];
  }
}

test("coordinator: PUT is answered at the majority; who stays silent or is down is named as missing it", () => {
  const slow = new Bench((_, node) => (node === "c" ? null : [node === "a" ? 1 : 5, taken]));
  const { result, ms } = slow.write();
  assert.equal(result.outcome, "done");
  assert.equal(result.replicas, 2);
  assert.equal(ms, 5);
  assert.deepEqual(slow.missed, ["c"]);
  const down = new Bench((_, node) => [1, node === "c" ? UNAVAILABLE : taken]);
  assert.equal(down.write().result.outcome, "done");
  assert.deepEqual(down.missed, ["c"]);
  const outvoted = new Bench((_, node) => [1, node === "c" ? no(at(9)) : taken]);
  outvoted.write();
  assert.deepEqual(outvoted.missed, [], "who holds something newer misses nothing");
});

test("coordinator: a replica that is down does not hurry a conditional write, or what settles, past those that are far away", () => {
  const held = holds(at(1)) as LookAnswer & { kind: "yes" };
  const far = (kind: Kind, node: string): [number, Answer] =>
    node === "c" ? [0, UNAVAILABLE] : [300, kind === "accept" ? taken : { ...held, payload: VALUE }];
  const written = new Bench(far);
  assert.equal(written.write(() => null).result.outcome, "done");
  assert.equal(written.sent.filter((request) => request === "prepare a").length, 1);
  const settled = new Bench(far);
  assert.equal(settled.read("settle").result.outcome, "found");
  assert.equal(settled.sent.filter((request) => request === "prepare a").length, 1);
});

test("coordinator: PUT says created or replaced by the newest record that it took the place of", () => {
  const took = (ballot: Ballot, existed: boolean): AcceptAnswer => ({
    kind: "yes",
    already: false,
    previous: ballot,
    existed,
  });
  const bench = (a: AcceptAnswer, b: AcceptAnswer): RegisterResult =>
    new Bench((_, node) => [1, node === "a" ? a : node === "b" ? b : LOST]).write().result;
  assert.equal(bench(took(at(1), true), took(at(2), false)).existed, false);
  assert.equal(bench(took(at(2), true), took(at(1), false)).existed, true);
  assert.equal(bench(took(at(2), true), took(at(2), true)).certain, true);
  assert.equal(bench(taken, taken).certain, true);
  assert.equal(
    bench(took(at(2), true), taken).certain,
    false,
    "one record that only one replica had proves nothing",
  );
  assert.equal(bench({ ...taken, already: true }, taken).certain, false);
});

test("coordinator: what a PUT replaced is known too when the layout changes before its answers, or they are lost", () => {
  const replaced = { previous: at(1), existed: true };
  const tooLate: AcceptAnswer = { kind: "refused", reason: "behind_epoch", epoch: 5, replaced };
  /** The first try reaches `reached` but cannot count; all hold it then, or what was there before. */
  const bench = (answer: AcceptAnswer, reached: string): RegisterResult => {
    let own = at(0);
    return new Bench((kind, node, sent, proposal) => {
      if (kind === "prepare") return [1, reached.includes(node) ? holds(own, 1) : holds(at(1))];
      own = (proposal as Proposal).ballot;
      return [1, sent === 1 ? answer : taken];
    }).write().result;
  };
  for (const { outcome, existed } of [bench(tooLate, "abc"), bench(LOST, "a"), bench(LOST, "c")])
    assert.deepEqual([outcome, existed], ["done", true]);
});

test("coordinator: a write that another overtook had no effect when that one was the first of its key", () => {
  const overtaken = (operationHigh: number): RegisterResult => {
    const top = { ...holds(at(0x30000), 78), operationHigh, payload: VALUE };
    const bench = new Bench((kind, node, sent) => {
      if (kind === "prepare") return [1, sent === 1 ? absent : top];
      if (kind === "read") return [1, top];
      // The own try reached one replica only; the rewrite of what is on top reaches all.
      return [1, bench.proposals.length === 1 && node !== "b" ? no(at(0x30000)) : taken];
    });
    return bench.write((exists) => (exists ? "exists" : null)).result;
  };
  assert.equal(overtaken(FIRST_WRITE).outcome, "exists");
  assert.equal(overtaken(0).outcome, "unknown_outcome");
});

test("coordinator: only a conditional write that found no record, not even a collected one, is marked as the first", () => {
  const marked = (promise: PrepareAnswer, staged = false): boolean => {
    const bench = new Bench((kind) => [1, kind === "prepare" ? promise : taken]);
    bench.write(() => null, staged);
    return ((bench.proposals.at(-1) as Proposal).operationHigh & FIRST_WRITE) !== 0;
  };
  assert.equal(marked(absent), true);
  assert.equal(marked({ ...absent, floor: at(1) } as PrepareAnswer), false);
  assert.equal(marked(holds(at(1), 77, true)), false);
  assert.equal(marked(absent, true), false, "the replicas know it by its number");
  const blind = new Bench(() => [1, taken]);
  blind.write();
  assert.equal(blind.proposals[0].operationHigh, 0);
});

test("coordinator: without a reachable majority the answer is no_quorum at once and nothing is sent", () => {
  const bench = new Bench(() => [1, taken]);
  bench.unreachable.add("b").add("c");
  const { result, ms } = bench.write();
  assert.equal(result.outcome, "no_quorum");
  assert.equal(ms, 0);
  assert.equal(bench.read().result.outcome, "no_quorum");
  assert.deepEqual(bench.sent, []);
});

test("coordinator: when every replica says no, the write is tried again above the highest ballot seen", () => {
  const bench = new Bench((_, __, sent) => [1, sent === 1 ? no(at(2)) : taken], 0x20000 - 1000);
  const { result } = bench.write();
  assert.equal(result.outcome, "done");
  assert.equal(bench.proposals.length, 2);
  assert.ok(compareBallots(bench.proposals[1].ballot, at(2)) > 0);
  assert.deepEqual(result.ballot, bench.proposals[1].ballot);
});

test("coordinator: the versions of a write that stands for several are all above what was there", () => {
  // The first three that it draws are 0, 1 and 2 of this time.
  for (const [clockLow, prepares] of [
    [2, 2],
    [1, 2],
    [0, 1],
  ]) {
    const there: Ballot = { clockHigh: 2, clockLow, node: 0, incarnation: 1 };
    const bench = new Bench((kind) => [1, kind === "accept" ? taken : holds(there)]);
    const { result } = bench.write(() => null, false, null, 3);
    assert.equal(result.outcome, "done");
    assert.ok(compareBallots(lowerBallot(result.ballot as Ballot, 2), there) > 0, `beside ${clockLow}`);
    assert.equal(bench.sent.filter((name) => name === "prepare a").length, prepares, `beside ${clockLow}`);
  }
});

test("coordinator: a ballot far in the future drags nobody along", () => {
  const bench = new Bench((_, __, sent) => [1, sent === 1 ? no(at(50_000)) : taken]);
  assert.equal(bench.write().result.outcome, "done");
  const { ballot } = bench.proposals[1];
  assert.ok(
    compareBallots(ballot, at(50_000)) > 0 && isFromSecondClock(ballot),
    "its key is written all the same",
  );
  assert.equal(bench.write().result.outcome, "done");
  assert.ok(compareBallots(bench.proposals[2].ballot, at(3)) < 0, "and nothing else is ahead");
});

test("coordinator: its next ballot is above its last one also when the clocks were set back in between", () => {
  const hourMs = 3_600_000;
  const bench: Bench = new Bench(
    (kind, node, sent) => {
      if (kind === "prepare") return [1, absent];
      // The first try reaches a alone; then the clocks are set right.
      if (sent > 1) return [1, taken];
      if (node === "a") bench.clockMs -= hourMs;
      return [1, node === "a" ? taken : LOST];
    },
    2 * hourMs + 0x20000,
  );
  bench.write();
  const [first, second] = bench.proposals;
  assert.ok(compareBallots(second.ballot, first.ballot) > 0, "or what a has would outrank all that follows");
  assert.equal(isFromSecondClock(second.ballot), true);
});

test("coordinator: after an ambiguous accept it looks first, and finishes, starts anew, or says unknown_outcome", () => {
  const resolve = (promise: PrepareAnswer): { result: RegisterResult; bench: Bench } => {
    const bench: Bench = new Bench((kind, node, sent) => {
      if (kind === "prepare") return [1, promise];
      return [1, sent > 1 || node === "a" ? taken : LOST];
    });
    return { result: bench.write().result, bench };
  };
  const top = resolve(holds(at(3), 1));
  assert.equal(top.result.outcome, "done", "the own operation is on top");
  assert.equal(top.result.certain, false);
  const older = resolve(holds(at(1)));
  assert.equal(older.result.outcome, "done", "no majority ever held it");
  assert.equal(older.result.existed, true);
  assert.ok(compareBallots(older.bench.proposals[1].ballot, older.bench.proposals[0].ballot) > 0);
  const newer = resolve(holds(at(3)));
  assert.equal(newer.result.outcome, "unknown_outcome");
  assert.equal(newer.bench.proposals.length, 1);
  // It is known as well where a majority remembers that it took one ballot of it, whoever has sent that.
  const recalled = (certain: boolean, who: string, buildsOnDecided = true): RegisterResult => {
    const bench: Bench = new Bench((kind, node, sent) => {
      if (kind === "prepare") return [1, holds(at(3))];
      if (kind === "accept") return [1, sent > 1 || node === "a" ? taken : LOST];
      const ballots = who.includes(node) ? [at(2)] : [];
      return [1, { kind: "yes", known: true, shown: true, ballots, certain }];
    });
    bench.buildsOnDecided = buildsOnDecided;
    return bench.write().result;
  };
  const known = recalled(true, "ab");
  assert.deepEqual([known.outcome, known.ballot, known.replicas], ["done", at(2), 2]);
  assert.equal(recalled(true, "a").outcome, "done", "it had no effect, and was written anew");
  assert.equal(recalled(true, "a", false).outcome, "unknown_outcome", "another's may rest on it");
  assert.equal(recalled(false, "ab").outcome, "unknown_outcome", "they may not have taken it");
  const collected = resolve({ ...absent, floor: at(3) } as PrepareAnswer);
  assert.equal(collected.result.outcome, "unknown_outcome", "what was newer may have been collected");
});

test("coordinator: a replica that may have started after a write began knows nothing of it, however long the question was on its way", () => {
  const doubtful = (recallMs: number): { outcome: string; ages: [number, number][] } => {
    const bench = new Bench((kind, node, sent) => {
      if (kind === "prepare") return [1, holds(at(3))];
      if (kind === "accept") return [1, sent > 1 || node === "a" ? taken : LOST];
      const ballots = node === "a" ? [at(2)] : [];
      return [
        node === "c" ? recallMs : 1,
        { kind: "yes", known: true, shown: false, ballots, certain: true },
      ];
    });
    return { outcome: bench.write().result.outcome, ages: bench.ages };
  };
  const { outcome, ages } = doubtful(RECALL_MS_MAX);
  assert.equal(outcome, "done", "it had no effect, and was written anew");
  assert.equal(ages.length, 3);
  // Told of at the last moment that counts, it is not older than was said.
  for (const [said, was] of ages) assert.equal(said, was + RECALL_MS_MAX);
  assert.equal(doubtful(RECALL_MS_MAX + 1).outcome, "unknown_outcome");
});

test("coordinator: a write in doubt that no majority can have taken is written anew, though a replica is away", () => {
  const outcome = (buildsOnDecided: boolean, isBack = false): string => {
    const bench: Bench = new Bench((kind, node, sent) => {
      if (node === "c" && (!isBack || bench.queue.now < 500))
        return [1, kind === "accept" ? LOST : UNAVAILABLE];
      if (kind === "prepare") return [1, holds(at(3))];
      if (kind === "accept") return [1, sent > 1 ? taken : no(at(3))];
      return [1, { kind: "yes", known: true, shown: false, ballots: [], certain: true }];
    });
    bench.buildsOnDecided = buildsOnDecided;
    return bench.write().result.outcome;
  };
  assert.equal(outcome(true), "done");
  assert.equal(outcome(false), "unknown_outcome", "the one that is away may have shown it to somebody");
  assert.equal(outcome(false, true), "done", "it is asked again for a while");
});

test("coordinator: a conditional write builds only on what a majority holds", () => {
  const numbers = (script: Script, only: RegisterWrite["only"] = null): number[] => {
    const bench = new Bench(script);
    const results: RegisterResult[] = [];
    const operation = { key: KEY, payload: VALUE, operationLow: 1, operationHigh: 0, only };
    bench.coordinator.write({ ...operation, condition: () => null }, (result) => results.push(result));
    while (bench.queue.step());
    assert.deepEqual(
      results.map(({ outcome }) => outcome),
      ["done"],
    );
    return bench.proposals.map(({ operationLow }) => operationLow);
  };
  const undecided =
    (c: (sent: number) => [number, Answer] | null): Script =>
    (kind, node, sent) => {
      if (kind === "read") return [1, { ...holds(at(1)), payload: VALUE }];
      if (kind === "accept") return [1, taken];
      if (node === "c") return c(sent);
      return [1, node === "a" || sent > 1 ? holds(at(1)) : absent];
    };
  assert.deepEqual(numbers(undecided(() => null)), [77, 1], "what one of two has is written first");
  assert.deepEqual(numbers(undecided(() => [20, holds(at(1))])), [1], "another one has it, too");
  assert.deepEqual(numbers(undecided(() => [1, UNAVAILABLE])), [77, 1]);
  const isFirst = (kind: Kind): [number, Answer] => [1, kind === "prepare" ? absent : taken];
  assert.deepEqual(numbers(isFirst), [1], "that there is nothing is known as well");
  // Also one with an Idempotency-Key, where nobody writes the key without having asked.
  const recent = guard(null, 0x20000);
  const guarded: Script = (kind, node, sent) => {
    if (kind === "accept") return [1, taken];
    const held = holds(at(node === "a" || sent > 1 ? 2 : 1));
    return [1, kind === "read" ? { ...held, payload: VALUE } : { ...held, recent }];
  };
  assert.deepEqual(numbers(guarded, ONLY), [77, 1]);
});

test("coordinator: a write that is handed on keeps to its bound, and who lost it looks for it beyond that", () => {
  const asks = (script: Script, about: Partial<RegisterWrite>): RegisterResult & { bench: Bench } => {
    const bench = new Bench(script);
    const results: RegisterResult[] = [];
    const write = { key: KEY, payload: VALUE, operationLow: 1, operationHigh: 0, condition: null };
    bench.coordinator.write({ ...write, ...about }, (result) => results.push(result));
    while (bench.queue.step());
    assert.equal(results.length, 1);
    return { ...results[0], bench };
  };
  const well = (kind: Kind): [number, Answer] => [1, kind === "prepare" ? absent : taken];
  const kinds: Partial<RegisterWrite>[] = [{}, { condition: () => null }, { only: ONLY }];
  for (const kind of kinds) {
    for (const bound of [
      { below: at(3), epoch: GROUP.epoch + 1, sinceMs: 0 },
      { below: at(1), epoch: GROUP.epoch, sinceMs: 0 },
    ]) {
      const late = asks(well, { ...kind, bound });
      assert.equal(late.outcome, "no_quorum");
      assert.ok(!late.bench.proposals.some(({ operationLow }) => operationLow === 1));
    }
    assert.equal(
      asks(well, { ...kind, bound: { below: at(3), epoch: GROUP.epoch, sinceMs: 0 } }).outcome,
      "done",
    );
  }
  // No replica has taken it: it is written here, above what the other node may propose it at.
  const forgotten: Script = (kind) =>
    kind === "recall"
      ? [1, { kind: "yes", known: true, shown: false, ballots: [], certain: true }]
      : well(kind);
  for (const kind of kinds) {
    const bound = { below: at(5), epoch: GROUP.epoch, sinceMs: -3000 };
    const { outcome, bench } = asks(forgotten, { ...kind, lost: true, bound });
    assert.equal(outcome, "done");
    for (const { ballot } of bench.proposals) assert.ok(compareBallots(ballot, bound.below) > 0);
    // A replica that was started since it was handed on has forgotten what it took of it.
    for (const [said, was] of bench.ages) assert.equal(said, was + 3000 + RECALL_MS_MAX);
    assert.equal(bench.ages.length, kind.only === undefined ? 3 : 0);
  }
  const other = { below: at(3), epoch: GROUP.epoch - 1, sinceMs: 0 };
  assert.equal(asks(forgotten, { lost: true, bound: other }).outcome, "unknown_outcome", "by another layout");
  assert.equal(asks(forgotten, { lost: true }).outcome, "unknown_outcome", "it may come at any time");
  // A majority has taken it, and something newer is there.
  const decided: Script = (kind) => {
    if (kind === "recall")
      return [1, { kind: "yes", known: true, shown: true, ballots: [at(2)], certain: true }];
    return [1, kind === "prepare" ? holds(at(3)) : taken];
  };
  assert.equal(asks(decided, { lost: true }).outcome, "done");
  // Whoever judged it, If-Match was met by a value, and POST by none.
  const ifMatch = (exists: boolean) => (exists ? null : "precondition_failed");
  const post = (exists: boolean) => (exists ? "exists" : null);
  for (const [condition, existed] of [
    [ifMatch, true],
    [post, false],
  ] as const) {
    const found = asks(decided, { lost: true, condition });
    assert.deepEqual([found.outcome, found.existed], ["done", existed]);
  }
  assert.equal(
    asks(decided, { lost: true, versions: 3 }).outcome,
    "unknown_outcome",
    "which are its versions?",
  );
});

test("coordinator: a large value asks first, goes to its own replica last, and is sure of what it replaced only with a condition", () => {
  const replaces = { ...taken, previous: at(1), existed: true };
  const script: Script = (kind) => [1, kind === "prepare" ? holds(at(1)) : replaces];
  const plain = new Bench(script);
  const { result } = plain.write(null, true);
  const asked = ["prepare a", "prepare b", "prepare c"];
  assert.deepEqual(plain.sent, [...asked, "accept b", "accept c", "accept a"]);
  assert.deepEqual([result.outcome, result.existed, result.certain], ["done", true, false]);
  const conditional = new Bench(script);
  assert.equal(conditional.write(() => null, true).result.certain, true);
});

test("coordinator: a large value that meets hindrances for a while is written when they are over; a small one is not", () => {
  const HINDERED_MS = 2500;
  for (const hindrance of ["refused", "unreachable", "raced"] as const) {
    const bench = (): Bench => {
      const made: Bench = new Bench((kind, node) => {
        const isHindered = made.queue.now < HINDERED_MS;
        if (isHindered && hindrance === "refused" && node !== "a") return [1, UNAVAILABLE];
        if (isHindered && hindrance === "raced" && kind === "accept") return [1, no(at(1))];
        return [1, kind === "prepare" ? absent : taken];
      });
      if (hindrance === "unreachable") {
        made.unreachable.add("b").add("c");
        made.queue.after(HINDERED_MS, () => made.unreachable.clear());
      }
      return made;
    };
    const large = bench().write(null, true);
    assert.equal(large.result.outcome, "done", hindrance);
    assert.ok(large.ms >= HINDERED_MS && large.ms < HINDERED_MS + 500, `${hindrance}: ${large.ms} ms`);
    const small = bench().write(() => null);
    assert.deepEqual([small.result.outcome, small.ms < HINDERED_MS], ["no_quorum", true], hindrance);
  }
});

test("coordinator: a large value that most replicas lack, since they have changed, reaches them from the one that has it", () => {
  const fetched = { ...VALUE };
  for (const holder of ["a", "b"]) {
    let held: Ballot | null = null;
    const bench = new Bench((kind, node, _, proposal) => {
      if (kind === "prepare") return [1, node === holder && held !== null ? holds(held, 1) : absent];
      if (kind === "read") return [1, { ...holds(held as Ballot, 1), payload: fetched } as LookAnswer];
      // What was staged is at one of them, once.
      const isStaged = proposal?.payload === VALUE;
      if (isStaged && (node !== holder || held !== null)) return [1, UNAVAILABLE];
      if (node === holder) held = proposal?.ballot ?? null;
      return [1, taken];
    });
    const { result } = bench.write(null, true, null, 1, new Set([holder, "d"]));
    assert.equal(result.outcome, "done", holder);
    assert.ok(bench.sent.includes(`read ${holder}`), "it is fetched from there");
    assert.equal(bench.proposals.at(-1)?.payload, fetched);
  }
});

test("coordinator: of a write with an Idempotency-Key that another node may have done it is not said that it had no effect", () => {
  const outcome = (lost: boolean, script: Script): string => {
    const bench = new Bench(script);
    const results: RegisterResult[] = [];
    bench.coordinator.write(
      {
        ...{ key: KEY, payload: VALUE, operationLow: 1, operationHigh: 0, lost, only: ONLY },
        condition: (exists) => (exists ? "exists" : null),
      },
      (result) => results.push(result),
    );
    while (bench.queue.step());
    assert.equal(results.length, 1);
    return results[0].outcome;
  };
  const alone: Script = (_, node) => [1, node === "a" ? absent : UNAVAILABLE];
  assert.deepEqual([outcome(false, alone), outcome(true, alone)], ["no_quorum", "unknown_outcome"]);
  const there: Script = (kind) => {
    if (kind === "read") return [1, { ...holds(at(1)), payload: VALUE } as LookAnswer];
    return [1, kind === "prepare" ? holds(at(1)) : taken];
  };
  assert.deepEqual([outcome(false, there), outcome(true, there)], ["exists", "unknown_outcome"]);
  const free: Script = (kind) => [1, kind === "prepare" ? absent : taken];
  assert.deepEqual([outcome(false, free), outcome(true, free)], ["done", "done"]);
});

test("coordinator: a large value that is hindered for good has had no effect, and its answer says so in time", () => {
  const bench = new Bench((kind, node) => [1, node !== "a" && kind === "accept" ? UNAVAILABLE : absent]);
  const { result, ms } = bench.write(null, true);
  assert.equal(result.outcome, "no_quorum");
  assert.ok(ms < OPERATION_MS_MAX, `${ms} ms`);
});

test("coordinator: POST on a key that is there is refused in one round when the promises agree", () => {
  const refuse = (exists: boolean) => (exists ? ("exists" as const) : null);
  const agreed = new Bench(() => [1, holds(at(1))]);
  const { result } = agreed.write(refuse);
  assert.equal(result.outcome, "exists");
  assert.deepEqual(result.ballot, at(1));
  assert.deepEqual(agreed.proposals, []);
  const split = new Bench((kind, node) => {
    if (kind === "prepare") return node === "c" ? null : [1, node === "a" ? holds(at(1)) : absent];
    if (kind === "read") return [1, { ...holds(at(1)), payload: VALUE } as LookAnswer];
    return [1, taken];
  });
  const rewritten = split.write(refuse);
  assert.equal(rewritten.result.outcome, "exists");
  assert.equal(split.proposals.length, 1, "the value seen is made the decided one first");
  assert.equal(split.proposals[0].operationLow, 77);
  assert.deepEqual(rewritten.result.ballot, split.proposals[0].ballot, "and its version is the new one");
  // But not where another one that holds it only answers later: nobody has changed the value, nor its version.
  const later = new Bench((kind, node) =>
    kind === "prepare" ? [node === "c" ? 20 : 1, node === "b" ? absent : holds(at(1))] : [1, taken],
  );
  const { result: kept } = later.write(refuse);
  assert.deepEqual([kept.outcome, kept.ballot, kept.replicas], ["exists", at(1), 2]);
  assert.deepEqual(later.proposals, []);
  const fresh = new Bench((kind) => [1, kind === "prepare" ? absent : taken]);
  assert.deepEqual([fresh.write(refuse).result.outcome, fresh.proposals[0].operationLow], ["done", 1]);
});

test("coordinator: GET asks the nearest that make a majority, and others when those fail or are slow", () => {
  const good = new Bench(() => [1, holds(at(1), 77, true)]);
  assert.equal(good.read().result.outcome, "absent");
  assert.deepEqual(good.sent, ["look a", "look b"]);
  const refused = new Bench((_, node) => [1, node === "b" ? NOT_VOTING : holds(at(1), 77, true)]);
  assert.equal(refused.read().ms, 2);
  assert.deepEqual(refused.sent, ["look a", "look b", "look c"]);
  const silent = new Bench((_, node) => (node === "b" ? null : [1, holds(at(1), 77, true)]));
  assert.equal(silent.read().ms, HEDGE_MS + 1);
});

test("coordinator: GET of a record that one of two holds is answered once a majority holds it", () => {
  const stale = new Bench((kind, node) => {
    if (kind === "look") return [1, node === "a" ? holds(at(1)) : holds(at(2))];
    if (kind === "read") return [1, { ...holds(at(2)), payload: VALUE } as LookAnswer];
    return [node === "c" ? 9 : 1, taken];
  });
  const { result, ms } = stale.read();
  assert.equal(result.outcome, "found");
  assert.equal(result.payload, VALUE);
  assert.deepEqual(result.ballot, at(2));
  assert.equal(ms, 3);
  assert.deepEqual(stale.sent, ["look a", "look b", "read b", "accept a", "accept c"]);
  const refusing = new Bench((kind, node) => {
    if (kind === "look") return [1, node === "a" ? holds(at(1)) : holds(at(2), 78, true)];
    if (kind === "accept" && stale.proposals.length > 0 && refusing.proposals.length === 1)
      return [1, no(at(3))];
    if (kind === "prepare") return [1, node === "b" ? holds(at(2), 78, true) : holds(at(1))];
    return [1, taken];
  });
  assert.equal(refusing.read().result.outcome, "absent");
  assert.equal(refusing.proposals.length, 2, "after a no, a full round writes it again");
  assert.equal(refusing.proposals[1].payload, TOMBSTONE);
  assert.equal(refusing.proposals[1].operationLow, 78);
});

test("coordinator: answers after the deadline are not counted", () => {
  const late = new Bench((_, node) => [node === "a" ? 1 : OPERATION_MS_MAX + 1, taken]);
  const { result, ms } = late.write();
  assert.equal(result.outcome, "unknown_outcome");
  assert.equal(ms, OPERATION_MS_MAX);
  const unprepared = new Bench((_, node) => [node === "a" ? 1 : OPERATION_MS_MAX + 1, absent]);
  assert.equal(unprepared.write(() => null).result.outcome, "no_quorum", "a prepare has no effect");
});

test("coordinator: answers after the deadline are not counted also when this process woke up too late for its own timer", () => {
  const bench = new Bench(() => [OPERATION_MS_MAX + 50, taken]);
  bench.lateMs = 100;
  assert.equal(bench.write().result.outcome, "unknown_outcome");
});

test("coordinator: what refuses for now may still take a late copy, what refuses for good may not", () => {
  const refused = (reason: RefusalReason): RegisterResult["outcome"] =>
    new Bench(() => [1, { kind: "refused", reason, epoch: 0 }]).write().result.outcome;
  for (const reason of ["not_voting", "behind_epoch", "ahead"] as const)
    assert.equal(refused(reason), "unknown_outcome", reason);
  for (const reason of ["full", "damaged", "stale_epoch", "key_refused"] as const)
    assert.equal(refused(reason), "no_quorum", reason);
});

test("coordinator: a stale epoch is reported and is no effect", () => {
  const stale: Refused = { kind: "refused", reason: "stale_epoch", epoch: 5 };
  const bench = new Bench((_, __, sent) => [1, sent === 1 ? stale : taken]);
  const { result } = bench.write();
  assert.equal(result.outcome, "done");
  assert.deepEqual(bench.staleEpochs, [5, 5, 5]);
});

test("coordinator: a read of one replica goes on to the next that can tell", () => {
  const bench = new Bench((_, node) => [
    1,
    node === "a" ? NOT_VOTING : ({ ...holds(at(1)), payload: VALUE } as LookAnswer),
  ]);
  const { result } = bench.read("readOne");
  assert.equal(result.payload, VALUE);
  assert.deepEqual(bench.sent, ["read a", "read b"]);
  assert.equal(new Bench(() => [1, NOT_VOTING]).read("readOne").result.outcome, "no_quorum");
});

test("coordinator: settle writes what is there again, at a new ballot", () => {
  const bench = new Bench((kind) => {
    if (kind === "prepare") return [1, holds(at(1))];
    return [1, kind === "read" ? ({ ...holds(at(1)), payload: VALUE } as LookAnswer) : taken];
  });
  const { result } = bench.read("settle");
  assert.equal(result.payload, VALUE);
  assert.ok(compareBallots(result.ballot as Ballot, at(1)) > 0);
  const nothing = new Bench(() => [1, absent]);
  assert.equal(nothing.read("settle").result.outcome, "absent");
  assert.deepEqual(nothing.proposals, []);
});

/** What the clock of a bench shows at first. */
const CLOCK_MS = 0x20000;
/** A value that ends. */
const ending = (end: number, operationLow = 77) => ({ ...holds(at(1), operationLow), end });
const marked = { ...ending(CLOCK_MS - 1), tombstone: true, ended: true };

test("coordinator: a value past its end is absent once a majority holds its mark, at its own ballot", () => {
  const bench = new Bench((kind) => [1, kind === "accept" ? taken : ending(CLOCK_MS + 1)]);
  const { result } = bench.read();
  assert.equal(result.outcome, "absent");
  assert.equal(bench.proposals.length, 1);
  const { payload, ballot, operationLow, held } = bench.proposals[0];
  assert.deepEqual(payload, { tombstone: true, ended: true, end: CLOCK_MS + 1 });
  assert.deepEqual([ballot, operationLow, held], [at(1), 77, true]);
  assert.equal(
    bench.sent.filter((sent) => sent.startsWith("accept")).length,
    3,
    "also to who holds the value",
  );
  const later = new Bench((kind, node) =>
    node === "a" || kind !== "accept" ? [1, ending(CLOCK_MS + 500)] : null,
  );
  assert.equal(later.read().result.outcome, "no_quorum", "nobody else could be told: the payload is missing");
});

test("coordinator: a mark that one replica holds is finished, whatever the clock says", () => {
  const mark = { ...marked, end: CLOCK_MS + 999_999 };
  const bench = new Bench((kind, node) => [
    1,
    kind === "accept" ? taken : node === "a" ? mark : ending(mark.end),
  ]);
  assert.equal(bench.read().result.outcome, "absent");
  assert.equal(bench.proposals[0].payload.ended, true);
});

test("coordinator: where somebody was promised more, an end is decided by a tombstone at a ballot above that", () => {
  const bench = new Bench((kind, _, __, proposal) => {
    if (kind === "accept") return [1, proposal?.payload.ended ? no(at(9)) : taken];
    return [1, ending(CLOCK_MS)];
  });
  assert.equal(bench.read().result.outcome, "absent");
  const last = bench.proposals.at(-1) as Proposal;
  assert.deepEqual([last.payload, last.operationLow], [TOMBSTONE, 77]);
  assert.ok(compareBallots(last.ballot, at(9)) > 0);
});

test("coordinator: before it knows the time a node tells nobody that a value has ended", () => {
  const bench = new Bench((kind) => [1, kind === "accept" ? taken : ending(CLOCK_MS)]);
  bench.knowsTime = false;
  assert.equal(bench.read().result.outcome, "no_quorum");
  assert.equal(bench.write((exists) => (exists ? "exists" : null)).result.outcome, "no_quorum");
  assert.deepEqual(bench.proposals, []);
});

test("coordinator: a conditional write counts what has ended as absent, and confirms a refusal that rests on that", () => {
  const script: Script = (kind) => [1, kind === "accept" ? taken : ending(CLOCK_MS)];
  const created = new Bench(script).write((exists) => (exists ? "exists" : null)).result;
  assert.deepEqual([created.outcome, created.existed], ["done", false]);
  const refusing = new Bench(script);
  const refused = refusing.write((exists) => (exists ? null : "precondition_failed")).result;
  assert.deepEqual([refused.outcome, refused.exists], ["precondition_failed", false]);
  assert.deepEqual(refusing.proposals[0].payload, TOMBSTONE);
  assert.ok(compareBallots(refusing.proposals[0].ballot, at(1)) > 0);
});

test("coordinator: a write in doubt that finds its own number confirms what is there, not its value", () => {
  const own = { ...ending(CLOCK_MS - 1, 1) };
  for (const [there, expected] of [
    [own, VALUE],
    [{ ...own, tombstone: true, ended: true }, TOMBSTONE],
    [{ ...own, tombstone: true }, TOMBSTONE],
  ] as const) {
    const bench = new Bench((kind, _, sent) => {
      if (kind === "accept") return [1, sent === 1 ? LOST : taken];
      return [1, there];
    });
    const { result } = bench.write();
    assert.equal(result.outcome, "done");
    assert.equal(result.exists, expected === VALUE);
    assert.deepEqual(bench.proposals.at(-1)?.payload, expected);
  }
});

test("coordinator: of a write that another node has tried, and whose answer was lost, what its condition asks for is known", () => {
  const conditions: [RegisterWrite["condition"], boolean][] = [
    [(exists) => (exists ? null : "precondition_failed"), true],
    [(exists) => (exists ? "exists" : null), false],
  ];
  for (const [condition, existed] of conditions) {
    const bench = new Bench((kind) => [1, kind === "accept" ? taken : ending(CLOCK_MS + 60_000, 1)]);
    const results: RegisterResult[] = [];
    const write = { key: KEY, payload: VALUE, operationLow: 1, operationHigh: 0, staged: false, lost: true };
    bench.coordinator.write({ ...write, condition }, (result) => results.push(result));
    while (bench.queue.step());
    assert.deepEqual(
      results.map((result) => [result.outcome, result.existed]),
      [["done", existed]],
    );
  }
});

test("coordinator: a value keeps the end of the one that it takes the place of, or is touched, at a prepared ballot", () => {
  const script =
    (end: number): Script =>
    (kind) => [1, kind === "accept" ? taken : { ...ending(end), payload: kind === "read" ? VALUE : null }];
  const keep = { kind: "keep", make: (end: number) => ({ ...VALUE, end }) } as const;
  const kept = new Bench(script(CLOCK_MS + 900));
  assert.equal(kept.write(() => null, false, keep).result.outcome, "done");
  assert.equal(kept.proposals[0].payload.end, CLOCK_MS + 900);
  const over = new Bench(script(CLOCK_MS));
  assert.equal(over.write(() => null, false, keep).result.outcome, "done");
  assert.equal(over.proposals[0].payload.end, 0, "what has ended has no end to keep");
  const touch = {
    kind: "touch",
    make: (payload: object) => ({ ...payload, tombstone: false, end: 5 }),
  } as const;
  const exists = (there: boolean) => (there ? null : ("not_found" as const));
  const touched = new Bench(script(CLOCK_MS + 900));
  assert.equal(touched.write(exists, false, touch).result.outcome, "done");
  assert.deepEqual(touched.proposals[0].payload, { ...VALUE, end: 5 });
  assert.equal(new Bench(script(CLOCK_MS)).write(exists, false, touch).result.outcome, "not_found");
});

test("coordinator: whether a PUT has created is judged by one time, which all replicas get", () => {
  const bench = new Bench(() => [1, taken]);
  bench.write();
  assert.equal(bench.proposals[0].atMillis, CLOCK_MS);
  const unknown = new Bench(() => [1, taken]);
  unknown.knowsTime = false;
  unknown.write();
  assert.equal(unknown.proposals[0].atMillis, 0);
  // Two replaced the value by that time, the third its mark: it had ended.
  const replaced = (existed: boolean): AcceptAnswer =>
    ({ ...taken, previous: at(1), existed }) as AcceptAnswer;
  const mixed = new Bench((_, node) => [1, replaced(node !== "b")]);
  assert.equal(mixed.write().result.existed, false);
});

test("coordinator: of a write in doubt that is judged anew, and then finds an earlier try of it on top, nobody knows what it replaced", () => {
  let prepared = 0;
  const bench = new Bench((kind, node, sent) => {
    if (kind === "accept")
      return [1, sent === 1 && node === "b" ? LOST : sent === 1 || sent === 2 ? no(at(0)) : taken];
    if (kind === "recall") return null;
    prepared++;
    // First nothing; then, of two replicas, something older than the own try; and at last that.
    return [1, prepared <= 3 ? absent : prepared <= 6 ? holds(at(0)) : holds(at(2), 1)];
  });
  const { result } = bench.write(() => null);
  assert.equal(result.outcome, "done");
  assert.equal(result.certain, false);
});
