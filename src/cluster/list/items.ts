/** Keys as a list takes them, one by one or rolled up, and where it goes on behind them. Pure. */
import {
  afterAll,
  justAfter,
  type KeyRange,
  rollUpBytes,
  scopeFrom,
} from "../../engine/catalog/runs/listing.ts";
import { copyOf } from "../../util/bytes.ts";
import type { Candidate } from "./merge.ts";

/** Keys that a list takes as one: a key, or all that are rolled up into a prefix. */
export interface Item {
  /** Length of the prefix; -1: it is a key. */
  rolled: number;
  candidates: Candidate[];
}

/**
 * Keys in order, those together that a list rolls up into one prefix; without those that it must not tell.
 */
export function itemsOf(candidates: readonly Candidate[], range: KeyRange): Item[] {
  const { scopes } = range;
  const items: Item[] = [];
  for (const candidate of candidates) {
    const { key } = candidate;
    if (scopes !== null && scopeFrom(scopes, key) !== 0) continue;
    const rolled = rollUpBytes(key, range);
    const last = items.at(-1);
    const isSame =
      rolled >= 0 && last?.rolled === rolled && isRolled(key, last.candidates[0].key.subarray(0, rolled));
    if (isSame) last.candidates.push(candidate);
    else items.push({ rolled, candidates: [candidate] });
  }
  return items;
}

/** Where a list goes on behind a key, or behind all that begin with a prefix. */
export function behind(
  key: Uint8Array,
  isPrefix: boolean,
  reverse: boolean,
): { low: Uint8Array } | { high: Uint8Array } {
  // In memory of its own: it is copied to other threads.
  if (reverse) return { high: copyOf(key) };
  return { low: isPrefix ? endOf(key) : justAfter(key) };
}

/** The rest of a range, from the first of its keys on that begins with a prefix. */
export function within(range: KeyRange, prefix: Uint8Array): KeyRange {
  const { low, high } = range;
  if (!range.reverse) return { ...range, low: Buffer.compare(low, prefix) < 0 ? prefix : low };
  const end = endOf(prefix);
  return { ...range, high: high === null || Buffer.compare(high, end) > 0 ? end : high };
}

/** What is above all that begin with a prefix. */
export function endOf(prefix: Uint8Array): Uint8Array {
  // Keys are UTF-8: there is always such a text.
  return afterAll(prefix) as Uint8Array;
}

export function isRolled(key: Uint8Array, prefix: Uint8Array): boolean {
  if (key.length < prefix.length) return false;
  for (let at = 0; at < prefix.length; at++) if (key[at] !== prefix[at]) return false;
  return true;
}
