/**
 * A change in place that one node hands on to another, as bytes. All numbers are little-endian.
 *
 *   change    35 1 · 0 1 · key length 2 · head length 4 · key · head · what was sent
 *   changed   head length 4 · head · what is told of the value
 *
 * The heads are JSON. Only sent where all members of the cluster know it (cluster/layout/features.ts).
 */
import type { Life } from "../../rules/expiry.ts";
import {
  CHUNK_BYTES,
  CONDITION_BYTES_MAX,
  CONTENT_TYPE_BYTES_MAX,
  RECORD_KEY_BYTES_MAX,
} from "../../util/limits.ts";
import { HANDED_CHANGE } from "../peers/batch.ts";
import type { Asked } from "./asked.ts";
import { FORMS } from "./form.ts";

const REQUEST_BYTES = 8;
const ANSWER_BYTES = 4;
const HEAD_BYTES_MAX = 16 * 1024;

/** A change, and where it comes from. */
export interface HandedChange extends Asked {
  /** The number of the node that it came to. */
  readonly writer: number;
}

/** How it ended. */
export interface HandedEnding {
  /** A code; null: it was done. */
  readonly error: string | null;
  readonly detail: string;
  /** The version that it made, or that is there, with its quotes; null: none is told. */
  readonly etag: string | null;
  readonly created: boolean;
  readonly replayed: boolean;
  readonly replicas: number;
  /** Others change the key, too. */
  readonly shared: boolean;
  readonly told: Uint8Array;
}

/** @param writer the number of the node that it came to */
export function encodeChange(asked: Asked, writer: number): Buffer {
  const { key, form, contentType, body, life, ifMatch, ifNoneMatch, once } = asked;
  const head = { form, contentType, life, ifMatch, ifNoneMatch, once, writer };
  const text = Buffer.from(JSON.stringify(head));
  const lengths = Buffer.alloc(REQUEST_BYTES);
  lengths[0] = HANDED_CHANGE;
  lengths.writeUInt16LE(key.length, 2);
  lengths.writeUInt32LE(text.length, 4);
  return Buffer.concat([lengths, key, text, body]);
}

/** Null: it is none. The arrays are views of the frame. */
export function decodeChange(bytes: Uint8Array): HandedChange | null {
  const frame = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (frame.length < REQUEST_BYTES || frame[0] !== HANDED_CHANGE) return null;
  const keyEnd = REQUEST_BYTES + frame.readUInt16LE(2);
  const headEnd = keyEnd + frame.readUInt32LE(4);
  if (keyEnd === REQUEST_BYTES || keyEnd - REQUEST_BYTES > RECORD_KEY_BYTES_MAX) return null;
  const head = readHead(frame, keyEnd, headEnd);
  if (head === null || frame.length - headEnd > CHUNK_BYTES) return null;
  const { form, contentType, ifMatch, ifNoneMatch, once, life, writer } = head;
  const knownForm = FORMS.find((one) => one === form);
  if (knownForm === undefined || !isLife(life) || !isText(once, CONDITION_BYTES_MAX)) return null;
  if (!isText(ifMatch, CONDITION_BYTES_MAX) || !isText(ifNoneMatch, CONDITION_BYTES_MAX)) return null;
  if (!isText(contentType, CONTENT_TYPE_BYTES_MAX) || !isCount(writer)) return null;
  return {
    key: frame.subarray(REQUEST_BYTES, keyEnd),
    form: knownForm,
    contentType,
    body: frame.subarray(headEnd),
    life,
    ifMatch,
    ifNoneMatch,
    once,
    writer,
  };
}

export function encodeChanged(ending: HandedEnding): Buffer {
  const { error, detail, etag, created, replayed, replicas, shared, told } = ending;
  const text = Buffer.from(JSON.stringify({ error, detail, etag, created, replayed, replicas, shared }));
  const length = Buffer.alloc(ANSWER_BYTES);
  length.writeUInt32LE(text.length);
  return Buffer.concat([length, text, told]);
}

/** Null: it is no answer. */
export function decodeChanged(bytes: Uint8Array): HandedEnding | null {
  const frame = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (frame.length < ANSWER_BYTES) return null;
  const headEnd = ANSWER_BYTES + frame.readUInt32LE(0);
  const head = readHead(frame, ANSWER_BYTES, headEnd);
  if (head === null) return null;
  const { error, detail, etag, created, replayed, replicas, shared } = head;
  if (error !== null && !isText(error, HEAD_BYTES_MAX)) return null;
  if (etag !== null && !isText(etag, HEAD_BYTES_MAX)) return null;
  if (!isText(detail, HEAD_BYTES_MAX) || !isCount(replicas)) return null;
  if (typeof created !== "boolean" || typeof replayed !== "boolean" || typeof shared !== "boolean")
    return null;
  return { error, detail, etag, created, replayed, replicas, shared, told: frame.subarray(headEnd) };
}

function readHead(frame: Buffer, start: number, end: number): Record<string, unknown> | null {
  if (end > frame.length || end - start > HEAD_BYTES_MAX) return null;
  try {
    const head: unknown = JSON.parse(frame.toString("utf8", start, end));
    return typeof head === "object" && head !== null ? (head as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

function isText(value: unknown, charactersMax: number): value is string {
  return typeof value === "string" && value.length <= charactersMax;
}

function isLife(value: unknown): value is Life {
  if (typeof value !== "object" || value === null) return false;
  const { ttlMs, expiresMs, keep } = value as Partial<Record<keyof Life, unknown>>;
  return isCount(ttlMs) && isCount(expiresMs) && typeof keep === "boolean";
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
