/** One value as the console sees it: read with its limits, written, its end. */
import { ask, pathOf, Refused, refusalOf } from "./api.ts";

/** More is not shown, but can be fetched. */
const TEXT_BYTES_MAX = 1024 * 1024;
const PICTURE_BYTES_MAX = 16 * 1024 * 1024;

export interface Value {
  key: string;
  /** Empty: it is not stored yet. */
  etag: string;
  type: string;
  bytes: number;
  /** When it ends, in milliseconds since 1970; null: never. */
  endMs: number | null;
  /** What else is kept with it, and is sent again when it is saved. */
  kept: Readonly<Record<string, string>>;
  /** Of a text that is small enough, its lines ended as a page does it. */
  text: string | null;
  /** Its lines end as on Windows. */
  hasReturns: boolean;
  /** Of a picture. */
  picture: string | null;
}

const isText = (type: string) =>
  /^(?:text\/|application\/(?:json|xml|x-ndjson|javascript)|[^;]*\+(?:json|xml))/.test(type);
const isPicture = (type: string) => /^image\/(?:png|jpeg|gif|webp|avif|bmp)/.test(type);
const isKept = (name: string) => /^(?:content-(?:language|disposition)|cache-control|x-meta-.+)$/.test(name);

export function newValue(key: string): Value {
  return {
    ...{ key, etag: "", type: "text/plain", bytes: 0, endMs: null },
    ...{ kept: {}, text: "", hasReturns: false, picture: null },
  };
}

/** What is told of a value without it. Throws Refused. */
async function readHead(key: string): Promise<Value> {
  const answer = await ask(pathOf(key), { method: "HEAD" });
  const { status, headers } = answer;
  if (!answer.ok) throw new Refused(status, status === 404 ? "There is no such key." : `status ${status}`);
  const left = headers.get("X-TTL");
  const kept = [...headers].filter(([name, text]) => isKept(name) && text !== "no-cache");
  return {
    key,
    etag: headers.get("ETag") ?? "",
    type: headers.get("Content-Type") ?? "",
    bytes: Number(headers.get("Content-Length") ?? 0),
    endMs: left === null ? null : Date.now() + Number(left) * 1000,
    kept: Object.fromEntries(kept),
    text: null,
    hasReturns: false,
    picture: null,
  };
}

/** The body, as long as it is not larger, which one that was compressed can be; null: it is. */
async function bodyOf(answer: Response, bytesMax: number): Promise<Blob | null> {
  const pieces: BlobPart[] = [];
  let bytes = 0;
  const reader = (answer.body as ReadableStream<Uint8Array<ArrayBuffer>>).getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    bytes += piece.value.length;
    if (bytes > bytesMax) {
      await reader.cancel();
      return null;
    }
    pieces.push(piece.value);
  }
  return new Blob(pieces, { type: answer.headers.get("Content-Type") ?? "" });
}

/** Asks how large it is before anything of it is fetched. Throws Refused. */
export async function readValue(key: string): Promise<Value> {
  const value = await readHead(key);
  const { type, bytes } = value;
  const bytesMax = isText(type) ? TEXT_BYTES_MAX : isPicture(type) ? PICTURE_BYTES_MAX : -1;
  if (bytes > bytesMax) return value;
  const answer = await ask(pathOf(key), { headers: { "If-Match": value.etag } });
  if (answer.status === 412) return readValue(key);
  if (!answer.ok) throw await refusalOf(answer);
  const body = await bodyOf(answer, bytesMax);
  if (body === null) return value;
  if (isPicture(type)) return { ...value, picture: URL.createObjectURL(body) };
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    return { ...value, ...linesOf(decoder.decode(await body.arrayBuffer())) };
  } catch {
    // Bytes that are no UTF-8 would not be the same when they are saved again.
    return value;
  }
}

/** What a page can edit and give back as it was: its fields end all lines in the same way. */
function linesOf(text: string): Pick<Value, "text" | "hasReturns"> {
  const lines = text.split("\r\n");
  const plain = lines.join("\n");
  const isMixed = plain.includes("\r") || (lines.length > 1 && plain.split("\n").length !== lines.length);
  return { text: isMixed ? null : plain, hasReturns: lines.length > 1 };
}

/** Somebody else was faster; nothing was done. */
export class Conflict extends Error {}

/** One write over the version that is shown, or where there is none. Throws Conflict or Refused. */
async function write({ key, etag }: Value, query: string, init: RequestInit): Promise<Response> {
  const headers = new Headers(init.headers);
  if (etag === "") headers.set("If-None-Match", "*");
  else headers.set("If-Match", etag);
  const answer = await ask(pathOf(key) + query, { ...init, headers });
  if (answer.status === 412) throw new Conflict();
  if (!answer.ok) throw await refusalOf(answer);
  return answer;
}

/** What a write has made of a value: what is told of it now, if nobody has changed it since. */
async function after(value: Value, answer: Response): Promise<Value> {
  const made = { ...value, etag: answer.headers.get("ETag") ?? "" };
  try {
    const now = await readHead(value.key);
    const { text, hasReturns, picture } = value;
    return now.etag === made.etag ? { ...now, text, hasReturns, picture } : made;
  } catch {
    // Who may write may not always read.
    return made;
  }
}

/**
 * Stores a text. What is kept with the value stays, its end too.
 * @param ttl of one that is new, as `?ttl=` takes it; empty: it never ends
 */
export async function saveText(value: Value, type: string, text: string, ttl: string): Promise<Value> {
  const isNew = value.etag === "";
  const query = isNew ? (ttl === "" ? "" : `?ttl=${encodeURIComponent(ttl)}`) : "?ttl=keep";
  const headers = { ...value.kept, "Content-Type": type };
  const body = value.hasReturns ? text.replaceAll("\n", "\r\n") : text;
  const answer = await write(value, query, { method: "PUT", headers, body });
  return after({ ...value, type, text, bytes: new Blob([body]).size }, answer);
}

/** Gives a value another end. @param ttl as `?ttl=` takes it; empty: none */
export async function setEnd(value: Value, ttl: string): Promise<Value> {
  const query = `?ttl=${encodeURIComponent(ttl === "" ? "none" : ttl)}`;
  return after(value, await write(value, query, { method: "PATCH" }));
}

export async function remove(value: Value): Promise<void> {
  await write(value, "", { method: "DELETE" });
}
