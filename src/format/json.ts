/**
 * Checks a body `{"value": <any JSON>}` against RFC 8259 as its bytes arrive, and finds where the value's own text
 * lies, without building objects from it: memory stays the same whatever the body's size, and the text can be stored
 * and sent back byte for byte.
 *
 * Owns: the grammar, the validity of UTF-8, the limit of depth. Leaves out on purpose: what numbers and strings mean
 * (an escape of a lone surrogate is fine for the grammar, so it is fine here), and repeated names below the top level
 * (RFC 8259 allows them).
 *
 * It is a hand-written automaton: everything that must survive the edge between two pieces of a body is in fields, and
 * `feed` works on local copies of them, with loops of their own for what makes up most of a document.
 *
 *   Start ─{─► TopFirst ─"─► Text ─"─► TopColon ─:─► Value … ─► TopAfter ─}─► End
 *                 └─}─► End                ▲ name is checked        └─,─► TopName
 */
import { JSON_DEPTH_MAX } from "../util/limits.ts";

/** What the next byte may be. The compiler puts the numbers in place of the names, so that `switch` is a jump table. */
enum State {
  /** Before the top-level object. */
  Start = 0,
  /** After the top-level `{`: a name or `}`. */
  TopFirst = 1,
  /** After a top-level comma: a name. */
  TopName = 2,
  /** After a top-level name. */
  TopColon = 3,
  /** After the value of a top-level member: `,` or `}`. */
  TopAfter = 4,
  /** After the top-level object: white space only. */
  End = 5,
  /** A value. */
  Value = 6,
  /** After `[`: a value or `]`. */
  ArrayFirst = 7,
  /** After a value inside an array or object. */
  After = 8,
  /** After `{` below the top: a name or `}`. */
  ObjectFirst = 9,
  /** After a comma in an object below the top: a name. */
  ObjectName = 10,
  ObjectColon = 11,
  /** Inside a string. `afterText` says what follows its end. */
  Text = 12,
  /** After a backslash. */
  Escape = 13,
  /** `pending` hexadecimal digits of `\u` are missing. */
  Hex = 14,
  /** `pending` bytes of a character are missing, the next of them within low..high. */
  Utf8 = 15,
  /** Inside true, false or null: `pending` bytes are missing. */
  Literal = 16,
  /** After `-`. */
  Minus = 17,
  /** After a leading zero: no further digit. */
  Zero = 18,
  Integer = 19,
  /** After the point: at least one digit. */
  Point = 20,
  Fraction = 21,
  /** After `e`: a sign or a digit. */
  Exponent = 22,
  /** After the exponent's sign: at least one digit. */
  ExponentSign = 23,
  ExponentDigits = 24,
  /** An error was found; nothing is read any more. */
  Failed = 25,
}

/** The bytes that mean something to the grammar. */
enum Byte {
  Tab = 0x09,
  LineFeed = 0x0a,
  CarriageReturn = 0x0d,
  Space = 0x20,
  Quote = 0x22,
  Plus = 0x2b,
  Comma = 0x2c,
  Minus = 0x2d,
  Point = 0x2e,
  Zero = 0x30,
  One = 0x31,
  Nine = 0x39,
  Colon = 0x3a,
  UpperE = 0x45,
  OpenArray = 0x5b,
  Backslash = 0x5c,
  CloseArray = 0x5d,
  E = 0x65,
  F = 0x66,
  N = 0x6e,
  T = 0x74,
  U = 0x75,
  OpenObject = 0x7b,
  CloseObject = 0x7d,
}

/** 1 for the bytes that need no second look inside a string: ASCII but control characters, quote and backslash. */
const PLAIN = new Uint8Array(256);
PLAIN.fill(1, 0x20, 0x80);
PLAIN[Byte.Quote] = 0;
PLAIN[Byte.Backslash] = 0;

/** 1 for the bytes that make an escape of two bytes with a backslash before them. */
const SHORT_ESCAPE = new Uint8Array(256);
for (const character of '"\\/bfnrt') SHORT_ESCAPE[character.charCodeAt(0)] = 1;

/** The longest way to write "value" is five escapes of 6 bytes; a longer name is kept only for the message. */
const NAME_BYTES_KEPT = 32;
const NAME = "value";

const TRUE = Buffer.from("true");
const FALSE = Buffer.from("false");
const NULL = Buffer.from("null");

/** Containers whose kinds fit into the stack as it is first allocated. */
const DEPTH_FIRST = 256;

/**
 * One body at a time. Call `reset`, then `feed` with the pieces in order, then `finish`; an object can be used again
 * for any number of bodies and allocates nothing for one that is valid.
 *
 * While `valueStart` ≥ 0 and `valueEnd` is -1, every byte fed from `valueStart` on belongs to the value.
 */
