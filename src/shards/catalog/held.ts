/**
 * What a replica holds of keys in order, tombstones included, as bytes: for other nodes. For each key, all
 * little-endian: key length 2 · type length 1 · flags 1 · value bytes 8 · ballot 16 · key · content type.
 */
import type { Ballot } from "../../format/record.ts";
import { CONTENT_TYPE_BYTES_MAX, KEY_BYTES_MAX } from "../../util/limits.ts";

const HEAD_BYTES = 28;
const TOMBSTONE_FLAG = 1;
const JSON_FLAG = 2;

/** Longest such entry. */
export const HELD_BYTES_MAX = HEAD_BYTES + KEY_BYTES_MAX + CONTENT_TYPE_BYTES_MAX;

export interface HeldKey {
  key: Uint8Array;
  ballot: Ballot;
  tombstone: boolean;
  json: boolean;
  /** Empty of JSON and of a tombstone. */
  contentType: string;
  valueBytes: number;
}

export function encodeHeld({ key, ballot, tombstone, json, contentType, valueBytes }: HeldKey): Buffer {
  const type = Buffer.from(contentType);
  // All of it is written below.
  const entry = Buffer.allocUnsafe(HEAD_BYTES + key.length + type.length);
  entry.writeUInt16LE(key.length, 0);
  entry[2] = type.length;
  entry[3] = (tombstone ? TOMBSTONE_FLAG : 0) | (json ? JSON_FLAG : 0);
  entry.writeDoubleLE(valueBytes, 4);
  entry.writeUInt32LE(ballot.clockLow, 12);
  entry.writeUInt32LE(ballot.clockHigh, 16);
  entry.writeUInt32LE(ballot.node, 20);
  entry.writeUInt32LE(ballot.incarnation, 24);
  entry.set(key, HEAD_BYTES);
  entry.set(type, HEAD_BYTES + key.length);
  return entry;
}

/** Reads all entries; keys are views. Null: they are none. */
export function decodeHeld(bytes: Uint8Array): HeldKey[] | null {
  const entries = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const keys: HeldKey[] = [];
  for (let at = 0; at < entries.length; ) {
    if (at + HEAD_BYTES > entries.length) return null;
    const keyBytes = entries.readUInt16LE(at);
    const typeAt = at + HEAD_BYTES + keyBytes;
    const end = typeAt + entries[at + 2];
    const valueBytes = entries.readDoubleLE(at + 4);
    if (keyBytes < 1 || keyBytes > KEY_BYTES_MAX || end > entries.length) return null;
    if (!Number.isSafeInteger(valueBytes) || valueBytes < 0) return null;
    const flags = entries[at + 3];
    keys.push({
      key: bytes.subarray(at + HEAD_BYTES, typeAt),
      ballot: {
        clockLow: entries.readUInt32LE(at + 12),
        clockHigh: entries.readUInt32LE(at + 16),
        node: entries.readUInt32LE(at + 20),
        incarnation: entries.readUInt32LE(at + 24),
      },
      tombstone: (flags & TOMBSTONE_FLAG) !== 0,
      json: (flags & JSON_FLAG) !== 0,
      contentType: entries.toString("utf8", typeAt, end),
      valueBytes,
    });
    at = end;
  }
  return keys;
}
