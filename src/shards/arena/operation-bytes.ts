/**
 * An operation as bytes in a buffer:
 *
 *   16 words of header | ballot | base | key | content type | If-Match | If-None-Match | trailer | body
 *
 * The first word is the length of all this; the second one has the kind and flags; where one says so there
 * are the ballots, of four words each. The other lengths are in the header. The answer takes the header's
 * place, but for its first word.
 */
import type { Ballot } from "../../format/record.ts";
import type { WriteVerb } from "../../rules/write.ts";
import { copyInto, NOTHING } from "../../util/bytes.ts";
import { BALLOT_BYTES, BALLOT_WORDS, readBallot, writeBallot } from "./ballot-words.ts";
import { HEADER_BYTES, HEADER_WORDS, type Operation } from "./operation.ts";

const VERBS: readonly WriteVerb[] = ["put", "post", "delete", "touch"];
const JSON_BIT = 1 << 16;
const BALLOT_BIT = 1 << 17;
const REPAIR_BIT = 1 << 18;
const KEEP_BIT = 1 << 19;
const ENDED_BIT = 1 << 20;
const BASE_BIT = 1 << 21;

const encoder = new TextEncoder();

/** Writes an operation of so many `operationBytes` at `position`. */
export function writeOperation(
  words: Int32Array,
  bytes: Uint8Array,
  position: number,
  o: Operation,
  operationBytes: number,
): void {
  const w = position >>> 2;
  words[w] = operationBytes;
  words[w + 1] =
    o.op |
    (VERBS.indexOf(o.verb) << 8) |
    (o.json ? JSON_BIT : 0) |
    (o.ballot === null ? 0 : BALLOT_BIT) |
    (o.repair ? REPAIR_BIT : 0) |
    (o.keepsEnd ? KEEP_BIT : 0) |
    (o.ended ? ENDED_BIT : 0) |
    (o.base === null ? 0 : BASE_BIT);
  words[w + 2] = o.shard;
  words[w + 3] = o.key.length;
  words[w + 4] = o.contentType.length;
  words[w + 5] = o.ifMatch.length;
  words[w + 6] = o.ifNoneMatch.length;
  words[w + 7] = o.body.length;
  words[w + 8] = o.hashA;
  words[w + 9] = o.hashB;
  words[w + 10] = o.operationLow;
  words[w + 11] = o.operationHigh;
  words[w + 12] = o.upload;
  words[w + 13] = o.trailer.length;
  let at = position + HEADER_BYTES;
  if (o.ballot !== null) at = putBallot(words, o.ballot, at);
  if (o.base !== null) at = putBallot(words, o.base, at);
  bytes.set(o.key, at);
  at += o.key.length;
  if (o.contentType.length > 0) bytes.set(o.contentType, at);
  at += o.contentType.length;
  at = putText(bytes, o.ifMatch, at);
  at = putText(bytes, o.ifNoneMatch, at);
  if (o.trailer.length > 0) bytes.set(o.trailer, at);
  at += o.trailer.length;
  copyInto(bytes, at, o.body);
}

/** Reads the operation at `position` into `o`: views. Answers the next position. */
export function readOperation(words: Int32Array, bytes: Uint8Array, position: number, o: Operation): number {
  const w = position >>> 2;
  const flags = words[w + 1];
  o.op = flags & 0xff;
  o.verb = VERBS[(flags >>> 8) & 0xff];
  o.json = (flags & JSON_BIT) !== 0;
  o.repair = (flags & REPAIR_BIT) !== 0;
  o.keepsEnd = (flags & KEEP_BIT) !== 0;
  o.ended = (flags & ENDED_BIT) !== 0;
  o.shard = words[w + 2];
  let ballotAt = w + HEADER_WORDS;
  o.ballot = o.base = null;
  if ((flags & BALLOT_BIT) !== 0) {
    o.ballot = readBallot(words, ballotAt);
    ballotAt += BALLOT_WORDS;
  }
  if ((flags & BASE_BIT) !== 0) {
    o.base = readBallot(words, ballotAt);
    ballotAt += BALLOT_WORDS;
  }
  let at = ballotAt << 2;
  o.key = bytes.subarray(at, at + words[w + 3]);
  at += words[w + 3];
  o.contentType = words[w + 4] === 0 ? NOTHING : bytes.subarray(at, at + words[w + 4]);
  at += words[w + 4];
  o.ifMatch = textAt(bytes, at, words[w + 5]);
  at += words[w + 5];
  o.ifNoneMatch = textAt(bytes, at, words[w + 6]);
  at += words[w + 6];
  o.trailer = words[w + 13] === 0 ? NOTHING : bytes.subarray(at, at + words[w + 13]);
  at += words[w + 13];
  o.body = bytes.subarray(at, at + words[w + 7]);
  o.hashA = words[w + 8];
  o.hashB = words[w + 9];
  o.operationLow = words[w + 10];
  o.operationHigh = words[w + 11];
  o.upload = words[w + 12];
  return position + words[w];
}

function putBallot(words: Int32Array, ballot: Ballot, at: number): number {
  writeBallot(words, at >>> 2, ballot);
  return at + BALLOT_BYTES;
}

/** Conditions are ASCII. */
function putText(bytes: Uint8Array, text: string, at: number): number {
  const end = at + text.length;
  if (text !== "") encoder.encodeInto(text, bytes.subarray(at, end));
  return end;
}

function textAt(bytes: Uint8Array, at: number, length: number): string {
  return length === 0 ? "" : Buffer.from(bytes.slice(at, at + length).buffer).toString("latin1");
}
