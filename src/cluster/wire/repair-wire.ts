/**
 * What nodes ask each other for repair, as bytes (the first byte tells these frames from those of
 * request-frame.ts). All numbers are little-endian.
 *
 *   scan     16 1 · 0 1 · partition 2 · epoch 4 · cursor 8 · limit 4 · leaves 4
 *   digests  17 1 · 0 1 · first partition 2 · epoch 4 · count 2 · 0 2
 *   confirm  18 1 · flags 1 (ended) · 0 2 · epoch 4 · ballot 16 · key
 *   collect  19 1 · as confirm
 *
 *   scanned  0 1 · flags 1 · count 2 · damaged 4 · next cursor 8 (-1: the end) · floor 16, then for each key:
 *            key length 2 · flags 1 · 0 1 · operation 8 · ballot 16 · promise 16 · value bytes 8 · key
 *            (of a mark that a value has ended its end of life in the place of the value's bytes)
 *   digests  0 1 · 0 1 · count 2, then for each partition: flags 1 · 0 3 · floor 16 · digest, of as many words
 *            as the layout of that epoch has for each of its partitions (src/rules/digest.ts)
 *   yes      0 1
 *   refused  2 1
 */

import type { Ballot } from "../../format/record.ts";
import type { ScannedKey } from "../../shards/housekeeping/partition-scan.ts";
import { bufferOf } from "../../util/bytes.ts";
import { PARTITIONS_MAX } from "../../util/hash-prefix.ts";
import { RECORD_KEY_BYTES_MAX, VALUE_BYTES_MAX } from "../../util/limits.ts";
import { readBallot, writeBallot } from "./frame-parts.ts";

const SCAN = 16;
const DIGESTS = 17;
const CONFIRM = 18;
const COLLECT = 19;

/** Keys of one answer; with the longest keys it still fits a frame. */
export const SCAN_KEYS_MAX = 512;
/** Answers that tell of all partitions of a layout. */
const DIGEST_ANSWERS = 16;
export const ALL_LEAVES = 0xffff;

const SCAN_BYTES = 24;
const DIGESTS_BYTES = 12;
const CONFIRM_BYTES = 24;
const SCANNED_BYTES = 32;
const SCANNED_KEY_BYTES = 52;
const DIGEST_HEAD_BYTES = 20;

const FLOOR_FLAG = 1;
const READY_FLAG = 2;
const VOTES_FLAG = 4;
const BUSY_FLAG = 8;
const RECORD_FLAG = 1;
const TOMBSTONE_FLAG = 2;
const PROMISED_FLAG = 4;
const ENDED_FLAG = 8;
const REMEMBERS_FLAG = 16;
/** Of confirm and collect. */
const MARK_FLAG = 1;

const YES = 0;
const REFUSED = 2;

export type RepairRequest =
  | { kind: "scan"; epoch: number; partition: number; cursor: number; limit: number; leaves: number }
  | { kind: "digests"; epoch: number; partition: number; count: number }
  | { kind: "confirm" | "collect"; epoch: number; ballot: Ballot; ended: boolean; key: Uint8Array };

/** A step of reading a partition of another node through. */
export interface ScanAnswer {
  keys: ScannedKey[];
  next: number;
  damaged: number;
  floor: Ballot | null;
  /** That node serves clients: whoever asks should take its time. */
  busy: boolean;
}

export interface PartitionDigest {
  /** Whether that node votes for the partition; otherwise the rest says nothing. */
  votes: boolean;
  floor: Ballot | null;
  /** null: that node does not know yet. */
  digest: Int32Array | null;
}

/** Partitions of one answer, in a layout of so many. */
export function digestPartitionsMax(partitions: number): number {
  return partitions / DIGEST_ANSWERS;
}

export function isRepairFrame(bytes: Uint8Array): boolean {
  return bytes.length > 0 && bytes[0] >= SCAN && bytes[0] <= COLLECT;
}

