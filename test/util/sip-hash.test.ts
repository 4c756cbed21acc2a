import assert from "node:assert/strict";
import { test } from "node:test";
import { sipHash } from "../../src/util/sip-hash.ts";
import { Random, randomSeed } from "../random.ts";

/** Low halves of what the authors' program gives for the bytes 0, 1, 2 … of each length, with the secret 00 01 … 0f. */
const EXPECTED = [
  0x050fc4dc, 0x7d57ca93, 0x4dc7d44d, 0xe7ddf7fb, 0x88d38328, 0x49533b67, 0xc59f22a7, 0x9bb11140, 0x8d299a8e,
  0x6c063de4, 0x92ff097f, 0xf94dc352, 0x57b4d9a2, 0x1229ffa7, 0xc0f95d34, 0x2a519956, 0x7d908b66, 0x63dbd80c,
  0xb473e63e, 0x8d297d1c, 0xa6cce040, 0x2b45f844, 0xa320872e, 0xdae6c123, 0x67349c8c, 0x705b0979, 0xca9913a5,
  0x4ade3b35, 0xef6cd00d, 0x4ab1e1f4, 0x43c5e663, 0x8c21d1bc,
];

const SECRET = Int32Array.of(0x03020100, 0x07060504, 0x0b0a0908, 0x0f0e0d0c);

/** SipHash-1-3 as its paper has it, in whole 64-bit words. */
function slowSipHash(bytes: Uint8Array, secret: Int32Array): number {
  const mask = (1n << 64n) - 1n;
  const rotate = (value: bigint, bits: bigint): bigint => ((value << bits) | (value >> (64n - bits))) & mask;
  const word = (low: number, high: number): bigint => (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
  const k0 = word(secret[0], secret[1]);
  const k1 = word(secret[2], secret[3]);
  const v = [
    k0 ^ 0x736f6d6570736575n,
    k1 ^ 0x646f72616e646f6dn,
    k0 ^ 0x6c7967656e657261n,
    k1 ^ 0x7465646279746573n,
  ];
  const round = (): void => {
    v[0] = (v[0] + v[1]) & mask;
    v[1] = rotate(v[1], 13n) ^ v[0];
    v[0] = rotate(v[0], 32n);
    v[2] = (v[2] + v[3]) & mask;
    v[3] = rotate(v[3], 16n) ^ v[2];
    v[0] = (v[0] + v[3]) & mask;
    v[3] = rotate(v[3], 21n) ^ v[0];
    v[2] = (v[2] + v[1]) & mask;
    v[1] = rotate(v[1], 17n) ^ v[2];
    v[2] = rotate(v[2], 32n);
  };
  const padded = Buffer.alloc((bytes.length >> 3) * 8 + 8);
  padded.set(bytes);
  padded[padded.length - 1] = bytes.length & 0xff;
  for (let at = 0; at < padded.length; at += 8) {
    const message = padded.readBigUInt64LE(at);
    v[3] ^= message;
    round();
    v[0] ^= message;
  }
  v[2] ^= 0xffn;
  for (let i = 0; i < 3; i++) round();
  return Number((v[0] ^ v[1] ^ v[2] ^ v[3]) & 0xffffffffn) | 0;
}

test("siphash: what the authors' program gives", () => {
  const bytes = Uint8Array.from({ length: EXPECTED.length }, (_, i) => i);
  EXPECTED.forEach((expected, length) => {
    assert.equal(sipHash(bytes, length, SECRET) >>> 0, expected, `length ${length}`);
    assert.equal(slowSipHash(bytes.subarray(0, length), SECRET) >>> 0, expected, `length ${length}, slowly`);
  });
});

test("siphash: the same as by the book, for random keys of all lengths and random secrets", (t) => {
  const random = new Random(randomSeed(t));
  for (let length = 0; length <= 1088; length++) {
    const bytes = Uint8Array.from({ length }, () => random.word() & 0xff);
    const secret = Int32Array.from({ length: 4 }, () => random.word());
    assert.equal(sipHash(bytes, length, secret), slowSipHash(bytes, secret), `length ${length}`);
  }
});
