/**
 * The catalog against a model: at each moment a list equals the sorted set of the keys that are there, over
 * random writes, deletes, compaction, flushes, merges, restarts and kills.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { LogFollower } from "../../src/engine/catalog/follower.ts";
import { RunDamage } from "../../src/engine/catalog/runs/run.ts";
import { Slices } from "../../src/engine/catalog/slices.ts";
import { type FileIo, nodeIo } from "../../src/engine/slabs/io.ts";
import { ShardLookup } from "../../src/engine/state/lookup.ts";
import { Random, randomSeed } from "../random.ts";
import { randomKey, Store, sorted, TAIL_KEYS } from "./catalog-store.ts";
import { Harness, inDirectory } from "./harness.ts";

/** One random history. */
async function history(directory: string, random: Random, steps: number, count: number): Promise<void> {
  const replicated = random.below(2) === 0;
  let store = await Store.open(directory, count, replicated);
  const model = new Set<string>();
  /** Keys that are written once and never again. */
  const permanent = new Set<string>();
  for (let step = 0; step < steps; step++) {
    const choice = random.below(100);
    if (choice < 10) {
      // The logs are followed while writes are staged that nobody is told of yet.
      const isBurst = random.below(4) === 0;
      for (let i = random.below(isBurst ? 200 : 8); i >= 0; i--) {
        const key = randomKey(random);
        const harness = store.shardOf(key);
        if (random.below(4) === 0) {
          harness.stage(key, "", { verb: "delete" });
          model.delete(key);
        } else {
          harness.stage(key, random.bytes(random.below(200)));
          model.add(key);
        }
        if (!isBurst && random.below(4) === 0) store.catalog.absorb(new Slices());
      }
      for (const harness of store.shards) harness.shard.commit();
    } else if (choice < 50) {
      const key = randomKey(random);
      store.shardOf(key).put(key, random.bytes(random.below(600)));
      model.add(key);
    } else if (choice < 60) {
      const key = `permanent/${permanent.size}`;
      store.shardOf(key).put(key, "p");
      permanent.add(key);
      model.add(key);
    } else if (choice < 80) {
      const key = randomKey(random);
      store.shardOf(key).remove(key);
      model.delete(key);
    } else if (choice < 84) {
      const key = randomKey(random);
      store.shardOf(key).upload(key, random.bytes(9000));
      model.add(key);
    } else if (choice < 88) {
      for (const harness of store.shards) await harness.settle();
      store.catalog.logs.release();
    } else if (choice < 90) await store.catalog.work();
    else if (choice < 93) assert.deepEqual(store.list(), sorted(model));
    else if (choice < 96) store.catalog.absorb(new Slices());
    else if (choice < 98) {
      await (random.below(2) === 0 ? store.close() : store.crash());
      store = await Store.open(directory, count, replicated);
      assert.deepEqual(store.warnings, []);
    } else {
      // Everything at once: the log grows and moves while files are written.
      const work = store.catalog.work();
      for (let i = 0; i < 20; i++) {
        const key = randomKey(random);
        if (random.below(2) === 0) {
          store.shardOf(key).put(key, random.bytes(100));
          model.add(key);
        } else {
          store.shardOf(key).remove(key);
          model.delete(key);
        }
        store.catalog.absorb(new Slices());
        await new Promise((resolve) => setImmediate(resolve));
      }
      await work;
    }
  }
  assert.deepEqual(store.list(), sorted(model));
  for (const key of permanent) assert.equal(store.shardOf(key).read(key).state, "found");
  await store.close();
}

test("catalog model: a list is the sorted set of live keys, whatever happens", async (t) => {
  const random = new Random(randomSeed(t));
  const histories = Number(process.env.HISTORIES ?? 3);
  for (let i = 0; i < histories; i++)
    await inDirectory((directory) => history(directory, random, 400, 1 + (i % 3)));
});

async function filled(directory: string, keys: number): Promise<Store> {
  const store = await Store.open(directory, 1);
  for (let i = 0; i < keys; i++) {
    store.shards[0].stage(`key/${i}`, "v");
    if (i % 32 === 31) store.shards[0].shard.commit();
  }
  store.shards[0].shard.commit();
  return store;
}

function keysUpTo(count: number): string[] {
  return sorted(Array.from({ length: count }, (_, i) => `key/${i}`));
}

