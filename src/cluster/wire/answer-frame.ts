/**
 * Answers of a replica as bytes: one is one frame. All numbers are little-endian. How values travel, and what
 * is checked, is as in request-frame.ts.
 *
 *   kind 1 · flags 1 · type length 2 · epoch 4 · ballot 16 · operation 8 · value length 6 · trailer length 2
 *   content type · trailer · value
 *
 * Where something is held that ends, and no value is sent, its end stands in the place of the value's length.
 * Where it has recent operations, they are the trailer.
 */
import { endOf } from "../../format/end.ts";
import { recentOf, withRecent } from "../../format/fields/recent.ts";
import { isTrailer, NO_TRAILER } from "../../format/fields/trailer.ts";
import type { Ballot } from "../../format/record.ts";
import { bufferOf, NOTHING } from "../../util/bytes.ts";
import { JSON_TYPE } from "../../util/header-text.ts";
import { CHUNK_BYTES, VALUE_BYTES_MAX } from "../../util/limits.ts";
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
import { bytesOfType, readBallot, textOfType, writeBallot } from "./frame-parts.ts";
import { inlineValue, isInline, type StoredValue } from "./values.ts";

const ANSWER_BYTES = 40;
/** Latest end that an answer can tell, in ms since 1970: the year 10889. */
const END_MAX = 2 ** 48 - 1;

const TOMBSTONE_FLAG = 1;
const JSON_FLAG = 2;
const ALREADY_FLAG = 4;
const EXISTED_FLAG = 8;
/** Of prepare, look and read: what is held is the mark that a value has ended; it has an end. */
const ENDED_FLAG = 4;
const END_FLAG = 8;
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
/** Of a refusal: the reason is one of those that came later. */
const LATER_FLAG = 64;
const LATER_REASON = 8;
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
  "unprepared",
];

function answerFrame(
  kind: number,
  flags: number,
  type: Uint8Array = NOTHING,
  trailer: Uint8Array = NOTHING,
  value: Uint8Array = NOTHING,
): Buffer {
  const trailerEnd = ANSWER_BYTES + type.length + trailer.length;
  const frame = Buffer.allocUnsafe(trailerEnd + value.length);
  frame.fill(0, 0, ANSWER_BYTES);
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
  const number = REASONS.indexOf(reason);
  const flags = number < LATER_REASON ? number : (number - LATER_REASON) | LATER_FLAG;
  const frame = answerFrame(REFUSED, flags | done);
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
  ended: boolean;
  end: number;
  operationLow: number;
  operationHigh: number;
  value: StoredValue | null;
  recent?: Uint8Array | null;
  floor?: Ballot | null;
}): Buffer {
  const { ballot, value, recent = null, floor = null } = held;
  const inline = value !== null && isInline(value);
  const type = value === null || value.json ? NOTHING : bytesOfType(value.contentType);
  const flags =
    (held.tombstone ? TOMBSTONE_FLAG : 0) |
    (held.ended ? ENDED_FLAG : 0) |
    (held.end === 0 ? 0 : END_FLAG) |
    (ballot === null ? 0 : BALLOT_FLAG) |
    (value === null ? 0 : VALUE_FLAG | (value.json ? JSON_FLAG : 0) | (inline ? 0 : LARGE_FLAG));
  const memory = recent === null ? NO_TRAILER : withRecent(NO_TRAILER, recent);
  const trailer = value === null ? memory : value.trailer;
  const frame = answerFrame(YES, flags, type, trailer, inline ? value.bytes : NOTHING);
  if (ballot !== null) writeBallot(frame, 8, ballot);
  else if (floor !== null) {
    frame[1] |= FLOOR_FLAG;
    writeBallot(frame, 8, floor);
  }
  frame.writeUInt32LE(held.operationLow >>> 0, 24);
  frame.writeUInt32LE(held.operationHigh >>> 0, 28);
  const bytesOrEnd = value === null ? Math.min(held.end, END_MAX) : value.valueBytes;
  frame.writeUInt32LE(bytesOrEnd >>> 0, 32);
  frame.writeUInt16LE(Math.floor(bytesOrEnd / 2 ** 32), 36);
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
      const later = (frame[1] & LATER_FLAG) === 0 ? 0 : LATER_REASON;
      const reason = REASONS[(frame[1] & REASON_MASK) + later];
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

const ballotOf = (frame: Buffer) => ((frame[1] & BALLOT_FLAG) === 0 ? null : readBallot(frame, 8));

/** Reads the answer to an accept. Null: it is none. */
export function decodeAccepted(bytes: Uint8Array): AcceptAnswer | null {
  const frame = bufferOf(bytes);
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
  const frame = bufferOf(bytes);
  const refusal = decodeRefusal(frame);
  if (refusal === undefined) return null;
  const floor = (frame[1] & FLOOR_FLAG) === 0 ? null : readBallot(frame, 8);
  return refusal ?? { kind: "yes", floor, ...heldOf(frame, null) };
}

/** The number of 6 bytes in the place of the value's length. */
const bytesOrEndOf = (frame: Buffer) => frame.readUInt32LE(32) + frame.readUInt16LE(36) * 2 ** 32;

/** @param value what the frame has of it, with its end */
function heldOf(frame: Buffer, value: StoredValue | null): Held {
  const typeEnd = ANSWER_BYTES + frame.readUInt16LE(2);
  const trailer = value?.trailer ?? frame.subarray(typeEnd, typeEnd + frame.readUInt16LE(38));
  const hasEnd = (frame[1] & END_FLAG) !== 0;
  return {
    ballot: ballotOf(frame),
    tombstone: (frame[1] & TOMBSTONE_FLAG) !== 0,
    ended: (frame[1] & ENDED_FLAG) !== 0,
    end: !hasEnd ? 0 : value === null ? bytesOrEndOf(frame) : endOf(value.trailer),
    operationLow: frame.readUInt32LE(24),
    operationHigh: frame.readUInt32LE(28),
    recent: trailer.length === 0 ? null : recentOf(trailer),
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
  const frame = bufferOf(bytes);
  const refusal = decodeRefusal(frame);
  if (refusal === undefined) return null;
  if (refusal !== null) return refusal.kind === "no" ? null : refusal;
  const flags = frame[1];
  const ballot = ballotOf(frame);
  const typeEnd = ANSWER_BYTES + frame.readUInt16LE(2);
  let payload: StoredValue | null = null;
  if ((flags & VALUE_FLAG) !== 0 && ballot !== null) {
    const json = (flags & JSON_FLAG) !== 0;
    const contentType = json ? JSON_TYPE : textOfType(frame, ANSWER_BYTES, typeEnd);
    const valueBytes = bytesOrEndOf(frame);
    const trailerEnd = typeEnd + frame.readUInt16LE(38);
    if (contentType === null || trailerEnd > frame.length || valueBytes > VALUE_BYTES_MAX) return null;
    const trailer = frame.subarray(typeEnd, trailerEnd);
    if (!isTrailer(trailer)) return null;
    const end = endOf(trailer);
    if ((flags & LARGE_FLAG) !== 0) payload = large({ json, contentType, trailer, end, valueBytes }, ballot);
    else if (trailerEnd + valueBytes !== frame.length || valueBytes > CHUNK_BYTES) return null;
    else payload = inlineValue({ json, contentType, trailer }, frame.subarray(trailerEnd));
  }
  return { kind: "yes", ...heldOf(frame, payload), payload };
}
