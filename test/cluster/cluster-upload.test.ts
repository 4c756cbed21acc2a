/** A large value on its way to several replicas: a majority is enough, and sets the pace. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { ReplicaGroup } from "../../src/cluster/layout/groups.ts";
import { ClusterUpload } from "../../src/cluster/upload/cluster-upload.ts";
import type { WriteResult } from "../../src/shards/arena/write.ts";
import { prefixOf } from "../../src/util/hash-prefix.ts";
import { stopwatch } from "../stopwatch.ts";

const PIECE = Buffer.alloc(256 * 1024, "p");
const PIECES = 24;
const DONE: WriteResult = { error: null, detail: "", created: true, deleted: false, etag: null };

const group = (nodes: string[]): ReplicaGroup => ({
  ...{ epoch: 1, partition: 0, prefix: prefixOf(0, 1024), nodes },
  ...{ current: (1 << nodes.length) - 1, previous: (1 << nodes.length) - 1 },
});

/** How a node takes a stream: all of it; a piece now and then; nothing; all, but without an answer; or it refuses. */
type Manner = "fast" | "slow" | "deaf" | "mute" | "refuses";
/** Between two pieces of a slow one: all of them take longer than anybody may be idle. */
const SLOW_MS = 3000;

interface Outcome {
  result: WriteResult;
  /** Nodes that the write was told to count on; null: nothing was written. */
  staged: string[] | null;
  /** Bytes that each node took. */
  taken: Record<string, number>;
  brokenOff: string[];
  released: number;
}

/**
 * Streams PIECES to nodes of these manners, as a client does that heeds back-pressure.
 * @param heeds false: all had been sent before it was told to wait
 */
async function upload(manners: Record<string, Manner>, heeds = true): Promise<Outcome> {
  const taken: Record<string, number> = {};
  const brokenOff: string[] = [];
  let staged: string[] | null = null;
  let released = 0;
  const send = async (node: string, body: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> => {
    taken[node] = 0;
    const broken = new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => {
        brokenOff.push(node);
        reject(new Error("broken off"));
      });
    });
    broken.catch(() => {});
    if (manners[node] === "refuses") throw new Error("no room");
    if (manners[node] === "deaf") return broken;
    for await (const piece of body) {
      taken[node] += piece.length;
      if (manners[node] === "slow") await new Promise((resolve) => setTimeout(resolve, SLOW_MS));
    }
    if (manners[node] === "mute") return broken;
  };
  return new Promise((resolve) => {
    const end = (result: WriteResult) => resolve({ result, staged, taken, brokenOff, released });
    const value = new ClusterUpload({
      group: group(Object.keys(manners)),
      json: false,
      local: null,
      send,
      write: (nodes, valueBytes, done) => {
        assert.equal(valueBytes, PIECES * PIECE.length);
        staged = [...nodes].sort();
        done(DONE);
      },
      release: () => released++,
    });
    value.onFail = end;
    let sent = 0;
    let isCommitted = false;
    const go = (): void => {
      while (sent < PIECES) {
        sent++;
        if (!value.write(PIECE) && (heeds || sent === PIECES)) return;
      }
      if (!isCommitted) value.commit(end);
      isCommitted = true;
    };
    value.onDrain = go;
    setImmediate(go);
  });
}

test("cluster upload: all replicas that keep pace are counted on", async () => {
  const { result, staged, brokenOff, released } = await upload({ a: "fast", b: "fast", c: "fast" });
  assert.deepEqual([result, staged, brokenOff, released], [DONE, ["a", "b", "c"], [], 1]);
});

for (const manner of ["deaf", "mute", "refuses"] as const)
  test(`cluster upload: of three one ${manner}: the value is written at the two others, and the stream to it broken off`, async () => {
    const watch = stopwatch();
    const { result, staged, taken, brokenOff, released } = await upload({ a: "fast", b: manner, c: "fast" });
    assert.deepEqual([result, staged, released], [DONE, ["a", "c"], 1]);
    assert.deepEqual([taken.a, taken.c], [PIECES * PIECE.length, PIECES * PIECE.length]);
    if (manner !== "refuses") assert.deepEqual(brokenOff, ["b"]);
    assert.ok(watch.stop() < 5000, "it does not wait as long as for a majority");
  });

test("cluster upload: two of three refuse: it fails at once, and nothing is written", async () => {
  const { result, staged, released } = await upload({ a: "fast", b: "refuses", c: "refuses" });
  assert.deepEqual([result.error, staged, released], ["no_quorum", null, 1]);
});

/** Lets time pass until it is over, without waiting for it. Answers how long it would have taken, in ms. */
async function inNoTime<T>(
  { mock }: TestContext,
  begin: () => Promise<T>,
): Promise<{ result: T; ms: number }> {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  let result: T | null = null;
  void begin().then((value) => {
    result = value;
  });
  let ms = 0;
  for (; result === null; ms += 50) {
    // What a timer has set free runs before the next one.
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
    mock.timers.tick(50);
    assert.ok(ms < 600_000, "it is over some time");
  }
  return { result, ms };
}

for (const heeds of [true, false])
  test(`cluster upload: replicas that take little at a time are waited for, of a client that ${heeds ? "waits with them" : "has sent all at once"}`, async (t) => {
    const { result, ms } = await inNoTime(t, () => upload({ a: "fast", b: "slow", c: "slow" }, heeds));
    assert.deepEqual([result.result, result.staged, result.released], [DONE, ["a", "b", "c"], 1]);
    assert.ok(ms > PIECES * SLOW_MS * 0.9, `they took ${ms} ms`);
  });

for (const manner of ["deaf", "mute"] as const)
  test(`cluster upload: two of three ${manner}: it is given up after a while, and nothing is written`, async (t) => {
    const { result, ms } = await inNoTime(t, () => upload({ a: "fast", b: manner, c: manner }));
    assert.deepEqual([result.result.error, result.staged, result.released], ["no_quorum", null, 1]);
    assert.deepEqual(result.brokenOff.sort(), manner === "deaf" ? ["a", "b", "c"] : ["b", "c"]);
    assert.ok(ms < 30_000, `after ${ms} ms`);
  });
