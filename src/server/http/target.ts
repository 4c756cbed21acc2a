/**
 * What a request asks for: URL path to key. Pure; no allocation on the common path (a key of plain ASCII).
 */
import { isUtf8 } from "node:buffer";
import { normalizeStorageKey, STORAGE_BASE, STORAGE_ITEM } from "../../rules/storage-key.ts";
import type { KeyBytes } from "../../shards/arena/write.ts";
import { KEY_BYTES_MAX } from "../../util/limits.ts";

/** The answers of `parseTarget`. Small integers, because the hot path compares them. */
export const TARGET_KEY = 0;
export const TARGET_HEALTH = 1;
export const TARGET_STATS = 2;
/** A reserved path that means nothing (yet). */
export const TARGET_RESERVED = 3;
export const TARGET_BAD_KEY = 4;
export const TARGET_TOO_LONG = 5;
/** "/": who is there. */
export const TARGET_ROOT = 6;
export const TARGET_METRICS = 7;
/** Many operations in one request. */
export const TARGET_BATCH = 9;
/** Whether the process is alive, whatever it can serve. */
export const TARGET_LIVE = 8;
/** "/_kv/": no key, but the prefix of all. */
export const TARGET_EMPTY_KEY = 10;
/** The console. */
export const TARGET_CONSOLE = 11;
/** What can be asked for. */
export const TARGET_OPENAPI = 12;
/** A key by another protocol than ours: from here on. */
export const TARGET_RAW = 13;
/** A key as unstorage asks for it. */
export const TARGET_STORAGE = 14;
/** All keys with a prefix, as unstorage asks for them. */
export const TARGET_STORAGE_BASE = 15;

const PERCENT = 0x25;
const UNDERSCORE = 0x5f;
const SLASH = 0x2f;
const LOWER_H = 0x68;
const ASCII_MAX = 0x7f;
const REPLACEMENT = "\ufffd";

const KEY_PREFIX = ascii("_kv/");
const RAW_PREFIX = ascii("_raw/");
const STORAGE_PREFIX = ascii("_unstorage/");
const HEALTH = ascii("health");
const HEALTH_BELOW = ascii("health/");
const LIVE = ascii("health/live");
const STATS = ascii("_stats");
const METRICS = ascii("_metrics");
const BATCH = ascii("_batch");
const OPENAPI = ascii("_openapi.json");
const CONSOLE = ascii("_ui");
const CONSOLE_FOLDER = ascii("_ui/");
/** Room for the longest key behind the longest prefix, and for one more byte, which tells "too long". */
const SCRATCH_BYTES = STORAGE_PREFIX.length + KEY_BYTES_MAX + 1;

/** A scratch that `parseTarget` can fill. */
export function createKeyScratch(): KeyBytes {
  return { bytes: new Uint8Array(SCRATCH_BYTES), length: 0 };
}

/**
 * Reads `path` (without the query; without a slash in front, as "*" or what is meant for a proxy, it is a bad
 * key) and, for TARGET_KEY, leaves the key's bytes in `key`. Reserved names are recognised after decoding: a
 * proxy may write "_" as "%5F" without changing the meaning.
 */
export function parseTarget(path: string, key: KeyBytes): number {
  const bytes = key.bytes;
  const length = path.length - 1;
  key.length = 0;
  if (length < 1 || path.charCodeAt(0) !== SLASH) return path === "/" ? TARGET_ROOT : TARGET_BAD_KEY;
  if (length > KEY_BYTES_MAX) return decodeTarget(path, key);
  for (let index = 0; index < length; index++) {
    const code = path.charCodeAt(index + 1);
    if (code === PERCENT || code > ASCII_MAX) return decodeTarget(path, key);
    bytes[index] = code;
  }
  key.length = length;
  const first = bytes[0];
  if (first === UNDERSCORE || (first === LOWER_H && isHealthLength(bytes, length))) return classify(key);
  return TARGET_KEY;
}

