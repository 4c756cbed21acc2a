/**
 * The grammar of a body `{"value": <any JSON>}` as a table, built once at load: for each state and class of
 * bytes the next state, and what the table cannot do alone (scanner.ts does that, and tells how it works).
 */

/** Row length of the table: at least the number of different columns. */
const CLASSES = 64;
/** An entry is the next state (its row's offset in the table) and, in the bits from here on, an action. */
export const ACTION_SHIFT = 14;
export const STATE_MASK = (1 << ACTION_SHIFT) - 1;

/** What the table cannot do alone. The compiler puts the numbers in place of the names. */
export enum Action {
  None = 0,
  /** A plain character of a string: the rest of its run can be skipped. */
  Run = 1,
  /** `[` or `{`. */
  Open = 2,
  /** `]` or `}`. */
  Close = 3,
  /** The first byte of a top-level value that is neither array nor object. */
  Starts = 4,
  /** The last byte of such a value. */
  Ends = 5,
  /** The first byte after a number at the top level. */
  Ended = 6,
  /** The opening quote of a top-level name. */
  Names = 7,
  /** Its closing quote. */
  Named = 8,
  /** No rule for this byte: not JSON. */
  Fail = 9,
}
export const FAIL = Action.Fail << ACTION_SHIFT;

/** The whole table before equal columns are joined: 256 entries a state. */
const rows: Uint32Array[] = [];

function newState(): number {
  rows.push(new Uint32Array(256).fill(FAIL));
  return (rows.length - 1) * CLASSES;
}

/** In state `from`, each of these bytes (Latin-1) leads to `to`. */
function on(from: number, bytes: string, to: number, action: Action = Action.None): void {
  for (const byte of bytes) rows[from / CLASSES][byte.charCodeAt(0)] = to | (action << ACTION_SHIFT);
}

/** The bytes first..last as a string for `on`. */
function range(first: number, last: number): string {
  return String.fromCharCode(...Array.from({ length: last - first + 1 }, (_, index) => first + index));
}

