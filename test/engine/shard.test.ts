import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { Harness, temporaryDirectory } from "./harness.ts";

let directory: ReturnType<typeof temporaryDirectory>;
beforeEach(() => {
  directory = temporaryDirectory();
});
afterEach(() => directory.remove());

const value = (read: ReturnType<Harness["read"]>): string =>
  read.state === "found" ? read.value.toString() : read.state;

test("shard: put, get, replace, delete", async () => {
  const vault = await Harness.open(directory.path);
  assert.equal(value(vault.read("a")), "absent");
  const first = vault.put("a", "one");
  assert.deepEqual([first.error, first.created], [null, true]);
  assert.equal(value(vault.read("a")), "one");
  const second = vault.put("a", "two");
  assert.equal(second.created, false);
  assert.equal(value(vault.read("a")), "two");
  assert.notEqual(vault.etag(first), vault.etag(second));
  assert.equal(vault.figure("keys"), 1);
  assert.equal(vault.remove("a").deleted, true);
  assert.equal(value(vault.read("a")), "absent");
  assert.equal(vault.remove("a").deleted, false);
  assert.equal(vault.figure("keys"), 0);
  await vault.shard.close();
});

test("shard: nothing is visible before commit, and writes of one batch see each other", async () => {
  const vault = await Harness.open(directory.path);
  const outcomes = Array.from({ length: 100 }, (_, i) => vault.stage("k", `v${i}`, { verb: "post" }));
  assert.equal(value(vault.read("k")), "absent");
  vault.shard.commit();
  assert.equal(outcomes.filter((outcome) => outcome.error === null).length, 1);
  assert.equal(outcomes.filter((outcome) => outcome.error === "exists").length, 99);
  assert.equal(value(vault.read("k")), "v0");
  vault.stage("k", "", { verb: "delete" });
  vault.stage("k", "again", { verb: "post" });
  vault.shard.commit();
  assert.equal(value(vault.read("k")), "again");
  assert.equal(vault.figure("keys"), 1);
  assert.equal(vault.figure("tombstones"), 0);
  await vault.shard.close();
});

test("shard: conditions are judged against the newest version", async () => {
  const vault = await Harness.open(directory.path);
  const etag = vault.etag(vault.put("k", "1"));
  assert.equal(vault.put("k", "2", { ifMatch: '"0"' }).error, "precondition_failed");
  assert.equal(vault.put("k", "2", { ifMatch: etag }).error, null);
  assert.equal(vault.put("k", "3", { ifMatch: etag }).error, "precondition_failed");
  assert.equal(vault.put("k", "3", { ifNoneMatch: "*" }).error, "precondition_failed");
  assert.equal(vault.put("new", "1", { ifNoneMatch: "*" }).error, null);
  assert.equal(vault.put("none", "1", { ifMatch: "*" }).error, "precondition_failed");
  assert.equal(vault.remove("k", { ifMatch: etag }).error, "precondition_failed");
  assert.equal(value(vault.read("k")), "2");
  await vault.shard.close();
});

test("shard: JSON is checked and its text kept", async () => {
  const vault = await Harness.open(directory.path);
  assert.equal(vault.put("j", ' {"value" : 12345678901234567890 } ', { json: true }).error, null);
  assert.equal(value(vault.read("j")), '{"value":12345678901234567890}');
  assert.equal(vault.put("j", '{"value": nope}', { json: true }).error, "bad_json");
  assert.equal(vault.put("j", "{}", { json: true }).error, "no_value");
  assert.equal(value(vault.read("j")), '{"value":12345678901234567890}');
  const text = JSON.stringify({ list: Array.from({ length: 4000 }, (_, i) => `item ${i}`) });
  assert.equal(vault.upload("big", Buffer.from(`{"value":${text}}`), { json: true }).error, null);
  assert.equal(value(vault.read("big")), `{"value":${text}}`);
  assert.equal(vault.upload("bad", Buffer.from(`{"value":${text}`), { json: true }).error, "bad_json");
  assert.equal(value(vault.read("bad")), "absent");
  await vault.shard.close();
});

