import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { copyInto, copyOf } from "../../src/util/bytes.ts";
import { randomSeed } from "../random.ts";

test("bytes: a copy of a Buffer is a copy, too", () => {
  for (const bytes of [Buffer.from("abcd"), new Uint8Array([97, 98, 99, 100])]) {
    const copy = copyOf(bytes, 1, 3);
    bytes.fill(0);
    assert.deepEqual([...copy], [98, 99]);
    assert.deepEqual([...copyOf(bytes)], [0, 0, 0, 0]);
  }
});

test("bytes: what is copied into place is all that changes, for any alignment and kind of memory", (t) => {
  const seed = randomSeed(t);
  const memory = (shared: boolean, bytes: number): Uint8Array =>
    new Uint8Array(shared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes));
  const size = fc.oneof(fc.nat(300), fc.nat(70_000));
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.boolean(),
      size,
      fc.nat(20),
      fc.nat(20),
      fc.nat(20),
      (from, to, bytes, at, skip, rest) => {
        const whole = memory(from, skip + bytes);
        for (let i = 0; i < whole.length; i++) whole[i] = i * 7 + 1;
        const source = whole.subarray(skip);
        const target = memory(to, at + bytes + rest).fill(0xee);
        const expected = new Uint8Array(target.length).fill(0xee);
        for (let i = 0; i < bytes; i++) expected[at + i] = source[i];
        copyInto(target, at, source);
        assert.equal(Buffer.compare(target, expected), 0);
      },
    ),
    { seed, numRuns: 300 },
  );
});
