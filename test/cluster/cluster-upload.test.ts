/** A large value on its way to several replicas: a majority is enough, and sets the pace. */
import assert from "node:assert/strict";
import { test } from "node:test";
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

/** How a node takes a stream: all of it; nothing; all, but without an answer; or it refuses. */
type Manner = "fast" | "deaf" | "mute" | "refuses";

interface Outcome {
  result: WriteResult;
  /** Nodes that the write was told to count on; null: nothing was written. */
  staged: string[] | null;
  /** Bytes that each node took. */
  taken: Record<string, number>;
  brokenOff: string[];
  released: number;
}

/** Streams PIECES to nodes of these manners, as a client does that heeds back-pressure. */
async function upload(manners: Record<string, Manner>): Promise<Outcome> {
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
    for await (const piece of body) taken[node] += piece.length;
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
    const go = (): void => {
      while (sent < PIECES) {
        sent++;
        if (!value.write(PIECE)) return;
      }
      value.commit(end);
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
