/** `minivault/unstorage` under unstorage itself. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createStorage, type Driver } from "unstorage";
import { MinivaultClient } from "../../src/client/client.ts";
import minivault, { type MinivaultDriverOptions } from "../../src/client/unstorage/unstorage.ts";
import { type Cluster, startCluster } from "../cluster/workers.ts";
import { call } from "../rest/client.ts";
import { type Server, startServer, waitUntil, withServer } from "../rest/server.ts";
import { holdStorageRules } from "./storage-rules.ts";

/** As unstorage types it. */
const driverOf = (options: MinivaultDriverOptions | string): Driver => minivault(options);

describe("unstorage: our driver on one node", () => {
  let server: Server;
  before(async () => {
    server = await startServer();
  });
  after(() => server.dispose());

  test("unstorage: all that is demanded of a driver, below a base", async () => {
    await call(server.port, "PUT", "/other", { body: "stays" });
    await holdStorageRules(driverOf({ url: server.url, base: "app:one" }));
    assert.equal((await call(server.port, "GET", "/other")).text, "stays");
  });

  test("unstorage: what is absent, also as bytes, and what others have written", async () => {
    const storage = createStorage({ driver: driverOf({ url: server.url, base: "mixed" }) });
    assert.equal(await storage.getItemRaw("a"), null);
    assert.equal((await storage.getMeta("a")).mtime, undefined);
    const json = { "Content-Type": "application/json" };
    await call(server.port, "PUT", "/mixed/json", { headers: json, body: '{"value":{"n":1}}' });
    await call(server.port, "PUT", "/mixed/file", { body: "text" });
    await call(server.port, "PUT", "/mixed/x:y", { body: "has no name there" });
    assert.deepEqual([await storage.getItem("json"), await storage.getItem("file")], [{ n: 1 }, "text"]);
    assert.deepEqual((await storage.getKeys()).sort(), ["file", "json"]);
    const { size, etag } = await storage.getMeta("file");
    assert.ok(size === 4 && /^"[0-9a-f]{32}"$/.test(String(etag)));
    const large = "x".repeat(1_500_000);
    await storage.setItem("large", large);
    assert.deepEqual(await storage.getItems(["file", "large", "absent"]), [
      { key: "file", value: "text" },
      { key: "large", value: large },
      { key: "absent", value: null },
    ]);
  });

  test("unstorage: what others change is told", async () => {
    const storage = createStorage({
      driver: driverOf({ client: new MinivaultClient({ url: server.url }), base: "w" }),
    });
    const told: string[] = [];
    const unwatch = await storage.watch((event, key) => void told.push(`${event} ${key}`));
    await call(server.port, "PUT", "/w/a/b", { body: "1" });
    await waitUntil("the update is told", () => told.includes("update a:b"));
    await call(server.port, "DELETE", "/w/a/b");
    await waitUntil("the removal is told", () => told.includes("remove a:b"));
    await call(server.port, "PUT", "/other", { body: "1" });
    await unwatch();
    await call(server.port, "PUT", "/w/later", { body: "1" });
    assert.deepEqual([...new Set(told)], ["update a:b", "remove a:b"]);
  });
});

test("unstorage: all that is demanded of a driver, over a whole store", () =>
  withServer({}, async ({ url, port }) => {
    await call(port, "PUT", "/x:y", { body: "has no name there" });
    await holdStorageRules(driverOf(url));
    assert.equal((await call(port, "GET", "/x:y")).status, 200);
  }));

describe("unstorage: our driver on a cluster", () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await startCluster({ workers: 3 });
  });
  after(() => cluster.dispose());

  test("unstorage: goes on, and is told of changes, when a node is killed", async () => {
    const urls = cluster.workers.map(({ port }) => `http://127.0.0.1:${port}`);
    const storage = createStorage({ driver: driverOf({ url: urls, retries: 100, once: true }) });
    const told = new Set<string>();
    const unwatch = await storage.watch((event, key) => void told.add(`${event} ${key}`));
    const keys = Array.from({ length: 60 }, (_, i) => `k:${i}`);
    for (const [i, key] of keys.entries()) {
      if (i === 30) await cluster.workers[0].kill();
      await waitUntil(`${key} is written`, () =>
        storage.setItem(key, i).then(
          () => true,
          () => false,
        ),
      );
    }
    for (const [i, key] of keys.entries()) assert.equal(await storage.getItem(key), i);
    assert.equal((await storage.getKeys("k")).length, keys.length);
    await waitUntil("all changes are told", () => keys.every((key) => told.has(`update ${key}`)));
    await unwatch();
  });
});
