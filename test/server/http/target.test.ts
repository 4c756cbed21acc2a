import assert from "node:assert/strict";
import { test } from "node:test";
import { queryProblem } from "../../../src/rules/query.ts";
import * as targets from "../../../src/server/http/target.ts";
import {
  createKeyScratch,
  parseTarget,
  TARGET_BAD_KEY,
  TARGET_CONSOLE,
  TARGET_EMPTY_KEY,
  TARGET_HEALTH,
  TARGET_KEY,
  TARGET_LIVE,
  TARGET_METRICS,
  TARGET_RESERVED,
  TARGET_ROOT,
  TARGET_STATS,
  TARGET_TOO_LONG,
} from "../../../src/server/http/target.ts";
import { KEY_BYTES_MAX } from "../../../src/util/limits.ts";

const scratch = createKeyScratch();

function keyOf(path: string): string {
  assert.equal(parseTarget(path, scratch), TARGET_KEY, path);
  return Buffer.from(scratch.bytes.subarray(0, scratch.length)).toString("utf8");
}

function kindOf(path: string): number {
  return parseTarget(path, scratch);
}

test("target: what follows the first slash is the key, byte for byte", () => {
  for (const [path, key] of [
    ["/a", "a"],
    ["/a/b/c", "a/b/c"],
    ["/a/", "a/"],
    ["//a", "/a"],
    ["/a//b", "a//b"],
    ["/..", ".."],
    ["/../etc/passwd", "../etc/passwd"],
    ["/./.", "./."],
    ["/a+b", "a+b"],
    ["/a;b=c", "a;b=c"],
    ["/a#b", "a#b"],
    ["/healthy", "healthy"],
    ["/Health", "Health"],
    ["/a/_b", "a/_b"],
  ] as const) {
    assert.equal(keyOf(path), key);
  }
});

test("target: percent-encoding is decoded once", () => {
  for (const [path, key] of [
    ["/a%2Fb", "a/b"],
    ["/a%2fb", "a/b"],
    ["/%25", "%"],
    ["/%2525", "%25"],
    ["/a%20b", "a b"],
    ["/%00", "\0"],
    ["/%3Fq", "?q"],
    ["/%C3%A9", "é"],
    ["/%F0%9F%92%BE", "💾"],
    ["/%EF%BF%BD", "\ufffd"],
    ["/é", "é"],
    ["/💾", "💾"],
    ["/é%C3%A9", "éé"],
  ] as const) {
    assert.equal(keyOf(path), key);
  }
});

test("target: bad percent-encoding and bad UTF-8 are bad keys", () => {
  for (const path of [
    "/%",
    "/%4",
    "/a%",
    "/%zz",
    "/%4g",
    "/%-1",
    "/%C3", // cut short
    "/%C3%C3",
    "/%A9", // a continuation without its start
    "/%C0%AF", // overlong "/"
    "/%E0%80%AF",
    "/%F0%80%80%AF",
    "/%ED%A0%80", // a surrogate
    "/%ED%A0%80%ED%B0%80", // a surrogate pair (CESU-8)
    "/%F4%90%80%80", // above U+10FFFF
    "/%FF",
    "/a\ufffdb", // raw bytes that uWS could not decode
  ]) {
    assert.equal(kindOf(path), TARGET_BAD_KEY, path);
  }
});

test("target: without a slash in front, as what is meant for a proxy, it is no key", () => {
  for (const target of ["*", "**", "k", "xk", "x", "?k", "http://h/k", "https://h", "h:80", "http://h/_kv/k"])
    assert.equal(kindOf(target), TARGET_BAD_KEY, target);
});

test("target: an empty key is a bad key", () => {
  assert.equal(kindOf(""), TARGET_BAD_KEY);
  assert.equal(kindOf("/_kv/"), TARGET_EMPTY_KEY);
  assert.equal(kindOf("/"), TARGET_ROOT);
});

