import assert from "node:assert/strict";
import { test } from "node:test";
import { KEEP_LIFE, NO_LIFE } from "../../src/rules/expiry.ts";
import { lifeOf, lifeOfTtl } from "../../src/rules/life.ts";

const NOW = Date.UTC(2026, 10, 28, 12);
const ALL = { keep: true, none: true };
const FEW = { keep: false, none: false };
const DAY_MS = 86_400_000;

test("life: what a ttl says", () => {
  for (const [text, ttlMs] of [
    ["90", 90_000],
    ["90s", 90_000],
    ["500ms", 500],
    ["1ms", 1],
    ["0.001", 1],
    ["1.5", 1500],
    ["5m", 300_000],
    ["12h", 43_200_000],
    ["30d", 30 * DAY_MS],
    ["3653d", 3653 * DAY_MS],
  ] as const) {
    assert.deepEqual(lifeOf(`ttl=${text}`, FEW, NOW), { ttlMs, expiresMs: 0, keep: false }, text);
    assert.deepEqual(lifeOfTtl(text, FEW), { ttlMs, expiresMs: 0, keep: false }, text);
  }
  assert.equal(lifeOf("ttl=keep", ALL, NOW), KEEP_LIFE);
  assert.equal(lifeOf("ttl=none", ALL, NOW), NO_LIFE);
  assert.equal(lifeOf("%74tl=5&x=1", FEW, NOW) === null, false, "a name may be escaped");
});

test("life: what a moment says", () => {
  const at = (text: string) => lifeOf(`expires=${text}`, FEW, NOW);
  const moment = Date.UTC(2026, 10, 28, 13, 30);
  for (const text of [
    String(moment / 1000),
    "2026-11-28T13:30:00Z",
    "2026-11-28t13:30:00.000z",
    "2026-11-28T15:30:00+02:00",
    "2026-11-28T15:30:00%2B02:00",
    "2026-11-28T08:30:00-05:00",
  ])
    assert.deepEqual(at(text), { ttlMs: 0, expiresMs: moment, keep: false }, text);
  // A leap second is counted as the first of the next minute.
  const minute = { ttlMs: 0, expiresMs: moment + 60_250, keep: false };
  assert.deepEqual(at("2026-11-28T13:30:60.25Z"), minute);
  assert.deepEqual(at(`${moment / 1000}.25`), { ttlMs: 0, expiresMs: moment + 250, keep: false });
});

test("life: what is wrong is a sentence", () => {
  for (const query of [
    ...[
      "ttl=",
      "ttl=0",
      "ttl=-1",
      "ttl=1e3",
      "ttl=0x10",
      "ttl=1 s",
      "ttl=1w",
      "ttl=+5",
      "ttl=0.4ms",
      "ttl=NaN",
    ],
    ...["ttl=3654d", "ttl=99999999999999999999", "ttl=keep", "ttl=none", "ttl=KEEP", "ttl=5&ttl=5"],
    ...["expires=", "expires=soon", "expires=0", "expires=1000", "expires=-5", "expires=4102444800000"],
    ...[
      "expires=2026-02-30T00:00:00Z",
      "expires=2027-02-29T00:00:00Z",
      "expires=2027-01-01",
      "expires=2027-13-01T00:00:00Z",
    ],
    ...[
      "expires=2027-01-01T00:00:00",
      "expires=2026-11-28T12:00:00Z",
      "expires=1e10",
      "expires=2027-01-01T25:00:00Z",
      "expires=2027-01-01T24:00:00Z",
      "expires=2027-01-01T00:00:61Z",
    ],
    ...["ttl=5&expires=1900000000", "expires=1900000000&expires=1900000000"],
  ]) {
    const life = lifeOf(query, FEW, NOW);
    assert.ok(typeof life === "string" && life.length > 20, query);
  }
  for (const query of ["", "x=ttl", "attl=5", "list", "consistency=one"])
    assert.equal(lifeOf(query, FEW, NOW), null, query);
});
