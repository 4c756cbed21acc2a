/**
 * Steps once over the text of a batch, byte by byte: its operations, and the members of each. Parses no
 * value, and decodes none that stands there letter by letter.
 */

/** The whole batch is malformed. The message is a sentence for its sender. */
export class BatchError extends Error {}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const BLANK = 0x20;
const LINE_FEED = 0x0a;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
/** In the place of a byte: the text has ended. */
const NONE = -1;

/** In the place of the number of an operation. */
const WHOLE_BATCH = 0;

/** Words that are known without being decoded. */
export class Words {
  private readonly words: readonly { text: string; bytes: Uint8Array }[];

  constructor(texts: readonly string[]) {
    this.words = texts.map((text) => ({ text, bytes: Buffer.from(text, "latin1") }));
  }

  /** The one that stands between two places; null: none of them does. */
  find(bytes: Uint8Array, start: number, end: number): string | null {
    for (const word of this.words)
      if (word.bytes.length === end - start && standsAt(bytes, start, word.bytes)) return word.text;
    return null;
  }
}

function standsAt(bytes: Uint8Array, start: number, word: Uint8Array): boolean {
  for (let index = 0; index < word.length; index++) if (bytes[start + index] !== word[index]) return false;
  return true;
}

/** Bytes of JSON, and how far they are read. */
export class Text {
  readonly bytes: Uint8Array;
  private at = 0;
  /** Of the value that was stepped over last: where it begins and ends. */
  start = 0;
  end = 0;
  /** It is a string that stands there letter by letter: what is between its quotes is its text. */
  isPlain = false;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** Where the line ends that is being read. */
  get lineEnd(): number {
    const found = this.bytes.indexOf(LINE_FEED, this.at);
    return found < 0 ? this.bytes.length : found;
  }

  /** How far it is read. */
  get place(): number {
    return this.at;
  }

  /** The next byte that is no blank, or NONE; what is before it is read. */
  peek(): number {
    const { bytes } = this;
    let { at } = this;
    while (at < bytes.length && isBlank(bytes[at])) at++;
    this.at = at;
    return at < bytes.length ? bytes[at] : NONE;
  }

  /** Steps over this byte. False: another one comes next. */
  take(byte: number): boolean {
    if (this.peek() !== byte) return false;
    this.at++;
    return true;
  }

  /** Steps over a value, as far as its brackets and quotes tell. False: there is none. */
  takeValue(): boolean {
    const isString = this.peek() === QUOTE;
    this.start = this.at;
    this.end = this.at = isString ? this.behindString(this.at) : this.behindOther(this.at);
    if (!isString) this.isPlain = false;
    return this.end > this.start;
  }

  /** The place behind the string that begins here. */
  private behindString(from: number): number {
    const { bytes } = this;
    let isPlain = true;
    for (let at = from + 1; at < bytes.length; at++) {
      const byte = bytes[at];
      if (byte === QUOTE) {
        this.isPlain = isPlain;
        return at + 1;
      }
      if (byte >= BLANK && byte !== BACKSLASH) continue;
      isPlain = false;
      if (byte === BACKSLASH) at++;
    }
    this.isPlain = false;
    return bytes.length;
  }

  /** The place behind the value that begins here. */
  private behindOther(from: number): number {
    const { bytes } = this;
    let depth = 0;
    let at = from;
    while (at < bytes.length) {
      const byte = bytes[at];
      if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
        depth++;
        at++;
        continue;
      }
      if (byte === QUOTE) at = this.behindString(at);
      else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
        if (depth === 0) return at;
        depth--;
        at++;
      } else if (depth === 0 && (byte === COMMA || isBlank(byte))) return at;
      else {
        at++;
        continue;
      }
      if (depth === 0) return at;
    }
    return at;
  }

  /**
   * Parses the value that was stepped over last.
   * @param what it is, for a person
   */
  parse(what: string): unknown {
    const { buffer, byteOffset } = this.bytes;
    const text = Buffer.from(buffer, byteOffset + this.start, this.end - this.start).toString("utf8");
    try {
      return JSON.parse(text);
    } catch {
      throw new BatchError(`${what} is not JSON`);
    }
  }

  /**
   * Begins an object.
   * @param number of the operation that it is, or WHOLE_BATCH
   */
  takeObject(number: number): void {
    if (!this.take(OPEN_BRACE)) throw noObject(number);
  }

  /**
   * Steps over the name of the object's next member, up to its value; or over the end of the object.
   * @param known names that need not be decoded
   * @param isFirst no member of it has been read
   * @returns the name; null: the object has ended
   */
  takeName(number: number, known: Words, isFirst: boolean): string | null {
    if (this.take(CLOSE_BRACE)) return null;
    if (!isFirst && !this.take(COMMA)) throw noObject(number);
    if (this.peek() !== QUOTE) throw noObject(number);
    this.takeValue();
    const { start, end, isPlain } = this;
    const name = isPlain ? known.find(this.bytes, start + 1, end - 1) : null;
    const text = name ?? (this.parse(`a name in ${nameOf(number)}`) as string);
    if (!this.take(COLON)) throw noObject(number);
    return text;
  }
}

function isBlank(byte: number): boolean {
  return byte === BLANK || byte === LINE_FEED || byte === 0x0d || byte === 0x09;
}

/** What a number stands for, in a sentence. */
export function nameOf(number: number): string {
  return number === WHOLE_BATCH ? "the batch" : `operation ${number}`;
}

export function noObject(number: number): BatchError {
  return new BatchError(`${nameOf(number)} is not a JSON object`);
}

/** Steps from line to line, but for empty ones: gives each one's number, and it is to be read then. */
export function* lines(text: Text): Generator<number> {
  for (let number = 1; text.peek() !== NONE; number++) {
    const end = text.lineEnd;
    yield number;
    if (text.place > end) throw noObject(number);
    text.peek();
    if (text.place < end) throw noObject(number);
  }
}

const BATCH_MEMBERS = new Words(["operations", "atomic"]);

/**
 * Steps from element to element of "operations", in the object that the whole text is: gives each one's
 * number, and it is to be read then.
 */
export function* elements(text: Text): Generator<number> {
  let number = 0;
  let areThere = false;
  text.takeObject(WHOLE_BATCH);
  let name = text.takeName(WHOLE_BATCH, BATCH_MEMBERS, true);
  for (; name !== null; name = text.takeName(WHOLE_BATCH, BATCH_MEMBERS, false)) {
    if (name === "operations" && !areThere) {
      areThere = true;
      if (!text.take(OPEN_BRACKET)) throw noOperations();
      if (text.take(CLOSE_BRACKET)) continue;
      do yield ++number;
      while (text.take(COMMA));
      if (!text.take(CLOSE_BRACKET)) throw new BatchError('"operations" is not a JSON array');
    } else if (name !== "atomic") throw new BatchError(`the batch has a member ${JSON.stringify(name)}`);
    else if (!text.takeValue()) throw noObject(WHOLE_BATCH);
    else if (text.parse('"atomic"') !== false)
      throw new BatchError("a batch is not atomic: each operation is done as if it were sent alone");
  }
  if (!areThere) throw noOperations();
  if (text.peek() !== NONE) throw noObject(WHOLE_BATCH);
}

function noOperations(): BatchError {
  return new BatchError('the body is {"operations": […]}, or, as application/x-ndjson, an operation a line');
}
