/** A key of a list as JSON: one text, for the catalog of a node and for lists over a cluster. */
import { JSON_PREFIX, JSON_SUFFIX } from "../../format/offsets.ts";
import { bufferOf } from "../../util/bytes.ts";

export interface EntryFacts {
  key: Uint8Array;
  /** Without quotes. */
  etag: string;
  bytes: number;
  type: string;
  json: boolean;
  /** Left of its life, in milliseconds; null: it does not end. */
  ttlMs: number | null;
  /** In stored form; null: it does not come with the list. */
  value: Uint8Array | null;
}

export function entryText({ key, etag, bytes, type, json, ttlMs, value }: EntryFacts): string {
  const member = value === null ? "" : valueMember(value, json);
  return joined(keyText(key), etag, bytes, JSON.stringify(type), ttlMember(ttlMs) + member);
}

/** An entry of parts that are JSON already. `more`: further members, each behind a comma. */
export function joined(key: string, etag: string, bytes: number, type: string, more: string): string {
  return `{"key":${key},"etag":"${etag}","bytes":${bytes},"type":${type}${more}}`;
}

/** What is left of a life as a member of its entry, in seconds. */
export function ttlMember(ttlMs: number | null): string {
  return ttlMs === null ? "" : `,"ttl":${Math.max(1, Math.floor(ttlMs)) / 1000}`;
}

/** A key as JSON. */
export function keyText(key: Uint8Array): string {
  return JSON.stringify(bufferOf(key).toString());
}

/** A value in stored form as a member of its entry. */
export function valueMember(value: Uint8Array, json: boolean): string {
  const bytes = bufferOf(value);
  if (!json) return `,"base64":"${bytes.toString("base64")}"`;
  // Line ends in JSON are white space: a text of its own must stay on one line.
  const text = bytes.toString("utf8", JSON_PREFIX.length, bytes.length - JSON_SUFFIX.length);
  return `,"value":${text.replaceAll(/[\r\n]/g, " ")}`;
}
