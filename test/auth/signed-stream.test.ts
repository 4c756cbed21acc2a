import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import { SigningKey } from "../../src/auth/keys.ts";
import { STREAM_PIECE_BYTES, StreamVerifier, signStream } from "../../src/auth/signed-stream.ts";
import { Random, randomSeed } from "../random.ts";

const KEY = new SigningKey("key").object;
const mac = () => randomBytes(32).toString("base64url");
const HEAD = mac();

async function sign(pieces: Buffer[], head = HEAD): Promise<Buffer[]> {
  const signed: Buffer[] = [];
  for await (const piece of signStream(KEY, head, pieces)) signed.push(piece);
  return signed;
}

interface Outcome {
  holds: boolean;
  complete: boolean;
  bytes: Buffer;
}

/** Feeds the bytes cut as `cut` says. */
function verify(bytes: Buffer, cut: () => number = () => bytes.length, head = HEAD): Outcome {
  const verifier = new StreamVerifier(KEY, head);
  const taken: Buffer[] = [];
  let holds = true;
  for (let at = 0; at < bytes.length && holds; ) {
    const length = Math.max(1, Math.min(cut(), bytes.length - at));
    holds = verifier.feed(bytes.subarray(at, at + length), (checked) => taken.push(Buffer.from(checked)));
    at += length;
  }
  return { holds, complete: verifier.complete, bytes: Buffer.concat(taken) };
}

describe("signed stream", () => {
  test("comes out as it went in, wherever it is cut (random)", async (t) => {
    const random = new Random(randomSeed(t));
    for (let round = 0; round < 60; round++) {
      const pieces = Array.from({ length: random.below(6) }, () =>
        randomBytes(random.below(3 * STREAM_PIECE_BYTES)),
      );
      const signed = Buffer.concat(await sign(pieces));
      const longest = [1, 5, 100, 70_000, signed.length][random.below(5)];
      const outcome = verify(longest === 1 ? signed.subarray(0) : signed, () => 1 + random.below(longest));
      assert.deepEqual([outcome.holds, outcome.complete], [true, true]);
      assert.ok(outcome.bytes.equals(Buffer.concat(pieces)));
    }
  });

  test("an end that is cut off is not complete", async () => {
    const signed = await sign([randomBytes(1000), randomBytes(2000)]);
    const whole = Buffer.concat(signed);
    for (const length of [0, 3, 500, signed[0].length, whole.length - 36, whole.length - 1])
      assert.equal(verify(whole.subarray(0, length)).complete, false, `${length} bytes`);
  });

  test("nothing that was changed comes out (random)", async (t) => {
    const random = new Random(randomSeed(t));
    const pieces = [randomBytes(300), randomBytes(300), randomBytes(300)];
    const whole = Buffer.concat(await sign(pieces));
    const original = Buffer.concat(pieces);
    for (let round = 0; round < 2000; round++) {
      const changed = Buffer.from(whole);
      changed[random.below(changed.length)] ^= 1 << random.below(8);
      const { holds, complete, bytes } = verify(changed, () => 1 + random.below(400));
      assert.equal(holds && complete, false);
      assert.ok(original.subarray(0, bytes.length).equals(bytes), "only a genuine beginning came out");
    }
  });

  test("pieces cannot be moved, repeated, left out, added, or taken to another request", async () => {
    const [first, second, end] = await sign([randomBytes(100), randomBytes(100)]);
    const [other] = await sign([randomBytes(100)], mac());
    const cases = [
      [second, first, end],
      [first, first, second, end],
      [first, end],
      [end],
      [other, second, end],
      [first, second, end, end],
      [first, second, end, Buffer.from([0])],
    ];
    for (const pieces of cases) {
      const { holds, complete } = verify(Buffer.concat(pieces));
      assert.equal(holds && complete, false);
    }
    assert.equal(verify(Buffer.concat([first, second, end]), undefined, mac()).holds, false);
    // A length that is beyond all bounds is refused before anything is kept for it.
    assert.equal(verify(Buffer.from([255, 255, 255, 255, 1])).holds, false);
  });
});
