/** Three real workers and a master, each link through a proxy: what a client may rely on while nodes and links fail. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { call as callOnce, digest } from "../rest/client.ts";
import { waitUntil } from "../rest/server.ts";
import { callPatiently as call } from "./patience.ts";
import { type Cluster, startCluster } from "./workers.ts";

const JSON_TYPE = { "Content-Type": "application/json" };
const RAW = { "Content-Type": "text/plain" };

describe("cluster: three workers", () => {
  let cluster: Cluster;
  const port = (worker: number) => cluster.workers[worker].port;

  before(async () => {
    cluster = await startCluster({ workers: 3, regions: ["eu", "us", "asia"] });
  });
  after(() => cluster.dispose());

  test("cluster: a value written at one node is read at the others, with its text, version and type", async () => {
    const text = '{"value":{"b":12345678901234567890,"a":[1.0,"\\u00e9"]}}';
    const created = await call(port(0), "POST", "/json", { headers: JSON_TYPE, body: text });
    assert.equal(created.status, 201, created.text);
    assert.ok(Number(created.headers["x-minivault-replicas"]) >= 2);
    assert.equal(created.headers["x-minivault-region"], "eu");
    for (const worker of [0, 1, 2]) {
      const read = await call(port(worker), "GET", "/json");
      assert.equal(read.text, text);
      assert.equal(read.headers.etag, created.headers.etag);
      assert.equal(read.headers["content-type"], "application/json");
      assert.equal(read.headers["x-minivault-region"], ["eu", "us", "asia"][worker]);
    }
    const raw = await call(port(1), "PUT", "/raw", {
      headers: { "Content-Type": "image/x; a=b" },
      body: "bytes",
    });
    assert.deepEqual([raw.status, raw.json().created], [201, true]);
    const back = await call(port(2), "GET", "/raw");
    assert.deepEqual([back.text, back.headers["content-type"]], ["bytes", "image/x; a=b"]);
    const bad = await call(port(1), "PUT", "/bad", { headers: JSON_TYPE, body: '{"value":1,}' });
    assert.deepEqual([bad.status, bad.json().code], [400, "bad_json"]);
  });

  test("cluster: create, replace, delete and their conditions hold across nodes", async () => {
    const first = await call(port(0), "PUT", "/conditions", { headers: RAW, body: "1" });
    assert.equal(first.status, 201);
    const second = await call(port(1), "PUT", "/conditions", { headers: RAW, body: "2" });
    assert.deepEqual([second.status, second.json().created], [200, false]);
    const stale = { ...RAW, "If-Match": String(first.headers.etag) };
    assert.equal((await call(port(2), "PUT", "/conditions", { headers: stale, body: "3" })).status, 412);
    const fresh = { ...RAW, "If-Match": String(second.headers.etag) };
    assert.equal((await call(port(2), "PUT", "/conditions", { headers: fresh, body: "3" })).status, 200);
    assert.equal((await call(port(0), "POST", "/conditions", { headers: RAW, body: "4" })).status, 409);
    assert.equal((await call(port(0), "GET", "/conditions")).text, "3");
    const deleted = await call(port(1), "DELETE", "/conditions");
    assert.deepEqual(deleted.json(), { success: true, deleted: true });
    assert.equal((await call(port(1), "DELETE", "/conditions")).json().deleted, false);
    for (const worker of [0, 1, 2])
      assert.equal((await call(port(worker), "GET", "/conditions")).status, 404);
    assert.equal((await call(port(2), "POST", "/conditions", { headers: RAW, body: "5" })).status, 201);
    const seen = await call(port(0), "GET", "/conditions");
    const unchanged = { "If-None-Match": String(seen.headers.etag) };
    assert.equal((await call(port(1), "GET", "/conditions", { headers: unchanged })).status, 304);
    const head = await call(port(1), "HEAD", "/conditions");
    assert.deepEqual([head.status, head.headers["content-length"], head.text], [200, "1", ""]);
    assert.equal((await call(port(1), "GET", "/conditions?consistency=maybe")).status, 400);
  });

  test("cluster: of POSTs of one key at three nodes at once exactly one creates it, and each is told", async () => {
    const keys = Array.from({ length: 150 }, (_, number) => `/race-${number}`);
    for (let at = 0; at < keys.length; at += 10)
      await Promise.all(
        keys.slice(at, at + 10).map(async (key) => {
          const posts = [0, 1, 2].map((worker) =>
            call(port(worker), "POST", key, { headers: RAW, body: `${worker}` }),
          );
          const replies = await Promise.all(posts);
          const told = `${key}: ${replies.map((reply) => reply.text)}`;
          const statuses = replies.map((reply) => reply.status);
          assert.deepEqual([...statuses].sort(), [201, 409, 409], told);
          assert.equal((await call(port(1), "GET", key)).text, `${statuses.indexOf(201)}`, told);
        }),
      );
  });

  test("cluster: a large value streams to all replicas and back, whole and in parts", async () => {
    const value = randomBytes(12 * 1024 * 1024 + 7);
    const sha256 = createHash("sha256").update(value).digest("hex");
    const put = await call(port(0), "PUT", "/large", { headers: RAW, body: value });
    assert.equal(put.status, 201, put.text);
    for (const worker of [0, 1, 2]) {
      assert.equal((await digest(port(worker), "GET", "/large")).sha256, sha256);
      const part = await call(port(worker), "GET", "/large", { headers: { Range: "bytes=5000000-5000099" } });
      assert.equal(part.status, 206);
      assert.ok(part.body.equals(value.subarray(5_000_000, 5_000_100)));
    }
    const json = `{"value":"${"x".repeat(3_000_000)}"}`;
    assert.equal((await call(port(1), "PUT", "/large-json", { headers: JSON_TYPE, body: json })).status, 201);
    assert.equal((await call(port(2), "GET", "/large-json")).text, json);
    const broken = await call(port(1), "PUT", "/large-broken", {
      headers: JSON_TYPE,
      body: json.slice(0, -1),
    });
    assert.equal(broken.status, 400);
    assert.equal((await call(port(2), "GET", "/large-broken")).status, 404);
  });

  test("cluster: one node killed, the others go on; it comes back with what it missed", async () => {
    await call(port(0), "PUT", "/before", { headers: RAW, body: "old" });
    await cluster.workers[2].kill();
    let longestMs = 0;
    const begun = performance.now();
    for (let number = 0; performance.now() - begun < 3000; number++) {
      const at = performance.now();
      const put = await callOnce(port(number % 2), "PUT", "/before", { headers: RAW, body: `new-${number}` });
      assert.ok(put.status === 200 || put.status === 503, put.text);
      if (put.status === 503) continue;
      longestMs = Math.max(longestMs, performance.now() - at);
      assert.equal((await call(port((number + 1) % 2), "GET", "/before")).text, `new-${number}`);
    }
    console.log(`# longest write with a node dead: ${longestMs.toFixed(0)} ms`);
    const last = (await call(port(0), "GET", "/before")).text;
    await cluster.workers[2].start();
    await cluster.ready([cluster.workers[2]]);
    assert.equal((await call(port(2), "GET", "/before")).text, last);
  });

  test("cluster: a minority answers 503, never 404, and takes no write", async () => {
    await call(port(0), "PUT", "/minority", { headers: RAW, body: "kept" });
    const [a, b, c] = cluster.workers;
    for (const other of [b, c]) {
      a.linkFrom(other).cut("both");
      other.linkFrom(a).cut("both");
    }
    try {
      for (const [method, path] of [
        ["GET", "/minority"],
        ["GET", "/never-there"],
        ["PUT", "/minority"],
        ["DELETE", "/minority"],
      ]) {
        const reply = await callOnce(
          a.port,
          method,
          path,
          method === "PUT" ? { headers: RAW, body: "lost" } : {},
        );
        assert.equal(reply.status, 503, `${method} ${path}: ${reply.text}`);
        assert.ok(["no_quorum", "unknown_outcome"].includes(reply.json().code), reply.text);
      }
      const there = await call(b.port, "GET", "/minority");
      assert.equal(there.text, "kept");
      assert.equal((await call(c.port, "PUT", "/minority", { headers: RAW, body: "newer" })).status, 200);
    } finally {
      for (const other of [b, c]) {
        a.linkFrom(other).heal();
        other.linkFrom(a).heal();
      }
    }
    await waitUntil(
      "the node answers again",
      async () => (await call(a.port, "GET", "/minority")).status === 200,
    );
    assert.equal((await call(a.port, "GET", "/minority")).text, "newer");
  });

  test("cluster: the master is not needed while clients are served, nor for a restart", async () => {
    await cluster.killMaster();
    try {
      assert.equal((await call(port(0), "PUT", "/no-master", { headers: RAW, body: "1" })).status, 201);
      await cluster.workers[1].kill("SIGTERM");
      await cluster.workers[1].start();
      await cluster.ready([cluster.workers[1]]);
      assert.equal((await call(port(1), "GET", "/no-master")).text, "1");
    } finally {
      await cluster.startMaster();
    }
  });

  test("cluster: consistency=one answers from the node's own copy", async () => {
    await call(port(0), "PUT", "/one", { headers: RAW, body: "here" });
    await waitUntil("every node has it", async () => {
      const replies = await Promise.all(
        [0, 1, 2].map((worker) => call(port(worker), "GET", "/one?consistency=one")),
      );
      return replies.every((reply) => reply.text === "here");
    });
    assert.equal((await call(port(0), "GET", "/not-there?consistency=one")).status, 404);
  });
});