test("shard: large values span slabs, survive restart, and go away whole", async () => {
  let vault = await Harness.open(directory.path);
  const big = Buffer.alloc(300_000, 0);
  for (let i = 0; i < big.length; i++) big[i] = (i * 2654435761) >>> 13;
  assert.equal(vault.upload("big", big).created, true);
  const read = vault.read("big");
  assert.ok(read.state === "found" && read.value.equals(big));
  assert.ok(vault.figure("slabs") >= 4 || vault.shard.state.slabs.count >= 4);
  await vault.shard.close();
  vault = await Harness.open(directory.path);
  const again = vault.read("big");
  assert.ok(again.state === "found" && again.value.equals(big));
  vault.remove("big");
  await vault.settle();
  assert.ok(vault.shard.state.slabs.count <= 4, `slabs left: ${vault.shard.state.slabs.count}`);
  await vault.shard.close();
});

test("shard: everything is there again after a crash, deleted keys stay away", async () => {
  let vault = await Harness.open(directory.path);
  const versions = new Map<string, string>();
  for (let i = 0; i < 3000; i++)
    versions.set(`k${i % 700}`, vault.etag(vault.put(`k${i % 700}`, `value ${i}`)));
  for (let i = 0; i < 700; i += 7) vault.remove(`k${i}`);
  for (let round = 0; round < 3; round++) {
    // No close: as after kill -9, what was written is in the page cache.
    vault = await Harness.open(directory.path);
    assert.equal(vault.figure("keys"), 600);
    for (let i = 0; i < 700; i++) {
      const read = vault.read(`k${i}`);
      if (i % 7 === 0) assert.equal(read.state, "absent");
      else {
        assert.ok(read.state === "found");
        assert.equal(read.etag, versions.get(`k${i}`));
        assert.equal(read.value.toString(), `value ${Math.floor((2999 - i) / 700) * 700 + i}`);
      }
    }
  }
  await vault.shard.close();
});

test("shard: versions rise over a restart with a clock that runs backwards", async () => {
  let now = 1_800_000_000_000;
  let vault = await Harness.open(directory.path, { now: () => now });
  const before = vault.etag(vault.put("k", "1"));
  await vault.shard.close();
  now -= 3_600_000;
  vault = await Harness.open(directory.path, { now: () => now });
  assert.ok(vault.etag(vault.put("k", "2")) > before);
  await vault.shard.close();
});

test("compaction: overwritten values give their space back, and readers see no gap", async () => {
  const vault = await Harness.open(directory.path);
  const big = Buffer.alloc(30_000, 7);
  vault.upload("big", big);
  // Every tenth key is written once and must be carried along.
  const expected = (i: number, round: number): string => `${i % 10 === 0 ? 0 : round}:${"x".repeat(100)}`;
  for (let round = 0; round < 60; round++) {
    for (let i = 0; i < 200; i++) if (round === 0 || i % 10 !== 0) vault.put(`k${i}`, expected(i, round));
    await vault.settle();
    for (let i = 0; i < 200; i++) assert.equal(value(vault.read(`k${i}`)), expected(i, round));
  }
  // The last one may have got its table only now.
  await vault.sealed();
  await vault.settle();
  const files = readdirSync(path.join(directory.path, "shard-000")).filter((name) => name.endsWith(".slab"));
  assert.ok(files.length <= 4, files.join(" "));
  assert.ok(vault.figure("compactedBytes") > 0);
  const dead = [...vault.shard.state.slabs.all()].filter((slab) => slab.sealed && slab.liveBytes <= 0);
  assert.deepEqual(dead, [], "slabs without anything alive are gone");
  await vault.shard.close();
  const again = await Harness.open(directory.path);
  for (let i = 0; i < 200; i++) assert.equal(value(again.read(`k${i}`)), expected(i, 59));
  const read = again.read("big");
  assert.ok(read.state === "found" && read.value.equals(big));
  assert.equal(again.figure("keys"), 201);
  await again.shard.close();
});
