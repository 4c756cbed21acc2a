/**
 * What a replica holds of keys in order, tombstones included, as bytes: for other nodes. For each key, all
 * little-endian: key length 2 · type length 1 · flags 1 · value bytes 8 · ballot 16 · key · content type ·
 * end 8 (of what ends, or has ended).
 */
import type { Ballot } from "../../format/record.ts";
import { bufferOf } from "../../util/bytes.ts";
import { CONTENT_TYPE_BYTES_MAX, RECORD_KEY_BYTES_MAX } from "../../util/limits.ts";

const HEAD_BYTES = 28;
const TOMBSTONE_FLAG = 1;
const JSON_FLAG = 2;
const ENDED_FLAG = 4;
const ENDING_FLAG = 8;
const END_BYTES = 8;

/** Longest such entry. */
export const HELD_BYTES_MAX = HEAD_BYTES + RECORD_KEY_BYTES_MAX + CONTENT_TYPE_BYTES_MAX + END_BYTES;

export interface HeldKey {
  key: Uint8Array;
  ballot: Ballot;
  tombstone: boolean;
  /** It is one that says that the value of that ballot has ended. */
  ended: boolean;
  /** End of life of the value, or of the one that has ended, in milliseconds since 1970; 0: none. */
  end: number;
  json: boolean;
  /** Empty of JSON and of a tombstone. */
  contentType: string;
  valueBytes: number;
}

export function encodeHeld(held: HeldKey): Buffer {
  const { key, ballot, tombstone, ended, end, json, contentType, valueBytes } = held;
  const type = Buffer.from(contentType);
  const endBytes = end === 0 ? 0 : END_BYTES;
  // All of it is written below.
  const entry = Buffer.allocUnsafe(HEAD_BYTES + key.length + type.length + endBytes);
  entry.writeUInt16LE(key.length, 0);
  entry[2] = type.length;
  entry[3] =
    (tombstone ? TOMBSTONE_FLAG : 0) |
    (json ? JSON_FLAG : 0) |
    (ended ? ENDED_FLAG : 0) |
    (end === 0 ? 0 : ENDING_FLAG);
  entry.writeDoubleLE(valueBytes, 4);
  entry.writeUInt32LE(ballot.clockLow, 12);
  entry.writeUInt32LE(ballot.clockHigh, 16);
  entry.writeUInt32LE(ballot.node, 20);
  entry.writeUInt32LE(ballot.incarnation, 24);
  entry.set(key, HEAD_BYTES);
  entry.set(type, HEAD_BYTES + key.length);
  if (end !== 0) entry.writeDoubleLE(end, entry.length - END_BYTES);
  return entry;
}

/** Reads all entries; keys are views. Null: they are none. */
export function decodeHeld(bytes: Uint8Array): HeldKey[] | null {
  const entries = bufferOf(bytes);
  const keys: HeldKey[] = [];
  for (let at = 0; at < entries.length; ) {
    if (at + HEAD_BYTES > entries.length) return null;
    const keyBytes = entries.readUInt16LE(at);
    const typeAt = at + HEAD_BYTES + keyBytes;
    const typeEnd = typeAt + entries[at + 2];
    const flags = entries[at + 3];
    const next = typeEnd + ((flags & ENDING_FLAG) === 0 ? 0 : END_BYTES);
    const valueBytes = entries.readDoubleLE(at + 4);
    if (keyBytes < 1 || keyBytes > RECORD_KEY_BYTES_MAX || next > entries.length) return null;
    if (!Number.isSafeInteger(valueBytes) || valueBytes < 0) return null;
    const end = next === typeEnd ? 0 : entries.readDoubleLE(typeEnd);
    if (!Number.isSafeInteger(end) || end < 0) return null;
    keys.push({
      key: bytes.subarray(at + HEAD_BYTES, typeAt),
      ballot: {
        clockLow: entries.readUInt32LE(at + 12),
        clockHigh: entries.readUInt32LE(at + 16),
        node: entries.readUInt32LE(at + 20),
        incarnation: entries.readUInt32LE(at + 24),
      },
      tombstone: (flags & TOMBSTONE_FLAG) !== 0,
      ended: (flags & ENDED_FLAG) !== 0,
      end,
      json: (flags & JSON_FLAG) !== 0,
      contentType: entries.toString("utf8", typeAt, typeEnd),
      valueBytes,
    });
    at = next;
  }
  return keys;
}
