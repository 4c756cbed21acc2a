import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { etagText } from "../../src/format/version.ts";
import { EntryWriter, ttlMember, valueMember } from "../../src/value/entry-text.ts";
import { randomSeed } from "../random.ts";

const text = fc.string({ unit: "binary", maxLength: 300 });
const word = fc.nat(0xffffffff);
const facts = fc.record({
  key: fc.oneof(fc.string({ minLength: 1, maxLength: 300 }), text).map((key) => Buffer.from(key)),
  ballot: fc.record({ clockLow: word, clockHigh: word, node: word, incarnation: word }),
  bytes: fc.oneof(fc.nat(12), fc.nat(0x7fffffff), fc.nat({ max: Number.MAX_SAFE_INTEGER })),
  json: fc.boolean(),
  contentType: fc.constantFrom("text/plain", "image/png", 'a/b; c="d"'),
  ttlMs: fc.option(fc.integer({ min: -5, max: 2 ** 45 })),
  value: fc.option(
    fc
      .oneof(fc.string(), fc.constant("é".repeat(32_000)))
      .map((value) => Buffer.from(`{"value":${JSON.stringify(value)}}`)),
  ),
});

test("entries of a list: the bytes are those of the texts, one behind the other", (t) => {
  fc.assert(
    fc.property(fc.array(facts, { maxLength: 8 }), fc.boolean(), (entries, lines) => {
      const writer = new EntryWriter(lines);
      for (const entry of entries) {
        const before = writer.length;
        writer.facts({ ...entry, key: Buffer.from("something else") }, entry.ttlMs, entry.value);
        writer.cutTo(before);
        writer.facts(entry, entry.ttlMs, entry.value);
        if (lines) writer.prefix(entry.key);
      }
      const texts = entries.flatMap(({ key, ballot, bytes, json, contentType, ttlMs, value }) => {
        const name = JSON.stringify(key.toString());
        const type = JSON.stringify(json ? "application/json" : contentType);
        const more = ttlMember(ttlMs) + (value === null ? "" : valueMember(value, json));
        const line = `{"key":${name},"etag":${etagText(ballot)},"bytes":${bytes},"type":${type}${more}}`;
        return lines ? [line, `{"prefix":${name}}`] : [line];
      });
      const whole = Buffer.from(writer.whole()).toString();
      assert.equal(whole, lines ? texts.map((each) => `${each}\n`).join("") : texts.join(",\n"));
    }),
    { seed: randomSeed(t), numRuns: 50 },
  );
});
