/** What a key remembers of writes with an `Idempotency-Key`: the field, and the rules. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { withEnd } from "../../src/format/fields/end.ts";
import {
  ENTRY_BYTES,
  NAME_BYTES,
  onceOf,
  REQUEST_BYTES,
  type Recent,
  type RecentOperation,
  readRecent,
  recentOf,
  TOLD_BYTES_MAX,
  untilOf,
  withOnce,
  withRecent,
  writeRecent,
} from "../../src/format/fields/recent.ts";
import { NO_TRAILER, readFields, writeFields } from "../../src/format/fields/trailer.ts";
import { RECENT_BYTES_MAX, TRAILER_BYTES_MAX } from "../../src/format/offsets.ts";
import type { Ballot } from "../../src/format/record.ts";
import {
  carried,
  GUARDED_MS,
  guard,
  isLive,
  judgeOnce,
  moved,
  RECENT_MS,
  remember,
} from "../../src/rules/recent.ts";
import { Random, randomSeed } from "../random.ts";

const NOW = Date.UTC(2026, 0, 1);

const ballotOf = (clockLow: number): Ballot => ({
  clockLow,
  clockHigh: 2 ** 32 - 1,
  node: 0xdeadbeef,
  incarnation: 7,
});

function onceFor(name: number, request = 1, told = ""): Uint8Array {
  const once = Buffer.alloc(NAME_BYTES + REQUEST_BYTES + told.length);
  once.writeUInt32LE(name, 0);
  once.writeUInt32LE(request, NAME_BYTES);
  once.write(told, NAME_BYTES + REQUEST_BYTES, "latin1");
  return once;
}

function asText({ name, request, told, ...rest }: RecentOperation) {
  return { ...rest, bytes: [name, request, told].map((bytes) => Buffer.from(bytes).toString("hex")) };
}

function known(field: Uint8Array | null, once: Uint8Array, nowMs = NOW) {
  const found = judgeOnce(field, once, nowMs);
  if (typeof found === "string") return found;
  return { ballot: found.ballot, existed: found.existed, told: Buffer.from(found.told).toString() };
}

test("recent operations: what is written is read, whatever lengths, and no cut or wild field breaks a reader", (t) => {
  const random = new Random(randomSeed(t));
  for (let run = 0; run < 200; run++) {
    const recent: Recent = {
      until: NOW + random.below(2 ** 31),
      operations: Array.from({ length: random.below(6) }, () => ({
        name: random.bytes(NAME_BYTES),
        request: random.bytes(REQUEST_BYTES),
        atSeconds: random.word() >>> 0,
        ballot: ballotOf(random.word() >>> 0),
        existed: random.below(2) === 1,
        told: random.bytes(random.below(TOLD_BYTES_MAX + 1)),
      })),
    };
    const field = writeRecent(recent);
    const read = readRecent(field);
    assert.equal(read.until, recent.until);
    assert.deepEqual(read.operations.map(asText), recent.operations.map(asText));
    const cut = field.slice(0, random.below(field.length + 1));
    const left = recentOf(withRecent(NO_TRAILER, cut));
    if (left !== null) assert.ok(readRecent(left).operations.length <= recent.operations.length);
    const wild = random.bytes(8 + random.below(200));
    assert.ok(readRecent(wild).operations.every(({ told }) => told.length <= TOLD_BYTES_MAX));
    assert.ok(untilOf(wild) >= 0);
  }
  assert.equal(recentOf(withRecent(NO_TRAILER, new Uint8Array(7))), null, "shorter than a moment");
  assert.equal(recentOf(withRecent(NO_TRAILER, new Uint8Array(RECENT_BYTES_MAX + 1))), null);
});

test("recent operations: in a trailer the field takes the place of the one before, and leaves the others", () => {
  const metadata = writeFields([{ type: 3, bytes: Buffer.from("x-meta-a: b\n") }]);
  const first = withRecent(withEnd(metadata, NOW), guard(null, NOW));
  const second = withRecent(first, guard(null, NOW + 5));
  assert.deepEqual(
    (readFields(second) ?? []).map(({ type }) => type),
    [1, 3, 5],
  );
  assert.equal(untilOf(recentOf(second) as Uint8Array), NOW + 5 + GUARDED_MS);
  assert.deepEqual(Buffer.from(withRecent(second, null)), Buffer.from(withEnd(metadata, NOW)));
  const once = withOnce(metadata, onceFor(3));
  assert.deepEqual(Buffer.from(onceOf(once) ?? []), Buffer.from(onceFor(3)));
  assert.deepEqual(Buffer.from(withOnce(once, null)), Buffer.from(metadata));
  assert.equal(onceOf(metadata), null);
});

test("recent operations: one is known for ten minutes, with its request only, and through what comes after it", () => {
  const ballot = ballotOf(1);
  const first = remember(null, onceFor(1, 1, "41"), { ballot, existed: true }, NOW);
  const told = { ballot, existed: true, told: "41" };
  assert.deepEqual(known(first, onceFor(1)), told);
  assert.equal(known(first, onceFor(1, 2)), "reused");
  assert.equal(known(first, onceFor(2)), "new");
  assert.equal(known(null, onceFor(1)), "new");
  assert.deepEqual(known(first, onceFor(1), NOW + RECENT_MS - 1), told);
  assert.equal(known(first, onceFor(1), NOW + RECENT_MS + 1000), "new");
  const second = remember(first, onceFor(2), { ballot: ballotOf(2), existed: false }, NOW + RECENT_MS - 2000);
  assert.deepEqual(known(second, onceFor(1), NOW + RECENT_MS - 1000), told);
  assert.deepEqual(known(second, onceFor(2)), { ballot: ballotOf(2), existed: false, told: "" });
  assert.equal(readRecent(second).operations.length, 2);
  const later = NOW + RECENT_MS + 2000;
  const third = carried(second, later, false) as Uint8Array;
  assert.equal(readRecent(third).operations.length, 1, "what is too old goes");
  assert.equal(isLive(third, later), true);
  assert.equal(carried(third, later + RECENT_MS, false), null, "nothing is left");
  assert.notEqual(carried(third, later + RECENT_MS, true), null, "but the guard");
  assert.equal(carried(third, later + GUARDED_MS, true), null);
  assert.equal(isLive(third, later + RECENT_MS), false);
});

test("recent operations: a value that only gets another version takes what made it along", () => {
  const field = remember(
    remember(null, onceFor(1), { ballot: ballotOf(1), existed: false }, NOW),
    onceFor(2),
    { ballot: ballotOf(2), existed: true },
    NOW,
  );
  const after = moved(field, ballotOf(2), ballotOf(9));
  assert.deepEqual(known(after, onceFor(2)), { ballot: ballotOf(9), existed: true, told: "" });
  assert.deepEqual(known(after, onceFor(1)), { ballot: ballotOf(1), existed: false, told: "" });
  assert.equal(moved(field, ballotOf(3), ballotOf(9)), field);
});

test("recent operations: when the field is full no more are taken until some are too old; it never outgrows its bound", () => {
  for (const told of ["", "1234", "x".repeat(TOLD_BYTES_MAX)]) {
    let field: Uint8Array | null = null;
    let taken = 0;
    while (judgeOnce(field, onceFor(taken), NOW) === "new") {
      field = remember(
        field,
        onceFor(taken, 1, told),
        { ballot: ballotOf(taken), existed: true },
        NOW + taken,
      );
      taken++;
    }
    assert.equal(judgeOnce(field, onceFor(taken), NOW), "full");
    assert.ok((field as Uint8Array).length <= RECENT_BYTES_MAX && RECENT_BYTES_MAX < TRAILER_BYTES_MAX);
    assert.ok(taken >= Math.floor((RECENT_BYTES_MAX - 200) / (ENTRY_BYTES + told.length)), `${taken}`);
    assert.notEqual(judgeOnce(field, onceFor(0), NOW), "full", "those that are known still are");
    assert.equal(judgeOnce(field, onceFor(taken), NOW + 1000 + RECENT_MS + taken), "new");
  }
});
