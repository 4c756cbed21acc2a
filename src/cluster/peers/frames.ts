/**
 * Frames, as nodes send them to each other in batches: 4 bytes of length (little-endian), then as many bytes.
 * What is in a frame is not known here.
 */

const LENGTH_BYTES = 4;

/** Bytes that frames take in a batch: their own and this much for each. */
export const FRAME_OVERHEAD_BYTES = LENGTH_BYTES;

/** One batch of frames; `bytes` is the sum of their own lengths. */
export function joinFrames(frames: readonly Uint8Array[], bytes: number): Buffer {
  const joined = Buffer.allocUnsafe(bytes + frames.length * LENGTH_BYTES);
  let at = 0;
  for (const frame of frames) {
    at = joined.writeUInt32LE(frame.length, at);
    joined.set(frame, at);
    at += frame.length;
  }
  if (at !== joined.length) throw new Error(`frames of ${at} bytes do not fill ${joined.length}`);
  return joined;
}

/**
 * The frames of a batch, as views of it; null when its lengths do not add up or there are more than `most`.
 */
export function splitFrames(batch: Uint8Array, most: number): Uint8Array[] | null {
  const frames: Uint8Array[] = [];
  for (let at = 0; at < batch.length; ) {
    if (at + LENGTH_BYTES > batch.length || frames.length === most) return null;
    const length = (batch[at] | (batch[at + 1] << 8) | (batch[at + 2] << 16) | (batch[at + 3] << 24)) >>> 0;
    at += LENGTH_BYTES;
    if (length > batch.length - at) return null;
    frames.push(batch.subarray(at, at + length));
    at += length;
  }
  return frames;
}