export class ValueScanner {
  /** Offset in the body of the value's first byte; -1 while unknown. */
  valueStart = -1;
  /** Offset in the body of the first byte after the value (white space after it is not part of it); -1 while unknown. */
  valueEnd = -1;
  /** What is wrong: a code of the error table, or null. */
  error: "bad_json" | "no_value" | null = null;
  /** The same for a person, with the offset in the body; one line of printable text. */
  detail = "";

  /** Bytes of the body that earlier calls of `feed` have consumed. */
  private consumed = 0;
  private state: State = State.Start;
  private afterText: State = State.TopColon;
  private pending = 0;
  private low = 0;
  private high = 0;
  private literal: Uint8Array = TRUE;

  /** Containers open around the next byte, not counting the top-level object. */
  private depth = 0;
  /** Whether the innermost of them is an object. */
  private inObject = false;
  /** One bit for each open container but the innermost: 1 for an object. Grows up to JSON_DEPTH_MAX bits. */
  private kinds = new Uint32Array(DEPTH_FIRST / 32);

  /** Text of the top-level name being read, as it is written, without quotes; at most NAME_BYTES_KEPT of it. */
  private readonly name = Buffer.alloc(NAME_BYTES_KEPT);
  private nameBytes = 0;

  /** Forgets everything: the next byte fed is the first of a body. */
  reset(): void {
    this.valueStart = -1;
    this.valueEnd = -1;
    this.error = null;
    this.detail = "";
    this.consumed = 0;
    this.state = State.Start;
    this.depth = 0;
    this.inObject = false;
  }

