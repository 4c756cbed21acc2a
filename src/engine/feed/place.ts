/**
 * A place in the logs of a store, as clients get it: up to where changes have been told. FORMAT.md, "FEED",
 * has the bytes. Pure.
 */
import { hash32 } from "../../util/hash.ts";

/** How far the log of one shard was followed. */
export interface ShardPlace {
  sequence: number;
  unit: number;
  /**
   * Copies of what was first appended in this sequence, or later, are still to be told. At most `sequence`:
   * lower while what was before the place is being caught up with.
   */
  base: number;
}

export interface FeedPlace {
  /** Of the start that gave it. */
  incarnation: number;
  /** When it was given: milliseconds since 1970. */
  ms: number;
  /** One for each shard. */
  shards: readonly ShardPlace[];
}

const FORM = 1;
/** Form, checksum, store, incarnation, time. */
const HEAD_BYTES = 21;
const CHECKSUM_AT = 1;
const CHECKED_FROM = 5;
const AT = { store: 5, incarnation: 9, ms: 13 } as const;
/** Longest number: 32 bits, 7 a byte. */
const NUMBER_BYTES_MAX = 5;
const LOWER = 0x7f;
const MORE = 0x80;

/** @param id0 first word of the store's id */
export function encodePlace(id0: number, { incarnation, ms, shards }: FeedPlace): string {
  const bytes = Buffer.alloc(HEAD_BYTES + shards.length * 3 * NUMBER_BYTES_MAX);
  bytes[0] = FORM;
  bytes.writeInt32LE(id0 | 0, AT.store);
  bytes.writeUInt32LE(incarnation, AT.incarnation);
  bytes.writeDoubleLE(ms, AT.ms);
  let at = HEAD_BYTES;
  const put = (value: number): void => {
    let rest = value;
    for (; rest > LOWER; rest = Math.floor(rest / MORE)) bytes[at++] = (rest & LOWER) | MORE;
    bytes[at++] = rest;
  };
  for (const { sequence, unit, base } of shards) {
    put(sequence);
    put(unit);
    put(sequence - base);
  }
  bytes.writeInt32LE(hash32(bytes.subarray(CHECKED_FROM, at), 0), CHECKSUM_AT);
  return bytes.toString("base64url", 0, at);
}

/** Longest text of a place, of a store with so many shards. */
function placeCharactersMax(shards: number): number {
  return Math.ceil(((HEAD_BYTES + shards * 3 * NUMBER_BYTES_MAX) * 4) / 3);
}

/** The place in a text. Null: it is none. "foreign": it is one of another store. */
export function decodePlace(text: string, id0: number, shards: number): FeedPlace | "foreign" | null {
  if (!/^[\w-]+$/.test(text) || text.length > placeCharactersMax(256)) return null;
  const bytes = Buffer.from(text, "base64url");
  if (bytes.length < HEAD_BYTES || bytes[0] !== FORM) return null;
  if (bytes.readInt32LE(CHECKSUM_AT) !== hash32(bytes.subarray(CHECKED_FROM), 0)) return null;
  if (bytes.readInt32LE(AT.store) !== (id0 | 0)) return "foreign";
  const numbers: number[] = [];
  for (let at = HEAD_BYTES; at < bytes.length; ) {
    let value = 0;
    let weight = 1;
    for (let more = true; more; weight *= MORE) {
      if (at >= bytes.length || weight >= 2 ** 35) return null;
      more = bytes[at] > LOWER;
      value += (bytes[at++] & LOWER) * weight;
    }
    numbers.push(value);
  }
  if (numbers.length !== 3 * shards) return "foreign";
  return {
    incarnation: bytes.readUInt32LE(AT.incarnation),
    ms: bytes.readDoubleLE(AT.ms),
    shards: Array.from({ length: shards }, (_, shard) => {
      const [sequence, unit, behind] = numbers.slice(shard * 3, shard * 3 + 3);
      return { sequence, unit, base: Math.max(0, sequence - behind) };
    }),
  };
}
