/** Questions of repair and their answers as bytes: there and back, and what is none of them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { digestWindows } from "../../src/cluster/sync/digest-windows.ts";
import {
  decodeDigests,
  decodeRepair,
  decodeScanned,
  encodeDigests,
  encodeNotNow,
  encodeRepair,
  encodeScanned,
  encodeYes,
  isRepairFrame,
  isYes,
  type RepairRequest,
} from "../../src/cluster/wire/repair-wire.ts";
import { encodeRequest, READ } from "../../src/cluster/wire/request-frame.ts";
import type { Ballot } from "../../src/format/record.ts";
import { digestWordsOf } from "../../src/rules/digest.ts";
import { Random, randomSeed } from "../random.ts";

const ballot = (clockLow: number): Ballot => ({ clockLow, clockHigh: 2 ** 32 - 1, node: 3, incarnation: 4 });
const key = Uint8Array.from(Buffer.from("käy"));

test("repair frames: requests there and back", () => {
  const requests: RepairRequest[] = [
    { kind: "scan", epoch: 7, partition: 1023, cursor: 2 ** 40, limit: 512, leaves: 0xffff },
    { kind: "digests", epoch: 7, partition: 960, count: 64 },
    { kind: "confirm", epoch: 7, ballot: ballot(1), ended: false, key },
    { kind: "confirm", epoch: 7, ballot: ballot(1), ended: true, key },
    { kind: "collect", epoch: 2 ** 32 - 1, ballot: ballot(2), ended: true, key },
  ];
  for (const request of requests) {
    const frame = encodeRepair(request);
    assert.ok(isRepairFrame(frame));
    const back = decodeRepair(frame);
    assert.deepEqual(
      back !== null && "key" in back ? { ...back, key: Uint8Array.from(back.key) } : back,
      request,
    );
  }
  assert.ok(!isRepairFrame(encodeRequest({ kind: READ, epoch: 1, key })));
});

test("repair frames: answers there and back", () => {
  const keys = [
    {
      ...{
        key,
        ballot: ballot(1),
        tombstone: true,
        remembers: true,
        operationLow: 5,
        operationHigh: 2 ** 32 - 6,
      },
      ...{ ended: false, end: 0, valueBytes: 0, promised: ballot(9) },
    },
    {
      ...{
        key: Uint8Array.of(1),
        ballot: ballot(7),
        tombstone: true,
        remembers: false,
        operationLow: 5,
        operationHigh: 6,
      },
      ...{ ended: true, end: 1_700_000_000_123, valueBytes: 0, promised: null },
    },
    {
      ...{
        key: Uint8Array.from([0, 255]),
        ballot: null,
        tombstone: false,
        remembers: false,
        ended: false,
        end: 0,
        operationLow: 0,
        operationHigh: 0,
      },
      ...{ valueBytes: 0, promised: ballot(3) },
    },
    {
      ...{
        key: new Uint8Array(1024),
        ballot: ballot(2),
        tombstone: false,
        remembers: false,
        ended: false,
        end: 0,
        operationLow: 1,
        operationHigh: 2,
      },
      ...{ valueBytes: 2 ** 35, promised: null },
    },
  ];
  for (const floor of [null, ballot(6)]) {
    const answer = { keys, next: -1, damaged: 2, floor, busy: floor !== null };
    assert.deepEqual(decodeScanned(encodeScanned(answer)), answer);
  }
  for (const count of [1024, 8192, 65_536]) {
    const words = digestWordsOf(count);
    const digest = Int32Array.from({ length: words }, (_, word) => (word + 1) * -77_777_777);
    const partitions = [
      { votes: true, floor: null, digest },
      { votes: false, floor: ballot(1), digest: null },
    ];
    assert.deepEqual(decodeDigests(encodeDigests(partitions, words), 2, words), partitions);
    assert.equal(decodeDigests(encodeDigests(partitions, words), 3, words), null);
    assert.equal(decodeDigests(encodeDigests(partitions, words), 2, 2 * words), null);
  }
  assert.ok(isYes(encodeYes()) && !isYes(encodeNotNow()));
  assert.equal(decodeScanned(encodeNotNow()), null);
  assert.equal(decodeDigests(encodeNotNow(), 1, 32), null);
});

test("repair frames: bytes that are none throw nothing", (t) => {
  const random = new Random(randomSeed(t));
  const frames = [
    encodeRepair({ kind: "scan", epoch: 7, partition: 5, cursor: 0, limit: 10, leaves: 1 }),
    encodeRepair({ kind: "confirm", epoch: 7, ballot: ballot(1), ended: false, key }),
    encodeScanned({ keys: [], next: -1, damaged: 0, floor: null, busy: false }),
  ];
  let decoded = 0;
  for (let round = 0; round < 20_000; round++) {
    const frame = Buffer.from(frames[random.below(frames.length)]).subarray(0, random.below(40));
    if (frame.length > 0) frame[random.below(frame.length)] = random.below(256);
    if (decodeRepair(frame) !== null) decoded++;
    decodeScanned(frame);
    decodeDigests(frame, 1, 32);
  }
  assert.ok(decoded < 20_000);
});

test("repair: digests are asked for together of partitions near each other, of a sixteenth of all at most", (t) => {
  for (const count of [1024, 65_536]) {
    const all = Array.from({ length: count }, (_, partition) => partition);
    assert.deepEqual(
      digestWindows(all, count).map((window) => window.length),
      new Array(16).fill(count / 16),
    );
  }
  assert.deepEqual(digestWindows([0, 5000, 5001, 65_535], 65_536), [[0], [5000, 5001], [65_535]]);
  const random = new Random(randomSeed(t));
  for (let round = 0; round < 50; round++) {
    const share = 1 + random.below(200);
    const some = Array.from({ length: 8192 }, (_, partition) => partition).filter(
      () => random.below(share) === 0,
    );
    const windows = digestWindows(some, 8192);
    assert.deepEqual(windows.flat(), some);
    for (const window of windows) {
      assert.ok(window[window.length - 1] - window[0] < 512);
      assert.ok(window.every((partition, at) => at === 0 || partition - window[at - 1] <= 64));
    }
  }
});
