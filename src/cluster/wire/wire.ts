/**
 * Operations between nodes as bytes: one request is one frame, and so is its answer. All numbers are
 * little-endian.
 *
 *   request   kind 1 · flags 1 · key length 2 · epoch 4 · ballot 16 · operation 8 · type length 2 · trailer length 2 · value length 4
 *             then key, content type, trailer, value
 *   answer    kind 1 · flags 1 · type length 2 · epoch 4 · ballot 16 · operation 8 · value length 6 · trailer length 2
 *             then content type, trailer, value
 *
 * Values of at most CHUNK_BYTES travel in the frame, in stored form (JSON with its `{"value":` and `}`);
 * larger ones as streams of their own, of which the frame only tells kind and length. Every length is checked
 * against the frame's own and against the bound of what it is, a content type is header text and a trailer
 * made of fields, in requests as in answers: the other side may be of another version, or not be one of us,
 * and what passes here is stored as it is. Programs from before there were trailers take a frame with one for
 * none of theirs; none is sent before all members of the cluster know them.
 */
import { isTrailer } from "../../format/fields/trailer.ts";
import type { Ballot } from "../../format/record.ts";
import { areHeaderText } from "../../util/header-text.ts";
import { CHUNK_BYTES, CONTENT_TYPE_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX } from "../../util/limits.ts";
import type {
  AcceptAnswer,
  Held,
  LookAnswer,
  No,
  PrepareAnswer,
  RefusalReason,
  Refused,
  Replaced,
} from "../register/ports.ts";
import { type InlineValue, inlineValue, isInline, type StoredValue } from "./values.ts";

export const PREPARE = 1;
export const ACCEPT = 2;
export const LOOK = 3;
export const READ = 4;
export type RequestKind = typeof PREPARE | typeof ACCEPT | typeof LOOK | typeof READ;

const REQUEST_BYTES = 40;
const ANSWER_BYTES = 40;

const TOMBSTONE_FLAG = 1;
const JSON_FLAG = 2;
/** Request: the value was streamed to the replica before, under the same key and operation. */
const STAGED_FLAG = 4;
/** Request: the record is held by some replica, see Proposal. */
const HELD_FLAG = 8;
/** Request: a promise for a write that may build on what it is told, see ReplicaPort. */
const BUILDS_FLAG = 16;
const ALREADY_FLAG = 4;
const EXISTED_FLAG = 8;
const BALLOT_FLAG = 16;
const VALUE_FLAG = 32;
/** The value is too large for the frame. */
const LARGE_FLAG = 64;
/**
 * A refused accept that was done: ballot and EXISTED_FLAG say what it replaced. The bits below that one are
 * the reason.
 */
const DONE_FLAG = 32;
const REASON_MASK = 7;
/** A promise for an absent key: the ballot is the floor of its partition. */
const FLOOR_FLAG = 128;

const YES = 0;
const NO = 1;
const REFUSED = 2;
const REASONS: readonly RefusalReason[] = [
  "unavailable",
  "not_voting",
  "stale_epoch",
  "behind_epoch",
  "ahead",
  "full",
  "damaged",
  "key_refused",
];

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
  /** prepare: for a conditional write. */
  builds: boolean;
  json: boolean;
  contentType: string;
  trailer: Uint8Array;
  value: Uint8Array;
}

const NO_BALLOT: Ballot = Object.freeze({ clockLow: 0, clockHigh: 0, node: 0, incarnation: 0 });
const NOTHING = new Uint8Array(0);

let typeText = "";
let typeBytes: Uint8Array = NOTHING;

/** The bytes of a content type, which mostly is the one of the last value. */
function bytesOfType(text: string): Uint8Array {
  if (text !== typeText) {
    const bytes = text === "" ? NOTHING : Buffer.from(text);
    // What is kept is what frames are compared with.
    if (bytes.length > CONTENT_TYPE_BYTES_MAX || !areHeaderText(bytes)) return bytes;
    typeBytes = bytes;
    typeText = text;
  }
  return typeBytes;
}

/** A content type in a frame. Null: it is none that a value can have. */
function textOfType(frame: Buffer, start: number, end: number): string | null {
  if (start === end) return "";
  if (end - start === typeBytes.length && frame.compare(typeBytes, 0, typeBytes.length, start, end) === 0)
    return typeText;
  if (end - start > CONTENT_TYPE_BYTES_MAX || !areHeaderText(frame.subarray(start, end))) return null;
  return frame.toString("latin1", start, end);
}

export function writeBallot(frame: Buffer, at: number, ballot: Ballot): void {
  frame.writeUInt32LE(ballot.clockLow >>> 0, at);
  frame.writeUInt32LE(ballot.clockHigh >>> 0, at + 4);
  frame.writeUInt32LE(ballot.node >>> 0, at + 8);
  frame.writeUInt32LE(ballot.incarnation >>> 0, at + 12);
}

export function readBallot(frame: Buffer, at: number): Ballot {
  return {
    clockLow: frame.readUInt32LE(at),
    clockHigh: frame.readUInt32LE(at + 4),
    node: frame.readUInt32LE(at + 8),
    incarnation: frame.readUInt32LE(at + 12),
  };
}

