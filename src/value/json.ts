/**
 * Checks a body `{"value": <any JSON>}` against RFC 8259 as its bytes arrive, and finds where the value's own
 * text lies, without building objects from it: memory stays the same whatever the body's size, and the text
 * can be stored and sent back byte for byte.
 *
 * Owns: the grammar, the validity of UTF-8, the limit of depth. Leaves out on purpose: what numbers and
 * strings mean (an escape of a lone surrogate is fine for the grammar, so it is fine here), and repeated
 * names below the top level (RFC 8259 allows them).
 *
 * It is an automaton with one table entry for each state and class of bytes, after Douglas Crockford's
 * JSON_checker (2005), with more states: each array, object and the top level has its own copy of the states
 * of numbers, words and strings, and UTF-8 is part of the table. So an entry says all there is to know, and
 * only what a table cannot hold is an action: the stack of open containers, where the value lies, the name at
 * the top. All state is between bytes: a body may be cut anywhere. One load a byte without a branch that
 * depends on the data was faster than hand-written branches for everything but long plain strings, which have
 * a loop of their own.
 */
import { JSON_DEPTH_MAX } from "../util/limits.ts";

// ---------------------------------------------------------------- the table

/** Row length of the table: at least the number of different columns. */
const CLASSES = 64;
/** An entry is the next state (its row's offset in the table) and, in the bits from here on, an action. */
const ACTION_SHIFT = 14;
const STATE_MASK = (1 << ACTION_SHIFT) - 1;

/** What the table cannot do alone. The compiler puts the numbers in place of the names. */
enum Action {
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
const FAIL = Action.Fail << ACTION_SHIFT;

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
const START = newState();
/** The top-level `{`. */
const TOP_OPENED = newState();
const TOP_COMMA = newState();
const TOP_NAME = newState();
const TOP_COLON = newState();
const TOP_VALUE = newState();
/** The top-level `}`. */
const END = newState();
const ARRAY_OPENED = newState();
const ARRAY_COMMA = newState();
const ARRAY_VALUE = newState();
const OBJECT_OPENED = newState();
const OBJECT_COMMA = newState();
const OBJECT_NAME = newState();
const OBJECT_COLON = newState();
const OBJECT_VALUE = newState();

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
const TOP_NAME_TEXT = addText(TOP_NAME, Action.Named);
const TOP_NAME_TEXT_END = rows.length * CLASSES;
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
const CLASS = new Uint8Array(256);
const TABLE = new Int32Array(rows.length * CLASSES);
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
if (columns.size > CLASSES || TABLE.length > STATE_MASK) throw new Error("json.ts: the table is too small");

/** 1 for the bytes that need no second look inside a string. */
const PLAIN = new Uint8Array(256);
for (const byte of PLAIN_TEXT) PLAIN[byte.charCodeAt(0)] = 1;

// ---------------------------------------------------------------- the scanner

/**
 * The longest way to write "value" is five escapes of 6 bytes; a longer name is kept only for the message.
 */
const NAME_BYTES_KEPT = 40;
const NAME = "value";

/** Containers that the stack has room for before it first grows. */
const DEPTH_FIRST = 64;

/**
 * One body at a time. Call `reset`, then `feed` with the pieces in order, then `finish`; an object can be
 * used again for any number of bodies, and allocates nothing for a valid one once its stack has grown to the
 * deepest.
 *
 * While `valueStart` ≥ 0 and `valueEnd` is -1, every byte fed from `valueStart` on belongs to the value.
 */
export class ValueScanner {
  /** Offset in the body of the value's first byte; -1 while unknown. */
  valueStart = -1;
  /**
   * Offset in the body of the first byte after the value (white space is not part of it); -1 while unknown.
   */
  valueEnd = -1;
  /** What is wrong: a code of the error table, or null. */
  error: "bad_json" | "no_value" | null = null;
  /** The same for a person, mostly with an offset in the body; one line of printable text. */
  detail = "";

  /** Bytes of the body that earlier calls of `feed` have consumed. */
  private consumed = 0;
  private state = START;
  /** Arrays and objects that are open inside the top-level object. */
  private depth = 0;
  /** For each depth the state in which a value that ends there leaves the automaton. */
  private stack = new Uint16Array(DEPTH_FIRST).fill(TOP_VALUE, 0, 1);

  /**
   * Text of the top-level name being read, as it is written, without quotes; at most NAME_BYTES_KEPT of it.
   */
  private readonly name = Buffer.alloc(NAME_BYTES_KEPT);
  private nameBytes = 0;

  /** Forgets everything: the next byte fed is the first of a body. */
  reset(): void {
    this.valueStart = -1;
    this.valueEnd = -1;
    this.error = null;
    this.detail = "";
    this.consumed = 0;
    this.state = START;
    this.depth = 0;
    this.nameBytes = 0;
  }

