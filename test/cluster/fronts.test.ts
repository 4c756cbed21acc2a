/** -fronts 2 on the nodes of a cluster: every door of every node is the same register. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import http from "node:http";
import { after, before, describe, test } from "node:test";
import { randomSeed } from "../random.ts";
import { call, content } from "../rest/client.ts";
import { runProgram, waitUntil } from "../rest/server.ts";
import { assertRight, chaosRun, lineOf } from "./chaos.ts";
import { type Cluster, startCluster } from "./workers.ts";

const KEY = "a-key-of-the-nodes-and-of-all-clients";
const AUTH = { Authorization: `Bearer ${KEY}` };
const RAW = { ...AUTH, "Content-Type": "text/plain" };
const JSON_TYPE = { ...AUTH, "Content-Type": "application/json" };
/** Above what travels in a frame. */
const LARGE_BYTES = 1_200_000;
const RUN_MS = 2500;

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Follows what changes below a prefix; resolves once the feed has begun. */
function watch(port: number, path: string): Promise<{ text: () => string; end: () => void }> {
  return new Promise((resolve, reject) => {
    const request = http.get({ host: "127.0.0.1", port, path, headers: AUTH, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (piece: string) => {
        text += piece;
      });
      response.on("error", () => {});
      if (response.statusCode !== 200) reject(new Error(`status ${response.statusCode}`));
      else resolve({ text: () => text, end: () => request.destroy() });
    });
    request.on("error", reject);
  });
}