const SPACE = " \t\n\r";
const DIGITS_1_9 = "123456789";
const DIGITS = `0${DIGITS_1_9}`;
const HEX = `${DIGITS}abcdefABCDEF`;
const PLAIN_TEXT = range(0x20, 0x7f).replace(/["\\]/g, "");

// Names of states say what was just read.
export const START = newState();
/** The top-level `{`. */
const TOP_OPENED = newState();
const TOP_COMMA = newState();
const TOP_NAME = newState();
const TOP_COLON = newState();
export const TOP_VALUE = newState();
/** The top-level `}`. */
export const END = newState();
const ARRAY_OPENED = newState();
const ARRAY_COMMA = newState();
export const ARRAY_VALUE = newState();
export const OBJECT_OPENED = newState();
const OBJECT_COMMA = newState();
const OBJECT_NAME = newState();
const OBJECT_COLON = newState();
export const OBJECT_VALUE = newState();

const SPACED = rows.length;
for (let row = 0; row < SPACED; row++) on(row * CLASSES, SPACE, row * CLASSES);

/**
 * The states inside a string, whose closing quote leads to `after`. The limits of a character's second byte
 * keep out overlong forms, surrogates and what lies above U+10FFFF (Unicode, table 3-7).
 */
function addText(after: number, action: Action): number {
  const text = newState();
  on(text, PLAIN_TEXT, text, Action.Run);
  on(text, '"', after, action);
  const escaped = newState();
  on(text, "\\", escaped);
  on(escaped, '"\\/bfnrt', text);
  let next = text;
  for (let digits = 1; digits <= 4; digits++) {
    const missing = newState();
    on(missing, HEX, next);
    next = missing;
  }
  on(escaped, "u", next);

  const character = (first: string, second: string, more: number): void => {
    const begun = newState();
    on(text, first, begun);
    on(begun, second, more);
  };
  const continuation = range(0x80, 0xbf);
  const last = newState();
  on(last, continuation, text);
  const lastTwo = newState();
  on(lastTwo, continuation, last);
  on(text, range(0xc2, 0xdf), last);
  character("\xe0", range(0xa0, 0xbf), last);
  character(range(0xe1, 0xec) + range(0xee, 0xef), continuation, last);
  character("\xed", range(0x80, 0x9f), last);
  character("\xf0", range(0x90, 0xbf), lastTwo);
  character(range(0xf1, 0xf3), continuation, lastTwo);
  character("\xf4", range(0x80, 0x8f), lastTwo);
  return text;
}

/**
 * What may follow a value: at the top level and in an object a comma and a name, in an array a comma and a
 * value.
 */
function addAfter(from: number, value: number, comma: number, close: string): void {
  const isTop = value === TOP_VALUE;
  // A number ends where something else begins; anything else at the top level has said that it ends.
  const action = isTop && from !== TOP_VALUE ? Action.Ended : Action.None;
  if (from !== value) on(from, SPACE, value, action);
  on(from, ",", comma, action);
  on(from, close, isTop ? END : value, isTop ? action : Action.Close);
}

/** The rules of a value that may begin in the states `before`; `value` is the state after it. */
function addValue(before: number[], value: number, comma: number, close: string): void {
  const isTop = value === TOP_VALUE;
  const starts = isTop ? Action.Starts : Action.None;
  const ends = isTop ? Action.Ends : Action.None;
  const begin = (bytes: string, to: number): void => {
    for (const from of before) on(from, bytes, to, starts);
  };
  for (const from of before) {
    on(from, "[", ARRAY_OPENED, Action.Open);
    on(from, "{", OBJECT_OPENED, Action.Open);
  }
  addAfter(value, value, comma, close);
  begin('"', addText(value, ends));

  for (const word of ["true", "false", "null"]) {
    let next = value;
    for (let index = word.length - 1; index > 0; index--) {
      const state = newState();
      on(state, word[index], next, index === word.length - 1 ? ends : Action.None);
      next = state;
    }
    begin(word[0], next);
  }

  const [minus, zero, integer, point, fraction, exponent, exponentSign, exponentDigits] = Array.from(
    { length: 8 },
    newState,
  );
  begin("-", minus);
  begin("0", zero);
  begin(DIGITS_1_9, integer);
  on(minus, "0", zero);
  on(minus, DIGITS_1_9, integer);
  on(integer, DIGITS, integer);
  on(point, DIGITS, fraction);
  on(fraction, DIGITS, fraction);
  on(exponent, "+-", exponentSign);
  on(exponent, DIGITS, exponentDigits);
  on(exponentSign, DIGITS, exponentDigits);
  on(exponentDigits, DIGITS, exponentDigits);
  for (const state of [zero, integer]) on(state, ".", point);
  for (const state of [zero, integer, fraction]) on(state, "eE", exponent);
  for (const state of [zero, integer, fraction, exponentDigits]) addAfter(state, value, comma, close);
}

on(START, "{", TOP_OPENED);
on(TOP_OPENED, "}", END);
export const TOP_NAME_TEXT = addText(TOP_NAME, Action.Named);
export const TOP_NAME_TEXT_END = rows.length * CLASSES;
for (const state of [TOP_OPENED, TOP_COMMA]) on(state, '"', TOP_NAME_TEXT, Action.Names);
on(TOP_NAME, ":", TOP_COLON);
addValue([TOP_COLON], TOP_VALUE, TOP_COMMA, "}");

on(ARRAY_OPENED, "]", ARRAY_VALUE, Action.Close);
addValue([ARRAY_OPENED, ARRAY_COMMA], ARRAY_VALUE, ARRAY_COMMA, "]");

on(OBJECT_OPENED, "}", OBJECT_VALUE, Action.Close);
const OBJECT_NAME_TEXT = addText(OBJECT_NAME, Action.None);
for (const state of [OBJECT_OPENED, OBJECT_COMMA]) on(state, '"', OBJECT_NAME_TEXT);
on(OBJECT_NAME, ":", OBJECT_COLON);
addValue([OBJECT_COLON], OBJECT_VALUE, OBJECT_COMMA, "}");

/** Column of each byte in TABLE: bytes that every state treats alike share one. */
export const CLASS = new Uint8Array(256);
export const TABLE = new Int32Array(rows.length * CLASSES);
const columns = new Map<string, number>();
for (let byte = 0; byte < 256; byte++) {
  const column = rows.map((row) => row[byte]);
  const text = column.join();
  const known = columns.get(text) ?? columns.size;
  if (known === columns.size) {
    columns.set(text, known);
    for (let row = 0; row < column.length; row++) TABLE[row * CLASSES + known] = column[row];
  }
  CLASS[byte] = known;
}
if (columns.size > CLASSES || TABLE.length > STATE_MASK) throw new Error("tables.ts: the table is too small");

/** 1 for the bytes that need no second look inside a string. */
export const PLAIN = new Uint8Array(256);
for (const byte of PLAIN_TEXT) PLAIN[byte.charCodeAt(0)] = 1;
