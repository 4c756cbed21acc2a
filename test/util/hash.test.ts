import assert from "node:assert/strict";
import { before, test } from "node:test";
import { hash32, hashKey, indexPartitionOf, loadHash, shardOf } from "../../src/util/hash.ts";
import { Random, randomSeed } from "../random.ts";

before(loadHash);

test("hash: known values of xxh32", () => {
  const hex = (text: string, seed: number): string =>
    (hash32(Buffer.from(text), seed) >>> 0).toString(16).padStart(8, "0");
  assert.equal(hex("", 0), "02cc5d05");
  assert.equal(hex("a", 0), "550d7456");
  assert.equal(hex("abc", 0), "32d153ff");
  assert.equal(hex("Nobody inspects the spammish repetition", 0), "e2293b2f");
});

test("hash: keys of every length hash as the library hashes them", (t) => {
  const random = new Random(randomSeed(t));
  for (let length = 0; length <= 1024; length++)
    for (const seed of [0, 1, -1, random.word(), random.word()]) {
      const bytes = random.bytes(length);
      assert.equal(hashKey(bytes, length, seed), hash32(bytes, seed), `length ${length}, seed ${seed}`);
    }
});

test("hash: partitions and shards of literal keys stay where they are", () => {
  const place = (key: string): number[] => {
    const bytes = Buffer.from(key);
    const hashA = hashKey(bytes, bytes.length, 0);
    return [indexPartitionOf(hashA), shardOf(hashA, hashKey(bytes, bytes.length, 0x55667788), 7)];
  };
  assert.deepEqual(["greeting", "photos/1.jpg", "ünï", "a"].map(place), [
    [28, 4],
    [83, 6],
    [1010, 3],
    [340, 6],
  ]);
});
