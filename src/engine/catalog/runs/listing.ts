/**
 * Walking the keys of a range: which are there, and which are rolled up into prefixes. Pure: whether a key is
 * there says somebody else, and nothing is kept between two calls but a place.
 */
import { beginsWith, copyOf, NOTHING } from "../../../util/bytes.ts";
import type { MergedKeys } from "./merged-keys.ts";

/** What is walked: keys that are not before `low` and are before `high`, from either end. */
export interface KeyRange {
  low: Uint8Array;
  /** Null: no end. */
  high: Uint8Array | null;
  reverse: boolean;
  /** Keys that have it after the first `prefixBytes` bytes are rolled up; null: none are. */
  delimiter: Uint8Array | null;
  prefixBytes: number;
  /** Only keys that begin with one of these, rising, none of which begins with another; null: all. */
  scopes: readonly Uint8Array[] | null;
}

/** Judges keys and takes what is there. */
export interface Visitor {
  /**
   * A key that is not rolled up.
   * @returns whether it was there, and taken
   */
  key(key: Uint8Array): boolean;
  /** Whether a key is there that would be rolled up into a prefix that is not known yet. */
  isThere(key: Uint8Array): boolean;
  /** Takes a prefix. */
  prefix(prefix: Uint8Array): void;
  /** Asked before each key: whether to stop in front of it. */
  isOver(): boolean;
  /** Asked after each one that was taken: whether that was the last. */
  isFull(): boolean;
}

/** The lowest text above all that begin with `prefix`; null: there is none. */
export function afterAll(prefix: Uint8Array): Uint8Array | null {
  let length = prefix.length;
  while (length > 0 && prefix[length - 1] === 255) length--;
  if (length === 0) return null;
  const after = copyOf(prefix, 0, length);
  after[length - 1]++;
  return after;
}

/** The lowest text above a key. */
export function justAfter(key: Uint8Array): Uint8Array {
  const after = new Uint8Array(key.length + 1);
  after.set(key);
  return after;
}

/** The length of the prefix that a key is rolled up into; -1: it is not. */
export function rollUpBytes(key: Uint8Array, { delimiter, prefixBytes }: KeyRange): number {
  if (delimiter === null) return -1;
  const last = key.length - delimiter.length;
  search: for (let at = prefixBytes; at <= last; at++) {
    for (let i = 0; i < delimiter.length; i++) if (key[at + i] !== delimiter[i]) continue search;
    return at + delimiter.length;
  }
  return -1;
}

/**
 * Walks a range. What `keys` has is a superset of what is there.
 * @returns the range that is left, null: nothing is
 */
export function walk(keys: MergedKeys, range: KeyRange, visitor: Visitor): KeyRange | null {
  return range.reverse ? walkDown(keys, range, visitor) : walkUp(keys, range, visitor);
}

function isBelow(a: Uint8Array, b: Uint8Array | null): boolean {
  return b === null || Buffer.compare(a, b) < 0;
}

function walkUp(keys: MergedKeys, range: KeyRange, visitor: Visitor): KeyRange | null {
  const { high } = range;
  keys.seek(range.low, range.low.length);
  while (keys.valid) {
    const { bytes, from, to } = keys.current;
    const key = bytes.subarray(from, to);
    if (!isBelow(key, high)) return null;
    if (visitor.isOver()) return { ...range, low: copyOf(key) };
    const outside = range.scopes === null ? 0 : scopeFrom(range.scopes, key);
    if (outside !== 0) {
      if (outside === null) return null;
      keys.seek(outside, outside.length);
      continue;
    }
    const rolled = rollUpBytes(key, range);
    if (rolled < 0) {
      if (visitor.key(key) && visitor.isFull()) return { ...range, low: justAfter(key) };
      keys.advance();
      continue;
    }
    if (!visitor.isThere(key)) {
      keys.advance();
      continue;
    }
    const prefix = copyOf(key, 0, rolled);
    visitor.prefix(prefix);
    const low = afterAll(prefix);
    if (low === null || !isBelow(low, high)) return null;
    if (visitor.isFull()) return { ...range, low };
    keys.seek(low, low.length);
  }
  return null;
}

function walkDown(keys: MergedKeys, range: KeyRange, visitor: Visitor): KeyRange | null {
  const { low, high } = range;
  keys.seekBefore(high, high?.length ?? 0);
  while (keys.valid) {
    const { bytes, from, to } = keys.current;
    const key = bytes.subarray(from, to);
    if (isBelow(key, low)) return null;
    if (visitor.isOver()) return { ...range, high: justAfter(key) };
    const outside = range.scopes === null ? 0 : scopeBefore(range.scopes, key);
    if (outside !== 0) {
      if (outside === null) return null;
      keys.seekBefore(outside, outside.length);
      continue;
    }
    const rolled = rollUpBytes(key, range);
    if (rolled < 0) {
      if (visitor.key(key) && visitor.isFull()) return { ...range, high: copyOf(key) };
      keys.advance();
      continue;
    }
    if (!visitor.isThere(key)) {
      keys.advance();
      continue;
    }
    const prefix = copyOf(key, 0, rolled);
    visitor.prefix(prefix);
    if (visitor.isFull()) return { ...range, high: prefix };
    keys.seekBefore(prefix, prefix.length);
  }
  return null;
}

/** 0: a scope has the key. Else where the next one begins; null: there is none. */
export function scopeFrom(scopes: readonly Uint8Array[], key: Uint8Array): Uint8Array | null | 0 {
  for (const scope of scopes) {
    if (beginsWith(key, scope)) return 0;
    if (isBelow(key, scope)) return scope;
  }
  return null;
}

/** 0: a scope has the key. Else what is above all of the one before it; null: there is none. */
export function scopeBefore(scopes: readonly Uint8Array[], key: Uint8Array): Uint8Array | null | 0 {
  for (let i = scopes.length - 1; i >= 0; i--) {
    if (beginsWith(key, scopes[i])) return 0;
    if (isBelow(scopes[i], key)) return afterAll(scopes[i]);
  }
  return null;
}

/** The range of all keys that begin with a prefix. */
export function rangeOf(prefix: Uint8Array, reverse = false, delimiter: Uint8Array | null = null): KeyRange {
  const low = prefix.length === 0 ? NOTHING : copyOf(prefix);
  return { low, high: afterAll(prefix), reverse, delimiter, prefixBytes: prefix.length, scopes: null };
}
