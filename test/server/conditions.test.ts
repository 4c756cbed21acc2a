import assert from "node:assert/strict";
import { test } from "node:test";
import { ifRangeHolds, listMatches, writeConditionsHold } from "../../src/server/conditions.ts";

const TAG = '"0123456789abcdef0123456789abcdef"';
const OTHER = '"ffffffffffffffffffffffffffffffff"';
const bytes = Buffer.from(TAG);

test("conditions: a list names the version, strongly and weakly", () => {
  for (const [list, strong, weak] of [
    [TAG, true, true],
    ["*", true, true],
    [" * ", true, true],
    [`W/${TAG}`, false, true],
    [OTHER, false, false],
    [`${OTHER}, ${TAG}`, true, true],
    [`${OTHER},${TAG}`, true, true],
    [`${OTHER}\t, W/${TAG} ,${OTHER}`, false, true],
    [`, ,${TAG},`, true, true],
    [`W/${TAG}, ${TAG}`, true, true],
    ['""', false, false],
    [TAG.slice(1, -1), false, false],
    [TAG.slice(0, -1), false, false],
    [`${TAG}x`, true, true],
    [`x${TAG}`, false, false],
    [`w/${TAG}`, false, false],
    [`${OTHER} ${TAG}`, false, false],
    [`*, ${TAG}`, false, false],
    [TAG.toUpperCase(), false, false],
    ["", false, false],
    [",", false, false],
    ['"a, b"', false, false],
    [`"a, b", ${TAG}`, true, true],
  ] as const) {
    assert.equal(listMatches(list, bytes, false), strong, `strong ${list}`);
    assert.equal(listMatches(list, bytes, true), weak, `weak ${list}`);
  }
});

test("conditions: If-Range wants the very version", () => {
  assert.equal(ifRangeHolds(TAG, bytes), true);
  for (const header of [OTHER, `W/${TAG}`, "*", "Wed, 21 Oct 2015 07:28:00 GMT", `${TAG}, ${OTHER}`]) {
    assert.equal(ifRangeHolds(header, bytes), false, header);
  }
});

test("conditions: early advice for writes", () => {
  for (const [ifMatch, ifNoneMatch, exists, holds] of [
    ["", "", false, true],
    ["", "", true, true],
    ["*", "", true, true],
    ["*", "", false, false],
    [TAG, "", true, true],
    [TAG, "", false, false],
    [OTHER, "", true, false],
    [`W/${TAG}`, "", true, false],
    ["", "*", false, true],
    ["", "*", true, false],
    ["", TAG, true, false],
    ["", `W/${TAG}`, true, false],
    ["", OTHER, true, true],
    [TAG, OTHER, true, true],
    [TAG, TAG, true, false],
  ] as const) {
    assert.equal(
      writeConditionsHold(ifMatch, ifNoneMatch, exists ? bytes : null),
      holds,
      `${ifMatch} ${ifNoneMatch} ${exists}`,
    );
  }
});
