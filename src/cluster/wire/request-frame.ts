/**
 * Questions to a replica as bytes: one is one frame. All numbers are little-endian.
 *
 *   kind 1 · flags 1 · key length 2 · epoch 4 · ballot 16 · operation 8
 *   type length 2 · trailer length 2 · value length 4
 *   key · content type · trailer · value · in some a base, 16 · in some a time, 8
 *
 * The time is what replicas judge by whether what they replace had ended (Proposal). The base is the ballot
 * of a value that the replica is to hold from now on under the request's ballot and with its trailer, if it
 * holds that very one. Of the mark that a value has ended the trailer has the end. Marks and tombstones have
 * fields, too: what they remember of recent operations.
 *
 * Values of at most CHUNK_BYTES travel in the frame, in stored form (JSON with its `{"value":` and `}`);
 * larger ones as streams of their own, of which the frame only tells kind and length. Every length is checked
 * against the frame's own and against the bound of what it is, a content type is header text and a trailer
 * made of fields, in requests as in answers: the other side may be of another version, or not be one of us,
 * and what passes here is stored as it is. Programs from before there were trailers take a frame with one for
 * none of theirs; none is sent before all members of the cluster know them. The same goes for all of ends.
 */
import { endOf } from "../../format/end.ts";
import { isTrailer, NO_TRAILER } from "../../format/fields/trailer.ts";
import type { Ballot } from "../../format/record.ts";
import { bufferOf, NOTHING } from "../../util/bytes.ts";
import { CHUNK_BYTES, RECORD_KEY_BYTES_MAX } from "../../util/limits.ts";
import type { Proposal } from "../register/ports.ts";
import { bytesOfType, readBallot, textOfType, writeBallot } from "./frame-parts.ts";
import type { InlineValue } from "./values.ts";

export const PREPARE = 1;
export const ACCEPT = 2;
export const LOOK = 3;
export const READ = 4;
export type RequestKind = typeof PREPARE | typeof ACCEPT | typeof LOOK | typeof READ;

const REQUEST_BYTES = 40;

const TOMBSTONE_FLAG = 1;
const JSON_FLAG = 2;
/** The value was streamed to the replica before, under the same key and operation. */
const STAGED_FLAG = 4;
/** The record is held by some replica, see Proposal. */
const HELD_FLAG = 8;
/** A promise for a write that may build on what it is told, see ReplicaPort. */
const BUILDS_FLAG = 16;
/** The mark that a value has ended; with TOMBSTONE_FLAG. */
const MARK_FLAG = 32;
/** The last 8 bytes are a time. */
const TIME_FLAG = 64;
/** The last 16 bytes are the ballot of the value that is to be written again. */
const BASE_FLAG = 128;
const TIME_BYTES = 8;
const BASE_BYTES = 16;

/** A request, as `decodeRequest` gives it: arrays are views of the frame. */
export interface PeerRequest {
  kind: RequestKind;
  epoch: number;
  key: Uint8Array;
  /** prepare, accept. */
  ballot: Ballot;
  operationLow: number;
  operationHigh: number;
  tombstone: boolean;
  /** accept: the value has been streamed before. */
  staged: boolean;
  /** accept: some replica holds it already. */
  held: boolean;
  /** prepare: for a conditional write of an older program, which may build on what is not decided. */
  builds: boolean;
  /** accept: the mark that a value has ended; its end stands in the trailer. */
  ended: boolean;
  /** accept: the time by which is judged whether what is replaced had ended; 0: none. */
  atMillis: number;
  /** accept: the value that is to be written again; null: the value is another one. */
  base: Ballot | null;
  json: boolean;
  contentType: string;
  trailer: Uint8Array;
  value: Uint8Array;
}

const NO_BALLOT: Ballot = Object.freeze({ clockLow: 0, clockHigh: 0, node: 0, incarnation: 0 });

/** What is asked, before it is a frame. */
export interface RequestParts {
  kind: RequestKind;
  epoch: number;
  key: Uint8Array;
  ballot?: Ballot | undefined;
  operationLow?: number;
  operationHigh?: number;
  tombstone?: boolean;
  staged?: boolean;
  held?: boolean | undefined;
  value?: InlineValue;
  /** The mark that a value has ended; its end stands in the trailer. */
  ended?: boolean;
  /** Of what is no value: fields of its record. */
  trailer?: Uint8Array;
  atMillis?: number | undefined;
  base?: Ballot;
}

/** An accept, to which what is to be held is still to be added. */
export function acceptOf(
  epoch: number,
  key: Uint8Array,
  { ballot, operationLow, operationHigh, held, atMillis }: Omit<Proposal, "payload">,
): RequestParts {
  return { kind: ACCEPT, epoch, key, ballot, operationLow, operationHigh, held, atMillis };
}