/** A request without a value: prepare, look, read, and an accept of a tombstone or of a staged value. */
export function encodeRequest(request: {
  kind: RequestKind;
  epoch: number;
  key: Uint8Array;
  ballot?: Ballot;
  operationLow?: number;
  operationHigh?: number;
  tombstone?: boolean;
  staged?: boolean;
  held?: boolean | undefined;
  builds?: boolean;
  value?: InlineValue;
}): Buffer {
  const { kind, epoch, key, ballot = NO_BALLOT, value } = request;
  const type = value === undefined || value.json ? NOTHING : bytesOfType(value.contentType);
  const trailer = value === undefined ? NOTHING : value.trailer;
  const bytes = value === undefined ? NOTHING : value.bytes;
  const typeEnd = REQUEST_BYTES + key.length + type.length;
  const frame = Buffer.allocUnsafe(typeEnd + trailer.length + bytes.length);
  frame[0] = kind;
  frame[1] =
    (request.tombstone === true ? TOMBSTONE_FLAG : 0) |
    (value?.json === true ? JSON_FLAG : 0) |
    (request.staged === true ? STAGED_FLAG : 0) |
    (request.held === true ? HELD_FLAG : 0) |
    (request.builds === true ? BUILDS_FLAG : 0);
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
  return frame;
}

/** Reads a request. Null: it is none, or one of a later version. */
export function decodeRequest(bytes: Uint8Array): PeerRequest | null {
  const frame = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (frame.length < REQUEST_BYTES) return null;
  const kind = frame[0];
  const keyEnd = REQUEST_BYTES + frame.readUInt16LE(2);
  const typeEnd = keyEnd + frame.readUInt16LE(32);
  const trailerEnd = typeEnd + frame.readUInt16LE(34);
  if (kind < PREPARE || kind > READ || trailerEnd + frame.readUInt32LE(36) !== frame.length) return null;
  if (keyEnd === REQUEST_BYTES || keyEnd - REQUEST_BYTES > KEY_BYTES_MAX) return null;
  const contentType = textOfType(frame, keyEnd, typeEnd);
  if (contentType === null || frame.length - trailerEnd > CHUNK_BYTES) return null;
  const trailer = frame.subarray(typeEnd, trailerEnd);
  if (!isTrailer(trailer)) return null;
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
    json: (frame[1] & JSON_FLAG) !== 0,
    contentType,
    trailer,
    value: frame.subarray(trailerEnd),
  };
}

function answerFrame(
  kind: number,
  flags: number,
  type: Uint8Array = NOTHING,
  trailer: Uint8Array = NOTHING,
  value: Uint8Array = NOTHING,
): Buffer {
  const trailerEnd = ANSWER_BYTES + type.length + trailer.length;
  const frame = Buffer.alloc(trailerEnd + value.length);
  frame[0] = kind;
  frame[1] = flags;
  frame.writeUInt16LE(type.length, 2);
  frame.set(type, ANSWER_BYTES);
  frame.set(trailer, ANSWER_BYTES + type.length);
  frame.set(value, trailerEnd);
  return frame;
}

export function encodeNo(higher: Ballot): Buffer {
  const frame = answerFrame(NO, BALLOT_FLAG);
  writeBallot(frame, 8, higher);
  return frame;
}

export function encodeRefused(reason: RefusalReason, epoch: number, replaced?: Replaced): Buffer {
  const done = replaced === undefined ? 0 : DONE_FLAG | replacedFlags(replaced);
  const frame = answerFrame(REFUSED, REASONS.indexOf(reason) | done);
  frame.writeUInt32LE(epoch, 4);
  if (replaced?.previous != null) writeBallot(frame, 8, replaced.previous);
  return frame;
}

function replacedFlags({ previous, existed }: Replaced): number {
  return (existed ? EXISTED_FLAG : 0) | (previous === null ? 0 : BALLOT_FLAG);
}

function replacedOf(frame: Buffer): Replaced {
  return { existed: (frame[1] & EXISTED_FLAG) !== 0, previous: ballotOf(frame) };
}

/** A yes to prepare, look or read. */
export function encodeHeld(held: {
  ballot: Ballot | null;
  tombstone: boolean;
  operationLow: number;
  operationHigh: number;
  value: StoredValue | null;
  floor?: Ballot | null;
}): Buffer {
  const { ballot, value, floor = null } = held;
  const inline = value !== null && isInline(value);
  const type = value === null || value.json ? NOTHING : bytesOfType(value.contentType);
  const flags =
    (held.tombstone ? TOMBSTONE_FLAG : 0) |
    (ballot === null ? 0 : BALLOT_FLAG) |
    (value === null ? 0 : VALUE_FLAG | (value.json ? JSON_FLAG : 0) | (inline ? 0 : LARGE_FLAG));
  const trailer = value === null ? NOTHING : value.trailer;
  const frame = answerFrame(YES, flags, type, trailer, inline ? value.bytes : NOTHING);
  if (ballot !== null) writeBallot(frame, 8, ballot);
  else if (floor !== null) {
    frame[1] |= FLOOR_FLAG;
    writeBallot(frame, 8, floor);
  }
  frame.writeUInt32LE(held.operationLow >>> 0, 24);
  frame.writeUInt32LE(held.operationHigh >>> 0, 28);
  const valueBytes = value === null ? 0 : value.valueBytes;
  frame.writeUInt32LE(valueBytes >>> 0, 32);
  frame.writeUInt16LE(Math.floor(valueBytes / 2 ** 32), 36);
  frame.writeUInt16LE(trailer.length, 38);
  return frame;
}

