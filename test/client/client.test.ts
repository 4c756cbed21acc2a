/** `minivault/client` against real nodes. */
import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import * as client from "../../src/client/index.ts";
import type { WatchEvent } from "../../src/client/options/options.ts";
import { type Cluster, startCluster } from "../cluster/workers.ts";
import { Random, randomSeed } from "../random.ts";
import { call, content } from "../rest/client.ts";
import { type Server, startServer, temporaryFolder, waitUntil, withServer } from "../rest/server.ts";
import { type Fate, lossyProxy } from "./lossy-proxy.ts";

const { MinivaultClient } = client;

/** Reads a stream to its end. */
async function bytesOf(stream: ReadableStream<Uint8Array>): Promise<Buffer> {
  return Buffer.from(await new Response(stream).arrayBuffer());
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

describe("client: one node", () => {
  let server: Server;
  let store: client.MinivaultClient;
  before(async () => {
    server = await startServer();
    store = new MinivaultClient({ url: `${server.url}/` });
  });
  after(() => server.dispose());

  test("client: values of any kind come back as what they were", async () => {
    const values = [null, true, 0, -1.5, "", "ä \u0000", [1, [2]], { a: { b: null } }, { value: 1 }];
    for (const value of values) {
      await store.put("v", value);
      assert.deepEqual(await store.get("v"), value);
      assert.equal(Buffer.from((await store.getBytes("v")) ?? []).toString(), JSON.stringify(value));
    }
    const bytes = content(1, 100_000);
    for (const one of [bytes, new Uint8Array(bytes).buffer, new Blob([bytes])]) {
      await store.put("v", one);
      assert.ok(Buffer.from((await store.get<Uint8Array>("v")) ?? []).equals(bytes));
    }
    await store.put("v", "plain", { type: "text/plain" });
    assert.equal(await store.get("v"), "plain");
    // JSON's type beside a text: that text, without an envelope.
    await store.put("v", ' {"value": 1}', { type: "application/json" });
    assert.deepEqual(await store.get("v"), { value: 1 });
    assert.equal((await call(server.port, "GET", "/v")).text, ' {"value": 1}');
    await assert.rejects(store.create("v", "[]", { type: "application/json" }), client.ExistsError);
    assert.equal(await store.get("absent"), undefined);
    assert.equal(await store.getBytes("absent"), undefined);
    assert.equal(await store.getStream("absent"), undefined);
    for (const bad of [undefined, () => {}, Symbol("x")])
      await assert.rejects(store.put("v", bad), TypeError);
    await assert.rejects(store.put("v", 7, { type: "text/plain" }), TypeError);
    await store.put("broken", "no JSON", { type: "application/json" });
    await assert.rejects(store.get("broken"), (error: client.MinivaultError) => error.code === "bad_answer");
  });

  test("client: keys of any form", async () => {
    const keys = [
      "a/b",
      "a//b",
      "/a",
      "a/",
      ".",
      "..",
      "a/../b",
      "a/./b",
      "%41",
      "a?b#c",
      "ü 🙂",
      "_stats",
      "health",
      "_kv/x",
    ];
    for (const key of keys) await store.create(`${key}`, key);
    for (const key of keys) assert.equal(await store.get(key), key);
    for (const key of keys) assert.deepEqual((await store.delete(key)).deleted, true, key);
    await assert.rejects(store.put("", 1), client.MinivaultError);
    await assert.rejects(
      store.put("x".repeat(1025), 1),
      (error: client.MinivaultError) => error.status === 414,
    );
    await assert.rejects(store.get("\ud800"), TypeError);
  });

  test("client: streams both ways, whole and in part", async () => {
    const bytes = content(2, 5_000_000);
    const pieces = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let at = 0; at < bytes.length; at += 100_000)
          controller.enqueue(bytes.subarray(at, at + 100_000));
        controller.close();
      },
    });
    assert.deepEqual(
      (await store.put("stream", pieces, { type: "video/mp4", meta: { Of: "me" } })).created,
      true,
    );
    const whole = await store.getStream("stream");
    assert.ok(whole !== undefined && (await bytesOf(whole.stream)).equals(bytes));
    assert.deepEqual([whole.bytes, whole.type, whole.meta], [bytes.length, "video/mp4", { of: "me" }]);
    const part = await store.getStream("stream", { start: 4_000_000, end: 4_000_010 });
    assert.ok(
      part !== undefined && (await bytesOf(part.stream)).equals(bytes.subarray(4_000_000, 4_000_010)),
    );
    assert.equal(part.bytes, bytes.length);
    const rest = await store.getStream("stream", { start: bytes.length - 5 });
    assert.equal(rest === undefined ? -1 : (await bytesOf(rest.stream)).length, 5);
    const info = await store.head("stream");
    assert.deepEqual([info?.bytes, info?.ttl], [bytes.length, null]);
    await assert.rejects(store.getStream("stream", { start: 5, end: 5 }), RangeError);
    // A stream that is left is no trouble to what follows.
    await (await store.getStream("stream"))?.stream.cancel();
    assert.equal(await store.has("stream"), true);
  });

  test("client: versions, conditions and ends of life", async () => {
    const { created, etag } = await store.create("c", 1, { ttl: 3600 });
    assert.ok(created && /^"[0-9a-f]{32}"$/.test(etag));
    await assert.rejects(store.create("c", 2), client.ExistsError);
    const entry = await store.getEntry<number>("c");
    assert.ok(
      entry !== undefined && entry.ttl !== null && entry.ttl > 3000 && entry.lastModified instanceof Date,
    );
    assert.deepEqual([entry.key, entry.value, entry.etag, entry.type], ["c", 1, etag, "application/json"]);
    const next = await store.put("c", 2, { ifMatch: etag });
    assert.equal(next.created, false);
    await assert.rejects(store.put("c", 3, { ifMatch: etag }), (error: client.MinivaultError) => {
      assert.ok(error instanceof client.PreconditionFailedError);
      assert.deepEqual([error.status, error.code], [412, "precondition_failed"]);
      // The version that is there, where the answer says it.
      return error.etag === null || error.etag === next.etag;
    });
    await assert.rejects(store.delete("c", { ifMatch: etag }), client.PreconditionFailedError);
    await store.touch("c", "1h");
    assert.ok(((await store.head("c"))?.ttl ?? 0) > 3000);
    await store.touch("c", "none");
    assert.equal((await store.head("c"))?.ttl, null);
    await store.put("c", 1, { expires: new Date(Date.now() + 3_600_000) });
    assert.ok(((await store.head("c"))?.ttl ?? 0) > 3000);
    await store.put("c", 1, { ttl: 0.05 });
    await waitUntil("it ends", async () => (await store.get("c")) === undefined);
    await assert.rejects(store.touch("c", 5), client.NotFoundError);
    assert.deepEqual(
      [(await store.delete("c")).deleted, (await store.delete("never", { once: false })).etag],
      [false, null],
    );
  });

  test("client: changes in place", async () => {
    assert.equal(await store.increment("n"), 1);
    assert.equal(await store.increment("n", 4), 5);
    assert.equal(await store.increment("n", 9_007_199_254_740_993n), 9007199254740998);
    await assert.rejects(store.increment("n", 1, { max: 5 }), client.ConflictError);
    await assert.rejects(store.increment("absent", 1, { initial: null }), client.NotFoundError);
    const at = await Promise.all(Array.from({ length: 50 }, () => store.increment("many")));
    assert.deepEqual(
      at.sort((a, b) => a - b),
      Array.from({ length: 50 }, (_, i) => i + 1),
    );
    await store.put("p", { a: 1, b: 2 });
    assert.deepEqual((await store.patch("p", { a: null, c: 3 })).value, { b: 2, c: 3 });
    const replaced = await store.patch("p", [{ op: "replace", path: "/b", value: [1] }]);
    assert.deepEqual([replaced.value, replaced.created], [{ b: [1], c: 3 }, false]);
    await store.put("list", [1]);
    assert.deepEqual((await store.append("list", { n: 2 })).value, [1, { n: 2 }]);
    await store.put("bytes", Buffer.from("ab"));
    await store.append("bytes", Buffer.from("cd"));
    assert.equal(Buffer.from((await store.getBytes("bytes")) ?? []).toString(), "abcd");
    await assert.rejects(store.patch("p", { a: 1 }, { ifMatch: '"0"' }), client.PreconditionFailedError);
  });

  test("client: lists over pages, rolled up, counted, with values; removal of all of them", async () => {
    const keys = Array.from({ length: 57 }, (_, i) => `l/${String(i).padStart(3, "0")}`);
    await Promise.all(keys.map((key, i) => store.put(key, i % 2 === 0 ? { n: i } : Buffer.from(`${i}`))));
    await store.put("l/deep/x", "text", { type: "text/plain", ttl: "1h" });
    const names = (items: { key?: string; prefix?: string }[]) =>
      items.map(({ key, prefix }) => key ?? prefix);
    const found = await all(store.list("l/", { limit: 10, values: true }));
    assert.deepEqual(names(found), [...keys, "l/deep/x"]);
    const [first, second] = found as client.ListItem[];
    assert.deepEqual([first.value, Buffer.from(second.value as Uint8Array).toString()], [{ n: 0 }, "1"]);
    assert.equal(first.etag, (await store.head("l/000"))?.etag);
    const last = found.at(-1) as client.ListItem;
    assert.ok(last.value === "text" && (last.ttl ?? 0) > 3000);
    assert.deepEqual(names(await all(store.list("l/", { delimiter: "/", after: "l/054" }))), [
      "l/055",
      "l/056",
      "l/deep/",
    ]);
    assert.deepEqual(names(await all(store.list("l/", { reverse: true, end: "l/002" }))), ["l/001", "l/000"]);
    assert.equal(await store.count("l/"), 58);
    for await (const item of store.list("l/", { limit: 1 })) {
      assert.ok("key" in item);
      break;
    }
    assert.equal(await store.deleteAll("l/"), 58);
    assert.deepEqual(await all(store.list("l/")), []);
  });

  test("client: batches have a result for each operation", async () => {
    const results = await store.batch([
      { op: "put", key: "b1", value: { n: 1 } },
      { op: "post", key: "b1", value: 2 },
      { op: "put", key: "b2", value: Buffer.from([1, 2, 255]), type: "image/png", ttl: 60 },
      { op: "put", key: "b3", value: "text", type: "text/plain" },
      { op: "get", key: "b1" },
      { op: "get", key: "b2" },
      { op: "get", key: "b3" },
      { op: "get", key: "b4" },
      { op: "delete", key: "b1" },
    ]);
    assert.deepEqual(
      results.map(({ status }) => status),
      [201, 409, 201, 201, 200, 200, 200, 404, 200],
    );
    assert.deepEqual([results[1].code, results[8].deleted], ["exists", true]);
    assert.deepEqual(
      results.slice(4, 7).map(({ value }) => value),
      [{ n: 1 }, new Uint8Array([1, 2, 255]), "text"],
    );
    assert.deepEqual(await store.batch([]), []);
    for (const value of [new Blob(["x"]), new ReadableStream()])
      await assert.rejects(store.batch([{ op: "put", key: "x", value }]), TypeError);
    await assert.rejects(store.batch([{ op: "put", key: "x", value: undefined }]), TypeError);
  });

  test("client: batches change values in place, as the methods do", async () => {
    const large = 2n ** 70n;
    const results = await store.batch([
      { op: "put", key: "p/doc", value: { a: 1, b: 2 } },
      { op: "patch", key: "p/doc", change: { b: null, increment: 1 } },
      { op: "patch", key: "p/doc", change: [{ op: "replace", path: "/a", value: 3 }] },
      { op: "put", key: "p/list", value: [1] },
      { op: "append", key: "p/list", value: { 2: 2 } },
      { op: "append", key: "p/list", value: 3 },
      { op: "put", key: "p/bytes", value: new Uint8Array([1]).buffer },
      { op: "append", key: "p/bytes", value: new Uint8Array([2]) },
      { op: "increment", key: "p/n" },
      { op: "increment", key: "p/n", by: large, ttl: "1h" },
      { op: "increment", key: "p/m", by: 5, initial: 10, max: 12 },
      { op: "increment", key: "p/o", initial: null },
      { op: "touch", key: "p/doc", ttl: 100 },
      { op: "touch", key: "p/n", ttl: "none" },
      { op: "append", key: "p/list", value: 4, ifMatch: '"0"' },
      { op: "patch", key: "p/absent", change: { a: 1 }, ifMatch: "*" },
    ]);
    assert.deepEqual(
      results.map(({ status }) => status),
      [201, 200, 200, 201, 200, 200, 201, 200, 201, 200, 409, 404, 200, 200, 412, 412],
    );
    assert.deepEqual(
      [2, 5, 8].map((index) => results[index].value),
      [{ a: 3, increment: 1 }, [1, { 2: 2 }, 3], 1],
    );
    assert.deepEqual(await store.get("p/bytes"), new Uint8Array([1, 2]));
    assert.equal(Buffer.from((await store.getBytes("p/n")) ?? []).toString(), String(large + 1n));
    assert.ok(((await store.head("p/doc"))?.ttl ?? 0) > 0);
    assert.equal((await store.head("p/n"))?.ttl, null);
    for (const by of [Number.NaN, Number.POSITIVE_INFINITY]) {
      await assert.rejects(store.batch([{ op: "increment", key: "p/n", by }]), TypeError);
      await assert.rejects(store.increment("p/n", by), TypeError);
    }
    await store.append("p/bytes", new Uint8Array([3]).buffer);
    await store.append("p/bytes", new Blob([new Uint8Array([4])]));
    assert.deepEqual(await store.get("p/bytes"), new Uint8Array([1, 2, 3, 4]));
  });

  test("client: a watch tells what changes, goes on at its place after a restart, and ends when it is left", async () => {
    const stop = new AbortController();
    const told: WatchEvent[] = [];
    await store.put("w/old", 1);
    const watching = (async () => {
      for await (const event of store.watch("w/", { initial: true, values: true, signal: stop.signal }))
        told.push(event);
    })();
    const saw = (kind: string, key?: string) => () =>
      told.some((one) => one.event === kind && (key === undefined || ("key" in one && one.key === key)));
    await waitUntil("what is there is told", saw("live"));
    assert.ok(saw("put", "w/old")());
    await store.put("w/a", { n: 1 });
    await waitUntil("a change is told", saw("put", "w/a"));
    const a = told.find((one) => "key" in one && one.key === "w/a");
    assert.ok(
      a?.event === "put" && (a.value as { n: number }).n === 1 && a.etag === (await store.head("w/a"))?.etag,
    );
    await server.kill();
    const port = server.port;
    // The same data, and a client that knows the new address as well as the old one would.
    await server.restart();
    const moved = server.port !== port;
    stop.abort(new Error("enough"));
    await assert.rejects(watching, /enough/);
    store = new MinivaultClient({ url: server.url });
    const place = told
      .map((one) => one.place)
      .filter((one) => one !== null)
      .at(-1);
    assert.ok(typeof place === "string", `moved: ${moved}`);
    await store.put("w/b", 1);
    await store.delete("w/a");
    const later: WatchEvent[] = [];
    for await (const event of store.watch("w/", { since: place })) {
      later.push(event);
      if (event.event === "delete") break;
    }
    assert.ok(later.some((one) => one.event === "put" && one.key === "w/b"));
    assert.ok(later.at(-1)?.event === "delete");
    await assert.rejects(all(store.watch("w/", { since: "no place" })), client.MinivaultError);
  });

  test("client: a lock is held by one, renewed, given back, and its loss is told", async () => {
    // Long enough for a machine that is busy: else it is lost, and rightly so.
    const lock = await store.lock("lock", { ttl: 9, holder: "me" });
    assert.deepEqual(((await store.get("lock")) as { holder: string }).holder, "me");
    await assert.rejects(store.lock("lock"), client.LockedError);
    const before = (await store.head("lock"))?.etag;
    await waitUntil("it is renewed", async () => (await store.head("lock"))?.etag !== before);
    assert.ok(lock.isHeld);
    const waiting = store.lock("lock", { waitMs: 60_000 });
    await lock.release();
    const next = await waiting;
    assert.ok(next.token > lock.token && !lock.isHeld);
    await store.delete("lock");
    await waitUntil("its loss is told", () => next.signal.aborted);
    assert.ok(next.signal.reason instanceof client.LockedError);
    await next.release();
    await assert.rejects(store.lock("lock", { ttl: 0.5 }), RangeError);
  });

  test("client: a signal ends whatever is under way, by its reason", async () => {
    const reason = new Error("no longer");
    const signal = AbortSignal.abort(reason);
    const calls = [
      () => store.get("a", { signal }),
      () => store.put("a", 1, { signal }),
      () => all(store.list("", { signal })),
      () => all(store.watch("", { signal })),
      () => store.batch([{ op: "get", key: "a" }], { signal }),
      () => store.lock("a", { signal }),
    ];
    for (const one of calls) await assert.rejects(one, (error) => error === reason);
    const stop = new AbortController();
    const lock = await store.lock("held");
    const waiting = store.lock("held", { waitMs: 600_000, signal: stop.signal });
    setTimeout(() => stop.abort(reason), 50);
    await assert.rejects(waiting, (error) => error === reason);
    await lock.release();
  });
});

