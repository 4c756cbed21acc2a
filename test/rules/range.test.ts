import assert from "node:assert/strict";
import { test } from "node:test";
import { parseRange, RANGE_IGNORED, RANGE_PART, RANGE_UNSATISFIABLE } from "../../src/rules/range.ts";

test("range: one range of bytes, clamped to the value", () => {
  for (const [header, total, start, end] of [
    ["bytes=0-0", 10, 0, 1],
    ["bytes=0-9", 10, 0, 10],
    ["bytes=0-99", 10, 0, 10],
    ["bytes=9-", 10, 9, 10],
    ["bytes=0-", 10, 0, 10],
    ["bytes=-1", 10, 9, 10],
    ["bytes=-10", 10, 0, 10],
    ["bytes=-99", 10, 0, 10],
    ["BYTES=2-3", 10, 2, 4],
    ["bytes = 2 - 3", 10, 2, 4],
    ["bytes=0002-03", 10, 2, 4],
    ["bytes=5-99999999999999999999", 10, 5, 10],
    ["bytes=4294967296-4294967297", 5_000_000_000, 4294967296, 4294967298],
  ] as const) {
    assert.deepEqual(parseRange(header, total), { kind: RANGE_PART, start, end }, header);
  }
});

test("range: outside the value is unsatisfiable", () => {
  for (const [header, total] of [
    ["bytes=10-", 10],
    ["bytes=10-20", 10],
    ["bytes=99999999999999999999-", 10],
    ["bytes=-0", 10],
    ["bytes=0-", 0],
    ["bytes=0-0", 0],
    ["bytes=-0", 0],
  ] as const) {
    assert.equal(parseRange(header, total).kind, RANGE_UNSATISFIABLE, header);
  }
});

test("range: everything else is ignored", () => {
  for (const header of [
    "",
    "bytes",
    "bytes=",
    "bytes=-",
    "bytes=a-b",
    "bytes=1",
    "bytes=3-2",
    "bytes=0-1,3-4",
    "bytes=0-1,",
    "lines=0-1",
    "bytes=-1-2",
    "bytes=0x1-2",
    "bytes=1.0-2",
    "bytes=0-1 x",
  ]) {
    assert.deepEqual(parseRange(header, 10), { kind: RANGE_IGNORED, start: 0, end: 10 }, header);
  }
  assert.equal(parseRange("bytes=-5", 0).kind, RANGE_IGNORED, "the end of an empty value");
});