function describeSlabs({ shard }: Harness): string {
  const slabs = [...shard.state.slabs.all()];
  return slabs
    .map(({ sequence, liveBytes, storedBytes }) => `${sequence}: ${liveBytes} of ${storedBytes}`)
    .join(", ");
}

test("catalog: runs are merged, and keys that are gone go with them", async () => {
  await inDirectory(async (directory) => {
    const store = await Store.open(directory, 1);
    for (let i = 0; i < 1000; i++) {
      store.shards[0].stage(`key/${i}`, "v");
      if (i % TAIL_KEYS !== TAIL_KEYS - 1) continue;
      store.shards[0].shard.commit();
      store.absorb();
      await store.catalog.work();
    }
    store.shards[0].shard.commit();
    assert.ok(store.catalog.figures().runs < 1000 / TAIL_KEYS, JSON.stringify(store.catalog.figures()));
    const [harness] = store.shards;
    const others: string[] = [];
    const putOthers = (name: string, value: Uint8Array): void => {
      for (let i = 0; i < TAIL_KEYS; i++) harness.stage(`${name}/${i}`, value);
      harness.shard.commit();
    };
    // Tombstones go when theirs is the oldest slab, if that one is worth it: little but them counts in it.
    for (let i = 0; i < 1000; i++) {
      harness.stage(`key/${i}`, "", { verb: "delete" });
      if (i % 10 === 0) putOthers("other", Buffer.alloc(300));
    }
    harness.shard.commit();
    for (let round = 0; harness.figure("tombstones") === 1000; round++) {
      assert.ok(round < 10, `all tombstones stay: ${describeSlabs(harness)}`);
      putOthers("other", Buffer.alloc(300));
      await harness.settle();
      store.catalog.logs.release();
    }
    const keys = (): number => {
      let count = 0;
      const merged = store.catalog.keys();
      for (merged.seek(new Uint8Array(0), 0); merged.valid; merged.advance()) count++;
      return count;
    };
    // Merges need new keys.
    let known = 0;
    for (let round = 0; known <= keys(); round++) {
      assert.ok(round < 20, `${keys()} keys`);
      known = keys() + TAIL_KEYS;
      putOthers(`more/${round}`, Buffer.from("v"));
      for (let i = 0; i < TAIL_KEYS; i++) others.push(`more/${round}/${i}`);
      store.absorb();
      await store.catalog.work();
    }
    for (let i = 0; i < TAIL_KEYS; i++) others.push(`other/${i}`);
    assert.deepEqual(store.list(), sorted(others));
    assert.ok(store.catalog.figures().merges > 0);
    await store.close();
  });
});

test("catalog: a damaged run is noticed, and all is built anew", async () => {
  await inDirectory(async (directory) => {
    let store = await filled(directory, 300);
    store.absorb();
    await store.catalog.work();
    await store.close();
    const folder = path.join(directory, "keys");
    const file = runFileIn(folder);
    const bytes = readFileSync(path.join(folder, file));
    bytes[100] ^= 1;
    // In place: the file is the same.
    rmSync(path.join(folder, file));
    writeFileSync(path.join(folder, file), bytes);
    store = await Store.open(directory, 1);
    assert.throws(() => store.list(), RunDamage);
    store.catalog.damaged(new RunDamage("test"));
    assert.equal(store.catalog.state, "building");
    assert.deepEqual(store.list(), keysUpTo(300));
    assert.equal(store.catalog.figures().builds, 1);
    assert.equal(store.warnings.length, 1);
    await store.close();
  });
});

const runFileIn = (folder: string): string => readdirSync(folder).filter((name) => name.endsWith(".keys"))[0];

/** Puts a link in the place of a file. */
function linkTo(target: string, folder: string, name: string): void {
  rmSync(path.join(folder, name));
  symlinkSync(target, path.join(folder, name));
}

for (const [what, spoil] of [
  ["the folder is gone", (folder: string) => rmSync(folder, { recursive: true })],
  ["the manifest is gone", (folder: string) => rmSync(path.join(folder, "CATALOG"))],
  ["the manifest is damaged", (folder: string) => writeFileSync(path.join(folder, "CATALOG"), "{}\n")],
  ["the manifest cannot be read", (folder: string) => linkTo("CATALOG", folder, "CATALOG")],
  ["a run cannot be read", (folder: string) => linkTo(runFileIn(folder), folder, runFileIn(folder))],
  ["a run cannot be mapped", (folder: string) => linkTo("/usr", folder, runFileIn(folder))],
] as const)
  test(`catalog: built anew when ${what}`, async () => {
    await inDirectory(async (directory) => {
      let store = await filled(directory, 300);
      store.absorb();
      await store.catalog.work();
      await store.close();
      spoil(path.join(directory, "keys"));
      store = await Store.open(directory, 1);
      assert.deepEqual(store.list(), keysUpTo(300));
      await store.close();
    });
  });