  /**
   * Consumes bytes[start..end), the next piece of the body. False: the body is not valid, `error` and `detail` say
   * why, and every later call says false again. The bytes are not kept.
   */
  feed(bytes: Uint8Array, start: number, end: number): boolean {
    /** Offset in the body = offset in `bytes` + base. */
    const base = this.consumed - start;
    let state = this.state;
    let afterText = this.afterText;
    let depth = this.depth;
    let inObject = this.inObject;
    let i = start;
    /** Where the part of a top-level name that lies in this piece begins. */
    let nameStart = start;

    scan: while (i < end) {
      const byte = bytes[i];
      switch (state) {
        case State.Text: {
          // The byte at hand was not looked at yet. Every turn ends behind a plain run and one special byte.
          for (;;) {
            while (i + 4 <= end) {
              if ((PLAIN[bytes[i]] & PLAIN[bytes[i + 1]] & PLAIN[bytes[i + 2]] & PLAIN[bytes[i + 3]]) === 0) break;
              i += 4;
            }
            while (i < end && PLAIN[bytes[i]] !== 0) i++;
            if (i === end) break scan;
            const special = bytes[i];
            if (special === Byte.Quote) break;
            if (special === Byte.Backslash) {
              if (i + 1 < end && SHORT_ESCAPE[bytes[i + 1]] !== 0) {
                i += 2;
                continue;
              }
              state = State.Escape;
            } else if (special >= 0x80 && this.startCharacter(special)) {
              // The usual case: the whole character lies in this piece.
              const last = i + this.pending;
              if (last < end && bytes[i + 1] >= this.low && bytes[i + 1] <= this.high) {
                i += 2;
                while (i <= last && (bytes[i] & 0xc0) === 0x80) i++;
                if (i > last) continue;
                this.fail("invalid UTF-8", base + i);
                break scan;
              }
              state = State.Utf8;
            } else {
              this.fail(special >= 0x80 ? "invalid UTF-8" : "control character in a string", base + i);
              break scan;
            }
            i++;
            continue scan;
          }
          if (afterText === State.TopColon) {
            this.keepName(bytes, nameStart, i);
            if (!this.checkName()) break scan;
          }
          i++;
          if (afterText === State.TopAfter) this.valueEnd = base + i;
          state = afterText;
          continue;
        }

        case State.Utf8: {
          if (byte < this.low || byte > this.high) {
            this.fail("invalid UTF-8", base + i);
            break scan;
          }
          this.low = 0x80;
          this.high = 0xbf;
          i++;
          if (--this.pending === 0) state = State.Text;
          continue;
        }

        case State.Escape: {
          if (byte === Byte.U) {
            this.pending = 4;
            state = State.Hex;
          } else if (SHORT_ESCAPE[byte] !== 0) {
            state = State.Text;
          } else {
            this.fail("invalid escape in a string", base + i);
            break scan;
          }
          i++;
          continue;
        }

        case State.Hex: {
          const lower = byte | 0x20;
          if (!((byte >= Byte.Zero && byte <= Byte.Nine) || (lower >= 0x61 && lower <= 0x66))) {
            this.fail("invalid escape in a string", base + i);
            break scan;
          }
          i++;
          if (--this.pending === 0) state = State.Text;
          continue;
        }

        case State.After: {
          if (byte === Byte.Comma) {
            state = inObject ? State.ObjectName : State.Value;
            i++;
            continue;
          }
          if (byte === (inObject ? Byte.CloseObject : Byte.CloseArray)) break;
          if (isSpace(byte)) {
            i++;
            continue;
          }
          this.unexpected(byte, base + i);
          break scan;
        }

        case State.ArrayFirst:
        case State.Value: {
          if (byte === Byte.Quote) {
            state = State.Text;
            afterText = depth === 0 ? State.TopAfter : State.After;
          } else if (byte >= Byte.One && byte <= Byte.Nine) state = State.Integer;
          else if (byte === Byte.OpenObject || byte === Byte.OpenArray) {
            if (depth === JSON_DEPTH_MAX) {
              this.fail(`nested deeper than ${JSON_DEPTH_MAX} levels`, base + i);
              break scan;
            }
            this.push(depth, inObject);
            inObject = byte === Byte.OpenObject;
            state = inObject ? State.ObjectFirst : State.ArrayFirst;
            if (depth++ === 0) this.valueStart = base + i;
            i++;
            continue;
          } else if (byte === Byte.Zero) state = State.Zero;
          else if (byte === Byte.Minus) state = State.Minus;
          else if (byte === Byte.T || byte === Byte.F || byte === Byte.N) {
            this.literal = byte === Byte.T ? TRUE : byte === Byte.F ? FALSE : NULL;
            this.pending = this.literal.length - 1;
            state = State.Literal;
          } else if (isSpace(byte)) {
            i++;
            continue;
          } else if (byte === Byte.CloseArray && state === State.ArrayFirst) break;
          else {
            this.unexpected(byte, base + i);
            break scan;
          }
          if (depth === 0) this.valueStart = base + i;
          i++;
          continue;
        }

        case State.ObjectFirst:
        case State.ObjectName: {
          if (byte === Byte.Quote) {
            state = State.Text;
            afterText = State.ObjectColon;
          } else if (byte === Byte.CloseObject && state === State.ObjectFirst) break;
          else if (!isSpace(byte)) {
            this.unexpected(byte, base + i);
            break scan;
          }
          i++;
          continue;
        }

        case State.TopColon:
        case State.ObjectColon: {
          if (byte === Byte.Colon) state = State.Value;
          else if (!isSpace(byte)) {
            this.unexpected(byte, base + i);
            break scan;
          }
          i++;
          continue;
        }

        case State.Literal: {
          const literal = this.literal;
          let pending = this.pending;
          while (pending > 0 && i < end && bytes[i] === literal[literal.length - pending]) {
            pending--;
            i++;
          }
          this.pending = pending;
          if (pending === 0) {
            if (depth === 0) {
              this.valueEnd = base + i;
              state = State.TopAfter;
            } else state = State.After;
          } else if (i < end) {
            this.unexpected(bytes[i], base + i);
            break scan;
          }
          continue;
        }

        case State.Minus: {
          if (byte === Byte.Zero) state = State.Zero;
          else if (byte >= Byte.One && byte <= Byte.Nine) state = State.Integer;
          else {
            this.unexpected(byte, base + i);
            break scan;
          }
          i++;
          continue;
        }

        case State.Zero:
        case State.Integer: {
          if (state === State.Integer) {
            while (i < end && bytes[i] >= Byte.Zero && bytes[i] <= Byte.Nine) i++;
            if (i === end) break scan;
          }
          const next = bytes[i];
          if (next === Byte.Point) {
            state = State.Point;
            i++;
          } else if (next === Byte.E || next === Byte.UpperE) {
            state = State.Exponent;
            i++;
          } else if (depth === 0) {
            this.valueEnd = base + i;
            state = State.TopAfter;
          } else state = State.After;
          continue;
        }

        case State.Exponent: {
          if (byte === Byte.Plus || byte === Byte.Minus) {
            state = State.ExponentSign;
            i++;
            continue;
          }
          state = State.ExponentSign;
          continue;
        }

        case State.Point:
        case State.ExponentSign: {
          if (byte < Byte.Zero || byte > Byte.Nine) {
            this.unexpected(byte, base + i);
            break scan;
          }
          state = state === State.Point ? State.Fraction : State.ExponentDigits;
          i++;
          continue;
        }

        case State.Fraction:
        case State.ExponentDigits: {
          while (i < end && bytes[i] >= Byte.Zero && bytes[i] <= Byte.Nine) i++;
          if (i === end) break scan;
          if (state === State.Fraction && (bytes[i] === Byte.E || bytes[i] === Byte.UpperE)) {
            state = State.Exponent;
            i++;
          } else if (depth === 0) {
            this.valueEnd = base + i;
            state = State.TopAfter;
          } else state = State.After;
          continue;
        }

        case State.Start: {
          if (byte === Byte.OpenObject) state = State.TopFirst;
          else if (!isSpace(byte)) {
            this.unexpected(byte, base + i);
            break scan;
          }
          i++;
          continue;
        }

        case State.TopFirst:
        case State.TopName: {
          if (byte === Byte.Quote) {
            state = State.Text;
            afterText = State.TopColon;
            this.nameBytes = 0;
            nameStart = i + 1;
          } else if (byte === Byte.CloseObject && state === State.TopFirst) state = State.End;
          else if (!isSpace(byte)) {
            this.unexpected(byte, base + i);
            break scan;
          }
          i++;
          continue;
        }

        case State.TopAfter: {
          if (byte === Byte.CloseObject) state = State.End;
          else if (byte === Byte.Comma) state = State.TopName;
          else if (!isSpace(byte)) {
            this.unexpected(byte, base + i);
            break scan;
          }
          i++;
          continue;
        }

        case State.End: {
          while (i < end && isSpace(bytes[i])) i++;
          if (i < end) this.unexpected(bytes[i], base + i);
          break scan;
        }

        case State.Failed:
          break scan;
      }

      // Only the end of an array or object leaves the switch.
      i++;
      if (--depth === 0) {
        this.valueEnd = base + i;
        state = State.TopAfter;
      } else {
        state = State.After;
        inObject = ((this.kinds[depth >>> 5] >>> (depth & 31)) & 1) === 1;
      }
    }

    if (this.error !== null) {
      this.state = State.Failed;
      return false;
    }
    if (afterText === State.TopColon && state >= State.Text && state <= State.Utf8) {
      this.keepName(bytes, nameStart, end);
    }
    this.consumed = base + end;
    this.state = state;
    this.afterText = afterText;
    this.depth = depth;
    this.inObject = inObject;
    return true;
  }

