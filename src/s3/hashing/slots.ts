/**
 * Memory that a front shares with one hashing thread: slots for the bytes of a body each, and words that say
 * how far both are. The front appends to a slot and the thread sums up behind it; neither waits for the
 * other.
 *
 *   front    FREE ─► FILLING ─► ENDED                    bytes: how many are there
 *                       └─────► ABANDONED
 *   thread              ENDED, ABANDONED ─► FREE         of what has ENDED it sends the sums
 *
 * `bytes` is written before the state, and read after it.
 */
import { CHECKSUMS, type ChecksumName } from "../../format/fields/sums.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";

export const FREE = 0;
export const FILLING = 1;
export const ENDED = 2;
export const ABANDONED = 3;

/** The first word counts what the front has done, and is what the thread waits at. */
export const SIGNAL_WORD = 0;
const SLOT_WORDS = 3;
const STATE = 0;
const BYTES = 1;
const WANTED = 2;

const WANTS_MD5 = 1;
const WANTS_SHA256 = 2;
const CHECKSUM_SHIFT = 2;

/** Which sums are asked for. */
export interface WantedSums {
  md5: boolean;
  sha256: boolean;
  checksum: ChecksumName | null;
}

/** And what came out; null: nobody asked for it. */
export interface FoundSums {
  md5: Uint8Array | null;
  sha256: Uint8Array | null;
  checksum: Uint8Array | null;
}

export interface HashThreadTask {
  words: SharedArrayBuffer;
  bodies: SharedArrayBuffer;
}

/** To the front. The first one is of no slot: it says that the thread is there. */
export interface HashedMessage {
  slot: number;
  sums: FoundSums;
}
export const NO_SLOT = -1;

export class SlotMemory {
  readonly words: Int32Array;
  readonly count: number;
  private readonly bodies: SharedArrayBuffer;

  constructor(words: SharedArrayBuffer, bodies: SharedArrayBuffer) {
    this.words = new Int32Array(words);
    this.bodies = bodies;
    this.count = bodies.byteLength / CHUNK_BYTES;
  }

  static create(count: number): { words: SharedArrayBuffer; bodies: SharedArrayBuffer } {
    return {
      words: new SharedArrayBuffer((1 + count * SLOT_WORDS) * Int32Array.BYTES_PER_ELEMENT),
      // Of what was never used the system gives no memory.
      bodies: new SharedArrayBuffer(count * CHUNK_BYTES),
    };
  }

  body(slot: number): Uint8Array {
    return new Uint8Array(this.bodies, slot * CHUNK_BYTES, CHUNK_BYTES);
  }

  state(slot: number): number {
    return Atomics.load(this.words, at(slot, STATE));
  }

  setState(slot: number, state: number): void {
    Atomics.store(this.words, at(slot, STATE), state);
  }

  bytes(slot: number): number {
    return Atomics.load(this.words, at(slot, BYTES));
  }

  setBytes(slot: number, bytes: number): void {
    Atomics.store(this.words, at(slot, BYTES), bytes);
  }

  wanted(slot: number): WantedSums {
    const bits = Atomics.load(this.words, at(slot, WANTED));
    const number = bits >>> CHECKSUM_SHIFT;
    return {
      md5: (bits & WANTS_MD5) !== 0,
      sha256: (bits & WANTS_SHA256) !== 0,
      checksum: CHECKSUMS.find((one) => one.number === number)?.name ?? null,
    };
  }

  setWanted(slot: number, { md5, sha256, checksum }: WantedSums): void {
    const number = CHECKSUMS.find(({ name }) => name === checksum)?.number ?? 0;
    const bits = (md5 ? WANTS_MD5 : 0) | (sha256 ? WANTS_SHA256 : 0) | (number << CHECKSUM_SHIFT);
    Atomics.store(this.words, at(slot, WANTED), bits);
  }

  /** Wakes the thread, if it sleeps. */
  signal(): void {
    Atomics.add(this.words, SIGNAL_WORD, 1);
    Atomics.notify(this.words, SIGNAL_WORD);
  }
}

function at(slot: number, word: number): number {
  return 1 + slot * SLOT_WORDS + word;
}
