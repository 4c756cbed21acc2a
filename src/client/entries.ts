/** Answers, as what they say. */

import type { Conditions, Entry, Info, StreamEntry, StreamOptions, Written } from "./options/options.ts";
import {
  ExistsError,
  MinivaultError,
  PreconditionFailedError,
  UnavailableError,
} from "./transport/errors.ts";
import type { Answer } from "./transport/requests.ts";
import { BYTES_TYPE, decoded } from "./transport/values.ts";

const META_PREFIX = "x-meta-";

function factsOf(key: string, { headers }: Answer): Omit<Entry, "value"> {
  const ttl = headers.get("x-ttl");
  const date = headers.get("last-modified");
  const meta: Record<string, string> = {};
  headers.forEach((text, name) => {
    if (name.startsWith(META_PREFIX)) meta[name.slice(META_PREFIX.length)] = text;
  });
  return {
    key,
    etag: headers.get("etag") ?? "",
    type: headers.get("content-type") ?? BYTES_TYPE,
    ttl: ttl === null ? null : Number(ttl),
    lastModified: date === null ? null : new Date(date),
    meta,
  };
}

/** A value that is here. */
export function entryOf(key: string, answer: Answer): Entry {
  const facts = factsOf(key, answer);
  return { ...facts, value: decoded(answer.bytes, facts.type) };
}

export function infoOf(key: string, answer: Answer): Info {
  const { headers } = answer;
  const [, ofRange] = /\/(\d+)$/.exec(headers.get("content-range") ?? "") ?? [];
  // What an encoding was taken off has another length.
  const length = headers.get("content-encoding") === null ? headers.get("content-length") : null;
  const text = ofRange ?? length;
  return { ...factsOf(key, answer), bytes: text === null ? null : Number(text) };
}

/** One that is on its way. */
export function streamOf(key: string, answer: Answer): StreamEntry {
  return { ...infoOf(key, answer), stream: answer.stream as ReadableStream<Uint8Array> };
}

/** The part of a value that is asked for; null: all of it. */
export function rangeText({ start = 0, end }: StreamOptions): string | null {
  if (start === 0 && end === undefined) return null;
  if (!(start >= 0) || (end !== undefined && !(end > start)))
    throw new RangeError("a part of a value has a start, and an end behind it");
  return `bytes=${start}-${end === undefined ? "" : end - 1}`;
}

export function conditionsOf({ ifMatch, ifNoneMatch }: Conditions): Record<string, string> {
  return {
    ...(ifMatch === undefined ? {} : { "If-Match": ifMatch }),
    ...(ifNoneMatch === undefined ? {} : { "If-None-Match": ifNoneMatch }),
  };
}

/** What an answer's JSON says; nothing, where only its status has come. */
export function documentOf({ bytes }: Answer): Record<string, unknown> {
  return bytes.length === 0 ? {} : JSON.parse(new TextDecoder().decode(bytes));
}

export function writtenOf({ status, headers }: Answer): Written {
  return { created: status === 201, etag: headers.get("etag") ?? "" };
}

/** Where "there must be none" did not hold. */
export function existsOf(error: unknown): unknown {
  if (!(error instanceof PreconditionFailedError)) return error;
  return new ExistsError("the key exists already", { status: 409, code: "exists", etag: error.etag });
}

/** The last line of a removal. */
export function deletedIn(line: string): number {
  const { success = false, deleted = 0, error = "it broke off", code = "bad_answer" } = JSON.parse(line);
  if (success === true) return deleted;
  const facts = { status: 503, code };
  throw code === "bad_answer" ? new MinivaultError(error, facts) : new UnavailableError(error, facts);
}