describe("cluster fronts: three workers with two fronts each", () => {
  let cluster: Cluster;
  let doors: number[];
  before(async () => {
    cluster = await startCluster({ workers: 3, fronts: 2, key: KEY });
    doors = cluster.workers.flatMap((worker) => worker.doors);
  });
  after(() => cluster?.dispose());

  /** A request that was not decided may be asked again, since each here can be told from a first one. */
  const decided = async (...words: Parameters<typeof call>): ReturnType<typeof call> => {
    for (;;) {
      const answer = await call(...words);
      if (answer.status !== 503) return answer;
    }
  };

  test("cluster fronts: what one door acknowledged is what all doors read, with its version", async () => {
    for (const [number, door] of doors.entries()) {
      const put = await decided(door, "PUT", "/one", { headers: RAW, body: `value ${number}` });
      assert.ok(put.status === 200 || put.status === 201, put.text);
      for (const other of doors) {
        const read = await decided(other, "GET", "/one", { headers: AUTH });
        assert.equal(read.text, `value ${number}`);
        assert.equal(read.headers.etag, put.headers.etag);
      }
    }
  });

  test("cluster fronts: of those that create one key through all doors one succeeds, and increments add up", async () => {
    const posts = await Promise.all(
      doors.map((door) => call(door, "POST", "/race", { headers: RAW, body: String(door) })),
    );
    const created = posts.filter(({ status }) => status === 201);
    const unknown = posts.filter(({ status }) => status === 503);
    assert.ok(created.length <= 1 && created.length + unknown.length >= 1, posts.map((p) => p.text).join());
    const rounds = 3;
    await Promise.all(
      doors.map(async (door, index) => {
        const next = doors[(index + 1) % doors.length];
        for (let round = 0; round < rounds; round++) {
          // Known when it comes again, at whatever door.
          const headers = { ...JSON_TYPE, "Idempotency-Key": `"${door}-${round}"` };
          for (const at of [door, next]) {
            const body = '{"increment": 1, "initial": 0}';
            const answer = await decided(at, "PATCH", "/counter", { headers, body });
            assert.ok(answer.status === 200 || answer.status === 201, answer.text);
          }
        }
      }),
    );
    const counted = await decided(doors[1], "GET", "/counter", { headers: AUTH });
    assert.equal(counted.json().value, rounds * doors.length);
  });

  test("cluster fronts: large values go in and out by every door", async () => {
    await Promise.all(
      doors.map(async (door, number) => {
        const body = content(number, LARGE_BYTES);
        const put = await decided(door, "PUT", `/large/${number}`, { headers: RAW, body });
        assert.ok(put.status === 201 || put.status === 200, put.text);
        const others = [door, doors[(number + 1) % doors.length]];
        const reads = others.map((other) => decided(other, "GET", `/large/${number}`, { headers: AUTH }));
        for (const read of await Promise.all(reads)) assert.equal(sha256(read.body), sha256(body));
      }),
    );
    for (const door of doors) {
      const list = (await decided(door, "GET", "/large/?list", { headers: AUTH })).json();
      assert.equal(list.keys.length, doors.length, JSON.stringify(list));
    }
  });

  test("cluster fronts: all doors tell of what changes", async () => {
    const feeds = await Promise.all(doors.map((door) => watch(door, "/told/?watch")));
    try {
      for (const [number, door] of doors.entries())
        await decided(door, "PUT", `/told/${number}`, { headers: RAW, body: "told" });
      for (const [index, feed] of feeds.entries())
        await waitUntil(`door ${index} has told of all`, () =>
          doors.every((_, number) => feed.text().includes(`told/${number}`)),
        );
    } finally {
      for (const feed of feeds) feed.end();
    }
  });

  test("cluster fronts: each door says how the node is, the figures are those of all, and the nodes' routes are the main port's", async () => {
    for (const worker of cluster.workers) {
      for (const door of worker.doors) {
        await waitUntil("it is well", async () => (await call(door, "GET", "/health")).status === 200);
        const stats = (await call(door, "GET", "/_stats", { headers: AUTH })).json();
        assert.equal(stats.nodes, 3);
        assert.equal(stats.cluster.voting, true);
        assert.equal(stats.requestsByFront.length, 2);
        for (const requests of stats.requestsByFront) assert.ok(requests > 0, `${stats.requestsByFront}`);
      }
      let before = 0;
      for (const door of [...worker.doors, ...worker.doors]) {
        const { text } = await call(door, "GET", "/_metrics", { headers: AUTH });
        const writes = Number(/^minivault_batched_writes_total (\d+)$/m.exec(text)?.[1]);
        // The main thread makes the writes of both; a counter never falls.
        assert.ok(writes > 0 && writes >= before, `${before}, then ${writes}`);
        before = writes;
      }
      const [main, other] = worker.doors;
      assert.equal((await call(main, "GET", "/_peer/ping", { headers: AUTH })).status, 401);
      assert.equal((await call(other, "GET", "/_peer/ping", { headers: AUTH })).status, 404);
    }
  });

  test("cluster fronts: a node is killed, and one stops, and both come back with what was acknowledged", async () => {
    const [first, second, third] = cluster.workers;
    await decided(first.doors[1], "PUT", "/kept", { headers: RAW, body: "before" });
    await first.kill("SIGKILL");
    await decided(second.doors[1], "PUT", "/kept", { headers: RAW, body: "meanwhile" });
    await first.start();
    await cluster.ready([first]);
    await third.kill("SIGTERM");
    assert.match(third.log(), /stopped/);
    await decided(first.doors[1], "PUT", "/kept", { headers: RAW, body: "after" });
    await third.start();
    await cluster.ready([third]);
    for (const door of doors)
      assert.equal((await decided(door, "GET", "/kept", { headers: AUTH })).text, "after");
  });
});

test("cluster fronts: under faults, histories over all doors are linearizable and nothing acknowledged is lost", async (t) => {
  const seed = randomSeed(t);
  const cluster = await startCluster({ workers: 3, fronts: 2 });
  try {
    const result = await chaosRun(cluster, { seed, ms: RUN_MS });
    console.log(`# ${lineOf(result)}`);
    assertRight(result);
    assert.ok(result.done > 0);
  } finally {
    await cluster.dispose();
  }
});

test("cluster fronts: -fronts in a cluster without -front-port, and the other way round, is refused in one sentence", async () => {
  const words = ["-host", "127.0.0.1", "-port", "0", "-data", "/tmp/minivault-never-made"];
  const alone = await runProgram([...words, "-fronts", "2", "-front-port", "0"]);
  assert.equal(alone.status, 1);
  assert.match(alone.output, /-front-port is for a node of a cluster/);
  const single = await runProgram([...words, "-master", "http://127.0.0.1:1", "-front-port", "0"]);
  assert.equal(single.status, 1);
  assert.match(single.output, /-front-port is for a node of a cluster/);
});
