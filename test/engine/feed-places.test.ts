/** Places in the feed of changes as text, and what the file FEED says of those from before a start. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { before, test } from "node:test";
import type { StoreIdentity } from "../../src/engine/directory/store-file.ts";
import { decodePlace, encodePlace, type FeedPlace } from "../../src/engine/feed/place.ts";
import { Starts } from "../../src/engine/feed/starts.ts";
import { logPlace } from "../../src/engine/slabs/figures.ts";
import { loadHash } from "../../src/util/hash.ts";
import { Random, randomSeed } from "../random.ts";
import { temporaryDirectory } from "./harness.ts";

before(loadHash);

const STORE = 0x80c0ffee | 0;

function randomPlace(random: Random, shards: number): FeedPlace {
  const bound = 2 ** random.below(31);
  return {
    incarnation: random.below(2 ** 31),
    ms: random.below(2 ** 31) * 1000,
    shards: Array.from({ length: shards }, () => {
      const sequence = random.below(bound);
      return { sequence, unit: random.below(2 ** 22), base: sequence - random.below(sequence + 1) };
    }),
  };
}

test("feed places: a text says what it was made of, and any other text is none", (t) => {
  const random = new Random(randomSeed(t));
  for (const shards of [1, 2, 7, 256]) {
    for (let i = 0; i < 50; i++) {
      const place = randomPlace(random, shards);
      const text = encodePlace(STORE, place);
      assert.deepEqual(decodePlace(text, STORE, shards), place);
      assert.equal(decodePlace(text, STORE + 1, shards), "foreign");
      assert.equal(decodePlace(text, STORE, shards + 1), "foreign");
      const at = random.below(text.length);
      const other = String.fromCharCode(text.charCodeAt(at) ^ (1 + random.below(127)));
      const changed = text.slice(0, at) + other + text.slice(at + 1);
      const read = decodePlace(changed, STORE, shards);
      // The last letter has bits that mean nothing.
      assert.ok(read === null || at === text.length - 1, `${text} and ${changed}`);
      assert.equal(decodePlace(text.slice(0, at), STORE, shards), null);
    }
  }
  for (const text of ["", " ", "A", "AQ", "\u0000", "AQAAAAAAAAAAAAAAAAAAAAAAAAAA", "-".repeat(10_000)])
    assert.equal(decodePlace(text, STORE, 1), null, text);
});

test("feed places: one from before a start is good up to where that start, and all later ones, found the log", () => {
  const directory = temporaryDirectory();
  try {
    const warnings: string[] = [];
    const start = (incarnation: number, ...ends: number[]): Starts => {
      const store = { id: Buffer.alloc(16, 7), incarnation, shards: 2 } as unknown as StoreIdentity;
      return new Starts(directory.path, store, ends, false, (message) => warnings.push(message));
    };
    const at = (incarnation: number, ...units: number[]): FeedPlace => ({
      ...{ incarnation, ms: 0 },
      shards: units.map((unit) => ({ sequence: 1, unit, base: 1 })),
    });
    const end = (unit: number): number => logPlace({ sequence: 1, unit });
    const first = start(1, end(300), end(300));
    assert.ok(first.isGood(at(1, 9999, 9999)));
    assert.ok(!first.isGood(at(0, 1, 1)));
    // The second start finds less than the first one had shown, in one shard.
    const second = start(2, end(400), end(350));
    assert.ok(second.isGood(at(1, 400, 350)));
    assert.ok(!second.isGood(at(1, 401, 350)));
    assert.ok(!second.isGood(at(1, 400, 351)));
    // The third one finds more again: what lies between is something else.
    const third = start(3, end(500), end(500));
    assert.ok(third.isGood(at(1, 400, 350)));
    assert.ok(!third.isGood(at(1, 401, 300)));
    assert.ok(third.isGood(at(2, 500, 500)));
    assert.ok(!third.isGood(at(4, 1, 1)));
    // Another program's start came between.
    assert.ok(!start(5, end(500), end(500)).isGood(at(3, 300, 300)));
    // A damaged file makes places too old, and the next start goes on.
    writeFileSync(path.join(directory.path, "FEED"), "{}\n00000000\n");
    assert.ok(!start(6, end(500), end(500)).isGood(at(5, 300, 300)));
    assert.match(warnings.join(), /too old/);
    assert.ok(start(7, end(500), end(500)).isGood(at(6, 300, 300)));
  } finally {
    directory.remove();
  }
});
