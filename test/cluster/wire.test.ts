import assert from "node:assert/strict";
import { test } from "node:test";
import {
  decodeAccepted,
  decodeHeld,
  decodePromise,
  encodeAccepted,
  encodeHeld,
  encodeNo,
  encodeRefused,
} from "../../src/cluster/wire.ts";

const ballot = { clockLow: 0xffff_fffe, clockHigh: 7, node: 0x8000_0001, incarnation: 3 };
const held = { tombstone: false, operationLow: 0xffff_ffff, operationHigh: 5 };

test("wire: a promise says what is held, or the floor under an absent key", () => {
  const there = { ...held, ballot };
  assert.deepEqual(decodePromise(encodeHeld({ ...there, value: null, floor: null })), {
    kind: "yes",
    floor: null,
    ...there,
  });
  const absent = { ...held, ballot: null };
  for (const floor of [null, ballot])
    assert.deepEqual(decodePromise(encodeHeld({ ...absent, value: null, floor })), {
      kind: "yes",
      floor,
      ...absent,
    });
});

test("wire: a no and a refusal arrive as such, whatever was asked", () => {
  const no = { kind: "no", higher: ballot };
  assert.deepEqual(decodePromise(encodeNo(ballot)), no);
  assert.deepEqual(decodeAccepted(encodeNo(ballot)), no);
  const refused = { kind: "refused", reason: "stale_epoch", epoch: 9 };
  for (const decode of [decodePromise, decodeAccepted, (bytes: Uint8Array) => decodeHeld(bytes, () => null)])
    assert.deepEqual(decode(encodeRefused("stale_epoch", 9)), refused);
  assert.deepEqual(decodeAccepted(encodeAccepted(false, true, ballot)), {
    kind: "yes",
    already: false,
    existed: true,
    previous: ballot,
  });
  assert.equal(decodePromise(new Uint8Array(3)), null);
});
