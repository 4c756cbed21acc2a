/** Values on their way: what is JSON, and what is bytes. */
import { MinivaultError } from "./errors.ts";

/** What travels as it is, with a type of its own. */
export type Bytes = Uint8Array | ArrayBuffer | Blob | ReadableStream<Uint8Array>;

/** A request's body, and its type. */
export interface Body {
  content: string | Bytes;
  type: string;
  /** Of the content; null: it is a stream, which is sent once. */
  bytes: number | null;
}

/** Of bytes of which nothing is said. */
export const BYTES_TYPE = "application/octet-stream";
export const JSON_TYPE = "application/json";
/** So many bytes of a stream that is collected are held outside of its Blob. */
const COLLECTED_BYTES = 4 * 1024 * 1024;

export function isBytes(value: unknown): value is Bytes {
  return (
    value instanceof Uint8Array ||
    value instanceof ArrayBuffer ||
    (typeof Blob !== "undefined" && value instanceof Blob) ||
    (typeof ReadableStream !== "undefined" && value instanceof ReadableStream)
  );
}

/**
 * What to send for a value: bytes are kept as they are, a text with a type as that text, anything else as
 * JSON.
 * @throws TypeError where JSON has no form of it
 */
export function bodyOf(value: unknown, type: string | undefined): Body {
  if (isBytes(value)) return { content: value, type: type ?? typeOf(value), bytes: lengthOf(value) };
  if (type !== undefined) {
    if (typeof value !== "string")
      throw new TypeError("a type goes with bytes, or with a text; JSON has its own");
    return { content: value, type, bytes: new TextEncoder().encode(value).length };
  }
  const text = jsonOf(value);
  const content = `{"value":${text}}`;
  // In UTF-8 a unit of the text has three bytes at most.
  return { content, type: JSON_TYPE, bytes: content.length * 3 };
}

/**
 * The body as it can be sent from here: where streams cannot be, what one brings is collected first.
 * Browsers keep large Blobs on their disk.
 */
export async function sendableOf(body: Body, signal: AbortSignal | undefined): Promise<Body> {
  if (body.bytes !== null || sendsStreams()) return body;
  const content = await collected(body.content as ReadableStream<Uint8Array>, signal);
  return { ...body, content, bytes: content.size };
}

/** Whether a request's body can be a stream. Some send the words "[object ReadableStream]" instead. */
function sendsStreams(): boolean {
  // Browsers are called so. Chromium says that it does, and means HTTP/2, which nodes do not speak.
  const { navigator } = globalThis as { navigator?: { userAgent?: string } };
  if (navigator?.userAgent?.startsWith("Mozilla/")) return false;
  let isKnown = false;
  const options = {
    ...{ method: "POST", body: new ReadableStream() },
    get duplex() {
      isKnown = true;
      return "half" as const;
    },
  };
  // As words it has a type.
  const isText = new Request("http://localhost/", options).headers.has("Content-Type");
  return isKnown && !isText;
}

async function collected(stream: ReadableStream<Uint8Array>, signal: AbortSignal | undefined): Promise<Blob> {
  const reader = stream.getReader();
  const stop = (): void => void reader.cancel(signal?.reason).catch(() => {});
  signal?.addEventListener("abort", stop);
  try {
    let all = new Blob([]);
    let pieces: Uint8Array<ArrayBuffer>[] = [];
    let bytes = 0;
    for (;;) {
      signal?.throwIfAborted();
      const { done, value } = await reader.read();
      signal?.throwIfAborted();
      if (done) return new Blob([all, ...pieces]);
      pieces.push(value as Uint8Array<ArrayBuffer>);
      bytes += value.byteLength;
      if (bytes < COLLECTED_BYTES) continue;
      all = new Blob([all, ...pieces]);
      pieces = [];
      bytes = 0;
    }
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

/** The JSON text of a value. */
export function jsonOf(value: unknown): string {
  const text = JSON.stringify(value);
  if (text === undefined) throw new TypeError(`${typeof value} has no form in JSON`);
  return text;
}

function typeOf(value: Bytes): string {
  return (typeof Blob !== "undefined" && value instanceof Blob && value.type) || BYTES_TYPE;
}

function lengthOf(value: Bytes): number | null {
  if (value instanceof Uint8Array || value instanceof ArrayBuffer) return value.byteLength;
  return typeof Blob !== "undefined" && value instanceof Blob ? value.size : null;
}

export function isJsonType(type: string): boolean {
  return /^application\/json[ \t]*(;|$)/i.test(type);
}

/** What a value's bytes are, by their type: JSON as its value, text as a text, anything else as bytes. */
export function decoded(bytes: Uint8Array, type: string): unknown {
  const isJson = isJsonType(type);
  if (!isJson && !/^text\//i.test(type)) return bytes;
  const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  if (!isJson) return text;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new MinivaultError("the value calls itself JSON and is none; getBytes reads it", {
      ...{ status: 200, code: "bad_answer", cause },
    });
  }
}

/** The bytes of a value that came in base64. */
export function bytesOfBase64(text: string): Uint8Array {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let index = 0; index < bytes.length; index++) bytes[index] = letters.charCodeAt(index);
  return bytes;
}

/** Bytes as base64. */
export function base64Of(bytes: Uint8Array): string {
  let letters = "";
  // As many arguments as every engine takes.
  for (let from = 0; from < bytes.length; from += 8192)
    letters += String.fromCharCode(...bytes.subarray(from, from + 8192));
  return btoa(letters);
}