  /** The body is complete. False: it ends too early, has no value, or was not valid before; `error` says which. */
  finish(): boolean {
    if (this.state === State.Failed) return false;
    if (this.state === State.End && this.valueStart >= 0) return true;
    if (this.state === State.End) {
      this.error = "no_value";
      this.detail = 'the body has no member "value"';
    } else if (this.consumed === 0) {
      this.error = "bad_json";
      this.detail = "the body is empty";
    } else this.fail("the body ends too early", this.consumed);
    this.state = State.Failed;
    return false;
  }

  /** Remembers the kind of the container at `depth`, one that is being entered around another. */
  private push(depth: number, isObject: boolean): void {
    const word = depth >>> 5;
    if (word === this.kinds.length) {
      const grown = new Uint32Array(word * 2);
      grown.set(this.kinds);
      this.kinds = grown;
    }
    const bit = 1 << (depth & 31);
    if (isObject) this.kinds[word] |= bit;
    else this.kinds[word] &= ~bit;
  }

  /**
   * Sets what must follow the first byte of a character of 2 to 4 bytes; false for a byte that starts none. The limits of the second
   * byte keep out overlong forms, surrogates and what lies above U+10FFFF (Unicode, table 3-7).
   */
  private startCharacter(byte: number): boolean {
    if (byte < 0xc2 || byte > 0xf4) return false;
    this.pending = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
    this.low = byte === 0xe0 ? 0xa0 : byte === 0xf0 ? 0x90 : 0x80;
    this.high = byte === 0xed ? 0x9f : byte === 0xf4 ? 0x8f : 0xbf;
    return true;
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
      // Rare: another name, or one written with escapes. A name that was cut cannot be "value", and what is left of it
      // may not parse.
      const text = name.toString("utf8", 0, nameBytes);
      isValue = nameBytes < NAME_BYTES_KEPT && JSON.parse(`"${text}"`) === NAME;
      if (!isValue) {
        const shown = nameBytes < NAME_BYTES_KEPT ? text : `${text.slice(0, -4)}…`;
        this.error = "bad_json";
        this.detail = `member "${shown}" is not allowed, only "value"`;
        return false;
      }
    }
    if (this.valueStart < 0) return true;
    this.error = "bad_json";
    this.detail = '"value" is given twice';
    return false;
  }

  private unexpected(byte: number, offset: number): void {
    const printable = byte > 0x20 && byte < 0x7f;
    const shown = printable ? `"${String.fromCharCode(byte)}"` : `0x${byte.toString(16).padStart(2, "0")}`;
    this.fail(`unexpected ${shown}`, offset);
  }

  private fail(what: string, offset: number): void {
    this.error = "bad_json";
    this.detail = `${what} at byte ${offset}`;
  }
}

function isSpace(byte: number): boolean {
  return byte === Byte.Space || byte === Byte.LineFeed || byte === Byte.CarriageReturn || byte === Byte.Tab;
}
