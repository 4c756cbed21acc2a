/** Keyv 5 over `minivault/keyv`: its own test suite, and what that does not ask. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import keyvTestSuite, { keyvIteratorTests } from "@keyv/test-suite";
import { Keyv, type KeyvStoreAdapter } from "keyv";
import { KeyvMinivault } from "../../src/client/keyv/keyv.ts";
import { type Cluster, startCluster } from "../cluster/workers.ts";
import { call } from "../rest/client.ts";
import { type Server, startServer } from "../rest/server.ts";
import { foreignRunner } from "./foreign-suite.ts";

describe("keyv: one node", () => {
  let server: Server;
  before(async () => {
    server = await startServer();
  });
  after(() => server.dispose());
  // Keyv wants to know its shape.
  const storeOf = (): KeyvStoreAdapter => new KeyvMinivault(server.url);

  describe("its own suite", () => {
    // biome-ignore lint/suspicious/noExplicitAny: it is typed for vitest
    const runner = foreignRunner("keyv") as any;
    keyvTestSuite(runner, Keyv, storeOf);
    keyvIteratorTests(runner, Keyv, storeOf);
  });

  test("keyv: a store is one key a value, with an end of its own; nothing else is touched", async () => {
    await call(server.port, "PUT", "/other", { body: "stays" });
    const keyv = new Keyv({ store: storeOf(), namespace: "a" });
    await keyv.set("x/ü", { n: 1 }, 60_000);
    const { text, headers } = await call(server.port, "GET", `/keyv/${encodeURIComponent("a:x/ü")}`);
    assert.equal(JSON.parse(text).value.n, 1);
    assert.ok(Number(headers["x-ttl"]) > 0 && Number(headers["x-ttl"]) <= 60);
    assert.equal(headers["content-type"], "text/plain; charset=utf-8");
    await new Keyv({ store: storeOf(), namespace: "b" }).clear();
    assert.deepEqual(await keyv.get("x/ü"), { n: 1 });
    await keyv.clear();
    assert.equal(await keyv.get("x/ü"), undefined);
    assert.equal((await call(server.port, "GET", "/other")).text, "stays");
    await keyv.disconnect();
  });

  test("keyv: many at once, large ones among them", async () => {
    const keyv = new Keyv({ store: storeOf(), namespace: "many" });
    const entries = Array.from({ length: 2500 }, (_, i) => ({
      key: `k${i}`,
      value: i % 800 === 7 ? "x".repeat(1_500_000) : i,
    }));
    assert.ok((await keyv.setMany(entries)).every((done) => done === true));
    const keys = [...entries.map(({ key }) => key), "absent"];
    const values = await keyv.getMany(keys);
    for (const [i, { value }] of entries.entries()) assert.ok(values[i] === value, `k${i}`);
    assert.equal(values.at(-1), undefined);
    assert.deepEqual(await keyv.hasMany(["k1", "absent", "k2"]), [true, false, true]);
    let found = 0;
    // biome-ignore lint/suspicious/noExplicitAny: an iterator, as this store has one
    for await (const [key, value] of (keyv.iterator as any)()) {
      found++;
      assert.ok(value === entries[Number(key.slice(1))].value, key);
    }
    assert.equal(found, entries.length);
    assert.equal(await keyv.delete(["k1", "k2"]), true);
    assert.equal(await keyv.delete(["k1", "k3"]), false);
    await keyv.clear();
    assert.equal(await keyv.has("k5"), false);
  });

  test("keyv: without a serializer, and where nobody answers", async () => {
    const plain = new Keyv({ store: storeOf(), namespace: "plain" });
    plain.serialize = undefined;
    plain.deserialize = undefined;
    await plain.set("k", { n: 1 });
    assert.deepEqual(await plain.get("k"), { n: 1 });
    const nowhere = new KeyvMinivault({ url: "http://127.0.0.1:1", retries: 0 });
    const keyv = new Keyv({ store: nowhere, emitErrors: true });
    const errors: unknown[] = [];
    keyv.on("error", (error) => errors.push(error));
    assert.equal(await keyv.get("k"), undefined);
    assert.equal(await keyv.set("k", 1), false);
    assert.ok(errors.length >= 2, String(errors));
    assert.throws(() => new KeyvMinivault({}), /url/);
  });
});

describe("keyv: a cluster of three", () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await startCluster({ workers: 3 });
  });
  after(() => cluster.dispose());

  test("keyv: goes on when a node is killed", async () => {
    const urls = cluster.workers.map(({ port }) => `http://127.0.0.1:${port}`);
    const store = new KeyvMinivault({ url: urls, retries: 100 });
    const keyv = new Keyv({ store, namespace: "c", throwOnErrors: true });
    const keys = Array.from({ length: 100 }, (_, i) => `k${i}`);
    for (const [i, key] of keys.entries()) {
      if (i === 50) await cluster.workers[0].kill();
      // A write that nobody knows the end of is the caller's affair: the last one counts here.
      while (!(await keyv.set(key, i).catch(() => false))) await sleep(50);
    }
    const values = await keyv.getMany(keys);
    assert.deepEqual(
      values,
      keys.map((_, i) => i),
    );
    assert.deepEqual([await keyv.delete("k0"), await keyv.get("k0")], [true, undefined]);
    await keyv.clear();
    assert.equal(await keyv.has("k9"), false);
  });
});
