/** The table and the clock that the open slab will end with, as its records come in. */
import { encodeTail } from "../../format/slab.ts";
import { ballotOfMillis } from "../../format/version.ts";

/** Words of an entry: hash A, hash B, and the word of `tableWord`. */
const ENTRY_WORDS = 3;
const ENTRIES_MIN = 4096;

export class OpenTable {
  private room = new Int32Array(ENTRY_WORDS * ENTRIES_MIN);
  /** May be set to fewer, which forgets the last ones. */
  entries = 0;
  /** The highest version in the slab. */
  clockHigh = 0;
  clockLow = 0;

  /** Begins with what recovery has read; `words` are three an entry. */
  load(words: ArrayLike<number>, clockHigh: number, clockLow: number): void {
    this.entries = words.length / ENTRY_WORDS;
    this.room = new Int32Array(Math.max(this.room.length, words.length * 2));
    this.room.set(words);
    this.clockHigh = clockHigh;
    this.clockLow = clockLow;
  }

  /** Begins a new slab's. */
  clear(): void {
    this.entries = this.clockHigh = this.clockLow = 0;
  }

  enter(hashA: number, hashB: number, word: number): void {
    const at = this.entries++ * ENTRY_WORDS;
    if (at + ENTRY_WORDS > this.room.length) {
      const larger = new Int32Array(this.room.length * 2);
      larger.set(this.room);
      this.room = larger;
    }
    this.room[at] = hashA;
    this.room[at + 1] = hashB;
    this.room[at + 2] = word;
  }

  /** Takes note of a record's version. */
  observe(high: number, low: number): void {
    if (high < this.clockHigh || (high === this.clockHigh && low <= this.clockLow)) return;
    this.clockHigh = high;
    this.clockLow = low;
  }

  /**
   * Takes note of an end that has come, in milliseconds since 1970: it is told to who follows the log as long
   * as a delete of that time.
   */
  observeEnd(end: number): void {
    const { clockHigh, clockLow } = ballotOfMillis(end);
    this.observe(clockHigh, clockLow);
  }

  /** Three words an entry. Valid until the next one is entered. */
  get words(): Int32Array {
    return this.room.subarray(0, this.entries * ENTRY_WORDS);
  }

  /** Table and footer of the slab, which has ended. */
  encode(sequence: number, slabBytes: number, endUnit: number): Uint8Array {
    return encodeTail(this.words.slice(), sequence, slabBytes, endUnit, this.clockLow, this.clockHigh);
  }
}
