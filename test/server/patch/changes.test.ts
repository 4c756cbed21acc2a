/** Changes in place over a made-up cluster: which of them become one write, and what becomes of those that another node is to make. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { PeerError } from "../../../src/cluster/peers/peer-error.ts";
import { inlineValue } from "../../../src/cluster/wire/values.ts";
import type { Ballot } from "../../../src/format/record.ts";
import { etagScratch, etagText, writeEtag } from "../../../src/format/version.ts";
import { conditionsHold } from "../../../src/rules/conditions.ts";
import { NO_LIFE } from "../../../src/rules/expiry.ts";
import type { FrontContext } from "../../../src/server/http/context.ts";
import type { Asked } from "../../../src/server/patch/asked.ts";
import { createChanges } from "../../../src/server/patch/change.ts";
import type { Ending } from "../../../src/server/patch/ending.ts";
import { createTakeChange } from "../../../src/server/patch/handed.ts";
import { decodeChanged, encodeChange, encodeChanged } from "../../../src/server/patch/handed-frame.ts";
import type { WriteDone, WriteHead } from "../../../src/shards/arena/write.ts";

const WRITER = 7;
const ASKED: Asked = {
  ...{ key: Buffer.from("counter"), form: "command", contentType: "application/json", life: NO_LIFE },
  ...{ body: Buffer.from('{"increment":1,"initial":0}'), ifMatch: "", ifNoneMatch: "", once: "" },
};

/** One key, whose writes may be held up. */
class FakeCluster {
  readonly heads: WriteHead[] = [];
  readonly frames: Uint8Array[] = [];
  sharedKeys = 0;
  /** Writes wait for `release`. */
  holds = false;
  /** What becomes of a frame that is handed on; null: nothing is. */
  handOn: ((frame: Uint8Array) => Promise<Uint8Array>) | null = null;
  readonly writes = {
    drawsVersions: true,
    writer: WRITER,
    elsewhere: () => {
      const { handOn } = this;
      if (handOn === null) return null;
      return {
        handOn: (frame: Uint8Array) => {
          this.frames.push(frame);
          return handOn(frame);
        },
      };
    },
    begins: () => true,
    shared: () => {
      this.sharedKeys++;
    },
  };
  private value: ReturnType<typeof inlineValue> | null = null;
  private ballot: Ballot = { clockLow: 0, clockHigh: 1, node: 1, incarnation: 1 };
  private readonly held: (() => void)[] = [];

  get etag(): string | null {
    return this.value === null ? null : etagText(this.ballot);
  }

  read(_: Uint8Array, __: string, done: (answer: object) => void): void {
    const { value, ballot } = this;
    done(value === null ? { state: "absent" } : { state: "found", value, ballot });
  }

  submit(head: WriteHead, body: Uint8Array, done: WriteDone): boolean {
    this.heads.push(head);
    const bytes = Buffer.from(body);
    const run = (): void => {
      const etag = etagScratch();
      const isRight = conditionsHold(head, this.etag);
      if (isRight) {
        this.ballot = { ...this.ballot, clockLow: this.ballot.clockLow + (head.versions ?? 1) };
        this.value = inlineValue(head, bytes);
      }
      const { clockLow, clockHigh, node, incarnation } = this.ballot;
      writeEtag(etag, clockLow, clockHigh, node, incarnation);
      const result = { detail: "", created: false, deleted: false, etag };
      done({ ...result, error: isRight ? null : "precondition_failed" });
    };
    if (this.holds) this.held.push(run);
    else setImmediate(run);
    return true;
  }

  release(): void {
    this.holds = false;
    for (const run of this.held.splice(0)) run();
  }
}

function bench() {
  const cluster = new FakeCluster();
  const log = { error: (fields: object) => assert.fail(JSON.stringify(fields)) };
  const context = { cluster, vault: null, log, maxValueBytes: 1e9 } as unknown as FrontContext;
  const change = createChanges(context);
  const ask = (more: Partial<Asked> = {}): Promise<Ending> =>
    new Promise((resolve) => change({ ...ASKED, ...more }, resolve));
  return { cluster, context, change, ask };
}

const told = (ending: Ending) =>
  ending.error === null ? JSON.parse(`{${Buffer.from(ending.told)}}`).value : ending.error;

