/**
 * What unstorage demands of a driver, as far as it can be seen through a storage: the rules of the project's own driver tests (which its
 * package does not contain), and some of ours.
 */
import assert from "node:assert/strict";
import { createStorage, type Driver, restoreSnapshot, snapshot } from "unstorage";
import { waitUntil } from "../rest/server.ts";

/** Runs all rules over a driver, one after the other; the store has to be empty. */
export async function holdStorageRules(driver: Driver): Promise<void> {
  for (const rule of RULES) {
    const storage = createStorage({ driver });
    await rule(storage, driver);
    await storage.clear();
    assert.deepEqual(await storage.getKeys(), [], `after ${rule.name}`);
  }
  await driver.dispose?.();
}

type Storage = ReturnType<typeof createStorage>;
type Rule = (storage: Storage, driver: Driver) => Promise<void>;

async function keysOf(storage: Storage, base?: string, maxDepth?: number): Promise<string[]> {
  return (await storage.getKeys(base, maxDepth === undefined ? {} : { maxDepth })).sort();
}

const RULES: readonly Rule[] = [
  async function absent(storage) {
    assert.equal(await storage.hasItem("s1:a"), false);
    assert.equal(await storage.getItem("s2:a"), null);
    assert.deepEqual(await storage.getKeys(), []);
    await storage.removeItem("s1:a");
    await storage.clear();
  },
  async function restored(storage) {
    const items = { initial: "works", "a:b": { n: 1 }, "a:c": [true, null, "x"] };
    await restoreSnapshot(storage, items);
    assert.deepEqual(await snapshot(storage, ""), items);
  },
  async function texts(storage) {
    for (const key of ["s1:a", "s2:a", "s3:a?q=1"]) await storage.setItem(key, "test_data");
    assert.equal(await storage.hasItem("s1:a"), true);
    assert.equal(await storage.getItem("s1:a"), "test_data");
    assert.equal(await storage.getItem("s3:a?q=2"), "test_data");
    assert.deepEqual(await keysOf(storage), ["s1:a", "s2:a", "s3:a"]);
    assert.deepEqual(await keysOf(storage, "s1"), ["s1:a"]);
    assert.deepEqual(await keysOf(storage, "s"), []);
    await storage.removeItem("s1:a");
    assert.equal(await storage.hasItem("s1:a"), false);
    assert.equal(await storage.getItem("s1:a"), null);
  },
  async function depths(storage) {
    const below = ["depth0:depth1:depth2_0", "depth0:depth1:depth2_1"];
    const all = ["depth0_0", "depth0:depth1_0", "depth0:depth1_1", ...below].sort();
    for (const key of all) await storage.setItem(key, "test_data");
    assert.deepEqual(await keysOf(storage, undefined, 0), ["depth0_0"]);
    assert.deepEqual(
      await keysOf(storage, undefined, 1),
      all.filter((key) => !below.includes(key)),
    );
    assert.deepEqual(await keysOf(storage, undefined, 2), all);
    assert.deepEqual(await keysOf(storage, "depth0:depth1"), below);
  },
  async function values(storage) {
    const all: [string, unknown][] = [
      ["/data/test.json", { json: "works", list: [1, "2", null] }],
      ["true", true],
      ["false", false],
      ["zero", 0],
      ["null", null],
      ["empty", ""],
      ["text", 'größer ≥ 1 \n \u0000 "quoted"'],
      ["text of an object", '{"not": "closed"'],
      ["large", "x".repeat(3_000_000)],
    ];
    // biome-ignore lint/suspicious/noExplicitAny: values of any kind
    for (const [key, value] of all) await storage.setItem(key, value as any);
    for (const [key, value] of all) assert.deepEqual(await storage.getItem(key), value, key);
    // A text that is no pure object is taken for what it says.
    await storage.setItem("a", "12");
    assert.equal(await storage.getItem("a"), 12);
  },
  async function serialized(storage) {
    const lossy = (json: unknown) =>
      new (class Lossy {
        toJSON() {
          return json;
        }
      })();
    // biome-ignore lint/suspicious/noExplicitAny: unstorage decides at run time
    const set = (key: string, value: unknown) => storage.setItem(key, value as any);
    await set("1.json", lossy("SERIALIZED"));
    assert.equal(await storage.getItem("1.json"), "SERIALIZED");
    await set("2.json", lossy({ serializedObj: "works" }));
    assert.deepEqual(await storage.getItem("2.json"), { serializedObj: "works" });
    await assert.rejects(set("3.json", new (class Bad {})()), /Cannot stringify value/);
  },
  async function raw(storage) {
    for (const value of [
      new Uint8Array([1, 2, 3]),
      new Uint8Array(3_000_000).fill(200),
      Buffer.from('{"a":1}'),
    ]) {
      await storage.setItemRaw("/data/raw.bin", value);
      const back = await storage.getItemRaw("/data/raw.bin");
      assert.ok(Buffer.from(back).equals(value), `${value.length} bytes`);
    }
  },
  async function many(storage) {
    const items = [1, 2, 3].map((n) => ({ key: `t:${n}`, value: `test_data_t${n}` }));
    await storage.setItems(items);
    assert.deepEqual(await storage.getItems(["t:1", { key: "t:2" }, "t:3?q", "t:4"]), [
      ...items,
      { key: "t:4", value: null },
    ]);
  },
  async function meta(storage) {
    const before = Date.now();
    await storage.setItem("a:b", 1);
    const { mtime } = await storage.getMeta("a:b");
    assert.ok(mtime instanceof Date && Math.abs(mtime.getTime() - before) < 600_000, String(mtime));
    await storage.setMeta("a:b", { mine: 7 });
    assert.equal((await storage.getMeta("a:b")).mine, 7);
    assert.deepEqual(await keysOf(storage), ["a:b"]);
    await storage.removeMeta("a:b");
    assert.equal((await storage.getMeta("a:b")).mine, undefined);
  },
  async function ends(storage) {
    await storage.setItem("long", 1, { ttl: 3600 });
    const { ttl } = await storage.getMeta("long");
    assert.ok(typeof ttl === "number" && ttl > 3000 && ttl <= 3600, String(ttl));
    await storage.setItem("short", 1, { ttl: 0.05 });
    await waitUntil("it ends", async () => (await storage.getItem("short")) === null);
    assert.deepEqual(await keysOf(storage), ["long"]);
  },
  async function names(storage, driver) {
    const all = [
      "a b",
      "ä:ö",
      "%41",
      "a%2Fb",
      "a+b&c=d",
      "x#y",
      "emoji:🙂",
      "a.b:..c",
      "k".repeat(900),
    ].sort();
    for (const key of all) await storage.setItem(key, key);
    assert.deepEqual(await keysOf(storage), all);
    for (const key of all) assert.equal(await storage.getItem(key), key);
    // A storage itself only clears whole mounts.
    await driver.clear?.("ä", {});
    assert.deepEqual(
      await keysOf(storage),
      all.filter((key) => key !== "ä:ö"),
    );
  },
  async function pages(storage, driver) {
    const all = Array.from({ length: 4500 }, (_, i) => `many:${String(i).padStart(5, "0")}`);
    for (let at = 0; at < all.length; at += 100)
      await Promise.all(all.slice(at, at + 100).map((key) => storage.setItem(key, 1)));
    await storage.setItem("other", 1);
    assert.deepEqual(await keysOf(storage, "many"), all);
    await driver.clear?.("many", {});
    assert.deepEqual(await keysOf(storage), ["other"]);
  },
];
