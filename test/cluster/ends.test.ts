/**
 * Values that end, over three real nodes: their ends are the same everywhere, nobody is shown again what somebody was told is gone, and a lock
 * by POST with a ttl has one holder at a time, whose token is the highest so far.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Random, randomSeed } from "../random.ts";
import type { Reply } from "../rest/client.ts";
import { waitUntil } from "../rest/server.ts";
import { goneStaysGone, lockHolders } from "./ends.ts";
import { callPatiently as call } from "./patience.ts";
import { type Cluster, startCluster, type Worker } from "./workers.ts";

const RAW = { "Content-Type": "text/plain" };
const LARGE_BYTES = 3 * 1024 * 1024 + 5;
/** Longer than any test takes. */
const LONG = "1h";

describe("ends: three workers", () => {
  let cluster: Cluster;

  before(async () => {
    cluster = await startCluster({
      workers: 3,
      clocks: true,
      env: { MINIVAULT_TEST_TOMBSTONE_AGE_MS: "2000" },
    });
    for (const worker of cluster.workers)
      await waitUntil("it knows the time", async () => (await clockOf(worker)).agreed);
  });
  after(() => cluster.dispose());

  const clockOf = async (worker: Worker): Promise<{ agreed: boolean }> =>
    (await call(worker.port, "GET", "/_stats")).json().cluster.clock;
  const put = (worker: Worker, target: string, body: string | Buffer = "value"): Promise<Reply> =>
    call(worker.port, "PUT", target, { headers: RAW, body });
  const isGone = (key: string) =>
    waitUntil(`${key} is gone`, async () => (await call(cluster.workers[0].port, "GET", key)).status === 404);

  test("ends: every node tells what is left, and a value that has ended is absent for all that can be asked", async () => {
    const [a, b, c] = cluster.workers;
    assert.equal((await put(a, `/stays?ttl=${LONG}`)).status, 201);
    assert.equal((await put(a, "/for-ever")).status, 201);
    for (const { port } of cluster.workers) {
      const read = await call(port, "GET", "/stays");
      const left = Number(read.headers["x-ttl"]);
      assert.ok(left > 3000 && left <= 3600, `${left} s are left`);
      assert.equal((await call(port, "GET", "/for-ever")).headers["x-ttl"], undefined);
    }
    const { etag = "" } = (await put(a, "/short?ttl=300ms")).headers;
    await isGone("/short");
    for (const { port } of cluster.workers) {
      assert.equal((await call(port, "GET", "/short")).status, 404);
      assert.equal((await call(port, "HEAD", "/short")).status, 404);
      const listed = (await call(port, "GET", "/?list")).json().keys;
      assert.deepEqual(
        listed.map(({ key }: { key: string }) => key),
        ["for-ever", "stays"],
      );
      assert.equal(typeof listed[1].ttl, "number");
    }
    assert.equal((await call(b.port, "PATCH", "/short?ttl=5")).status, 404);
    const matched = await call(b.port, "PUT", "/short", { headers: { ...RAW, "If-Match": etag }, body: "x" });
    assert.equal(matched.status, 412);
    const deleted = await call(b.port, "DELETE", "/short");
    assert.deepEqual(deleted.json(), { success: true, deleted: false });
    assert.equal((await call(c.port, "POST", "/short", { headers: RAW, body: "new" })).status, 201);
    for (const { port } of cluster.workers) assert.equal((await call(port, "GET", "/short")).text, "new");
  });

  test("ends: an end is renewed, kept and taken away from any node, of large values without sending them again", async () => {
    const [a, b, c] = cluster.workers;
    const large = Buffer.alloc(LARGE_BYTES, 7);
    for (const [key, body] of [
      ["/touched", Buffer.from("value")],
      ["/touched-large", large],
    ] as const) {
      const first = await put(a, `${key}?ttl=${LONG}`, body);
      assert.equal(first.status, 201);
      const touched = await call(b.port, "PATCH", `${key}?ttl=2h`);
      assert.equal(touched.status, 200, touched.text);
      assert.ok(String(touched.headers.etag) > String(first.headers.etag), "a new version");
      const stale = { headers: { "If-Match": String(first.headers.etag) } };
      assert.equal((await call(c.port, "PATCH", `${key}?ttl=3h`, stale)).status, 412);
      for (const { port } of cluster.workers) {
        const read = await call(port, "GET", key);
        assert.ok(read.body.equals(body));
        assert.equal(read.headers.etag, touched.headers.etag);
        assert.ok(Number(read.headers["x-ttl"]) > 3600);
      }
      assert.equal((await put(c, `${key}?ttl=keep`, "other")).status, 200);
      const kept = await call(a.port, "GET", key);
      assert.deepEqual([kept.text, Number(kept.headers["x-ttl"]) > 3600], ["other", true]);
      assert.equal((await call(a.port, "PATCH", `${key}?ttl=none`)).status, 200);
      assert.equal((await call(b.port, "GET", key)).headers["x-ttl"], undefined);
      assert.equal((await put(b, `${key}?ttl=keep`, "third")).status, 200);
      assert.equal((await call(b.port, "GET", key)).headers["x-ttl"], undefined);
    }
  });

  test("ends: what has ended while a node was down is gone there, too, and what nobody needs any more is collected", async () => {
    const [a, b, c] = cluster.workers;
    await put(a, "/missed?ttl=1500ms");
    await put(a, "/collected?ttl=300ms");
    await c.kill();
    await waitUntil("it is gone", async () => (await call(a.port, "GET", "/missed")).status === 404);
    await c.start();
    await cluster.ready();
    for (const { port } of cluster.workers)
      await waitUntil("it is gone here", async () => {
        const { status } = await call(port, "GET", "/missed");
        assert.notEqual(status, 200);
        return status === 404;
      });
    await waitUntil("all marks are collected", async () => {
      const stats = await Promise.all(
        [a, b, c].map(async ({ port }) => (await call(port, "GET", "/_stats")).json()),
      );
      return stats.every(({ tombstones }) => tombstones === 0);
    });
  });

  test("ends: a value that somebody was told is gone is never read again, whatever the clocks do", async (t) => {
    const random = new Random(randomSeed(t));
    const result = await goneStaysGone(cluster, random, 40);
    t.diagnostic(`${result.keys} keys, ${result.reads} reads, ${result.gone} told as gone`);
    assert.deepEqual(result.back, []);
    assert.ok(result.keys > 0);
    assert.equal(result.gone, result.keys);
  });

  test("ends: a lock by POST with a ttl has one holder at a time, and tokens rise", async (t) => {
    const random = new Random(randomSeed(t));
    const { takeovers, abandoned, together, falling } = await lockHolders(cluster, random, 30);
    t.diagnostic(`${takeovers} takeovers, ${abandoned} of them left to their end`);
    assert.deepEqual([together, falling], [[], []]);
    assert.ok(takeovers >= 30);
  });
});
