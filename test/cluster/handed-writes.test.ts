/** What a node does with a write that it hands on to another one, whatever comes back; and with one that it is handed. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { BallotSource } from "../../src/cluster/clock/ballots.ts";
import { FEATURE_DECIDED } from "../../src/cluster/layout/features.ts";
import type { ReplicaGroup } from "../../src/cluster/layout/groups.ts";
import { ClusterWrites, type ClusterWritesSetup } from "../../src/cluster/node/writes.ts";
import { PeerError } from "../../src/cluster/peers/peer-error.ts";
import { BOUND_MS } from "../../src/cluster/register/bound.ts";
import {
  NOTHING_DONE,
  type RegisterResult,
  type RegisterWrite,
} from "../../src/cluster/register/requests.ts";
import { decodeHandOn, decodeWritten, encodeWritten } from "../../src/cluster/wire/hand-on.ts";
import { ballotMillis, ballotOfMillis } from "../../src/format/version.ts";
import { plainHead, type WriteResult } from "../../src/shards/arena/write.ts";

const KEY = Buffer.from("hot");
const NOW_MS = 1_700_000_000_000;
const GROUP = { epoch: 4, nodes: ["b", "a", "c"] } as unknown as ReplicaGroup;
const DONE: RegisterResult = {
  ...NOTHING_DONE,
  outcome: "done",
  ballot: ballotOfMillis(NOW_MS),
  exists: true,
};

/** A node whose key is hot, so that its writes go to another one; `answers` is what that one makes of them. */
class Node {
  readonly writes: ClusterWrites;
  /** What came to the own coordinator. */
  readonly own: RegisterWrite[] = [];
  readonly handed: Uint8Array[] = [];
  features = FEATURE_DECIDED;

  constructor(answers: () => Promise<Uint8Array>) {
    const ballots = new BallotSource({
      ...{ node: 1, incarnation: 1, now: () => NOW_MS, ceilingMillis: 0, persistCeiling: () => undefined },
    });
    const handOn = (frame: Uint8Array): Promise<Uint8Array> => {
      this.handed.push(frame);
      return answers();
    };
    this.writes = new ClusterWrites({
      ...{ self: "a", ballots, time: { now: () => NOW_MS, wasAgreed: true } },
      ...{ load: { operations: 0, begun: 0 }, isReady: () => true, features: () => this.features },
      ...{ groupOf: () => GROUP, distance: () => 1, seen: () => undefined, peerOf: () => ({ handOn }) },
      coordinator: {
        write: (request: RegisterWrite, done: (result: RegisterResult) => void) => {
          this.own.push(request);
          done(DONE);
        },
      },
    } as unknown as ClusterWritesSetup);
    this.writes.shared(KEY);
  }

  put(): Promise<WriteResult> {
    return new Promise((resolve) =>
      this.writes.submit(
        { ...plainHead("put", KEY), contentType: "text/plain" },
        Buffer.from("x"),
        (result) => resolve(result),
      ),
    );
  }
}

const lost = () => Promise.reject(new PeerError("peer_lost" as never, "unknown", "reset"));

/** Lets all promises run that can. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
}

test("handed writes: one that is lost is looked for when its bound is behind, and never below it", async (t: TestContext) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const node = new Node(lost);
  const beganMs = performance.now();
  const answer = node.put();
  await settle();
  const sentMs = performance.now();
  const { request } = decodeHandOn(node.handed[0]) ?? assert.fail();
  assert.deepEqual([request.epoch, ballotMillis(request.ballot)], [GROUP.epoch, NOW_MS + BOUND_MS]);
  t.mock.timers.tick(BOUND_MS - 1);
  await settle();
  assert.equal(node.own.length, 0);
  t.mock.timers.tick(1);
  assert.equal((await answer).error, null);
  const [{ lost: isLost, bound, operationLow }] = node.own;
  assert.deepEqual([isLost, bound?.epoch, bound?.below], [true, GROUP.epoch, request.ballot]);
  assert.ok(bound !== null && bound !== undefined && bound.sinceMs >= beganMs && bound.sinceMs <= sentMs);
  assert.equal(operationLow, request.operationLow, "by its number");
});

test("handed writes: one that the other node gave up is looked for at once, above where that tried it", async () => {
  const below = ballotOfMillis(NOW_MS + 5);
  const unknown = encodeWritten({ ...NOTHING_DONE, outcome: "unknown_outcome", ballot: below });
  const node = new Node(() => Promise.resolve(unknown));
  assert.equal((await node.put()).error, null);
  const [{ lost: isLost, bound }] = node.own;
  assert.deepEqual([isLost, bound?.epoch, bound?.below], [true, GROUP.epoch, below]);
});

test("handed writes: one that had no effect there, or was not sent, is written here and is not bound", async () => {
  const refused = encodeWritten({ ...NOTHING_DONE, outcome: "no_quorum" });
  const notSent = new PeerError("peer_lost" as never, "not_sent", "down");
  for (const answers of [() => Promise.resolve(refused), () => Promise.reject(notSent)]) {
    const node = new Node(answers);
    assert.equal((await node.put()).error, null);
    assert.deepEqual([node.own[0].lost, node.own[0].bound], [false, null]);
  }
});

test("handed writes: beside nodes that know of no bounds nothing is bound, and what is lost is looked for at once", async () => {
  const node = new Node(lost);
  node.features = FEATURE_DECIDED - 1;
  await node.put();
  assert.equal(decodeHandOn(node.handed[0])?.request.epoch, 0);
  assert.deepEqual([node.own[0].lost, node.own[0].bound], [true, null]);
});

test("handed writes: who is handed one keeps to its bound, and tells where it was tried last", async () => {
  const from = new Node(lost);
  void from.put();
  await settle();
  const [frame] = from.handed;
  const to = new Node(lost);
  const told: Uint8Array[] = [];
  to.writes.handedOn(frame, (answer) => told.push(answer));
  const { request } = decodeHandOn(frame) ?? assert.fail();
  assert.deepEqual([to.own[0].bound?.epoch, to.own[0].bound?.below], [GROUP.epoch, request.ballot]);
  assert.equal(decodeWritten(told[0])?.outcome, "done");
});
