import assert from "node:assert/strict";
import { test } from "node:test";
import { etagText } from "../../src/format/version.ts";
import {
  conditionsHold,
  ifRangeHolds,
  isModifiedSince,
  lastModifiedSeconds,
  matchHolds,
  noneMatchHolds,
  readTags,
  readUnmodifiedSince,
} from "../../src/rules/conditions.ts";
import { Random, randomSeed } from "../random.ts";

const dateText = (seconds: number): string => new Date(seconds * 1000).toUTCString();

const TAG = '"0123456789abcdef0123456789abcdef"';
const OTHER = '"ffffffffffffffffffffffffffffffff"';
const BARE = TAG.slice(1, -1);

/** What a header says of a key that has version TAG: null where the text is no list. */
function match(header: string): boolean | null {
  const tags = readTags(header, false);
  return tags === null ? null : matchHolds(tags, TAG);
}

/** Whether If-None-Match names version TAG. */
function noneMatchNames(header: string): boolean | null {
  const tags = readTags(header, true);
  return tags === null ? null : !noneMatchHolds(tags, TAG);
}

test("conditions: a list names the version, strongly and weakly", () => {
  for (const [list, strong, weak] of [
    [TAG, true, true],
    ["*", true, true],
    [" * ", true, true],
    ["*, *", true, true],
    [`*, ${TAG}`, true, true],
    [`${OTHER},*`, true, true],
    [`W/${TAG}`, false, true],
    [OTHER, false, false],
    [`${OTHER}, ${TAG}`, true, true],
    [`${OTHER},${TAG}`, true, true],
    [`${OTHER}\t, W/${TAG} ,${OTHER}`, false, true],
    [`, ,${TAG},`, true, true],
    [`W/${TAG}, ${TAG}`, true, true],
    ['""', false, false],
    ['"*"', false, false],
    ["W/*", false, false],
    // Without quotes, as people type them into curl.
    [BARE, true, true],
    [`W/${BARE}`, false, true],
    [`${OTHER}, ${BARE} `, true, true],
    ["abc", false, false],
    ["@0", false, false],
    ["@99999999999", false, false],
    [`x${BARE}`, false, false],
    [BARE.slice(0, -1), false, false],
    [TAG.toUpperCase(), false, false],
    [",", false, false],
    ['"a, b"', false, false],
    [`"a, b", ${TAG}`, true, true],
    [`"${","}", ${TAG}`, true, true],
    ['"\u00e4"', false, false],
  ] as const) {
    assert.equal(match(list), strong, `strong ${list}`);
    assert.equal(noneMatchNames(list), weak, `weak ${list}`);
  }
});

test("conditions: what is no list of tags is seen, not judged", () => {
  for (const text of [
    TAG.slice(0, -1),
    `${TAG}x`,
    `${TAG}${OTHER}`,
    `${OTHER} ${TAG}`,
    `x${TAG}`,
    `w/${TAG}`,
    "W/",
    "W/ ",
    `W/, ${TAG}`,
    "a b",
    '"',
    `${TAG}, "`,
    "* *",
  ]) {
    assert.equal(readTags(text, false), null, text);
    assert.equal(readTags(text, true), null, text);
  }
});

test("conditions: tags at random are read as a list splitter and a comparison read them", (t) => {
  const source = new Random(randomSeed(t));
  const random = () => source.below(2 ** 31) / 2 ** 31;
  const pick = (texts: readonly string[]) => texts[Math.floor(random() * texts.length)];
  for (let round = 0; round < 2000; round++) {
    const parts = Array.from({ length: Math.floor(random() * 5) }, () =>
      pick([TAG, OTHER, BARE, `W/${TAG}`, `W/${BARE}`, '""', '"a"', "b", ""]),
    );
    const header = parts.map((part) => pick(["", " ", "\t "]) + part + pick(["", " "])).join(",");
    const strong = parts.includes(TAG) || parts.includes(BARE);
    const weak = strong || parts.includes(`W/${TAG}`) || parts.includes(`W/${BARE}`);
    if (header === "") continue;
    assert.equal(match(header), strong, header);
    assert.equal(noneMatchNames(header), weak, header);
  }
});

test("conditions: of a write", () => {
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
    ["nonsense", "", true, false],
    ["nonsense", "", false, false],
    ["", "nonsense", true, true],
  ] as const) {
    const conditions = {
      ifMatch: readTags(ifMatch, false) ?? "",
      ifNoneMatch: readTags(ifNoneMatch, true) ?? "",
    };
    assert.equal(
      conditionsHold(conditions, exists ? TAG : null),
      holds,
      `${ifMatch} ${ifNoneMatch} ${exists}`,
    );
  }
});

