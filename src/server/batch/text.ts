/** Steps over the text of a batch, byte by byte: its operations, and the members of each. Parses no value. */

/** The whole batch is malformed. The message is a sentence for its sender. */
export class BatchError extends Error {}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const LINE_FEED = 0x0a;
const OPEN = { brace: 0x7b, bracket: 0x5b };
const CLOSE = { brace: 0x7d, bracket: 0x5d };

export type Span = readonly [start: number, end: number];

/** Bytes of JSON, and how to step over what is in them. */
export class Text {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  slice(start: number, end: number): string {
    return Buffer.from(this.bytes.buffer, this.bytes.byteOffset + start, end - start).toString("utf8");
  }

  /** Parses what is between two places. */
  parse(start: number, end: number, what: string): unknown {
    try {
      return JSON.parse(this.slice(start, end));
    } catch {
      throw new BatchError(`${what} is not JSON`);
    }
  }

  skipSpace(at: number): number {
    let next = at;
    while (isSpace(this.bytes[next])) next++;
    return next;
  }

  /** The place behind the value that begins here, as far as its brackets and quotes tell. */
  skipValue(at: number): number {
    const { bytes } = this;
    let depth = 0;
    let next = at;
    while (next < bytes.length) {
      const byte = bytes[next];
      if (byte === QUOTE) next = this.skipString(next);
      else if (byte === OPEN.brace || byte === OPEN.bracket) {
        depth++;
        next++;
      } else if (byte === CLOSE.brace || byte === CLOSE.bracket) {
        if (depth === 0) return next;
        depth--;
        next++;
      } else if (depth === 0 && (byte === COMMA || isSpace(byte))) return next;
      else {
        next++;
        continue;
      }
      if (depth === 0) return next;
    }
    return next;
  }

  private skipString(at: number): number {
    const { bytes } = this;
    for (let next = at + 1; next < bytes.length; next++) {
      if (bytes[next] === BACKSLASH) next++;
      else if (bytes[next] === QUOTE) return next + 1;
    }
    return bytes.length;
  }
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === LINE_FEED || byte === 0x0d || byte === 0x09;
}

/** What stands in each line that is not empty. */
export function* lines(text: Text): Generator<Span> {
  const { bytes } = text;
  for (let at = 0; at < bytes.length; ) {
    const found = bytes.indexOf(LINE_FEED, at);
    const end = found < 0 ? bytes.length : found;
    const start = text.skipSpace(at);
    if (start < end) yield [start, end];
    at = end + 1;
  }
}

/** The elements of "operations" in the object that the whole text is. */
export function* elements(text: Text): Generator<Span> {
  const all = text.skipSpace(0);
  let operations: Span | null = null;
  for (const [name, span] of members(text, all, text.bytes.length, "the batch")) {
    if (name === "operations" && operations === null) operations = span;
    else if (name !== "atomic") throw new BatchError(`the batch has a member ${JSON.stringify(name)}`);
    else if (text.parse(span[0], span[1], '"atomic"') !== false)
      throw new BatchError("a batch is not atomic: each operation is done as if it were sent alone");
  }
  if (operations === null || text.bytes[operations[0]] !== OPEN.bracket)
    throw new BatchError('the body is {"operations": […]}, or, as application/x-ndjson, an operation a line');
  yield* items(text, operations);
}

function* items(text: Text, [start, end]: Span): Generator<Span> {
  const bad = new BatchError('"operations" is not a JSON array');
  let at = text.skipSpace(start + 1);
  if (text.bytes[at] === CLOSE.bracket && at + 1 === end) return;
  for (;;) {
    const to = text.skipValue(at);
    if (to === at) throw bad;
    yield [at, to];
    at = text.skipSpace(to);
    if (text.bytes[at] === CLOSE.bracket && at + 1 === end) return;
    if (text.bytes[at] !== COMMA) throw bad;
    at = text.skipSpace(at + 1);
  }
}

/** The members of the object between two places, where nothing but it may be. */
export function* members(text: Text, start: number, end: number, what: string): Generator<[string, Span]> {
  const bad = new BatchError(`${what} is not a JSON object`);
  const { bytes } = text;
  if (bytes[start] !== OPEN.brace) throw bad;
  let at = text.skipSpace(start + 1);
  if (bytes[at] === CLOSE.brace) at++;
  else
    for (;;) {
      if (bytes[at] !== QUOTE) throw bad;
      const nameEnd = text.skipValue(at);
      const name = text.parse(at, nameEnd, `a name in ${what}`) as string;
      at = text.skipSpace(nameEnd);
      if (bytes[at] !== COLON) throw bad;
      at = text.skipSpace(at + 1);
      const valueEnd = text.skipValue(at);
      if (valueEnd === at) throw bad;
      yield [name, [at, valueEnd]];
      at = text.skipSpace(valueEnd);
      if (bytes[at] === CLOSE.brace) {
        at++;
        break;
      }
      if (bytes[at] !== COMMA) throw bad;
      at = text.skipSpace(at + 1);
    }
  if (text.skipSpace(at) < end) throw bad;
}
