/**
 * Keys that strangers can choose so that they meet in xxh32: what the index has to stand. All are of bytes below 0x80, so that they are good UTF-8.
 */
import type { Random } from "./random.ts";

const PRIME_1 = 0x9e3779b1;
const PRIME_2 = 0x85ebca77;
const PRIME_3 = 0xc2b2ae3d;
const PRIME_4 = 0x27d4eb2f;
const PRIME_5 = 0x165667b1;

/** Inverse of an odd number modulo 2^32, by Newton's method. */
function inverse(odd: number): number {
  let x = odd;
  for (let i = 0; i < 5; i++) x = Math.imul(x, 2 - Math.imul(odd, x));
  return x;
}

/** Whether the four bytes of a word are from "!" to "~", and none is "%". */
function isText(word: number): boolean {
  for (let shift = 0; shift < 32; shift += 8) {
    const byte = (word >>> shift) & 0xff;
    if (byte < 0x21 || byte > 0x7e || byte === 0x25) return false;
  }
  return true;
}

const LANES = 4;
/**
 * A lane's sum u becomes rotate(u, 13) × PRIME_1. Adding 2^19 to u adds 1 to rotate(u, 13), as long as its upper 13 bits do not run over; so PRIME_1 is to be
 * taken from what the next word adds.
 */
const FIRST_STEP = Math.imul(1 << 19, inverse(PRIME_2));
const SECOND_STEP = Math.imul(PRIME_1, inverse(PRIME_2));
const STEPS = 1 << 13;

/** Pairs of words for a lane that all leave it in the same state, whatever it was in; or in two states, where the upper bits run over. */
function pairsOf(random: Random, pairs: number): [number, number][] {
  for (;;) {
    const first = random.word();
    const firstOnes: number[] = [];
    for (let step = 0; step < STEPS; step++)
      if (isText((first + Math.imul(step, FIRST_STEP)) | 0)) firstOnes.push(step);
    for (let i = 0; i < 2000 && firstOnes.length >= pairs; i++) {
      const second = random.word();
      const good = firstOnes.filter((step) => isText((second - Math.imul(step, SECOND_STEP)) | 0));
      if (good.length >= pairs)
        return good
          .slice(0, pairs)
          .map((step) => [
            (first + Math.imul(step, FIRST_STEP)) | 0,
            (second - Math.imul(step, SECOND_STEP)) | 0,
          ]);
    }
  }
}

/**
 * Keys of 32 bytes with at most 16 different values of xxh32 among them all, whatever the seed; mostly in one or two of these.
 * @param pairs for each of the four lanes: there are `pairs`^4 keys; up to 32
 */
export function* keysForAnySeed(random: Random, pairs: number): Generator<Buffer> {
  const lanes = Array.from({ length: LANES }, () => pairsOf(random, pairs));
  for (let number = 0; number < pairs ** LANES; number++) {
    const key = Buffer.alloc(32);
    for (let lane = 0, rest = number; lane < LANES; lane++, rest = Math.floor(rest / pairs)) {
      const [first, second] = lanes[lane][rest % pairs];
      key.writeInt32LE(first, lane * 4);
      key.writeInt32LE(second, 16 + lane * 4);
    }
    yield key;
  }
}

/** Undoes `value ^= value >>> shift` for a shift of 11 to 16. */
function unshift(value: number, shift: number): number {
  return value ^ (value >>> shift) ^ (shift < 16 ? value >>> (2 * shift) : 0);
}

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}

/** Keys of 12 bytes whose xxh32 with seed 0 is `hash`: one partition, one leaf, one everything that has no secret. Without end. */
export function* keysOfHashA(hash: number, random: Random): Generator<Buffer> {
  const bytes = 12;
  let goal = unshift(hash, 16);
  goal = unshift(Math.imul(goal, inverse(PRIME_3)), 13);
  goal = unshift(Math.imul(goal, inverse(PRIME_2)), 15);
  // Before the last word was taken in, and what the last word must then add.
  const wanted = rotate(Math.imul(goal, inverse(PRIME_4)), 32 - 17);
  const take = (state: number, word: number): number =>
    Math.imul(rotate((state + Math.imul(word, PRIME_3)) | 0, 17), PRIME_4);
  const text = (): number => {
    let word = 0;
    for (let i = 0; i < 4; i++) word = (word << 8) | (0x61 + random.below(26));
    return word;
  };
  for (let number = 0; ; number++) {
    // Two words name the key, the third makes the hash right.
    const words = [text(), number & 0x7f7f7f7f, 0];
    if (!isText(words[1])) words[1] = text();
    const state = take(take((PRIME_5 + bytes) | 0, words[0]), words[1]);
    words[2] = Math.imul((wanted - state) | 0, inverse(PRIME_3));
    if (!isText(words[2])) continue;
    const key = Buffer.alloc(bytes);
    words.forEach((word, i) => {
      key.writeInt32LE(word, i * 4);
    });
    yield key;
  }
}

/** The first `count` of a generator's keys, without those that come twice. */
export function take(keys: Generator<Buffer>, count: number): Buffer[] {
  const taken = new Map<string, Buffer>();
  for (const key of keys) {
    taken.set(key.toString("latin1"), key);
    if (taken.size === count) break;
  }
  return [...taken.values()];
}