/** Tag of a version that was made at a time. */
function tagAt(millis: number): string {
  return etagText({
    clockHigh: Math.floor(millis / 0x10000),
    clockLow: (millis % 0x10000) * 0x10000 + 7,
    node: 1,
    incarnation: 1,
  });
}

const NOON = Date.UTC(2026, 5, 1, 12);

test("conditions: Last-Modified is never later than a Date that is up to a second old, nor than the version", () => {
  for (const ageMs of [-60_000, -1, 0, 1, 999, 1000, 1999, 2999, 3000, 3001, 86_400_000])
    for (const phaseMs of [0, 1, 500, 999]) {
      const nowMs = NOON + phaseMs;
      const seconds = lastModifiedSeconds(nowMs - ageMs, nowMs);
      assert.ok(seconds <= Math.floor((nowMs - 1000) / 1000), `${ageMs}: not later than Date`);
      assert.ok(seconds * 1000 <= nowMs - ageMs, `${ageMs}: not later than the version`);
      if (ageMs >= 3000)
        assert.equal(seconds, Math.floor((nowMs - ageMs) / 1000), `${ageMs}: its very second`);
    }
});

test("conditions: what was told as Last-Modified names the version, and never the next one", (t) => {
  const source = new Random(randomSeed(t));
  const random = () => source.below(2 ** 31) / 2 ** 31;
  for (let round = 0; round < 5000; round++) {
    const madeMs = NOON + Math.floor(random() * 5000);
    const toldMs = madeMs + Math.floor(random() ** 3 * 10_000);
    const told = dateText(lastModifiedSeconds(madeMs, toldMs));
    const askedMs = toldMs + Math.floor(random() ** 3 * 10_000);
    const context = `made ${madeMs}, told ${toldMs}, asked ${askedMs}`;
    // The same version: a write goes ahead, however late.
    const condition = readUnmodifiedSince(told, askedMs);
    assert.ok(matchHolds(condition, tagAt(madeMs)), context);
    // A read that follows at once, or once dates have settled, is a 304; in between it may be sent anew.
    const isModified = isModifiedSince(told, lastModifiedSeconds(madeMs, askedMs), askedMs);
    if (toldMs - madeMs >= 3000 || askedMs - madeMs < 3000) assert.ok(!isModified, context);
    // The next version, in another second, which is made after the first was told.
    const nextMs = Math.max(toldMs, (Math.floor(madeMs / 1000) + 1) * 1000);
    const laterMs = nextMs + Math.floor(random() * 5000);
    assert.ok(!matchHolds(condition, tagAt(nextMs)), `write over the next version: ${context}`);
    assert.ok(isModifiedSince(told, lastModifiedSeconds(nextMs, laterMs), laterMs), `next: ${context}`);
    assert.ok(!ifRangeHolds(told, tagAt(nextMs), nextMs, laterMs), `range of the next: ${context}`);
  }
});

test("conditions: If-Unmodified-Since counts for what is there, and only if it is a date", () => {
  const etag = tagAt(NOON);
  const holds = (text: string) => matchHolds(readUnmodifiedSince(text, NOON), etag);
  assert.ok(holds(dateText(NOON / 1000)));
  assert.ok(holds(dateText(NOON / 1000 + 60)));
  assert.ok(!holds(dateText(NOON / 1000 - 60)));
  assert.ok(!holds("Thu, 01 Jan 1970 00:00:00 GMT"));
  assert.ok(holds("yesterday"));
  assert.ok(holds("Thu, 01 Jan 1970 00:00:00 GMT, Thu, 01 Jan 1970 00:00:00 GMT"));
  assert.ok(matchHolds(readUnmodifiedSince("Thu, 01 Jan 1970 00:00:00 GMT", NOON), null), "absent");
});

test("conditions: If-Range wants the very version, by its tag or its settled date", () => {
  const etag = tagAt(NOON);
  const date = dateText(NOON / 1000);
  const later = NOON + 10_000;
  assert.ok(ifRangeHolds(etag, etag, NOON, later));
  assert.ok(ifRangeHolds(etag.slice(1, -1), etag, NOON, later));
  assert.ok(ifRangeHolds(date, etag, NOON, later));
  assert.ok(!ifRangeHolds(date, etag, NOON, NOON + 2999), "another version may come with that date");
  for (const header of [
    OTHER,
    `W/${etag}`,
    "*",
    "Wed, 21 Oct 2015 07:28:00 GMT",
    dateText(NOON / 1000 + 1),
    `${etag}, ${OTHER}`,
  ])
    assert.ok(!ifRangeHolds(header, etag, NOON, later), header);
});
