/**
 * What a front asks of a shard thread, one operation at a time, before it is bytes in a buffer and after.
 */
import type { Ballot } from "../../format/record.ts";
import { copyOf } from "../../util/bytes.ts";
import type { WriteHead, WriteVerb } from "./write.ts";

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
const HEADER_WORDS = 16;
export const HEADER_BYTES = HEADER_WORDS * 4;

export const NOTHING: Uint8Array = new Uint8Array(0);
const encoder = new TextEncoder();

/** One operation on its way to a thread; everything that is not inline in its batch yet. */
export interface Operation {
  op: number;
  verb: WriteVerb;
  shard: number;
  json: boolean;
  key: Uint8Array;
  contentType: Uint8Array;
  /** Fields to be kept with the value. Of an upload that of its commit counts. */
  trailer: Uint8Array;
  /** The end of life stays that of what is replaced. */
  keepsEnd: boolean;
  ifMatch: Uint8Array;
  ifNoneMatch: Uint8Array;
  body: Uint8Array;
  hashA: number;
  hashB: number;
  operationLow: number;
  operationHigh: number;
  upload: number;
  /**
   * Replication: the ballot of a prepare, or of a write that is an accept. It travels in the place of
   * If-Match.
   */
  ballot: Ballot | null;
  /** Replication: the version that is touched. It travels in the place of If-None-Match. */
  base: Ballot | null;
  /** Replication: see ShardWrite. */
  repair: boolean;
  ended: boolean;
}

function textBytes(text: string): Uint8Array {
  return text === "" ? NOTHING : encoder.encode(text);
}

let typeText = "";
let typeBytes: Uint8Array = NOTHING;

/** The bytes of a content type, which mostly is the one of the last write. */
function contentTypeBytes(text: string): Uint8Array {
  if (text !== typeText) {
    typeBytes = textBytes(text);
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
  operation.ifMatch = textBytes(head.ifMatch);
  operation.ifNoneMatch = textBytes(head.ifNoneMatch);
}

export function emptyOperation(): Operation {
  return {
    op: OP_WRITE,
    verb: "put",
    shard: 0,
    json: false,
    key: NOTHING,
    contentType: NOTHING,
    trailer: NOTHING,
    keepsEnd: false,
    ifMatch: NOTHING,
    ifNoneMatch: NOTHING,
    body: NOTHING,
    hashA: 0,
    hashB: 0,
    operationLow: 0,
    operationHigh: 0,
    upload: 0,
    ballot: null,
    base: null,
    repair: false,
    ended: false,
  };
}

/** A copy with arrays of its own. */
export function copyOperation(operation: Operation): Operation {
  return {
    ...operation,
    key: copyOf(operation.key),
    contentType: copyOf(operation.contentType),
    trailer: copyOf(operation.trailer),
    ifMatch: copyOf(operation.ifMatch),
    ifNoneMatch: copyOf(operation.ifNoneMatch),
    body: copyOf(operation.body),
  };
}

const BALLOT_BYTES = 16;

/** Bytes of a ballot, as they travel. */
function ballotBytes({ clockLow, clockHigh, node, incarnation }: Ballot): Uint8Array {
  return new Uint8Array(Uint32Array.of(clockLow, clockHigh, node, incarnation).buffer);
}

/** Back from `ballotBytes`. */
export function ballotAt(bytes: Uint8Array): Ballot {
  const [clockLow, clockHigh, node, incarnation] = new Uint32Array(bytes.slice(0, BALLOT_BYTES).buffer);
  return { clockLow, clockHigh, node, incarnation };
}

/** Makes an operation one of replication. */
export function setBallot(operation: Operation, ballot: Ballot | null): void {
  operation.ballot = ballot;
  operation.ifMatch = ballot === null ? NOTHING : ballotBytes(ballot);
}

/** Makes an operation of replication one that touches this version. */
export function setBase(operation: Operation, base: Ballot): void {
  operation.base = base;
  operation.ifNoneMatch = ballotBytes(base);
}

/** Bytes an operation takes in a buffer. */
export function operationBytes(o: Operation): number {
  const texts = o.contentType.length + o.ifMatch.length + o.ifNoneMatch.length;
  const payload = o.key.length + texts + o.trailer.length + o.body.length;
  return HEADER_BYTES + ((payload + 7) & ~7);
}
