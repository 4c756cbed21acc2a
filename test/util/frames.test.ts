import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { FRAME_OVERHEAD_BYTES, joinFrames, splitFrames } from "../../src/cluster/peers/frames.ts";

test("frames: come apart as they were joined", () => {
  for (const lengths of [[], [0], [1], [0, 0, 5, 100_000, 0]]) {
    const frames = lengths.map((length) => randomBytes(length));
    const bytes = lengths.reduce((sum, length) => sum + length, 0);
    const joined = joinFrames(frames, bytes);
    assert.equal(joined.length, bytes + frames.length * FRAME_OVERHEAD_BYTES);
    assert.deepEqual(
      splitFrames(joined, frames.length)?.map((frame) => Buffer.from(frame)),
      frames,
    );
    if (frames.length > 0) assert.equal(splitFrames(joined, frames.length - 1), null);
  }
  assert.throws(() => joinFrames([Buffer.alloc(3)], 4));
});

test("frames: lengths that do not add up are refused", () => {
  const joined = joinFrames([Buffer.from("abc"), Buffer.from("de")], 5);
  for (let length = 1; length < joined.length; length++) {
    const isWhole = length === FRAME_OVERHEAD_BYTES + 3;
    assert.equal(splitFrames(joined.subarray(0, length), 10) === null, !isWhole, `${length} bytes`);
  }
  assert.equal(splitFrames(Buffer.from([255, 255, 255, 255]), 10), null);
});
