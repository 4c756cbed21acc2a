/**
 * The memory that a front and a shard thread share, and the words in it that say who sleeps (buffer.ts says
 * what the rest is for).
 */

export const BUFFERS = 4;
export const BUFFER_BYTES = 4 * 1024 * 1024;
/**
 * Room behind each buffer for sentences that say what was wrong with its operations. One that finds none is
 * left out: then the table's sentence for the code is all that is said, but nothing is ever cut.
 */
export const DETAILS_BYTES = 64 * 1024;

/** Shared memory between the front and one thread. */
export interface Arena {
  bytes: SharedArrayBuffer;
  /** Int32: the states of the buffers, then the flags. */
  states: SharedArrayBuffer;
  /** Whether both sides may look for a while before they sleep: there are enough processors. */
  patient: boolean;
}

export function createArena(patient: boolean): Arena {
  return {
    bytes: new SharedArrayBuffer(BUFFERS * (BUFFER_BYTES + DETAILS_BYTES)),
    states: new SharedArrayBuffer((BUFFERS + 3) * 4),
    patient,
  };
}

/** Flags of an arena, by the place of their word. */
export const THREAD_SLEEPS = BUFFERS;
export const FRONT_SLEEPS = BUFFERS + 1;
export const FRONT_BUSY = BUFFERS + 2;

/** A word that is 0 or 1, seen by both sides. */
export class Flag {
  private readonly states: Int32Array;
  private readonly place: number;

  /** @param words Int32s, of an arena or a bell */
  constructor(words: SharedArrayBuffer, place: number) {
    this.states = new Int32Array(words);
    this.place = place;
  }

  get isSet(): boolean {
    return Atomics.load(this.states, this.place) === 1;
  }

  set(): void {
    Atomics.store(this.states, this.place, 1);
  }

  /** True for the one caller that has reset it. */
  reset(): boolean {
    return Atomics.compareExchange(this.states, this.place, 1, 0) === 1;
  }
}
