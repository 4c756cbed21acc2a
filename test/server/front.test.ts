import assert from "node:assert/strict";
import { test } from "node:test";
import { createFront } from "../../src/server/front.ts";
import { stopwatch } from "../stopwatch.ts";
import { FakeVault } from "./fake-vault.ts";
import { byKey, until, withFront } from "./harness.ts";

const KEY = "correct horse battery staple";
const bearer = (key: string) => ({ headers: { authorization: `Bearer ${key}` } });

test("auth: mode all asks every request but /health for the key", async () => {
  await withFront({ auth: byKey(KEY) }, async ({ vault, call }) => {
    vault.put("k", "v");
    for (const method of ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"]) {
      for (const path of ["/k", "/_stats", "/_metrics", "/%zz", "/_kv/health"]) {
        const reply = await call(method, path, method === "PUT" ? { body: "x" } : {});
        assert.equal(reply.status, 401, `${method} ${path}`);
        assert.match(String(reply.headers["www-authenticate"]), /^Bearer/);
        if (method !== "HEAD") assert.equal(reply.json().code, "unauthorized");
        else assert.equal(reply.body.length, 0);
      }
    }
    for (const authorization of [
      "",
      "Bearer",
      "Bearer ",
      `Basic ${KEY}`,
      `Bearer ${KEY} `.slice(0, -2),
      `Bearer ${KEY}x`,
      KEY,
    ]) {
      assert.equal((await call("GET", "/k", { headers: { authorization } })).status, 401, authorization);
    }
    assert.equal((await call("GET", "/health")).status, 200);
    assert.equal((await call("HEAD", "/%68ealth")).status, 200);
    assert.equal((await call("PUT", "/health", { body: "x" })).status, 401);
    assert.equal((await call("GET", "/k", bearer(KEY))).text, "v");
    assert.equal((await call("GET", "/k", { headers: { authorization: `bearer  ${KEY}` } })).text, "v");
    assert.equal((await call("PUT", "/k", { ...bearer(KEY), body: "w" })).status, 200);
    assert.equal((await call("DELETE", "/k", bearer(KEY))).status, 200);
    assert.equal((await call("GET", "/_stats", bearer(KEY))).status, 200);
  });
});

test("auth: mode writes leaves reads public", async () => {
  await withFront({ auth: byKey("schlüssel", "writes") }, async ({ vault, call, connect }) => {
    vault.put("k", "v");
    assert.equal((await call("GET", "/k")).status, 200);
    assert.equal((await call("HEAD", "/k")).status, 200);
    for (const path of ["/_stats", "/_metrics", "/?list", "/k?list", "/k?watch", "/k?changes"])
      assert.equal((await call("GET", path)).status, 401, path);
    for (const method of ["PUT", "POST", "DELETE", "PATCH"]) {
      assert.equal((await call(method, "/k", method === "PUT" ? { body: "x" } : {})).status, 401, method);
    }
    const client = await connect();
    client.send(
      "PUT /k HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nAuthorization: Bearer schlüssel\r\n\r\nx",
    );
    await client.sees("200 OK");
  });
});

test("auth: a large body without the key is refused before it is read; an empty key is a mistake", async () => {
  await withFront({ auth: byKey(KEY) }, async ({ connect, vault }) => {
    const client = await connect();
    client.send("PUT /k HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n");
    await client.sees("401 Unauthorized");
    assert.equal(vault.uploadBytes, 0);
  });
  assert.throws(() => byKey(""), /auth key is empty/);
});

test("methods: anything else is 405 with Allow, or 404 on a reserved path", async () => {
  await withFront({}, async ({ call }) => {
    for (const method of ["BREW", "OPTIONS", "TRACE", "PROPFIND"]) {
      const reply = await call(method, "/k");
      assert.deepEqual([reply.status, reply.json().code], [405, "method_not_allowed"], method);
      assert.equal(reply.headers.allow, "GET, HEAD, PUT, POST, PATCH, DELETE");
      assert.equal((await call(method, "/health")).headers.allow, "GET, HEAD");
      const root = await call(method, "/");
      assert.deepEqual([root.status, root.headers.allow], [405, "GET, HEAD"]);
      assert.equal((await call(method, "/_ui")).status, 404);
      assert.equal((await call(method, "/%zz")).status, 400);
    }
    assert.equal((await call("BREW", "/k", { body: "x".repeat(100) })).status, 405);
    assert.equal((await call("BREW", "/k", { body: "x".repeat(200_000) })).status, 405);
    assert.equal((await call("GET", "/k")).status, 404);
  });
});