/** A request without a value: prepare, look, read, and an accept of a tombstone or of a staged value. */
export function encodeRequest(request: RequestParts): Buffer {
  const { kind, epoch, key, ballot = NO_BALLOT, value, ended = false, atMillis = 0, base } = request;
  const type = value === undefined || value.json ? NOTHING : bytesOfType(value.contentType);
  const trailer = value !== undefined ? value.trailer : (request.trailer ?? NO_TRAILER);
  const bytes = value === undefined ? NOTHING : value.bytes;
  const typeEnd = REQUEST_BYTES + key.length + type.length;
  const valueEnd = typeEnd + trailer.length + bytes.length;
  const frame = Buffer.allocUnsafe(
    valueEnd + (atMillis === 0 ? 0 : TIME_BYTES) + (base === undefined ? 0 : BASE_BYTES),
  );
  frame[0] = kind;
  frame[1] =
    (request.tombstone === true ? TOMBSTONE_FLAG : 0) |
    (value?.json === true ? JSON_FLAG : 0) |
    (request.staged === true ? STAGED_FLAG : 0) |
    (request.held === true ? HELD_FLAG : 0) |
    (ended ? TOMBSTONE_FLAG | MARK_FLAG : 0) |
    (atMillis === 0 ? 0 : TIME_FLAG) |
    (base === undefined ? 0 : BASE_FLAG);
  frame.writeUInt16LE(key.length, 2);
  frame.writeUInt32LE(epoch, 4);
  writeBallot(frame, 8, ballot);
  frame.writeUInt32LE((request.operationLow ?? 0) >>> 0, 24);
  frame.writeUInt32LE((request.operationHigh ?? 0) >>> 0, 28);
  frame.writeUInt16LE(type.length, 32);
  frame.writeUInt16LE(trailer.length, 34);
  frame.writeUInt32LE(bytes.length, 36);
  frame.set(key, REQUEST_BYTES);
  frame.set(type, REQUEST_BYTES + key.length);
  if (trailer.length > 0) frame.set(trailer, typeEnd);
  frame.set(bytes, typeEnd + trailer.length);
  if (base !== undefined) writeBallot(frame, valueEnd, base);
  if (atMillis !== 0) frame.writeDoubleLE(atMillis, frame.length - TIME_BYTES);
  return frame;
}

/** Reads a request. Null: it is none, or one of a later version. */
export function decodeRequest(bytes: Uint8Array): PeerRequest | null {
  const frame = bufferOf(bytes);
  if (frame.length < REQUEST_BYTES) return null;
  const kind = frame[0];
  const keyEnd = REQUEST_BYTES + frame.readUInt16LE(2);
  const typeEnd = keyEnd + frame.readUInt16LE(32);
  const trailerEnd = typeEnd + frame.readUInt16LE(34);
  const valueEnd = trailerEnd + frame.readUInt32LE(36);
  const baseBytes = (frame[1] & BASE_FLAG) === 0 ? 0 : BASE_BYTES;
  const timeBytes = (frame[1] & TIME_FLAG) === 0 ? 0 : TIME_BYTES;
  if (kind < PREPARE || kind > READ || valueEnd + baseBytes + timeBytes !== frame.length) return null;
  if (keyEnd === REQUEST_BYTES || keyEnd - REQUEST_BYTES > RECORD_KEY_BYTES_MAX) return null;
  const contentType = textOfType(frame, keyEnd, typeEnd);
  if (contentType === null || valueEnd - trailerEnd > CHUNK_BYTES) return null;
  const trailer = frame.subarray(typeEnd, trailerEnd);
  if (!isTrailer(trailer)) return null;
  const ended = (frame[1] & MARK_FLAG) !== 0;
  const atMillis = timeBytes === 0 ? 0 : frame.readDoubleLE(frame.length - TIME_BYTES);
  if (ended && ((frame[1] & TOMBSTONE_FLAG) === 0 || endOf(trailer) === 0)) return null;
  if (!Number.isSafeInteger(atMillis) || atMillis < 0) return null;
  return {
    kind: kind as RequestKind,
    epoch: frame.readUInt32LE(4),
    key: frame.subarray(REQUEST_BYTES, keyEnd),
    ballot: readBallot(frame, 8),
    operationLow: frame.readUInt32LE(24),
    operationHigh: frame.readUInt32LE(28),
    tombstone: (frame[1] & TOMBSTONE_FLAG) !== 0,
    staged: (frame[1] & STAGED_FLAG) !== 0,
    held: (frame[1] & HELD_FLAG) !== 0,
    builds: (frame[1] & BUILDS_FLAG) !== 0,
    ended,
    atMillis,
    base: baseBytes === 0 ? null : readBallot(frame, valueEnd),
    json: (frame[1] & JSON_FLAG) !== 0,
    contentType,
    trailer,
    value: frame.subarray(trailerEnd, valueEnd),
  };
}
