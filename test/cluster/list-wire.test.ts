/** Frames of lists between nodes: what is written is read, and what is none is told so. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import fc from "fast-check";
import {
  decodeListed,
  decodeListRequest,
  encodeListed,
  encodeListRefusal,
  encodeListRequest,
  isListFrame,
  LIST_KEYS_MAX,
  votesBytes,
} from "../../src/cluster/wire/list-wire.ts";
import { type HeldKey, HeldRow, HeldWriter } from "../../src/shards/catalog/held.ts";
import { loadHash } from "../../src/util/hash.ts";
import { randomSeed } from "../random.ts";

before(loadHash);

const word = fc.nat(2 ** 32 - 1);
const anyKey = fc.uint8Array({ minLength: 1, maxLength: 40 });
const partitions = fc.integer({ min: 10, max: 16 }).map((bits) => 2 ** bits);
const place = fc.uint8Array({ maxLength: 40 });
const held = fc.record({
  key: anyKey,
  ballot: fc.record({ clockLow: word, clockHigh: word, node: word, incarnation: word }),
  tombstone: fc.boolean(),
  ended: fc.boolean(),
  end: fc.constantFrom(0, 1_700_000_000_123),
  json: fc.boolean(),
  contentType: fc.constantFrom("", "text/plain", "image/png"),
  valueBytes: fc.nat(2 ** 40),
});

const plain = (bytes: Uint8Array | null) => (bytes === null ? null : [...bytes]);

test("list frames: requests and answers come back as they were", (t) => {
  const seed = randomSeed(t);
  fc.assert(
    fc.property(
      word,
      fc.integer({ min: 1, max: LIST_KEYS_MAX }),
      place,
      fc.option(place),
      fc.boolean(),
      fc.option(fc.uint8Array({ minLength: 1, maxLength: 40 })),
      fc.nat(40),
      (epoch, limit, low, high, reverse, delimiter, prefixLength) => {
        const prefixBytes = delimiter === null ? 0 : prefixLength;
        const range = { low, high, reverse, delimiter, prefixBytes, scopes: null };
        const frame = encodeListRequest({ epoch, limit, range });
        assert.ok(isListFrame(frame));
        const read = decodeListRequest(frame);
        assert.deepEqual([read?.epoch, read?.limit, read?.range.reverse], [epoch, limit, reverse]);
        assert.deepEqual(
          [plain(read?.range.low ?? null), plain(read?.range.high ?? null)],
          [plain(low), plain(high)],
        );
        assert.deepEqual(plain(read?.range.delimiter ?? null), plain(delimiter));
        assert.equal(read?.range.prefixBytes, prefixBytes);
      },
    ),
    { seed },
  );
  fc.assert(
    fc.property(fc.array(held), fc.option(place), partitions, (keys, upTo, count) => {
      const votes = new Uint8Array(votesBytes(count)).fill(0xa5);
      const read = decodeListed(encodeListed(votes, upTo, written(keys)), count);
      assert.ok(read !== null && "keys" in read);
      assert.deepEqual([plain(read.votes), plain(read.place)], [plain(votes), plain(upTo)]);
      assert.deepEqual(
        all(read.keys).map((one) => ({ ...one, key: plain(one.key) })),
        keys.map((one) => ({ ...one, ballot: { ...one.ballot }, key: plain(one.key) })),
      );
    }),
    { seed },
  );
  assert.deepEqual(decodeListed(encodeListRefusal({ epoch: 7, text: "building soon" }), 1024), {
    epoch: 7,
    text: "building soon",
  });
});

function written(keys: readonly HeldKey[]): Buffer {
  const writer = new HeldWriter();
  for (const key of keys) writer.put(key);
  return Buffer.from(writer.whole());
}

function all(row: HeldRow): HeldKey[] {
  return Array.from({ length: row.count }, (_, index) => row.at(index));
}

test("list frames: cut or changed ones are read to an end, and never past it", (t) => {
  const seed = randomSeed(t);
  const bytes = fc.uint8Array({ maxLength: 400 });
  fc.assert(
    fc.property(bytes, bytes, fc.nat(400), (garbage, more, cut) => {
      decodeListRequest(garbage);
      decodeListed(garbage, 1024);
      HeldRow.of(garbage);
      const votes = new Uint8Array(votesBytes(1024));
      const frame = encodeListed(votes, more, garbage).subarray(0, cut);
      const read = decodeListed(frame, 1024);
      if (read !== null && "keys" in read) for (const { key } of all(read.keys)) assert.ok(key.length > 0);
    }),
    { seed, numRuns: 500 },
  );
});

test("held entries: as bytes they compare as their keys do, and as a whole", (t) => {
  const seed = randomSeed(t);
  const keyOrder = (a: Uint8Array, b: Uint8Array) => Math.sign(Buffer.compare(a, b));
  fc.assert(
    fc.property(fc.array(held, { minLength: 1 }), fc.array(held, { minLength: 1 }), (some, more) => {
      // Some of both are the same.
      const others = [...more, ...some.slice(0, 2)];
      const [row, other] = [some, others].map((keys) => HeldRow.of(written(keys)) as HeldRow);
      assert.deepEqual([row.count, other.count], [some.length, others.length]);
      for (const [i, one] of some.entries())
        for (const [j, two] of others.entries()) {
          assert.equal(Math.sign(row.compareKeys(i, other, j)), keyOrder(one.key, two.key));
          assert.equal(row.isSame(i, other, j), written([one]).equals(written([two])));
        }
      for (const reverse of [false, true]) {
        const sign = reverse ? 1 : -1;
        const isInOrder = some.every((one, i) => i === 0 || keyOrder(some[i - 1].key, one.key) === sign);
        assert.equal(row.isInOrder(reverse), isInOrder);
      }
    }),
    { seed, numRuns: 200 },
  );
});