/** Whether a name that begins with "h" is as long as "health", or has a slash there. */
function isHealthLength(bytes: Uint8Array, length: number): boolean {
  return length === HEALTH.length || (length > HEALTH.length && bytes[HEALTH.length] === SLASH);
}

/** The careful form: percent-encoding, other than ASCII, anything long. May allocate. */
function decodeTarget(path: string, key: KeyBytes): number {
  // uWS replaces bytes that are not UTF-8 before we see them; the sender of a real U+FFFD percent-encodes it.
  if (path.includes(REPLACEMENT)) return TARGET_BAD_KEY;
  const source = Buffer.from(path, "utf8");
  const bytes = key.bytes;
  let count = 0;
  for (let offset = 1; offset < source.length; ) {
    let byte = source[offset++];
    if (byte === PERCENT) {
      const high = hexDigit(source[offset++]);
      const low = hexDigit(source[offset++]);
      if (high < 0 || low < 0) return TARGET_BAD_KEY;
      byte = high * 16 + low;
    }
    if (count === bytes.length) return TARGET_TOO_LONG;
    bytes[count++] = byte;
  }
  if (!isUtf8(bytes.subarray(0, count))) return TARGET_BAD_KEY;
  key.length = count;
  return classify(key);
}

/** Sorts out the reserved names, and takes `_kv/` and its like off. */
function classify(key: KeyBytes): number {
  let target = TARGET_KEY;
  if (startsWith(key, KEY_PREFIX)) {
    if (takeOff(key, KEY_PREFIX)) return TARGET_EMPTY_KEY;
  } else if (startsWith(key, RAW_PREFIX)) {
    if (takeOff(key, RAW_PREFIX)) return TARGET_EMPTY_KEY;
    target = TARGET_RAW;
  } else if (startsWith(key, STORAGE_PREFIX)) {
    const kind = normalizeStorageKey(key, STORAGE_PREFIX.length);
    if (kind === STORAGE_BASE) target = TARGET_STORAGE_BASE;
    else if (kind === STORAGE_ITEM) target = TARGET_STORAGE;
    else return TARGET_BAD_KEY;
  } else if (key.bytes[0] === UNDERSCORE) {
    if (isWhole(key, STATS)) return TARGET_STATS;
    if (isWhole(key, METRICS)) return TARGET_METRICS;
    if (isWhole(key, BATCH)) return TARGET_BATCH;
    if (isWhole(key, OPENAPI)) return TARGET_OPENAPI;
    return isWhole(key, CONSOLE) || isWhole(key, CONSOLE_FOLDER) ? TARGET_CONSOLE : TARGET_RESERVED;
  } else if (isWhole(key, HEALTH)) {
    return TARGET_HEALTH;
  } else if (startsWith(key, HEALTH_BELOW)) {
    return isWhole(key, LIVE) ? TARGET_LIVE : TARGET_RESERVED;
  }
  return key.length > KEY_BYTES_MAX ? TARGET_TOO_LONG : target;
}

/** Leaves of a key what stands behind a prefix. True: that is nothing. */
function takeOff(key: KeyBytes, prefix: Uint8Array): boolean {
  key.bytes.copyWithin(0, prefix.length, key.length);
  key.length -= prefix.length;
  return key.length === 0;
}

function isWhole(key: KeyBytes, name: Uint8Array): boolean {
  return key.length === name.length && startsWith(key, name);
}

function startsWith(key: KeyBytes, prefix: Uint8Array): boolean {
  if (key.length < prefix.length) return false;
  for (let index = 0; index < prefix.length; index++) {
    if (key.bytes[index] !== prefix[index]) return false;
  }
  return true;
}

/** Value of a hexadecimal digit, or -1; takes undefined, which is what lies behind the end. */
function hexDigit(code: number | undefined): number {
  if (code === undefined) return -1;
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x61 + 10 : -1;
}

export function ascii(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, "latin1"));
}
