/**
 * Texts that were found genuine, each with whom it belongs to. All of them stand in one array of words, so
 * that a search touches few lines of the processor's cache; a text that is looked for is written out as words
 * once, by one call, and both its place and its comparison are made of those.
 *
 *   row: next row of its chain | its chain | characters | the text, four characters a word, padded with zeros
 *
 * A comparison takes a time that depends on the length alone. Places are made with random factors of this
 * process: nobody can tell from outside which texts share a chain.
 */
import { randomFillSync } from "node:crypto";

/** Longest text that can be kept. */
export const KEPT_CHARACTERS_MAX = 180;

const WORD_CHARACTERS = 4;
const ROW_HEAD_WORDS = 3;
const ROW_WORDS = ROW_HEAD_WORDS + KEPT_CHARACTERS_MAX / WORD_CHARACTERS;
/** No row: the end of a chain. Rows begin at 1. */
const NONE = 0;
const ROWS_AT_FIRST = 16;

/** The text at hand: as bytes to write it, and the same memory as words. */
const MEMORY = new ArrayBuffer(KEPT_CHARACTERS_MAX + WORD_CHARACTERS);
const CHARACTERS = Buffer.from(MEMORY);
const WORDS = new Int32Array(MEMORY);
const FACTORS = randomFillSync(new Int32Array(WORDS.length)).map((factor) => factor | 1);

export class KeptTexts<Owner> {
  private rows = new Int32Array(ROWS_AT_FIRST * ROW_WORDS);
  /** By row. */
  private readonly owners: (Owner | null)[] = [null];
  /** First row of each chain. */
  private readonly firsts: Int32Array;
  private readonly free: number[] = [];

  /** @param expected how many texts there may well be */
  constructor(expected: number) {
    let places = 16;
    while (places < expected * 2) places *= 2;
    this.firsts = new Int32Array(places);
  }

  /** Whom a text belongs to; null: it is not kept. */
  find(text: string): Owner | null {
    const characters = text.length;
    if (characters > KEPT_CHARACTERS_MAX) return null;
    const words = load(text);
    const { rows } = this;
    for (let row = this.firsts[this.placeOf(words)]; row !== NONE; row = rows[row * ROW_WORDS])
      if (rows[row * ROW_WORDS + 2] === characters && isSame(rows, row, words)) return this.owners[row];
    return null;
  }

  /** Keeps a text that is not kept; answers its row. Null: it is too long. */
  keep(text: string, owner: Owner): number | null {
    if (text.length > KEPT_CHARACTERS_MAX) return null;
    const words = load(text);
    const row = this.free.pop() ?? this.owners.length;
    this.owners[row] = owner;
    const at = row * ROW_WORDS;
    if (at === this.rows.length) {
      const larger = new Int32Array(at * 2);
      larger.set(this.rows);
      this.rows = larger;
    }
    const place = this.placeOf(words);
    this.rows[at] = this.firsts[place];
    this.rows[at + 1] = place;
    this.rows[at + 2] = text.length;
    this.rows.set(WORDS.subarray(0, words), at + ROW_HEAD_WORDS);
    this.firsts[place] = row;
    return row;
  }

  /** Forgets the text of a row. */
  forget(row: number): void {
    const { rows, firsts } = this;
    const at = row * ROW_WORDS;
    const place = rows[at + 1];
    if (firsts[place] === row) firsts[place] = rows[at];
    else {
      let before = firsts[place];
      while (rows[before * ROW_WORDS] !== row) before = rows[before * ROW_WORDS];
      rows[before * ROW_WORDS] = rows[at];
    }
    rows.fill(0, at, at + ROW_WORDS);
    this.owners[row] = null;
    this.free.push(row);
  }

  /** Of the text at hand. Two sums, since a processor makes them at the same time. */
  private placeOf(words: number): number {
    let even = words;
    let odd = 0;
    for (let index = 0; index < words; index += 2) {
      even = (even + Math.imul(WORDS[index], FACTORS[index])) | 0;
      odd = (odd + Math.imul(WORDS[index + 1], FACTORS[index + 1])) | 0;
    }
    const sum = (even + odd) | 0;
    const mixed = Math.imul(sum ^ (sum >>> 15), 0x2c1b3c6d);
    return (mixed ^ (mixed >>> 13)) & (this.firsts.length - 1);
  }
}

/** Makes a text the one at hand; answers its words, behind which there is one of zeros. */
function load(text: string): number {
  const characters = CHARACTERS.write(text, 0, "latin1");
  for (let pad = 0; pad < WORD_CHARACTERS - 1; pad++) CHARACTERS[characters + pad] = 0;
  const words = (characters + WORD_CHARACTERS - 1) >> 2;
  WORDS[words] = 0;
  return words;
}

/** Whether the text at hand is that of a row of as many words. */
function isSame(rows: Int32Array, row: number, words: number): boolean {
  const at = row * ROW_WORDS + ROW_HEAD_WORDS;
  let difference = 0;
  for (let index = 0; index < words; index++) difference |= rows[at + index] ^ WORDS[index];
  return difference === 0;
}
