/**
 * The stored form of a JSON value, `{"value":` · the value's own text · `}`, which is also what a GET sends:
 * the one place that cuts the text out of a body and builds the form.
 */
import { JSON_PREFIX, JSON_SUFFIX } from "../format/offsets.ts";
import { copyInto } from "../util/bytes.ts";
import type { ErrorCode } from "../util/errors.ts";
import { ValueScanner } from "./scanner.ts";

/** Why a body has no stored form. */
export interface BodyProblem {
  readonly error: ErrorCode;
  readonly detail: string;
}

/** Bytes that the form has beside the text. */
export const FRAME_BYTES = JSON_PREFIX.length + JSON_SUFFIX.length;
const scanner = new ValueScanner();
/** Of `storedView`; it begins with the prefix. */
let view = new Uint8Array(0);

function problemOf({ error, detail }: ValueScanner): BodyProblem {
  return { error: error ?? "bad_json", detail };
}

/** The value's text in a whole body, as a view of it. */
export function textOf(body: Uint8Array): Uint8Array | BodyProblem {
  scanner.reset();
  if (!scanner.feed(body, 0, body.length) || !scanner.finish()) return problemOf(scanner);
  return body.subarray(scanner.valueStart, scanner.valueEnd);
}

/** The stored form of a text, as parts. */
export function storedParts(text: Uint8Array): { parts: readonly Uint8Array[]; valueBytes: number } {
  return { parts: [JSON_PREFIX, text, JSON_SUFFIX], valueBytes: storedLength(text) };
}

/** The same in one piece, which is a copy. */
export function storedBytes(text: Uint8Array): Uint8Array {
  return Buffer.concat(storedParts(text).parts);
}

/** Bytes that the stored form of a text has. */
export function storedLength(text: Uint8Array): number {
  return FRAME_BYTES + text.length;
}

/** The stored form of a text, in memory that the next call uses again. */
export function storedView(text: Uint8Array): Uint8Array {
  const length = storedLength(text);
  if (length > view.length) {
    view = new Uint8Array(2 ** Math.ceil(Math.log2(length)));
    view.set(JSON_PREFIX);
  }
  copyInto(view, JSON_PREFIX.length, text);
  view.set(JSON_SUFFIX, length - JSON_SUFFIX.length);
  return view.subarray(0, length);
}

/** The value's own text in a stored form, as a view of it. */
export function innerText(stored: Uint8Array): Uint8Array {
  return stored.subarray(JSON_PREFIX.length, stored.length - JSON_SUFFIX.length);
}

/** A body that comes in pieces; so does its stored form. */
export class StoredCutter {
  private readonly scanner = new ValueScanner();
  private received = 0;

  /**
   * Takes the next bytes.
   * @param take called with what of the stored form they hold, as views of them
   * @returns why the body has none, or null; after a problem nothing may follow
   */
  feed(bytes: Uint8Array, take: (stored: Uint8Array) => void): BodyProblem | null {
    if (bytes.length === 0) return null;
    const { scanner, received } = this;
    this.received += bytes.length;
    if (received === 0) take(JSON_PREFIX);
    if (!scanner.feed(bytes, 0, bytes.length)) return problemOf(scanner);
    if (scanner.valueStart < 0) return null;
    const from = Math.max(0, scanner.valueStart - received);
    const to = scanner.valueEnd < 0 ? bytes.length : Math.min(bytes.length, scanner.valueEnd - received);
    if (to > from) take(bytes.subarray(from, to));
    return null;
  }

  /** The body has ended. As `feed`. */
  finish(take: (stored: Uint8Array) => void): BodyProblem | null {
    if (!this.scanner.finish()) return problemOf(this.scanner);
    take(JSON_SUFFIX);
    return null;
  }
}
