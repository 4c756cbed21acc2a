import assert from "node:assert/strict";
import { test } from "node:test";
import {
  isStorageKey,
  normalizeStorageKey,
  STORAGE_BAD,
  STORAGE_BASE,
  STORAGE_ITEM,
} from "../../src/rules/storage-key.ts";
import { createKeyScratch } from "../../src/server/http/target.ts";
import { Random, randomSeed } from "../random.ts";

function normalize(text: string): { kind: number; key: string } {
  const key = createKeyScratch();
  const bytes = Buffer.from(`_unstorage/${text}`);
  key.bytes.set(bytes);
  key.length = bytes.length;
  const kind = normalizeStorageKey(key, "_unstorage/".length);
  return { kind, key: Buffer.from(key.bytes.subarray(0, key.length)).toString() };
}

test("storage key: separators are one, at the end they make a base", () => {
  for (const [text, kind, key] of [
    ["a", STORAGE_ITEM, "a"],
    ["a/b", STORAGE_ITEM, "a/b"],
    ["a:b", STORAGE_ITEM, "a/b"],
    ["a\\b", STORAGE_ITEM, "a/b"],
    ["//a::/b", STORAGE_ITEM, "a/b"],
    ["a...", STORAGE_ITEM, "a..."],
    ["a$", STORAGE_ITEM, "a$"],
    ["", STORAGE_BASE, ""],
    [":", STORAGE_BASE, ""],
    ["a/:", STORAGE_BASE, "a/"],
    ["a/", STORAGE_BASE, "a/"],
    [":a:b:", STORAGE_BASE, "a/b/"],
  ] as const)
    assert.deepEqual(normalize(text), { kind, key }, text);
  for (const text of [".", "..", "a/..", "../a", "a/./b", "./:", "\\"])
    assert.equal(normalize(text).kind, STORAGE_BAD, text);
});

test("storage key: what comes out is what can be asked for", (t) => {
  const seed = randomSeed(t);
  const random = new Random(seed);
  const letters = ["a", "b", "/", ":", "\\", ".", "$", "ä"];
  for (let round = 0; round < 20_000; round++) {
    const text = Array.from({ length: random.below(9) }, () => letters[random.below(letters.length)]).join(
      "",
    );
    const { kind, key } = normalize(text);
    const message = `seed ${seed}: ${JSON.stringify(text)} as ${JSON.stringify(key)}`;
    if (kind === STORAGE_ITEM) assert.ok(isStorageKey(Buffer.from(key)), message);
    if (kind === STORAGE_BASE) assert.ok(key === "" || isStorageKey(Buffer.from(key.slice(0, -1))), message);
    // A key has the form if and only if it is left as it is.
    assert.equal(isStorageKey(Buffer.from(text)), kind === STORAGE_ITEM && key === text, message);
  }
});
