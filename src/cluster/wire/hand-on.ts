/**
 * A client's write that one coordinator hands on to another, as bytes. All numbers are little-endian.
 *
 *   hand-on   32 1 · flags 1 · If-Match length 2 · If-None-Match length 2 · versions less one 2, then both texts and an accept of request-frame.ts: its epoch and ballot are the write's bound; epoch 0: it has none
 *   answer    outcome 1 · flags 1 · replicas 1 · reason 1 · version 16, then, of one that was known by its Idempotency-Key, what it was answered
 */

import { TOLD_BYTES_MAX } from "../../format/fields/recent.ts";
import { bufferOf } from "../../util/bytes.ts";
import { CONDITION_BYTES_MAX } from "../../util/limits.ts";
import type { RefusalReason } from "../register/ports.ts";
import type { RegisterResult } from "../register/requests.ts";
import { readBallot, writeBallot } from "./frame-parts.ts";
import { ACCEPT, decodeRequest, type PeerRequest } from "./request-frame.ts";

const HAND_ON = 32;
const HEAD_BYTES = 8;
const ANSWER_BYTES = 20;
const CREATE_FLAG = 1;
const KEEP_FLAG = 2;
const TOUCH_FLAG = 4;

const EXISTED_FLAG = 1;
const EXISTS_FLAG = 2;
const CERTAIN_FLAG = 4;
const VERSION_FLAG = 8;
const REPLAYED_FLAG = 16;
/** Others write the key, too. */
const RACED_FLAG = 32;

const OUTCOMES: readonly RegisterResult["outcome"][] = [
  ...(["done", "exists", "precondition_failed"] as const),
  ...(["no_quorum", "unknown_outcome", "overloaded", "not_found"] as const),
  ...(["key_reused", "unremembered"] as const),
];
const REASONS: readonly (RefusalReason | null)[] = [
  ...([null, "unavailable", "not_voting", "stale_epoch"] as const),
  ...(["behind_epoch", "ahead", "full", "damaged", "key_refused", "unprepared"] as const),
];

/** What a write asks of what is there, and for how many it stands. */
export interface Terms {
  /** It only creates. */
  readonly create: boolean;
  /** The end of life is that of the value that is there (keep); or: only the end of that value changes. */
  readonly life: "own" | "keep" | "touch";
  /** The headers' texts; empty: none. */
  readonly ifMatch: string;
  readonly ifNoneMatch: string;
  /** For so many writes it stands, each of which gets a version of its own. */
  readonly versions: number;
}

export function isHandOn(bytes: Uint8Array): boolean {
  return bytes.length > 0 && bytes[0] === HAND_ON;
}

/** @param accept the write as an accept frame, with its bound */
export function encodeHandOn(terms: Terms, accept: Uint8Array): Buffer {
  const { create, life, ifMatch, ifNoneMatch, versions } = terms;
  const match = Buffer.from(ifMatch);
  const noneMatch = Buffer.from(ifNoneMatch);
  const head = Buffer.alloc(HEAD_BYTES);
  head[0] = HAND_ON;
  head[1] = (create ? CREATE_FLAG : 0) | (life === "keep" ? KEEP_FLAG : life === "touch" ? TOUCH_FLAG : 0);
  head.writeUInt16LE(match.length, 2);
  head.writeUInt16LE(noneMatch.length, 4);
  head.writeUInt16LE(versions - 1, 6);
  return Buffer.concat([head, match, noneMatch, accept]);
}

/** Null: it is none. The request has views of the frame. */
export function decodeHandOn(bytes: Uint8Array): { terms: Terms; request: PeerRequest } | null {
  const frame = bufferOf(bytes);
  if (frame.length < HEAD_BYTES || frame[0] !== HAND_ON) return null;
  const [matchBytes, noneMatchBytes] = [frame.readUInt16LE(2), frame.readUInt16LE(4)];
  if (matchBytes > CONDITION_BYTES_MAX || noneMatchBytes > CONDITION_BYTES_MAX) return null;
  const matchEnd = HEAD_BYTES + matchBytes;
  const textsEnd = matchEnd + noneMatchBytes;
  if (textsEnd > frame.length) return null;
  const request = decodeRequest(frame.subarray(textsEnd));
  if (request === null || request.kind !== ACCEPT || request.staged) return null;
  const ifMatch = frame.toString("utf8", HEAD_BYTES, matchEnd);
  const ifNoneMatch = frame.toString("utf8", matchEnd, textsEnd);
  const create = (frame[1] & CREATE_FLAG) !== 0;
  const life = (frame[1] & TOUCH_FLAG) !== 0 ? "touch" : (frame[1] & KEEP_FLAG) !== 0 ? "keep" : "own";
  const versions = frame.readUInt16LE(6) + 1;
  return { terms: { create, life, ifMatch, ifNoneMatch, versions }, request };
}

export function encodeWritten(result: RegisterResult): Buffer {
  const { replayed = null } = result;
  const frame = Buffer.alloc(ANSWER_BYTES + (replayed?.length ?? 0));
  if (replayed !== null) frame.set(replayed, ANSWER_BYTES);
  frame[0] = OUTCOMES.indexOf(result.outcome);
  frame[1] =
    (result.existed ? EXISTED_FLAG : 0) |
    (result.exists ? EXISTS_FLAG : 0) |
    (result.certain ? CERTAIN_FLAG : 0) |
    (result.ballot === null ? 0 : VERSION_FLAG) |
    (replayed === null ? 0 : REPLAYED_FLAG) |
    (result.raced ? RACED_FLAG : 0);
  frame[2] = result.replicas;
  frame[3] = REASONS.indexOf(result.reason);
  if (result.ballot !== null) writeBallot(frame, 4, result.ballot);
  return frame;
}

/** Null: it is no answer. */
export function decodeWritten(bytes: Uint8Array): RegisterResult | null {
  const frame = bufferOf(bytes);
  if (frame.length < ANSWER_BYTES) return null;
  const [outcome, flags] = [OUTCOMES[frame[0]], frame[1]];
  const isReplayed = (flags & REPLAYED_FLAG) !== 0;
  if (outcome === undefined || frame.length > ANSWER_BYTES + (isReplayed ? TOLD_BYTES_MAX : 0)) return null;
  return {
    outcome,
    ballot: (flags & VERSION_FLAG) === 0 ? null : readBallot(frame, 4),
    previous: null,
    exists: (flags & EXISTS_FLAG) !== 0,
    end: 0,
    existed: (flags & EXISTED_FLAG) !== 0,
    certain: (flags & CERTAIN_FLAG) !== 0,
    replicas: frame[2],
    reason: REASONS[frame[3]] ?? null,
    raced: (flags & RACED_FLAG) !== 0,
    replayed: isReplayed ? Uint8Array.from(frame.subarray(ANSWER_BYTES)) : null,
  };
}
