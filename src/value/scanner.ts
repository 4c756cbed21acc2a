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
import {
  ACTION_SHIFT,
  Action,
  ARRAY_VALUE,
  CLASS,
  END,
  FAIL,
  OBJECT_OPENED,
  OBJECT_VALUE,
  PLAIN,
  START,
  STATE_MASK,
  TABLE,
  TOP_NAME_TEXT,
  TOP_NAME_TEXT_END,
  TOP_VALUE,
} from "./tables.ts";

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
        case Action.Run:
          i++;
          while (i + 4 <= end) {
            if ((plain[bytes[i]] & plain[bytes[i + 1]] & plain[bytes[i + 2]] & plain[bytes[i + 3]]) === 0)
              break;
            i += 4;
          }
          while (i < end && plain[bytes[i]] !== 0) i++;
          i--;
          break;
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
