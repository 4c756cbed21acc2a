/**
 * Frames and layouts that no node sends, to a node that has no key: whatever would damage its store, take its
 * memory, or bring the cluster down is refused, and the node goes on.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import type { Layout } from "../../src/cluster/layout/layout.ts";
import { NODES_MAX } from "../../src/cluster/layout/placement.ts";
import { joinFrames, splitFrames } from "../../src/cluster/peers/frames.ts";
import { decodeHeld } from "../../src/cluster/wire/answer-frame.ts";
import { encodeRepair } from "../../src/cluster/wire/repair-wire.ts";
import { ACCEPT, encodeRequest, READ } from "../../src/cluster/wire/request-frame.ts";
import { inlineValue } from "../../src/cluster/wire/values.ts";
import { NO_TRAILER } from "../../src/format/fields/trailer.ts";
import { CHUNK_BYTES, PEER_ANSWERS_BYTES_MAX } from "../../src/util/limits.ts";
import { callPatiently as call } from "./patience.ts";
import { type Cluster, startCluster } from "./workers.ts";

const plainValue = (json: boolean, contentType: string, bytes: Uint8Array) =>
  inlineValue({ json, contentType, trailer: NO_TRAILER }, bytes);

const TEXT = { "Content-Type": "text/plain" };
const FRAMES = 4000;
/** What the answers may take of memory: they are gathered and joined, and V8 gives back late. */
const MEMORY_BYTES_MAX = 8 * PEER_ANSWERS_BYTES_MAX;

const memoryBytes = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;

describe("hostile peer: two workers without a key", () => {
  let cluster: Cluster;
  let layout: Layout;
  before(async () => {
    cluster = await startCluster({ workers: 2 });
    layout = JSON.parse((await call(cluster.workers[0].port, "GET", "/_peer/layout")).text).layout;
  });
  after(() => cluster.dispose());

  const batch = (frames: Uint8Array[]) => {
    const bytes = frames.reduce((sum, frame) => sum + frame.length, 0);
    const headers = { "Content-Type": "application/octet-stream" };
    return call(cluster.workers[0].port, "POST", "/_peer/batch", {
      headers,
      body: joinFrames(frames, bytes),
    });
  };
  const ballot = () => ({
    clockHigh: Math.floor(Date.now() / 0x10000),
    clockLow: ((Date.now() % 0x10000) * 0x10000) >>> 0,
    node: 7,
    incarnation: 1,
  });
  const health = async () =>
    JSON.parse((await call(cluster.workers[0].port, "GET", "/health")).text) as { damagedRecords: number };

  test("hostile peer: a content type that no client may send, and a value longer than a record, are not stored", async () => {
    const key = Buffer.from("hostile");
    const request = { kind: ACCEPT, epoch: layout.epoch, key, ballot: ballot() } as const;
    const typed = encodeRequest({ ...request, value: plainValue(false, "x".repeat(90), Buffer.from("1")) });
    typed.fill(0xff, 40 + key.length, 40 + key.length + 90);
    const long = encodeRequest({
      ...request,
      value: plainValue(false, "a/b", Buffer.alloc(CHUNK_BYTES + 1)),
    });
    for (const frame of [typed, long]) {
      const answer = await batch([frame]);
      assert.equal(answer.status, 200);
      assert.equal((splitFrames(answer.body, 1) as Uint8Array[])[0][0], 2, "the frame is refused");
    }
    assert.equal((await call(cluster.workers[0].port, "GET", "/hostile")).status, 404);
    assert.equal((await health()).damagedRecords, 0);
  });

  test("hostile peer: few bytes do not ask for many: what does not fit the answer is told, not sent", async () => {
    const worker = cluster.workers[0];
    const body = Buffer.alloc(CHUNK_BYTES, "v");
    assert.equal((await call(worker.port, "PUT", "/mib", { headers: TEXT, body })).status, 201);
    const before = memoryBytes(worker.pid);
    const read = encodeRequest({ kind: READ, epoch: layout.epoch, key: Buffer.from("mib") });
    const answer = await batch(Array.from({ length: FRAMES }, () => read));
    const grownBytes = memoryBytes(worker.pid) - before;
    const answers = splitFrames(answer.body, FRAMES) as Uint8Array[];
    assert.equal(answers.length, FRAMES);
    let inFrames = 0;
    for (const bytes of answers) {
      const held = decodeHeld(
        bytes,
        (value, its) => ({ ...value, tombstone: false, node: "", ballot: its }) as never,
      );
      assert.ok(held?.kind === "yes" && held.payload !== null);
      assert.equal((held.payload as unknown as { valueBytes: number }).valueBytes, CHUNK_BYTES);
      if ("bytes" in held.payload) inFrames++;
    }
    assert.equal(inFrames, PEER_ANSWERS_BYTES_MAX / CHUNK_BYTES);
    assert.ok(grownBytes < MEMORY_BYTES_MAX, `${grownBytes} bytes more`);
    const scan = {
      kind: "scan",
      epoch: layout.epoch,
      partition: 0,
      cursor: 0,
      limit: 512,
      leaves: 0xffff,
    } as const;
    const scans = await batch(Array.from({ length: FRAMES }, () => encodeRepair(scan)));
    const kinds = (splitFrames(scans.body, FRAMES) as Uint8Array[]).map((bytes) => bytes[0]);
    assert.ok(kinds.filter((kind) => kind === 2).length > FRAMES / 2, "most of the scans are refused");
  });

  test("hostile peer: a layout that nobody can use is refused, and not kept", async () => {
    const next = { ...layout, epoch: layout.epoch + 1 };
    const stranger = (url: string) => ({ id: url, url, region: "r", host: "h", state: "active" });
    const many = Array.from({ length: NODES_MAX }, (_, index) => stranger(`http://10.0.0.1:${index + 1}`));
    for (const bad of [
      { ...next, nodes: [...layout.nodes, stranger("not a url")] },
      { ...next, nodes: layout.nodes.map((node) => ({ ...node, id: `${node.id}#` })) },
      { ...next, nodes: [...layout.nodes, ...many] },
      { ...next, epoch: 2 ** 32 },
      { ...next, epoch: Number.MAX_SAFE_INTEGER },
    ]) {
      const body = JSON.stringify({ layout: bad });
      const answer = await call(cluster.workers[0].port, "POST", "/_peer/layout", { headers: TEXT, body });
      assert.equal(answer.status, 400, body.slice(0, 200));
    }
    const known = JSON.parse((await call(cluster.workers[0].port, "GET", "/_peer/layout")).text);
    assert.deepEqual(known.layout, layout);
    const { port } = cluster.workers[0];
    assert.equal((await call(port, "PUT", "/after", { headers: TEXT, body: "x" })).status, 201);
  });
});