test("target: length counts decoded bytes, up to the limit", () => {
  const longest = "k".repeat(KEY_BYTES_MAX);
  assert.equal(keyOf(`/${longest}`), longest);
  assert.equal(kindOf(`/${longest}k`), TARGET_TOO_LONG);
  assert.equal(keyOf(`/${"%6B".repeat(KEY_BYTES_MAX)}`), longest);
  assert.equal(kindOf(`/${"%6B".repeat(KEY_BYTES_MAX + 1)}`), TARGET_TOO_LONG);
  assert.equal(keyOf(`/${"é".repeat(KEY_BYTES_MAX / 2)}`), "é".repeat(KEY_BYTES_MAX / 2));
  assert.equal(kindOf(`/${"é".repeat(KEY_BYTES_MAX / 2)}k`), TARGET_TOO_LONG);
  assert.equal(kindOf(`/${"k".repeat(10_000)}`), TARGET_TOO_LONG);
});

test("target: the prefix _kv/ reaches every key, and does not count", () => {
  const longest = "_".repeat(KEY_BYTES_MAX);
  for (const [path, key] of [
    ["/_kv/a", "a"],
    ["/_kv/health", "health"],
    ["/_kv/_stats", "_stats"],
    ["/_kv/_kv/a", "_kv/a"],
    ["/_kv//", "/"],
    ["/%5Fkv/a", "a"],
    [`/_kv/${longest}`, longest],
    [`/_kv/${"%5F".repeat(KEY_BYTES_MAX)}`, longest],
  ] as const) {
    assert.equal(keyOf(path), key);
  }
  assert.equal(kindOf(`/_kv/${longest}_`), TARGET_TOO_LONG);
});

test("target: no two are the same number", () => {
  const numbers = Object.entries(targets).filter(([name]) => name.startsWith("TARGET_"));
  assert.ok(numbers.length > 10);
  assert.equal(new Set(numbers.map(([, number]) => number)).size, numbers.length, JSON.stringify(numbers));
});

test("target: reserved names are recognised however they are written", () => {
  assert.equal(kindOf("/health"), TARGET_HEALTH);
  assert.equal(kindOf("/%68ealth"), TARGET_HEALTH);
  assert.equal(kindOf("/_stats"), TARGET_STATS);
  assert.equal(kindOf("/%5Fstats"), TARGET_STATS);
  assert.equal(kindOf("/_metrics"), TARGET_METRICS);
  for (const path of ["/_ui", "/_ui/", "/%5Fui%2F"]) assert.equal(kindOf(path), TARGET_CONSOLE, path);
  assert.equal(kindOf("/health/live"), TARGET_LIVE);
  assert.equal(kindOf("/health%2Flive"), TARGET_LIVE);
  assert.equal(keyOf("/_kv/health/live"), "health/live");
  for (const path of [
    "/_",
    "/_kv",
    "/_stats/",
    "/health/",
    "/%68ealth/x",
    "/health/live/",
    "/_metrics/x",
    "/_keys",
    "/_batch/x",
    "/_watch",
    "/_ui/x",
    "/_admin",
    "/%5F",
  ]) {
    assert.equal(kindOf(path), TARGET_RESERVED, path);
  }
});

test("query: unknown parameters mean nothing, known ones are checked", () => {
  for (const query of ["x=1", "consistency=quorum", "consistency=one&_=123", "listing=1", "&&", "%zz"]) {
    assert.equal(queryProblem(query), null, query);
  }
  for (const query of [
    "consistency=",
    "consistency",
    "consistency=all",
    "x&consistency=ONE",
    "ttl=5",
    "list",
    "list=1",
    "watch",
    "changes&since=x",
    "wait=30s",
    "expires=1700000000",
    "%6Cist",
    "a&".repeat(7000),
    "tt%6C=1",
  ]) {
    assert.notEqual(queryProblem(query), null, query);
  }
});