test("health: a node of a cluster without a layout serves nobody, and says so", async () => {
  let ready = false;
  const clusterFacts = () => ({
    ready,
    reason: null,
    unable: null,
    health: { epoch: 7 },
    stats: {} as never,
  });
  await withFront({ clusterFacts }, async ({ vault, call }) => {
    const joining = await call("GET", "/health");
    assert.deepEqual([joining.status, joining.json().status], [503, "joining"]);
    assert.match(joining.json().reason, /no layout/);
    ready = true;
    const healthy = await call("GET", "/health");
    assert.deepEqual(
      [healthy.status, healthy.json().status, healthy.json().cluster.epoch],
      [200, "healthy", 7],
    );
    vault.shardStats[1].diskFull = true;
    const full = await call("GET", "/health");
    assert.deepEqual([full.status, full.json().status], [200, "degraded"]);
    assert.match(full.json().reason, /disk is full.*this replica/);
  });
});

test("health: 200 with figures; says what is wrong; 503 while writes are stopped", async () => {
  await withFront({ nodes: () => 3 }, async ({ vault, call }) => {
    vault.put("k", "12345");
    const healthy = await call("GET", "/health");
    assert.equal(healthy.status, 200);
    assert.equal(healthy.headers["content-type"], "application/json");
    const document = healthy.json();
    assert.deepEqual(
      [document.status, document.role, document.nodes, document.keys, document.bytes, document.version],
      ["healthy", "worker", 3, 1, 5, "1.2.3"],
    );
    assert.equal(typeof document.uptimeSeconds, "number");
    const head = await call("HEAD", "/health");
    assert.deepEqual([head.status, head.body.length], [200, 0]);
    vault.shardStats[1].diskFull = true;
    const full = await call("GET", "/health");
    assert.deepEqual([full.status, full.json().status, full.json().diskFull], [200, "degraded", true]);
    assert.match(full.json().reason, /disk is full/);
    vault.shardStats[1].writesStopped = true;
    const degraded = await call("GET", "/health");
    assert.deepEqual([degraded.status, degraded.json().status], [503, "degraded"]);
    assert.match(degraded.json().reason, /1 of 2 shards/);
    vault.shardStats[0].writesStopped = true;
    const unhealthy = await call("GET", "/health");
    assert.deepEqual([unhealthy.status, unhealthy.json().status], [503, "unhealthy"]);
    assert.equal((await call("GET", "/k")).status, 200, "reads go on");
  });
});

test("stats: counts by verb and outcome, latencies, shards, memory", async () => {
  await withFront({}, async ({ call }) => {
    for (let round = 0; round < 70; round++) {
      await call("PUT", `/k${round}`, { body: "x" });
      await call("GET", `/k${round}`);
    }
    await call("GET", "/nope");
    await call("HEAD", "/nope");
    await call("DELETE", "/k1");
    await call("POST", "/k2", { body: "x" });
    await call("BREW", "/k2");
    await call("GET", "/k2", { headers: { "if-none-match": "*" } });
    const stats = (await call("GET", "/_stats")).json();
    assert.deepEqual(stats.requests, {
      get: { aborted: 0, "2xx": 70, "3xx": 1, "4xx": 1, "5xx": 0 },
      head: { aborted: 0, "2xx": 0, "3xx": 0, "4xx": 1, "5xx": 0 },
      put: { aborted: 0, "2xx": 70, "3xx": 0, "4xx": 0, "5xx": 0 },
      post: { aborted: 0, "2xx": 0, "3xx": 0, "4xx": 1, "5xx": 0 },
      delete: { aborted: 0, "2xx": 1, "3xx": 0, "4xx": 0, "5xx": 0 },
      other: { aborted: 0, "2xx": 0, "3xx": 0, "4xx": 1, "5xx": 0 },
    });
    assert.equal(stats.latencyMicroseconds.write.count, 72);
    assert.equal(stats.latencyMicroseconds.read.count, 2, "the first, and one in 64");
    for (const name of ["p50", "p90", "p99", "p999", "max"]) {
      assert.ok(stats.latencyMicroseconds.write[name] > 0, name);
    }
    assert.deepEqual([stats.keys, stats.indexBytes, stats.slabs, stats.shards.length], [69, 128, 2, 2]);
    assert.equal(stats.indexBytesPerKey, Math.round((128 / 69) * 100) / 100);
    assert.ok(stats.memory.rss > 0 && stats.memory.heapUsed > 0);
    assert.ok(stats.batches > 0 && stats.batchedWrites === 72);
    assert.deepEqual(
      Object.keys(stats.queues).join(" "),
      "writes bytes requestsInFlight receivingBytes connections watchers",
    );
    const head = await call("HEAD", "/_stats");
    assert.deepEqual([head.status, head.body.length], [200, 0]);
  });
});

