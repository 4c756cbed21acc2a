import assert from "node:assert/strict";
import { test } from "node:test";
import { HTTP_DATE_BYTES, readHttpDate, writeHttpDate } from "../../src/util/http-date.ts";
import { Random, randomSeed } from "../random.ts";

const NOW_MS = Date.UTC(2026, 10, 28);

function written(seconds: number): string {
  const bytes = Buffer.alloc(HTTP_DATE_BYTES);
  writeHttpDate(bytes, 0, seconds);
  return bytes.toString("latin1");
}

test("HTTP dates: three forms are read, one is written", () => {
  const seconds = Date.UTC(1994, 10, 6, 8, 49, 37) / 1000;
  assert.equal(written(seconds), "Sun, 06 Nov 1994 08:49:37 GMT");
  for (const text of [
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "Sunday, 06-Nov-94 08:49:37 GMT",
    "Sun Nov  6 08:49:37 1994",
  ])
    assert.equal(readHttpDate(text, NOW_MS), seconds, text);
  assert.equal(readHttpDate("Thu, 01 Jan 1970 00:00:00 GMT", NOW_MS), 0);
  assert.equal(readHttpDate("Sat, 31 Dec 2016 23:59:60 GMT", NOW_MS), Date.UTC(2017, 0, 1) / 1000);
  assert.equal(readHttpDate("Tuesday, 06-Nov-74 00:00:00 GMT", NOW_MS), Date.UTC(2074, 10, 6) / 1000);
  assert.equal(readHttpDate("Tuesday, 06-Nov-77 00:00:00 GMT", NOW_MS), Date.UTC(1977, 10, 6) / 1000);
});

test("HTTP dates: what is written is what Date writes, and is read back", (t) => {
  const source = new Random(randomSeed(t));
  const random = () => source.below(2 ** 31) / 2 ** 31;
  for (let round = 0; round < 3000; round++) {
    const seconds = Math.floor(random() * 4e9);
    const text = written(seconds);
    assert.equal(text, new Date(seconds * 1000).toUTCString());
    assert.equal(readHttpDate(text, NOW_MS), seconds);
  }
});

test("HTTP dates: anything else is none", () => {
  for (const text of [
    "",
    "now",
    "0",
    "1994-11-06T08:49:37Z",
    "Sun, 06 Nov 1994 08:49:37",
    "Sun, 06 Nov 1994 08:49:37 +0000",
    "Sun, 06 Nov 1994 08:49:37 UTC",
    "Sun, 6 Nov 1994 08:49:37 GMT",
    "Sun, 31 Feb 1994 08:49:37 GMT",
    "Sun, 06 Non 1994 08:49:37 GMT",
    "Sun, 06 Nov 1994 24:49:37 GMT",
    "Sun, 06 Nov 1994 08:60:37 GMT",
    "Sun, 06 Nov 1994 08:49:61 GMT",
    "Son, 06 Nov 1994 08:49:37 GMT",
    " Sun, 06 Nov 1994 08:49:37 GMT",
    "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
  ])
    assert.equal(readHttpDate(text, NOW_MS), null, text);
});