export function encodeRepair(request: RepairRequest): Buffer {
  const length =
    request.kind === "scan"
      ? SCAN_BYTES
      : request.kind === "digests"
        ? DIGESTS_BYTES
        : CONFIRM_BYTES + request.key.length;
  const frame = Buffer.alloc(length);
  frame.writeUInt32LE(request.epoch, 4);
  switch (request.kind) {
    case "scan":
      frame[0] = SCAN;
      frame.writeUInt16LE(request.partition, 2);
      frame.writeDoubleLE(request.cursor, 8);
      frame.writeUInt32LE(request.limit, 16);
      frame.writeUInt32LE(request.leaves, 20);
      break;
    case "digests":
      frame[0] = DIGESTS;
      frame.writeUInt16LE(request.partition, 2);
      frame.writeUInt16LE(request.count, 8);
      break;
    default:
      frame[0] = request.kind === "confirm" ? CONFIRM : COLLECT;
      frame[1] = request.ended ? MARK_FLAG : 0;
      writeBallot(frame, 8, request.ballot);
      frame.set(request.key, CONFIRM_BYTES);
  }
  return frame;
}

/** Reads a request. Null: it is none. Views of the frame. */
export function decodeRepair(bytes: Uint8Array): RepairRequest | null {
  const frame = bufferOf(bytes);
  if (frame.length < DIGESTS_BYTES) return null;
  const epoch = frame.readUInt32LE(4);
  const partition = frame.readUInt16LE(2);
  switch (frame[0]) {
    case SCAN: {
      if (frame.length !== SCAN_BYTES) return null;
      const cursor = frame.readDoubleLE(8);
      const limit = frame.readUInt32LE(16);
      if (!Number.isSafeInteger(cursor) || cursor < 0 || limit < 1 || limit > SCAN_KEYS_MAX) return null;
      return { kind: "scan", epoch, partition, cursor, limit, leaves: frame.readUInt32LE(20) };
    }
    case DIGESTS: {
      const count = frame.readUInt16LE(8);
      if (count < 1 || count > digestPartitionsMax(PARTITIONS_MAX)) return null;
      if (partition + count > PARTITIONS_MAX) return null;
      return { kind: "digests", epoch, partition, count };
    }
    case CONFIRM:
    case COLLECT: {
      const keyBytes = frame.length - CONFIRM_BYTES;
      if (keyBytes < 1 || keyBytes > RECORD_KEY_BYTES_MAX) return null;
      const kind = frame[0] === CONFIRM ? "confirm" : "collect";
      const ended = (frame[1] & MARK_FLAG) !== 0;
      return { kind, epoch, ballot: readBallot(frame, 8), ended, key: frame.subarray(CONFIRM_BYTES) };
    }
    default:
      return null;
  }
}

export function encodeYes(): Buffer {
  return Buffer.of(YES);
}

export function encodeNotNow(): Buffer {
  return Buffer.of(REFUSED);
}

export function isYes(bytes: Uint8Array): boolean {
  return bytes.length > 0 && bytes[0] === YES;
}

export function encodeScanned({ keys, next, damaged, floor, busy }: ScanAnswer): Buffer {
  const length = keys.reduce((sum, { key }) => sum + SCANNED_KEY_BYTES + key.length, SCANNED_BYTES);
  const frame = Buffer.alloc(length);
  frame[1] = (floor === null ? 0 : FLOOR_FLAG) | (busy ? BUSY_FLAG : 0);
  frame.writeUInt16LE(keys.length, 2);
  frame.writeUInt32LE(damaged, 4);
  frame.writeDoubleLE(next, 8);
  if (floor !== null) writeBallot(frame, 16, floor);
  let at = SCANNED_BYTES;
  for (const scanned of keys) {
    const { key, ballot, tombstone, ended, end, operationLow, operationHigh, valueBytes, promised } = scanned;
    frame.writeUInt16LE(key.length, at);
    frame[at + 2] =
      (ballot === null ? 0 : RECORD_FLAG) |
      (tombstone ? TOMBSTONE_FLAG : 0) |
      (ended ? ENDED_FLAG : 0) |
      (scanned.remembers ? REMEMBERS_FLAG : 0) |
      (promised === null ? 0 : PROMISED_FLAG);
    frame.writeUInt32LE(operationLow >>> 0, at + 4);
    frame.writeUInt32LE(operationHigh >>> 0, at + 8);
    if (ballot !== null) writeBallot(frame, at + 12, ballot);
    if (promised !== null) writeBallot(frame, at + 28, promised);
    frame.writeDoubleLE(ended ? end : valueBytes, at + 44);
    frame.set(key, at + SCANNED_KEY_BYTES);
    at += SCANNED_KEY_BYTES + key.length;
  }
  return frame;
}