test("listen: a port that is taken, or a bad host, is one clear sentence", async () => {
  await withFront({}, async ({ port }) => {
    await assert.rejects(
      withFront({ port }, async () => {}),
      new RegExp(`^Error: cannot listen on 127.0.0.1:${port}: `),
    );
    await assert.rejects(
      withFront({ host: "no.such.host.invalid" }, async () => {}),
      /cannot listen on no.such.host.invalid:0/,
    );
  });
});

test("close: what is in flight finishes, new writes are refused, reads go on, then connections close", async () => {
  await withFront({}, async ({ front, vault, connect, call }) => {
    vault.put("k", "v");
    vault.held = true;
    const writer = await connect();
    writer.send("PUT /w HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    const idle = await connect();
    assert.equal((await call("GET", "/k")).text, "v", "opens the connection that is used below");
    const closed = front.close(5000);
    const late = await call("PUT", "/late", { body: "x" });
    assert.deepEqual([late.status, late.json().code, late.headers["retry-after"]], [503, "stopping", "1"]);
    assert.equal((await call("GET", "/k")).text, "v");
    const health = await call("GET", "/health");
    assert.deepEqual([health.status, health.json().status], [503, "stopping"]);
    await assert.rejects(connect(), /ECONNREFUSED/);
    vault.release();
    await closed;
    await writer.sees("201 Created");
    await writer.isClosed();
    await idle.isClosed();
    await front.close();
    assert.equal(vault.values.has("late"), false);
  });
});

test("close: a client that never finishes is cut off at the deadline", async () => {
  await withFront({}, async ({ front, vault, connect }) => {
    vault.put("big", "", { virtualBytes: 1024 * 1024 * 1024 });
    const uploader = await connect();
    uploader.send("PUT /w HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx");
    const reader = await connect();
    reader.stallsAtFirst();
    reader.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    await until(() => reader.received.length > 0, "the download began");
    const watch = stopwatch();
    await front.close(200);
    const took = watch.elapsed();
    assert.ok(took >= 195 && watch.stop() < 2000, `${took}`);
    await uploader.isClosed();
    await until(() => vault.readersOpen === 0, "the download's reader is closed");
    reader.socket.destroy();
    assert.equal(vault.values.has("w"), false);
  });
});

test("front: several at once keep to themselves", async () => {
  const log = { info: () => {}, error: () => {} };
  const common = {
    host: "127.0.0.1",
    port: 0,
    auth: null,
    maxValueBytes: 1000,
    role: "worker",
    version: "1",
    log,
  };
  const vaults = [new FakeVault(), new FakeVault()];
  const fronts = await Promise.all(vaults.map((vault) => createFront({ ...common, vault })));
  for (const [index, vault] of vaults.entries()) vault.put("k", `v${index}`);
  for (const round of [1, 2]) {
    for (const [index, front] of fronts.entries()) {
      const reply = await fetch(`http://127.0.0.1:${front.port}/k`);
      assert.equal(await reply.text(), `v${index}`, `round ${round}`);
    }
  }
  await Promise.all(fronts.map((front) => front.close()));
});