export function encodeAccepted(already: boolean, existed: boolean, previous: Ballot | null): Buffer {
  const flags = (already ? ALREADY_FLAG : 0) | replacedFlags({ previous, existed });
  const frame = answerFrame(YES, flags);
  if (previous !== null) writeBallot(frame, 8, previous);
  return frame;
}

/** An answer as far as it is the same for all requests; null: a yes. Undefined: it is not an answer. */
function decodeRefusal(frame: Buffer): No | Refused | null | undefined {
  if (frame.length < ANSWER_BYTES) return undefined;
  switch (frame[0]) {
    case YES:
      return null;
    case NO:
      return { kind: "no", higher: readBallot(frame, 8) };
    case REFUSED: {
      const reason = REASONS[frame[1] & REASON_MASK];
      if (reason === undefined) return undefined;
      const refused: Refused = { kind: "refused", reason, epoch: frame.readUInt32LE(4) };
      return (frame[1] & DONE_FLAG) === 0 ? refused : { ...refused, replaced: replacedOf(frame) };
    }
    default:
      return undefined;
  }
}

/** A refusal; null: the answer is another one. */
export function decodeRefused(frame: Buffer): Refused | null {
  const refusal = decodeRefusal(frame);
  return refusal?.kind === "refused" ? refusal : null;
}

function frameOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

const ballotOf = (frame: Buffer) => ((frame[1] & BALLOT_FLAG) === 0 ? null : readBallot(frame, 8));

/** Reads the answer to an accept. Null: it is none. */
export function decodeAccepted(bytes: Uint8Array): AcceptAnswer | null {
  const frame = frameOf(bytes);
  const refusal = decodeRefusal(frame);
  if (refusal === undefined) return null;
  return (
    refusal ?? {
      kind: "yes",
      already: (frame[1] & ALREADY_FLAG) !== 0,
      ...replacedOf(frame),
    }
  );
}

/** Reads the answer to a prepare. Null: it is none. */
export function decodePromise(bytes: Uint8Array): PrepareAnswer | null {
  const frame = frameOf(bytes);
  const refusal = decodeRefusal(frame);
  if (refusal === undefined) return null;
  const floor = (frame[1] & FLOOR_FLAG) === 0 ? null : readBallot(frame, 8);
  return refusal ?? { kind: "yes", floor, ...heldOf(frame) };
}

function heldOf(frame: Buffer): Held {
  return {
    ballot: ballotOf(frame),
    tombstone: (frame[1] & TOMBSTONE_FLAG) !== 0,
    operationLow: frame.readUInt32LE(24),
    operationHigh: frame.readUInt32LE(28),
  };
}

/**
 * Reads the answer to a look or read. Null: it is none.
 * @param large makes the payload of a value that did not fit the frame
 */
export function decodeHeld(
  bytes: Uint8Array,
  large: (value: Omit<StoredValue, "tombstone">, ballot: Ballot) => StoredValue | null,
): LookAnswer | null {
  const frame = frameOf(bytes);
  const refusal = decodeRefusal(frame);
  if (refusal === undefined) return null;
  if (refusal !== null) return refusal.kind === "no" ? null : refusal;
  const flags = frame[1];
  const ballot = ballotOf(frame);
  const typeEnd = ANSWER_BYTES + frame.readUInt16LE(2);
  let payload: StoredValue | null = null;
  if ((flags & VALUE_FLAG) !== 0 && ballot !== null) {
    const json = (flags & JSON_FLAG) !== 0;
    const contentType = json ? "application/json" : textOfType(frame, ANSWER_BYTES, typeEnd);
    const valueBytes = frame.readUInt32LE(32) + frame.readUInt16LE(36) * 2 ** 32;
    const trailerEnd = typeEnd + frame.readUInt16LE(38);
    if (contentType === null || trailerEnd > frame.length || valueBytes > VALUE_BYTES_MAX) return null;
    const trailer = frame.subarray(typeEnd, trailerEnd);
    if (!isTrailer(trailer)) return null;
    if ((flags & LARGE_FLAG) !== 0) payload = large({ json, contentType, trailer, valueBytes }, ballot);
    else if (trailerEnd + valueBytes !== frame.length || valueBytes > CHUNK_BYTES) return null;
    else payload = inlineValue({ json, contentType, trailer }, frame.subarray(trailerEnd));
  }
  return { kind: "yes", ...heldOf(frame), payload };
}
