import assert from "node:assert/strict";
import { test } from "node:test";
import { StoredCutter, storedBytes, storedParts, textOf } from "../../src/value/stored.ts";

const BODIES: [body: string, stored: string | "bad_json" | "no_value"][] = [
  ['{"value":1}', '{"value":1}'],
  [' { "value" :\t[1, {"a" : "}"}] \n}  ', '{"value":[1, {"a" : "}"}]}'],
  ['{"value":"ä\\u0000"\t}', '{"value":"ä\\u0000"}'],
  ['{"value":1', "bad_json"],
  ["", "bad_json"],
  ["{}", "no_value"],
  ['{"value":tru}', "bad_json"],
];

/** The stored form of a body that comes in these pieces, or what is wrong with it. */
function cut(pieces: readonly Uint8Array[]): string {
  const cutter = new StoredCutter();
  const stored: Uint8Array[] = [];
  const take = (bytes: Uint8Array): void => {
    // What is lent is copied.
    stored.push(Uint8Array.from(bytes));
  };
  for (const piece of pieces) {
    const problem = cutter.feed(piece, take);
    if (problem !== null) return problem.error;
  }
  return cutter.finish(take)?.error ?? Buffer.concat(stored).toString();
}

for (const [body, stored] of BODIES) {
  test(`stored: ${JSON.stringify(body)} in one piece`, () => {
    const text = textOf(Buffer.from(body));
    if ("error" in text) {
      assert.equal(text.error, stored);
      return;
    }
    const { parts, valueBytes } = storedParts(text);
    assert.equal(Buffer.concat(parts).toString(), stored);
    assert.equal(valueBytes, Buffer.byteLength(stored));
    assert.equal(Buffer.from(storedBytes(text)).toString(), stored);
  });

  test(`stored: ${JSON.stringify(body)} cut at every byte, and into single ones`, () => {
    const bytes = Buffer.from(body);
    for (let at = 0; at <= bytes.length; at++)
      assert.equal(cut([bytes.subarray(0, at), bytes.subarray(at)]), stored, `cut at ${at}`);
    assert.equal(cut([...bytes].map((byte) => Uint8Array.of(byte))), stored);
  });
}
