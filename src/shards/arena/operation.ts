/**
 * What a front asks of a shard thread, one operation at a time, before it is bytes in a buffer and after.
 */
import { ballotOf } from "../../format/record.ts";
import type { Write } from "../../rules/write.ts";
import { copyOf, NOTHING } from "../../util/bytes.ts";
import { BALLOT_BYTES } from "./ballot-words.ts";
import type { WriteHead } from "./write.ts";

export const OP_WRITE = 0;
export const OP_UPLOAD_BEGIN = 1;
export const OP_UPLOAD_PART = 2;
export const OP_UPLOAD_COMMIT = 3;
export const OP_UPLOAD_ABORT = 4;
/** Replication: a promise. */
export const OP_PREPARE = 5;
/** Partition in `operationLow`, ballot. */
export const OP_RAISE_FLOOR = 6;
/** Key, ballot. */
export const OP_DROP_TOMBSTONE = 7;
/** Prefix of hash A in `operationLow`, where to go on in `operationHigh`. */
export const OP_DROP_PARTITION = 8;
/** As the last; cluster time in the ballot's place. */
export const OP_FOLD_PROMISES = 10;
/** Key; the time of who asks, in milliseconds, in the two words of `operation`. */
export const OP_END = 11;
/** At most so many keys as `operationLow` says. */
export const OP_OVERDUE = 12;
/** What was lost is made good from other replicas. */
export const OP_SETTLE_LOSS = 9;

/** Words in front of each operation in a buffer. */
export const HEADER_WORDS = 16;
export const HEADER_BYTES = HEADER_WORDS * 4;

const encoder = new TextEncoder();

/** One operation on its way to a thread: mostly a write. What else it may be says what it uses of one. */
export interface Operation extends Write {
  op: number;
  shard: number;
  upload: number;
  body: Uint8Array;
}

let typeText = "";
let typeBytes: Uint8Array = NOTHING;

/** The bytes of a content type, which mostly is the one of the last write. */
function contentTypeBytes(text: string): Uint8Array {
  if (text !== typeText) {
    typeBytes = text === "" ? NOTHING : encoder.encode(text);
    typeText = text;
  }
  return typeBytes;
}

/** Fills in what a write's head says. */
export function describe(operation: Operation, head: WriteHead): void {
  operation.verb = head.verb;
  operation.json = head.json;
  operation.contentType = head.json ? NOTHING : contentTypeBytes(head.contentType);
  operation.trailer = head.trailer;
  operation.keepsEnd = head.life.keep;
  operation.ifMatch = head.ifMatch;
  operation.ifNoneMatch = head.ifNoneMatch;
}

/**
 * An operation of which nothing is said yet: a PUT of no key, without conditions. A literal: one that is
 * spread from another costs some microseconds, and every replicated write has one.
 */
export function emptyOperation(): Operation {
  return {
    op: OP_WRITE,
    shard: 0,
    upload: 0,
    verb: "put",
    key: NOTHING,
    hashA: 0,
    hashB: 0,
    json: false,
    contentType: NOTHING,
    trailer: NOTHING,
    keepsEnd: false,
    ifMatch: "",
    ifNoneMatch: "",
    operationLow: 0,
    operationHigh: 0,
    ballot: null,
    base: null,
    ended: false,
    repair: false,
    body: NOTHING,
  };
}

/** A copy with arrays of its own. */
export function copyOperation(operation: Operation): Operation {
  const { key, contentType, trailer, body, ballot, base } = operation;
  return {
    ...operation,
    key: copyOf(key),
    contentType: copyOf(contentType),
    trailer: copyOf(trailer),
    body: copyOf(body),
    ballot: ballot === null ? null : ballotOf(ballot),
    base: base === null ? null : ballotOf(base),
  };
}

/** Bytes an operation takes in a buffer. Its conditions are ASCII. */
export function operationBytes(o: Operation): number {
  const ballots = (o.ballot === null ? 0 : BALLOT_BYTES) + (o.base === null ? 0 : BALLOT_BYTES);
  const conditions = o.ifMatch.length + o.ifNoneMatch.length;
  const payload = o.key.length + o.contentType.length + conditions + o.trailer.length + o.body.length;
  return HEADER_BYTES + ballots + ((payload + 7) & ~7);
}