test("catalog: built anew when a start without it came between", async () => {
  await inDirectory(async (directory) => {
    const store = await filled(directory, 300);
    store.absorb();
    await store.catalog.work();
    await store.close();
    const without = await Harness.open(directory, { slabBytes: 32 * 1024 });
    without.put("new", "v");
    await without.shard.close();
    const again = await Store.open(directory, 1);
    assert.match(again.warnings[0], /built anew/);
    assert.deepEqual(again.list(), sorted([...keysUpTo(300), "new"]));
    await again.close();
    const last = await Store.open(directory, 1);
    assert.deepEqual(last.warnings, []);
    assert.deepEqual(last.list(), sorted([...keysUpTo(300), "new"]));
    await last.close();
  });
});

test("catalog: a full disk stops flushing, lists go on, and so does flushing when there is room", async () => {
  await inDirectory(async (directory) => {
    let isFull = false;
    const io: FileIo = {
      ...nodeIo,
      pwrite(...call) {
        if (isFull) throw Object.assign(new Error("no space"), { code: "ENOSPC" });
        nodeIo.pwrite(...call);
      },
    };
    const store = await Store.open(directory, 1, false, io);
    isFull = true;
    for (let i = 0; i < 200; i++) store.shards[0].put(`key/${i}`, "v");
    store.absorb();
    await store.catalog.work();
    assert.equal(store.catalog.figures().diskFull, true);
    assert.deepEqual(store.list(), keysUpTo(200));
    isFull = false;
    store.catalog.retryNow();
    await store.catalog.work();
    assert.equal(store.catalog.figures().diskFull, false);
    assert.ok(store.catalog.figures().flushes > 0);
    assert.deepEqual(store.list(), keysUpTo(200));
    await store.close();
    assert.ok(existsSync(path.join(directory, "keys", "CATALOG")));
  });
});

test("catalog: overwrites of keys that are known are passed over, and news among them is met", async () => {
  await inDirectory(async (directory) => {
    const harness = await Harness.open(directory, { readers: 1, slabBytes: 32 * 1024 });
    const memory = harness.memory;
    const lookup = new ShardLookup(directory, 0, harness.store, memory, memory.held[1]);
    const follower = new LogFollower(lookup, memory, 0, true);
    let taken: string[] = [];
    const take = (key: Uint8Array): void => {
      taken.push(Buffer.from(key).toString());
    };
    for (const key of ["a", "b", "c"]) harness.put(key, "1");
    while (!follower.follow(100, false, take));
    follower.publish();
    assert.deepEqual(taken, ["a", "b", "c"]);
    taken = [];
    for (let i = 0; i < 500; i++) harness.put(["a", "b", "c"][i % 3], `${i}`);
    // One record's worth of work is enough to be at the end, several slabs on.
    assert.equal(follower.follow(1, false, take), true);
    follower.publish();
    assert.deepEqual(taken, []);
    for (let i = 0; i < 20; i++) harness.put("a", `${i}`);
    harness.put("new", "1");
    for (let i = 0; i < 20; i++) harness.put("a", `${i}`);
    while (!follower.follow(100, false, take));
    assert.ok(taken.some((key) => key === "new"));
    follower.publish();
    taken = [];
    for (let i = 0; i < 20; i++) harness.put("new", `${i}`);
    assert.equal(follower.follow(1, false, take), true);
    assert.deepEqual(taken, []);
    // What is written over in another slab before it was met counts there alone.
    harness.put("later", "1");
    for (let i = 0; i < 500; i++) harness.put("a", `${i}`.padEnd(200));
    harness.put("later", "2");
    for (let i = 0; i < 500; i++) harness.put("a", `${i}`.padEnd(200));
    await harness.sealed();
    while (!follower.follow(100, false, take));
    assert.ok(taken.some((key) => key === "later"));
    await harness.shard.close();
  });
});
