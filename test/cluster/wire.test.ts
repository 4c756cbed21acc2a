/** Operations between nodes as bytes: what is encoded is decoded, and nothing else is taken for it. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import type { LookAnswer, RefusalReason } from "../../src/cluster/register/ports.ts";
import {
  decodeAccepted,
  decodeHeld,
  decodePromise,
  encodeAccepted,
  encodeHeld,
  encodeNo,
  encodeRefused,
} from "../../src/cluster/wire/answer-frame.ts";
import { decodeHandOn, encodeHandOn } from "../../src/cluster/wire/hand-on.ts";
import { ACCEPT, decodeRequest, encodeRequest, LOOK, PREPARE } from "../../src/cluster/wire/request-frame.ts";
import { inlineValue, isInline, type StoredValue } from "../../src/cluster/wire/values.ts";
import { endOf } from "../../src/format/end.ts";
import { withEnd } from "../../src/format/fields/end.ts";
import { NO_TRAILER, writeFields } from "../../src/format/fields/trailer.ts";
import { TRAILER_BYTES_MAX } from "../../src/format/offsets.ts";
import type { Ballot } from "../../src/format/record.ts";
import {
  decodeChange,
  decodeChanged,
  encodeChange,
  encodeChanged,
  type HandedChange,
  type HandedEnding,
} from "../../src/server/patch/handed-frame.ts";
import { HANDED_CHANGE } from "../../src/server/peers/batch.ts";
import { loadHash } from "../../src/util/hash.ts";
import {
  CHUNK_BYTES,
  CONDITION_BYTES_MAX,
  CONTENT_TYPE_BYTES_MAX,
  KEY_BYTES_MAX,
  VALUE_BYTES_MAX,
} from "../../src/util/limits.ts";
import { Random, randomSeed } from "../random.ts";

const plainValue = (json: boolean, contentType: string, bytes: Uint8Array) =>
  inlineValue({ json, contentType, trailer: NO_TRAILER }, bytes);

const BALLOT = { clockLow: 0xffff_fffe, clockHigh: 0x8000_0001, node: 0xdead_beef, incarnation: 7 };
/** What a replica holds, a value beside it. */
const HELD = {
  ballot: BALLOT,
  tombstone: false,
  ended: false,
  end: 0,
  operationLow: 5,
  operationHigh: 6,
  recent: null,
} as const;
const noLarge = () => null;

