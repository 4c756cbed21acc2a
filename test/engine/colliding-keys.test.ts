/**
 * Keys that somebody chose so that they meet in the index. A store of today takes them like any others; one of version 1, whose hash has such keys, takes
 * as many of one tag as it promises, and refuses more before anything is written.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { tagOfHash } from "../../src/engine/index/memory.ts";
import { prepare } from "../../src/engine/shard/replica.ts";
import type { Ballot } from "../../src/format/record.ts";
import { compareBallots } from "../../src/format/version.ts";
import { hashKey, indexPartitionOf, loadHash } from "../../src/util/hash.ts";
import { TAG_ENTRIES_MAX } from "../../src/util/limits.ts";
import { keysForAnySeed, keysOfHashA, take } from "../colliding-keys.ts";
import { writeIdentity } from "../golden/store.ts";
import { Random, randomSeed } from "../random.ts";
import { Harness, inDirectory } from "./harness.ts";

/** Nothing here depends on syncs. */
const SNAPSHOT = { snapshotEntriesMin: 1, sync: "os" } as const;

const text = (keys: Buffer[]): string[] => keys.map((key) => key.toString("latin1"));

/** Pairs a lane, so that the largest of the 16 classes is crowded, also where a seed divides it in two. */
const CROWDED = 21;
const HASH_A = 0x0012_3456;
const ATTACKS = {
  "any seed": (random: Random) => text(take(keysForAnySeed(random, 8), 8 ** 4)),
  "one hash A": (random: Random) => text(take(keysOfHashA(HASH_A, random), 4096)),
};

test("colliding keys: the attacks do what they say", async (t) => {
  await loadHash();
  const random = new Random(randomSeed(t));
  const anySeed = ATTACKS["any seed"](random);
  for (let i = 0; i < 20; i++) {
    const seed = i === 0 ? 0 : random.word();
    const hashes = new Set(anySeed.map((key) => hashKey(Buffer.from(key), key.length, seed)));
    assert.ok(hashes.size <= 16, `${hashes.size} hashes`);
  }
  for (const key of ATTACKS["one hash A"](random))
    assert.equal(hashKey(Buffer.from(key), key.length, 0), HASH_A);
  assert.equal(indexPartitionOf(HASH_A), 0);
});

for (const [attack, keysOf] of Object.entries(ATTACKS))
  test(`colliding keys: a store of today holds them like any others, over crash, stop and compaction: ${attack}`, async (t) => {
    const keys = keysOf(new Random(randomSeed(t)));
    await inDirectory(async (directory) => {
      let vault = await Harness.open(directory, SNAPSHOT);
      const check = (what: string, from = 0): void => {
        for (const [i, key] of keys.entries()) {
          const read = vault.read(key);
          if (i < from) assert.equal(read.state, "absent", what);
          else assert.ok(read.state === "found" && read.value.toString() === `value of ${key}`, what);
        }
        assert.equal(vault.figure("keys"), keys.length - from);
      };
      for (const [i, key] of keys.entries()) {
        assert.equal(vault.stage(key, `value of ${key}`).error, null);
        if (i % 100 === 99) vault.shard.commit();
      }
      vault.shard.commit();
      check("written");
      // A tag of 26 bits is shared by two of these, or three; never by a crowd.
      const tags = new Map<number, number>();
      for (const key of keys) {
        const tag = tagOfHash(vault.hashes(key).hashB);
        tags.set(tag, (tags.get(tag) ?? 0) + 1);
      }
      assert.ok(Math.max(...tags.values()) <= 4);
      await vault.crash();
      vault = await Harness.open(directory, SNAPSHOT);
      check("after a crash");
      const half = keys.length / 2;
      for (const key of keys.slice(0, half)) vault.stage(key, "", { verb: "delete" });
      vault.shard.commit();
      await vault.settle();
      check("compacted", half);
      await vault.shard.close();
      vault = await Harness.open(directory, SNAPSHOT);
      assert.equal(vault.slabsRead, false);
      check("after a stop", half);
      await vault.shard.close();
    });
  });

/** Of keys that collide for any seed, those with the most frequent tag in a store; and some of other tags. */
function crowdOf(vault: Harness, keys: readonly string[]): string[] {
  const byTag = new Map<string, string[]>();
  for (const key of keys) {
    const { hashA, hashB } = vault.hashes(key);
    const name = `${indexPartitionOf(hashA)} ${tagOfHash(hashB)}`;
    const found = byTag.get(name);
    if (found === undefined) byTag.set(name, [key]);
    else found.push(key);
  }
  return [...byTag.values()].sort((a, b) => b.length - a.length)[0];
}

