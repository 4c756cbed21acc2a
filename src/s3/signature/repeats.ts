/**
 * Signed writes that come again. A client may well sign the same twice: within one second two equal requests
 * have one signature. But what comes again later was not meant by whoever has signed it, so it is refused.
 * Of presigned URLs and of reads nothing is remembered: they are made to be used again.
 *
 * All fronts of a node remember together, in memory that they share. It is a set-associative table: a
 * signature has a bucket, and takes the place of the oldest one in it. A place is one word, which is written
 * whole or not at all; two threads that note one signature at once may both take it for the first, as they
 * may within REPEAT_MS_MAX anyway.
 */

/** So long after it came first a signature may come again. */
export const REPEAT_MS_MAX = 5000;
const BUCKET_BITS = 16;
/** Places of a bucket; half a million in all, where the signatures of half an hour matter. */
const PLACES = 8;
/** A word is 40 bits of the signature, and the time that it came in ticks, which go around in 46 hours. */
const TICK_MS = 10;
const TICK_BITS = 24n;
const TICKS = 2n ** TICK_BITS;
/** Digits of the signature that the bucket is made of; the next ones tell it from others in there. */
const BUCKET_DIGITS = BUCKET_BITS / 4;
const DIGITS = BUCKET_DIGITS + 10;
const EMPTY = 0n;

/** Memory for `Repeats`. */
export function createRepeats(): SharedArrayBuffer {
  return new SharedArrayBuffer((PLACES << BUCKET_BITS) * BigUint64Array.BYTES_PER_ELEMENT);
}

export class Repeats {
  private readonly words: BigUint64Array;

  /** @param memory of `createRepeats` */
  constructor(memory: SharedArrayBuffer) {
    this.words = new BigUint64Array(memory);
  }

  /**
   * Notes a signature that holds. False: it has come before, and too long ago.
   * @param signature in hexadecimal digits
   * @param nowMs a clock that only goes forward, the same for all threads; it counts to TICK_MS
   */
  take(signature: string, nowMs: number): boolean {
    const bucket = Number.parseInt(signature.slice(0, BUCKET_DIGITS), 16) * PLACES;
    const mark = BigInt(`0x${signature.slice(BUCKET_DIGITS, DIGITS)}`);
    const tick = BigInt(Math.floor(nowMs / TICK_MS)) % TICKS;
    for (;;) {
      const { agoTicks, place, word } = this.look(bucket, mark, tick);
      if (agoTicks !== null) return Number(agoTicks) * TICK_MS <= REPEAT_MS_MAX;
      const own = (mark << TICK_BITS) | tick;
      if (Atomics.compareExchange(this.words, place, word, own) === word) return true;
    }
  }

  /** How long ago a signature came; null: it is not in its bucket, where this is the place to take. */
  private look(
    bucket: number,
    mark: bigint,
    tick: bigint,
  ): { agoTicks: bigint | null; place: number; word: bigint } {
    let oldest = { agoTicks: -1n, place: bucket, word: EMPTY };
    for (let place = bucket; place < bucket + PLACES; place++) {
      const word = Atomics.load(this.words, place);
      const agoTicks = word === EMPTY ? TICKS : (TICKS + tick - (word % TICKS)) % TICKS;
      if (word !== EMPTY && word >> TICK_BITS === mark) return { agoTicks, place, word };
      if (agoTicks > oldest.agoTicks) oldest = { agoTicks, place, word };
    }
    return { ...oldest, agoTicks: null };
  }
}