/** Reads the answer to a scan; keys are copies. Null: refused, or none. */
export function decodeScanned(bytes: Uint8Array): ScanAnswer | null {
  const frame = bufferOf(bytes);
  if (frame.length < SCANNED_BYTES || frame[0] !== YES) return null;
  const count = frame.readUInt16LE(2);
  const next = frame.readDoubleLE(8);
  if (count > SCAN_KEYS_MAX || !Number.isSafeInteger(next) || next < -1) return null;
  const keys: ScannedKey[] = [];
  let at = SCANNED_BYTES;
  for (let index = 0; index < count; index++) {
    if (at + SCANNED_KEY_BYTES > frame.length) return null;
    const keyBytes = frame.readUInt16LE(at);
    const end = at + SCANNED_KEY_BYTES + keyBytes;
    const bytesOrEnd = frame.readDoubleLE(at + 44);
    if (end > frame.length || keyBytes < 1 || keyBytes > RECORD_KEY_BYTES_MAX) return null;
    const flags = frame[at + 2];
    const ended = (flags & ENDED_FLAG) !== 0;
    if (!Number.isSafeInteger(bytesOrEnd) || bytesOrEnd < 0) return null;
    if (!ended && bytesOrEnd > VALUE_BYTES_MAX) return null;
    keys.push({
      key: Uint8Array.from(frame.subarray(at + SCANNED_KEY_BYTES, end)),
      ballot: (flags & RECORD_FLAG) === 0 ? null : readBallot(frame, at + 12),
      tombstone: (flags & TOMBSTONE_FLAG) !== 0,
      remembers: (flags & REMEMBERS_FLAG) !== 0,
      ended,
      end: ended ? bytesOrEnd : 0,
      operationLow: frame.readUInt32LE(at + 4),
      operationHigh: frame.readUInt32LE(at + 8),
      valueBytes: ended ? 0 : bytesOrEnd,
      promised: (flags & PROMISED_FLAG) === 0 ? null : readBallot(frame, at + 28),
    });
    at = end;
  }
  const floor = (frame[1] & FLOOR_FLAG) === 0 ? null : readBallot(frame, 16);
  const busy = (frame[1] & BUSY_FLAG) !== 0;
  return at !== frame.length ? null : { keys, next, damaged: frame.readUInt32LE(4), floor, busy };
}

/** @param words of the digest of a partition */
export function encodeDigests(partitions: readonly PartitionDigest[], words: number): Buffer {
  const entryBytes = DIGEST_HEAD_BYTES + words * 4;
  const frame = Buffer.alloc(4 + partitions.length * entryBytes);
  frame.writeUInt16LE(partitions.length, 2);
  partitions.forEach(({ votes, floor, digest }, index) => {
    const at = 4 + index * entryBytes;
    frame[at] =
      (votes ? VOTES_FLAG : 0) | (floor === null ? 0 : FLOOR_FLAG) | (digest === null ? 0 : READY_FLAG);
    if (floor !== null) writeBallot(frame, at + 4, floor);
    digest?.forEach((word, number) => {
      frame.writeInt32LE(word, at + DIGEST_HEAD_BYTES + number * 4);
    });
  });
  return frame;
}

/** Reads the answer to `digests`. Null: refused, or none. */
export function decodeDigests(bytes: Uint8Array, count: number, words: number): PartitionDigest[] | null {
  const frame = bufferOf(bytes);
  const entryBytes = DIGEST_HEAD_BYTES + words * 4;
  if (frame.length !== 4 + count * entryBytes || frame[0] !== YES) return null;
  return Array.from({ length: count }, (_, index) => {
    const at = 4 + index * entryBytes;
    const digest =
      (frame[at] & READY_FLAG) === 0
        ? null
        : Int32Array.from({ length: words }, (_word, number) =>
            frame.readInt32LE(at + DIGEST_HEAD_BYTES + number * 4),
          );
    const floor = (frame[at] & FLOOR_FLAG) === 0 ? null : readBallot(frame, at + 4);
    return { votes: (frame[at] & VOTES_FLAG) !== 0, floor, digest };
  });
}
