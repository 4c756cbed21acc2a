import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { KeyvStore } from "./keyv-store.ts";
import { withServer } from "./server.ts";

test("keyv: a store of texts with ends of life, as Keyv asks it", () =>
  withServer({}, async ({ url }) => {
    const store = new KeyvStore(url);
    await store.set("a:1", "one");
    await store.set("a:2", '"two"', 100_000);
    await store.set("b:ü/'", "three", 1);
    while ((await store.get("b:ü/'")) !== undefined) await sleep(5);
    assert.equal(await store.has("b:ü/'"), false);
    assert.deepEqual(
      [await store.get("a:1"), await store.get("a:2"), await store.get("c")],
      ["one", '"two"', undefined],
    );
    const found: [string, string][] = [];
    for await (const pair of store.iterator("a")) found.push(pair);
    assert.deepEqual(found, [
      ["a:1", "one"],
      ["a:2", '"two"'],
    ]);
    assert.deepEqual([await store.delete("a:1"), await store.delete("a:1")], [true, false]);
    store.namespace = "b";
    await store.clear();
    assert.equal(await store.has("a:2"), true);
    store.namespace = "a";
    await store.clear();
    assert.equal(await store.has("a:2"), false);
  }));