  /**
   * Consumes bytes[start..end), the next piece of the body. False: the body is not valid, `error` and
   * `detail` say why, and every later call says false again. The bytes are not kept.
   */
  feed(bytes: Uint8Array, start: number, end: number): boolean {
    if (this.error !== null) return false;
    /** Offset in the body = offset in `bytes` + base. */
    const base = this.consumed - start;
    const table = TABLE;
    const classes = CLASS;
    const plain = PLAIN;
    let state = this.state;
    let depth = this.depth;
    let stack = this.stack;
    /** Where the part of a top-level name that lies in this piece begins. */
    let nameStart = start;

    for (let i = start; i < end; i++) {
      const entry = table[state + classes[bytes[i]]];
      if (entry <= STATE_MASK) {
        state = entry;
        continue;
      }
      const next = entry & STATE_MASK;
      switch ((entry >>> ACTION_SHIFT) as Action) {
        case Action.Run: {
          i++;
          while (i + 4 <= end) {
            if ((plain[bytes[i]] & plain[bytes[i + 1]] & plain[bytes[i + 2]] & plain[bytes[i + 3]]) === 0)
              break;
            i += 4;
          }
          while (i < end && plain[bytes[i]] !== 0) i++;
          i--;
          break;
        }
        case Action.Open:
          if (depth === JSON_DEPTH_MAX) return this.fail(`more than ${JSON_DEPTH_MAX} levels deep`, base + i);
          if (depth++ === 0) this.valueStart = base + i;
          if (depth === stack.length) stack = this.growStack();
          stack[depth] = next === OBJECT_OPENED ? OBJECT_VALUE : ARRAY_VALUE;
          break;
        case Action.Close:
          state = stack[--depth];
          if (depth === 0) this.valueEnd = base + i + 1;
          continue;
        case Action.Starts:
          this.valueStart = base + i;
          break;
        case Action.Ends:
          this.valueEnd = base + i + 1;
          break;
        case Action.Ended:
          this.valueEnd = base + i;
          break;
        case Action.Names:
          this.nameBytes = 0;
          nameStart = i + 1;
          break;
        case Action.Named:
          this.keepName(bytes, nameStart, i);
          if (!this.checkName()) return false;
          break;
        default:
          return this.unexpected(state, bytes[i], base + i);
      }
      state = next;
    }

    if (state >= TOP_NAME_TEXT && state < TOP_NAME_TEXT_END) this.keepName(bytes, nameStart, end);
    this.consumed = base + end;
    this.state = state;
    this.depth = depth;
    return true;
  }

  /**
   * The body is complete. False: it ends too early, has no value, or was not valid before; `error` says
   * which.
   */
  finish(): boolean {
    if (this.error !== null) return false;
    if (this.state !== END) {
      return this.consumed === 0
        ? this.fail("the body is empty")
        : this.fail("the body ends too early", this.consumed);
    }
    if (this.valueStart >= 0) return true;
    this.error = "no_value";
    this.detail = 'the body has no member "value"';
    return false;
  }

  private growStack(): Uint16Array<ArrayBuffer> {
    const grown = new Uint16Array(this.stack.length * 2);
    grown.set(this.stack);
    this.stack = grown;
    return grown;
  }

  private keepName(bytes: Uint8Array, start: number, end: number): void {
    for (let i = start; i < end && this.nameBytes < NAME_BYTES_KEPT; i++) {
      this.name[this.nameBytes++] = bytes[i];
    }
  }

  /** The top-level name has ended: it must be "value", for the first time. */
  private checkName(): boolean {
    const { name, nameBytes } = this;
    let isValue = nameBytes === NAME.length;
    for (let i = 0; isValue && i < nameBytes; i++) isValue = name[i] === NAME.charCodeAt(i);
    if (!isValue) {
      // Another name, or one with escapes. It is valid JSON unless it was cut, and one that was cut is too
      // long.
      const text = name.toString("utf8", 0, nameBytes);
      const wasCut = nameBytes === NAME_BYTES_KEPT;
      if (wasCut || JSON.parse(`"${text}"`) !== NAME) {
        const shown = (wasCut ? `${text.slice(0, 24)}…` : text).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "\ufffd");
        return this.fail(`member "${shown}" is not allowed`);
      }
    }
    return this.valueStart < 0 || this.fail('"value" is given twice');
  }

  /** There is no rule for this byte in this state. */
  private unexpected(state: number, byte: number, offset: number): false {
    const hasRule = (other: number): boolean => TABLE[state + CLASS[other]] !== FAIL;
    const inText = hasRule(0x7f);
    if (inText && byte < 0x20) return this.fail("control character in a string", offset);
    // Every second byte of a character has 80 or a0 in its range.
    if ((inText && byte >= 0x80) || hasRule(0x80) || hasRule(0xa0)) return this.fail("invalid UTF-8", offset);
    const shown =
      byte > 0x20 && byte < 0x7f
        ? `"${String.fromCharCode(byte)}"`
        : `byte 0x${byte.toString(16).padStart(2, "0")}`;
    return this.fail(`unexpected ${shown}`, offset);
  }

  private fail(what: string, offset = -1): false {
    this.error = "bad_json";
    this.detail = offset < 0 ? what : `${what} at byte ${offset}`;
    return false;
  }
}
