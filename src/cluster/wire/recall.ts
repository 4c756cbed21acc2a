/**
 * At which ballots a replica has taken an operation, as bytes. All numbers are little-endian.
 *
 *   recall   34 1 · 0 3 · epoch 4 · operation 8 · age in ms 4 · node 4 · key
 *   answer   0 1 · flags 1 (known, shown, certain) · count 2, then the ballots; or a refusal of answer-frame.ts
 */

import { bufferOf } from "../../util/bytes.ts";
import { RECORD_KEY_BYTES_MAX } from "../../util/limits.ts";
import type { RecallAnswer, RecallYes } from "../register/ports.ts";
import { decodeRefused } from "./answer-frame.ts";
import { readBallot, writeBallot } from "./frame-parts.ts";

const RECALL = 34;
const REQUEST_BYTES = 24;
const KNOWN_FLAG = 1;
const SHOWN_FLAG = 2;
const CERTAIN_FLAG = 4;
const ANSWER_BYTES = 4;
const BALLOT_BYTES = 16;
/** An operation takes no more rounds than this. */
const BALLOTS_MAX = 64;

export interface RecallRequest {
  epoch: number;
  key: Uint8Array;
  operationLow: number;
  operationHigh: number;
  ageMs: number;
  /** The number in the ballots of who asks. */
  node: number;
}

export function isRecall(bytes: Uint8Array): boolean {
  return bytes.length > 0 && bytes[0] === RECALL;
}

export function encodeRecall({
  epoch,
  key,
  operationLow,
  operationHigh,
  ageMs,
  node,
}: RecallRequest): Buffer {
  const frame = Buffer.alloc(REQUEST_BYTES + key.length);
  frame[0] = RECALL;
  frame.writeUInt32LE(epoch, 4);
  frame.writeUInt32LE(operationLow >>> 0, 8);
  frame.writeUInt32LE(operationHigh >>> 0, 12);
  frame.writeUInt32LE(Math.ceil(ageMs), 16);
  frame.writeUInt32LE(node >>> 0, 20);
  frame.set(key, REQUEST_BYTES);
  return frame;
}

/** Null: it is none. The key is a view of the frame. */
export function decodeRecall(bytes: Uint8Array): RecallRequest | null {
  const frame = bufferOf(bytes);
  const keyBytes = frame.length - REQUEST_BYTES;
  if (keyBytes < 1 || keyBytes > RECORD_KEY_BYTES_MAX || frame[0] !== RECALL) return null;
  return {
    epoch: frame.readUInt32LE(4),
    key: frame.subarray(REQUEST_BYTES),
    operationLow: frame.readUInt32LE(8),
    operationHigh: frame.readUInt32LE(12),
    ageMs: frame.readUInt32LE(16),
    node: frame.readUInt32LE(20),
  };
}

/** A yes. More ballots than an operation can have are as good as nothing known. */
export function encodeRecalled({ known, shown, ballots, certain }: RecallYes): Buffer {
  const told = ballots.length <= BALLOTS_MAX ? ballots : [];
  const frame = Buffer.alloc(ANSWER_BYTES + BALLOT_BYTES * told.length);
  frame[1] =
    (known && told.length === ballots.length ? KNOWN_FLAG : 0) |
    (shown ? SHOWN_FLAG : 0) |
    (certain ? CERTAIN_FLAG : 0);
  frame.writeUInt16LE(told.length, 2);
  told.forEach((ballot, index) => {
    writeBallot(frame, ANSWER_BYTES + index * BALLOT_BYTES, ballot);
  });
  return frame;
}

/** Null: it is no answer. */
export function decodeRecalled(bytes: Uint8Array): RecallAnswer | null {
  const frame = bufferOf(bytes);
  const refused = decodeRefused(frame);
  if (refused !== null) return refused;
  if (frame.length < ANSWER_BYTES || frame[0] !== 0) return null;
  const count = frame.readUInt16LE(2);
  if (count > BALLOTS_MAX || frame.length !== ANSWER_BYTES + count * BALLOT_BYTES) return null;
  const ballots = Array.from({ length: count }, (_, index) =>
    readBallot(frame, ANSWER_BYTES + index * BALLOT_BYTES),
  );
  const [known, shown] = [(frame[1] & KNOWN_FLAG) !== 0, (frame[1] & SHOWN_FLAG) !== 0];
  return { kind: "yes", known, shown, ballots, certain: (frame[1] & CERTAIN_FLAG) !== 0 };
}