test("client: what a token does not allow is an error of its own", async () => {
  const tokens = path.join(temporaryFolder(), "tokens");
  const line = { name: "r", sha256: hash("sha256", "mv1.r.secret"), prefix: ["a/"], allow: ["read"] };
  writeFileSync(tokens, `${JSON.stringify(line)}\n`, { mode: 0o600 });
  await withServer({ flags: ["-tokens", tokens] }, async ({ url }) => {
    const store = new MinivaultClient({ url, token: "mv1.r.secret" });
    assert.equal(await store.get("a/1"), undefined);
    for (const refused of [() => store.get("b"), () => store.put("a/1", 1), () => all(store.list("a/"))])
      await assert.rejects(
        refused,
        (error: client.AccessError) => error instanceof client.AccessError && error.status === 403,
      );
    await assert.rejects(
      new MinivaultClient({ url }).get("a/1"),
      (error: client.AccessError) => error.status === 401,
    );
  });
});

describe("client: a cluster of three", () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await startCluster({ workers: 3 });
  });
  after(() => cluster.dispose());

  test("client: batches over three nodes whose answers are lost count once", async (t) => {
    const seed = randomSeed(t);
    const random = new Random(seed);
    const fate = (): Fate => (["lost", "cut", "comes", "comes"] as const)[random.below(4)];
    const proxies = await Promise.all(cluster.workers.map(({ port }) => lossyProxy(port, fate)));
    try {
      const names = ["b/0", "b/1", "b/2"];
      const sums = names.map(() => 0);
      const many = async (): Promise<void> => {
        const store = new MinivaultClient({ url: proxies.map(({ url }) => url), retries: 100 });
        for (let round = 0; round < 4; round++) {
          const bys = names.map(() => 1 + random.below(9));
          const results = await store.batch(
            names.flatMap((key, index) => [
              { op: "increment", key, by: bys[index] },
              { op: "increment", key, by: 100 },
            ]),
          );
          assert.deepEqual(
            results.filter(({ status }) => status >= 300),
            [],
            `seed ${seed}`,
          );
          for (const [index, by] of bys.entries()) sums[index] += by + 100;
        }
      };
      await Promise.all([many(), many(), many()]);
      const plain = new MinivaultClient({ url: `http://127.0.0.1:${cluster.workers[0].port}` });
      for (const [index, key] of names.entries())
        assert.equal(await plain.get(key), sums[index], `seed ${seed}`);
      t.diagnostic(`${proxies.reduce((sum, { lost }) => sum + lost(), 0)} answers were lost`);
    } finally {
      for (const proxy of proxies) proxy.close();
    }
  });

  test("client: reads, writes and a watch go on when a node is killed", async () => {
    const urls = cluster.workers.map(({ port }) => `http://127.0.0.1:${port}`);
    const store = new MinivaultClient({ url: urls, retries: 100 });
    const stop = new AbortController();
    const seen = new Set<string>();
    const events: string[] = [];
    const watching = (async () => {
      for await (const event of store.watch("k", { progress: true, signal: stop.signal })) {
        events.push(event.event);
        if ("key" in event) seen.add(event.key);
        // What was missed, if anything was, is listed.
        else if (event.event === "reset")
          for await (const item of store.list("k")) if ("key" in item) seen.add(item.key);
      }
    })();
    await waitUntil("it follows", () => events.length > 0);
    const keys = Array.from({ length: 80 }, (_, i) => `k${i}`);
    for (const [i, key] of keys.entries()) {
      if (i === 40) await cluster.workers[0].kill();
      // What nobody knows the end of is put again: this is the only writer.
      await waitUntil(`${key} is written`, () =>
        store.put(key, i).then(
          () => true,
          (error) => {
            assert.ok(
              error instanceof client.UnknownOutcomeError || error instanceof client.UnavailableError,
              String(error),
            );
            return false;
          },
        ),
      );
    }
    for (const [i, key] of keys.entries()) assert.equal(await store.get(key), i);
    assert.equal(await store.count("k"), keys.length);
    await waitUntil("all changes are told", () => keys.every((key) => seen.has(key)));
    stop.abort();
    await assert.rejects(watching, { name: "AbortError" });
  });
});