test("colliding keys: version 1 takes 4,096 of a tag and refuses more before they are written; what is there stays and can change", async (t) => {
  const keys = text([...keysForAnySeed(new Random(randomSeed(t)), CROWDED)]);
  await inDirectory(async (directory) => {
    await writeIdentity(directory, 1);
    let vault = await Harness.open(directory, SNAPSHOT);
    const crowd = crowdOf(vault, keys).slice(0, TAG_ENTRIES_MAX + 50);
    assert.equal(crowd.length, TAG_ENTRIES_MAX + 50);
    const held = crowd.slice(0, TAG_ENTRIES_MAX);
    const outcomes = crowd.map((key, i) => {
      const outcome = vault.stage(key, `first ${i}`);
      if (i % 500 === 499) vault.shard.commit();
      return outcome;
    });
    vault.shard.commit();
    outcomes.forEach(({ error, created }, i) => {
      assert.equal(error, i < TAG_ENTRIES_MAX ? null : "key_refused", `key ${i}`);
      assert.equal(created, i < TAG_ENTRIES_MAX);
    });
    const refused = crowd[TAG_ENTRIES_MAX + 1];
    const before = vault.shard.log.appender.appendedBytes;
    assert.equal(vault.put(refused, "x").error, "key_refused");
    assert.equal(vault.upload(refused, Buffer.alloc(20_000)).error, "key_refused");
    assert.equal(vault.put(refused, "x", { ifMatch: "*" }).error, "precondition_failed");
    assert.equal(vault.remove(refused).error, null);
    assert.equal(vault.shard.log.appender.appendedBytes, before, "nothing of a refused key is written");
    assert.equal(vault.read(refused).state, "absent");
    // Others, and what is there, go on.
    assert.equal(vault.put("another key", "value").error, null);
    assert.equal(vault.put(held[7], "second").error, null);
    assert.equal(vault.remove(held[8]).deleted, true);
    const check = (what: string): void => {
      for (const [i, key] of held.entries()) {
        const read = vault.read(key);
        if (i === 8) assert.equal(read.state, "absent", what);
        else
          assert.ok(
            read.state === "found" && read.value.toString() === (i === 7 ? "second" : `first ${i}`),
            what,
          );
      }
      assert.equal(vault.figure("keys"), held.length);
      assert.equal(vault.read(refused).state, "absent");
    };
    check("written");
    await vault.crash();
    vault = await Harness.open(directory, SNAPSHOT);
    check("after a crash");
    assert.equal(vault.put(refused, "x").error, "key_refused");
    await vault.settle();
    await vault.shard.close();
    vault = await Harness.open(directory, SNAPSHOT);
    assert.equal(vault.slabsRead, false);
    check("after a stop");
    await vault.shard.close();
  });
});

function ballot(number: number): Ballot {
  const millis = Date.now() - 1000 + number;
  return {
    clockLow: ((millis % 0x10000) * 0x10000) >>> 0,
    clockHigh: Math.floor(millis / 0x10000),
    node: 9,
    incarnation: 4,
  };
}

test("colliding keys: each keeps its own promise, in a batch, after a crash and after a stop", async (t) => {
  const keys = text([...keysForAnySeed(new Random(randomSeed(t)), 9)]);
  await inDirectory(async (directory) => {
    await writeIdentity(directory, 1);
    const options = { ...SNAPSHOT, replicated: true };
    let vault = await Harness.open(directory, options);
    const crowd = crowdOf(vault, keys).slice(0, 300);
    assert.equal(crowd.length, 300);
    const promised = new Map<string, Ballot>();
    const ask = (key: string, number: number): void => {
      const asked = ballot(number);
      assert.equal(
        prepare(vault.shard.batch, vault.write(key, {}), asked).register?.verdict,
        "yes",
        `${number}`,
      );
      promised.set(key, asked);
    };
    // All in one batch, some twice in it; then one by one; then accepted, which makes a promise void for that key alone.
    for (let i = 0; i < 200; i++) ask(crowd[i], i);
    for (let i = 0; i < 200; i += 10) ask(crowd[i], 200 + i);
    vault.shard.commit();
    for (let i = 200; i < 300; i++) {
      ask(crowd[i], i);
      vault.shard.commit();
    }
    for (let i = 0; i < 300; i += 3) {
      const accepted = ballot(500 + i);
      const outcome = vault.shard.apply({ ...vault.write(crowd[i], {}), ballot: accepted }, Buffer.from("v"));
      assert.equal(outcome.register?.verdict, "yes");
      promised.delete(crowd[i]);
    }
    vault.shard.commit();
    const check = (what: string): void => {
      for (const key of crowd) {
        const { bytes, hashA, hashB } = vault.hashes(key);
        const held = vault.shard.state.replication.promiseOf(bytes, hashA, hashB);
        const expected = promised.get(key);
        if (expected === undefined) assert.equal(held, null, what);
        else assert.ok(held?.ballot != null && compareBallots(held.ballot, expected) === 0, what);
      }
    };
    check("made");
    await vault.crash();
    vault = await Harness.open(directory, options);
    check("after a crash");
    for (let i = 0; i < 300; i++) vault.put(`filler ${i % 5}`, "f".repeat(1000));
    await vault.settle();
    check("compacted");
    await vault.shard.close();
    vault = await Harness.open(directory, options);
    assert.equal(vault.slabsRead, false);
    check("after a stop");
    assert.deepEqual(vault.warnings, []);
    await vault.shard.close();
  });
});

test("colliding keys: of promises too there are at most 4,096 of a tag, and a refused one is not written", async (t) => {
  const keys = text([...keysForAnySeed(new Random(randomSeed(t)), CROWDED)]);
  await inDirectory(async (directory) => {
    await writeIdentity(directory, 1);
    const vault = await Harness.open(directory, { replicated: true, sync: "os" });
    const crowd = crowdOf(vault, keys).slice(0, TAG_ENTRIES_MAX + 1);
    for (const [i, key] of crowd.slice(0, TAG_ENTRIES_MAX).entries()) {
      assert.equal(prepare(vault.shard.batch, vault.write(key, {}), ballot(i % 500)).error, null);
      if (i % 300 === 299) vault.shard.commit();
    }
    vault.shard.commit();
    const before = vault.shard.log.appender.appendedBytes;
    const last = prepare(vault.shard.batch, vault.write(crowd[TAG_ENTRIES_MAX], {}), ballot(1));
    assert.equal(last.error, "key_refused");
    assert.equal(prepare(vault.shard.batch, vault.write(crowd[0], {}), ballot(900)).error, null);
    vault.shard.commit();
    assert.ok(
      vault.shard.log.appender.appendedBytes - before <= 128,
      "one promise, and nothing of the refused one",
    );
    await vault.shard.close();
  });
});
