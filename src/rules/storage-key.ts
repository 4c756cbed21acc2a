/**
 * Keys as unstorage sends them below `/_unstorage/`: segments, between which ":", "/" and "\" are the same
 * and several are one. In the store their segments are joined by "/". A path that ends in ":" or "/" is no
 * key but a base: all keys below it. Pure.
 */

const SLASH = 0x2f;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const DOT = 0x2e;

export const STORAGE_ITEM = 0;
/** What is left in the key is the prefix of the keys below the base; empty: all. */
export const STORAGE_BASE = 1;
/** It has a segment "." or "..", which drivers refuse. */
export const STORAGE_BAD = 2;

/** A key in a buffer that its caller reuses: `bytes[0 .. length)`. */
interface KeyText {
  readonly bytes: Uint8Array;
  length: number;
}

/** Brings the key, from `from` on, into the form in which it is stored. */
export function normalizeStorageKey(key: KeyText, from: number): number {
  const { bytes, length } = key;
  const last = length > from ? bytes[length - 1] : SLASH;
  const isBase = last === SLASH || last === COLON;
  let count = 0;
  let isBetween = false;
  for (let index = from; index < length; index++) {
    const byte = bytes[index];
    if (byte === SLASH || byte === COLON || byte === BACKSLASH) {
      isBetween = count > 0;
      continue;
    }
    if (isBetween) bytes[count++] = SLASH;
    isBetween = false;
    bytes[count++] = byte;
  }
  key.length = count;
  if (hasDotSegment(bytes, count)) return STORAGE_BAD;
  if (!isBase) return count === 0 ? STORAGE_BAD : STORAGE_ITEM;
  if (count > 0) bytes[key.length++] = SLASH;
  return STORAGE_BASE;
}

/** Whether a key has that form, so that unstorage can ask for it. */
export function isStorageKey(bytes: Uint8Array): boolean {
  const { length } = bytes;
  if (length === 0 || bytes[0] === SLASH || bytes[length - 1] === SLASH) return false;
  for (let index = 0; index < length; index++) {
    const byte = bytes[index];
    if (byte === COLON || byte === BACKSLASH) return false;
    if (byte === SLASH && bytes[index - 1] === SLASH) return false;
  }
  return !hasDotSegment(bytes, length);
}

function hasDotSegment(bytes: Uint8Array, length: number): boolean {
  let start = 0;
  for (let index = 0; index <= length; index++) {
    if (index < length && bytes[index] !== SLASH) continue;
    const segment = index - start;
    if (bytes[start] === DOT && (segment === 1 || (segment === 2 && bytes[start + 1] === DOT))) return true;
    start = index + 1;
  }
  return false;
}