describe("wire", () => {
  before(loadHash);

  test("wire: requests of every kind come out as they went in", () => {
    const key = Buffer.alloc(KEY_BYTES_MAX, 0xfe);
    for (const value of [
      plainValue(false, "t".repeat(CONTENT_TYPE_BYTES_MAX), Buffer.from("value")),
      plainValue(false, "text/x; a=\t~", new Uint8Array(0)),
      plainValue(true, "application/json", Buffer.from('{"value":1}')),
    ]) {
      const request = {
        kind: ACCEPT,
        epoch: 0xffff_ffff,
        key,
        ballot: BALLOT,
        operationLow: 1,
        operationHigh: 2 ** 32 - 1,
      } as const;
      const decoded = decodeRequest(encodeRequest({ ...request, value }));
      assert.ok(decoded !== null);
      const { kind, epoch, ballot, operationLow, operationHigh } = decoded;
      assert.deepEqual(
        { kind, epoch, ballot, operationLow, operationHigh, key: Buffer.from(decoded.key) },
        request,
      );
      assert.equal(decoded.json, value.json);
      if (!value.json) assert.equal(decoded.contentType, value.contentType);
      assert.deepEqual(Buffer.from(decoded.value), Buffer.from(value.bytes));
      assert.deepEqual([decoded.tombstone, decoded.staged], [false, false]);
    }
    const tombstone = decodeRequest(
      encodeRequest({ kind: ACCEPT, epoch: 1, key, ballot: BALLOT, tombstone: true }),
    );
    assert.equal(tombstone?.tombstone, true);
    const staged = decodeRequest(
      encodeRequest({ kind: ACCEPT, epoch: 1, key, ballot: BALLOT, staged: true }),
    );
    assert.equal(staged?.staged, true);
    assert.equal(decodeRequest(encodeRequest({ kind: LOOK, epoch: 3, key }))?.kind, LOOK);
  });

  test("wire: fields travel with a value, in requests and answers; what is none is no frame", () => {
    const key = Buffer.from("key");
    const trailer = writeFields([
      { type: 3, bytes: Buffer.from("x-meta-a: b\n") },
      { type: 0x7fff, bytes: Buffer.alloc(900, 1) },
    ]);
    const value = inlineValue({ json: false, contentType: "a/b", trailer }, Buffer.from("bytes"));
    const request = { kind: ACCEPT, epoch: 1, key, ballot: BALLOT } as const;
    for (const staged of [false, true]) {
      const decoded = decodeRequest(encodeRequest({ ...request, staged, value }));
      assert.ok(decoded !== null);
      assert.ok(Buffer.from(decoded.trailer).equals(Buffer.from(trailer)));
      assert.equal(Buffer.from(decoded.value).toString(), "bytes");
    }
    const read = decodeHeld(encodeHeld({ ...HELD, value }), noLarge) as LookAnswer & { kind: "yes" };
    assert.ok(read.payload !== null && isInline(read.payload));
    assert.ok(Buffer.from(read.payload.trailer).equals(Buffer.from(trailer)));
    assert.equal(Buffer.from(read.payload.bytes).toString(), "bytes");
    for (const bad of [trailer.subarray(1), Buffer.alloc(3), Buffer.alloc(TRAILER_BYTES_MAX + 4)]) {
      const spoilt = inlineValue({ json: false, contentType: "a/b", trailer: bad }, Buffer.from("bytes"));
      assert.equal(decodeRequest(encodeRequest({ ...request, value: spoilt })), null);
      assert.equal(decodeHeld(encodeHeld({ ...HELD, value: spoilt }), noLarge), null);
    }
  });

  test("wire: marks of ends, times to judge by and touches travel; what only looks like one is none", () => {
    const key = Buffer.from("key");
    const end = 1_700_000_000_123;
    const request = { kind: ACCEPT, epoch: 1, key, ballot: BALLOT } as const;
    const markOf = (millis: number) => ({ ended: true, trailer: withEnd(NO_TRAILER, millis) });
    const mark = encodeRequest({ ...request, ...markOf(end) });
    const decoded = decodeRequest(mark);
    assert.ok(decoded?.ended && decoded.tombstone);
    assert.deepEqual([endOf(decoded.trailer), decoded.atMillis, decoded.base], [end, 0, null]);
    const plain = decodeRequest(encodeRequest({ ...request, tombstone: true }));
    assert.deepEqual([plain?.tombstone, plain?.ended], [true, false]);
    assert.equal(decodeRequest(encodeRequest({ ...request, ...markOf(0) })), null, "a mark without an end");
    const value = inlineValue(
      { json: false, contentType: "a/b", trailer: withEnd(NO_TRAILER, end) },
      Buffer.from("bytes"),
    );
    const base: Ballot = { clockLow: 9, clockHigh: 8, node: 7, incarnation: 6 };
    for (const atMillis of [0, end])
      for (const touched of [undefined, base]) {
        const frame = encodeRequest({ ...request, value, atMillis, ...(touched ? { base: touched } : {}) });
        const read = decodeRequest(frame);
        assert.ok(read !== null);
        assert.equal(Buffer.from(read.value).toString(), "bytes");
        assert.deepEqual([endOf(read.trailer), read.atMillis, read.base], [end, atMillis, touched ?? null]);
        for (let length = 0; length < frame.length; length++)
          assert.equal(decodeRequest(frame.subarray(0, length)), null, `cut at ${length}`);
      }
    const held = { ...HELD, end };
    for (const gone of [false, true]) {
      const told = { ...held, tombstone: gone, ended: gone };
      const look = decodeHeld(encodeHeld({ ...told, value: null }), noLarge);
      assert.deepEqual(look, { kind: "yes", ...told, payload: null });
      assert.deepEqual(decodePromise(encodeHeld({ ...told, value: null })), {
        kind: "yes",
        ...told,
        floor: null,
      });
    }
    const read = decodeHeld(encodeHeld({ ...held, value }), noLarge) as LookAnswer & { kind: "yes" };
    assert.deepEqual([read.end, read.payload?.end], [end, end]);
    for (const life of ["own", "keep", "touch"] as const) {
      const handed = decodeHandOn(
        encodeHandOn(
          { create: false, life, ifMatch: "", ifNoneMatch: "", versions: 3 },
          encodeRequest({ ...request, value }),
        ),
      );
      assert.deepEqual([handed?.terms.life, handed?.terms.versions], [life, 3]);
      assert.equal(endOf(handed?.request.trailer ?? NO_TRAILER), end);
    }
  });

  test("wire: answers of every kind come out as they went in", () => {
    const reasons: RefusalReason[] = [
      "unavailable",
      "not_voting",
      "stale_epoch",
      "behind_epoch",
      "ahead",
      "full",
      "damaged",
      "key_refused",
      "unprepared",
    ];
    for (const reason of reasons) {
      const expected = { kind: "refused", reason, epoch: 9 };
      assert.deepEqual(decodeAccepted(encodeRefused(reason, 9)), expected);
      assert.deepEqual(decodePromise(encodeRefused(reason, 9)), expected);
    }
    assert.deepEqual(decodeAccepted(encodeNo(BALLOT)), { kind: "no", higher: BALLOT });
    assert.deepEqual(decodePromise(encodeNo(BALLOT)), { kind: "no", higher: BALLOT });
    for (const existed of [true, false])
      for (const previous of [BALLOT, null]) {
        const replaced = { existed, previous };
        const expected = { kind: "refused", reason: "behind_epoch", epoch: 9, replaced };
        assert.deepEqual(decodeAccepted(encodeRefused("behind_epoch", 9, replaced)), expected);
        for (const already of [true, false])
          assert.deepEqual(decodeAccepted(encodeAccepted(already, existed, previous)), {
            kind: "yes",
            already,
            existed,
            previous,
          });
      }
    const value = plainValue(false, "a/b", Buffer.from("bytes"));
    const read = decodeHeld(encodeHeld({ ...HELD, value }), noLarge) as LookAnswer & { kind: "yes" };
    assert.ok(read.payload !== null && isInline(read.payload));
    assert.equal(Buffer.from(read.payload.bytes).toString(), "bytes");
    assert.deepEqual({ ...read, payload: null }, { kind: "yes", ...HELD, payload: null });
    const none = { ...HELD, ballot: null, operationLow: 0, operationHigh: 0 };
    assert.deepEqual(decodeHeld(encodeHeld({ ...none, value: null }), noLarge), {
      kind: "yes",
      ...none,
      payload: null,
    });
  });

  test("wire: of a large value the answer says what it is and how long, not what is in it", () => {
    const valueBytes = 5 * 2 ** 32 + 17;
    const large = {
      tombstone: false,
      json: false,
      contentType: "video/x",
      end: 0,
      valueBytes,
      node: "n",
      trailer: writeFields([{ type: 3, bytes: Buffer.from("x-meta-a: b\n") }]),
      ballot: BALLOT,
    } as const;
    const frame = encodeHeld({ ...HELD, value: large });
    let seen: unknown = null;
    decodeHeld(frame, (value, ballot) => {
      seen = { ...value, ballot };
      return null;
    });
    const { trailer, ...rest } = seen as Record<string, unknown>;
    assert.deepEqual(rest, { json: false, contentType: "video/x", end: 0, valueBytes, ballot: BALLOT });
    assert.ok(Buffer.from(trailer as Uint8Array).equals(Buffer.from(large.trailer)));
  });

  test("wire: a content type that is none, and a value beyond a chunk, are no request and no answer", () => {
    const key = Buffer.from("key");
    const request = (type: string, bytes: Uint8Array, encoding: BufferEncoding = "latin1") => {
      const frame = encodeRequest({
        ...{ kind: ACCEPT, epoch: 1, key, ballot: BALLOT },
        value: plainValue(false, "x".repeat(Buffer.byteLength(type, encoding)), bytes),
      });
      frame.write(type, 40 + key.length, encoding);
      return decodeRequest(frame);
    };
    const one = Buffer.from("1");
    assert.equal(
      request("t".repeat(CONTENT_TYPE_BYTES_MAX), one)?.contentType.length,
      CONTENT_TYPE_BYTES_MAX,
    );
    assert.equal(request("t".repeat(CONTENT_TYPE_BYTES_MAX + 1), one), null);
    // Each of these bytes would become three in the store.
    assert.equal(request("\xff".repeat(90), one), null);
    assert.equal(request("text/ä", one, "utf8"), null);
    for (const type of ["a\nb", "a\rb", "a\0b", "\x7f"]) assert.equal(request(type, one), null);
    assert.equal(request("a/b", Buffer.alloc(CHUNK_BYTES))?.value.length, CHUNK_BYTES);
    assert.equal(request("a/b", Buffer.alloc(CHUNK_BYTES + 1)), null);
    const answer = (type: string, bytes: Uint8Array) =>
      decodeHeld(encodeHeld({ ...HELD, value: plainValue(false, type, bytes) }), noLarge);
    assert.equal(answer("a/b", Buffer.alloc(CHUNK_BYTES))?.kind, "yes");
    assert.equal(answer("a/b", Buffer.alloc(CHUNK_BYTES + 1)), null);
    assert.equal(answer("a\r\nSet-Cookie: b", one), null);
    const kind = { json: false, contentType: "", trailer: NO_TRAILER };
    const large = { tombstone: false, end: 0, ...kind, node: "n", ballot: BALLOT } as const;
    const remote = (valueBytes: number) =>
      decodeHeld(encodeHeld({ ...HELD, value: { ...large, valueBytes } as StoredValue }), noLarge);
    assert.equal(remote(VALUE_BYTES_MAX)?.kind, "yes");
    assert.equal(remote(VALUE_BYTES_MAX + 1), null);
  });

  test("wire: a handed-on write with conditions longer than a client may send is none", () => {
    const accept = encodeRequest({ kind: ACCEPT, epoch: 0, key: Buffer.from("key"), tombstone: true });
    const terms = (length: number) => ({
      create: false,
      life: "own" as const,
      ifMatch: "m".repeat(length),
      ifNoneMatch: "",
      versions: 1,
    });
    assert.ok(decodeHandOn(encodeHandOn(terms(CONDITION_BYTES_MAX), accept)) !== null);
    assert.equal(decodeHandOn(encodeHandOn(terms(CONDITION_BYTES_MAX + 1), accept)), null);
  });

  test("wire: a change in place that is handed on, and its ending, come out as they went in, and what was cut or changed is none", (t) => {
    const change: HandedChange = {
      ...{ key: Buffer.from("k\xff", "latin1"), form: "command", contentType: "application/json", writer: 7 },
      ...{ ifMatch: '"a"', ifNoneMatch: "", once: "name", body: Buffer.from('{"increment":1}') },
      life: { ttlMs: 1000, expiresMs: 0, keep: false },
    };
    const frame = encodeChange(change, change.writer);
    assert.equal(frame[0], HANDED_CHANGE);
    const { key, body, ...head } = decodeChange(frame) as HandedChange;
    assert.deepEqual({ ...head, key: Buffer.from(key), body: Buffer.from(body) }, change);
    for (const wrong of [
      { ...change, form: "other" },
      { ...change, key: Buffer.alloc(0) },
      { ...change, body: Buffer.alloc(CHUNK_BYTES + 1) },
      { ...change, ifMatch: "m".repeat(CONDITION_BYTES_MAX + 1) },
      { ...change, life: { ttlMs: -1, expiresMs: 0, keep: false } },
    ])
      assert.equal(decodeChange(encodeChange(wrong as HandedChange, change.writer)), null);
    const made = {
      error: null,
      detail: "",
      etag: '"x"',
      created: true,
      replayed: false,
      replicas: 2,
      shared: true,
    };
    const answer = encodeChanged({ ...made, told: Buffer.from('"value":1') });
    const { told, ...ending } = decodeChanged(answer) as HandedEnding;
    assert.deepEqual([ending, Buffer.from(told).toString()], [made, '"value":1']);
    const random = new Random(randomSeed(t));
    const bodyAt = frame.length - body.length;
    for (let length = 0; length < bodyAt; length++)
      assert.equal(decodeChange(frame.subarray(0, length)), null, `cut at ${length}`);
    for (let round = 0; round < 5000; round++) {
      const bytes = Buffer.from(random.below(2) === 0 ? frame : answer);
      for (let count = 1 + random.below(4); count > 0; count--)
        bytes[random.below(bytes.length)] = random.below(256);
      decodeChange(bytes);
      decodeChanged(bytes);
    }
  });

  test("wire: bytes that are no request, or one that was cut or changed, never throw, and lengths are believed only if they fit", (t) => {
    const random = new Random(randomSeed(t));
    const whole = encodeRequest({ kind: PREPARE, epoch: 1, key: Buffer.from("key"), ballot: BALLOT });
    for (let length = 0; length < whole.length; length++)
      assert.equal(decodeRequest(whole.subarray(0, length)), null, `cut at ${length}`);
    for (let round = 0; round < 20_000; round++) {
      const bytes = Buffer.from(whole);
      const changes = 1 + random.below(4);
      for (let change = 0; change < changes; change++) bytes[random.below(bytes.length)] = random.below(256);
      const decoded = decodeRequest(bytes);
      if (decoded === null) continue;
      assert.ok(decoded.key.length >= 1 && decoded.key.length + decoded.value.length <= bytes.length - 40);
      decodeHeld(bytes, noLarge);
      decodeAccepted(bytes);
    }
    assert.equal(decodeAccepted(new Uint8Array(3)), null);
    assert.equal(decodeHeld(new Uint8Array(3), noLarge), null);
  });
});