test("changes in place: those that wait become one write, each with a version and a value of its own", async () => {
  const { cluster, ask } = bench();
  cluster.holds = true;
  const endings = [ask(), ask(), ask(), ask()];
  cluster.release();
  const ended = await Promise.all(endings);
  assert.deepEqual(
    cluster.heads.map(({ versions }) => versions),
    [1, 3],
  );
  assert.deepEqual(ended.map(told), [1, 2, 3, 4]);
  const etags = ended.map(({ etag }) => etag);
  assert.deepEqual([...new Set(etags)].sort(), etags, "they rise");
  assert.equal(etags[3], cluster.etag);
});

test("changes in place: what has a condition, or is known when it comes again, is a write of its own", async () => {
  for (const more of [{ ifNoneMatch: '"else"' }, { once: "once" }]) {
    const { cluster, ask } = bench();
    cluster.holds = true;
    const endings = [ask(), ask(more), ask(), ask(more)];
    cluster.release();
    assert.deepEqual((await Promise.all(endings)).map(told), [1, 2, 3, 4]);
    assert.deepEqual(
      cluster.heads.map(({ versions }) => versions),
      [1, 1, 1, 1],
    );
  }
});

test("changes in place: what another node surely has not made is made here, what it may have made is not, unless it is known when it comes again", async () => {
  const changed = (error: string | null) =>
    encodeChanged({
      ...{ error, detail: "", etag: '"v"', created: false, replayed: false, replicas: 2, shared: true },
      told: Buffer.from('"value":9'),
    });
  const cases: [outcome: () => Promise<Uint8Array>, once: string, told: unknown, here: number][] = [
    [() => Promise.resolve(changed(null)), "", 9, 0],
    [() => Promise.resolve(changed("patch_conflict")), "", "patch_conflict", 0],
    [() => Promise.resolve(changed("no_quorum")), "", 1, 1],
    [() => Promise.resolve(changed("unknown_outcome")), "", "unknown_outcome", 0],
    [() => Promise.resolve(changed("unknown_outcome")), "once", 1, 1],
    [() => Promise.reject(new PeerError("peer_down", "not_sent", "")), "", 1, 1],
    [() => Promise.reject(new PeerError("peer_timeout", "unknown", "")), "", "unknown_outcome", 0],
    [() => Promise.reject(new PeerError("peer_timeout", "unknown", "")), "once", 1, 1],
    [() => Promise.resolve(Buffer.from("no answer")), "", "unknown_outcome", 0],
  ];
  for (const [index, [outcome, once, expected, here]] of cases.entries()) {
    const { cluster, ask } = bench();
    cluster.handOn = outcome;
    assert.equal(told(await ask({ once })), expected, `case ${index}`);
    assert.equal(cluster.frames.length, 1, "it is handed on once");
    assert.equal(cluster.heads.length, here, `case ${index}`);
    assert.equal(cluster.sharedKeys, index < 5 ? 1 : 0);
  }
});

test("changes in place: of one that another node may have made it is not said that nothing was changed", async () => {
  for (const error of ["no_quorum", "overloaded", "unavailable", "corrupt"] as const)
    for (const outcome of ["unknown", "not_sent"] as const) {
      const { cluster, ask } = bench();
      cluster.handOn = () => Promise.reject(new PeerError("peer_failed", outcome, ""));
      cluster.submit = (_head, _body, done) => {
        setImmediate(done, { error, detail: "", created: false, deleted: false, etag: null });
        return true;
      };
      const expected = outcome === "unknown" && error !== "corrupt" ? "unknown_outcome" : error;
      assert.equal(told(await ask({ once: "once" })), expected);
    }
});

test("changes in place: what another node has handed on is made here, whoever else might be better", async () => {
  const { cluster, context, change } = bench();
  cluster.handOn = () => assert.fail("handed on again");
  const take = createTakeChange(context, change);
  const answer = await new Promise<Uint8Array>((resolve) => {
    take(encodeChange(ASKED, 8), resolve);
  });
  const ending = decodeChanged(answer);
  assert.deepEqual([ending?.error, ending?.etag, ending?.shared], [null, cluster.etag, true]);
});
