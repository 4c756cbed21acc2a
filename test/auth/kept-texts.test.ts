import assert from "node:assert/strict";
import { test } from "node:test";
import { KEPT_CHARACTERS_MAX, KeptTexts } from "../../src/auth/kept-texts.ts";
import { Random, randomSeed } from "../random.ts";

test("texts that are kept: found as a map finds them, whatever is kept and forgotten in between; none is too long", (t) => {
  const random = new Random(randomSeed(t));
  // Few places, so that chains are long.
  const texts = new KeptTexts<number>(8);
  const model = new Map<string, { row: number; owner: number }>();
  const byte = (): string => String.fromCharCode(random.below(256));
  const textOf = (characters: number): string => Array.from({ length: characters }, byte).join("");
  for (let round = 0; round < 4_000; round++) {
    const known = [...model.keys()];
    const old = known[random.below(known.length)];
    if (known.length > 100 || (old !== undefined && random.below(3) === 0)) {
      texts.forget((model.get(old) as { row: number }).row);
      model.delete(old);
      assert.equal(texts.find(old), null);
      continue;
    }
    // Some differ in their last character, or their length, alone.
    const like = old === undefined ? "" : old.slice(0, -1 - random.below(2)) + byte();
    const text = random.below(2) === 0 ? like : textOf(random.below(KEPT_CHARACTERS_MAX + 1));
    assert.equal(texts.find(text), model.get(text)?.owner ?? null);
    if (model.has(text)) continue;
    const row = texts.keep(text, round);
    assert.ok(row !== null);
    model.set(text, { row, owner: round });
    if (round % 50 === 0)
      for (const [each, { owner }] of model) assert.equal(texts.find(each), owner, JSON.stringify(each));
  }
  assert.equal(texts.keep("x".repeat(KEPT_CHARACTERS_MAX + 1), 1), null);
  assert.equal(texts.find("x".repeat(KEPT_CHARACTERS_MAX + 1)), null);
});
