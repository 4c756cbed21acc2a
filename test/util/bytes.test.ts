import assert from "node:assert/strict";
import { test } from "node:test";
import { copyOf } from "../../src/util/bytes.ts";

test("bytes: a copy of a Buffer is a copy, too", () => {
  for (const bytes of [Buffer.from("abcd"), new Uint8Array([97, 98, 99, 100])]) {
    const copy = copyOf(bytes, 1, 3);
    bytes.fill(0);
    assert.deepEqual([...copy], [98, 99]);
    assert.deepEqual([...copyOf(bytes)], [0, 0, 0, 0]);
  }
});
