/**
 * Values on their way through the cluster: what the coordinator calls a payload. Small ones carry their bytes
 * in stored form; of large ones only kind, length and where they can be had.
 */
import { endOf } from "../../format/end.ts";
import { withEnd } from "../../format/fields/end.ts";
import { withRecent } from "../../format/fields/recent.ts";
import { NO_TRAILER } from "../../format/fields/trailer.ts";
import type { Ballot } from "../../format/record.ts";
import { NOTHING } from "../../util/bytes.ts";
import type { Payload, Proposal } from "../register/ports.ts";

/** What is said of a value beside its bytes. */
export interface ValueKind {
  readonly json: boolean;
  /** "application/json" where `json`. */
  readonly contentType: string;
  /** What else is kept with it: fields, as in format/fields/trailer.ts; empty: nothing. */
  readonly trailer: Uint8Array;
}

/** Of what is no value. */
export const NO_KIND: ValueKind = Object.freeze({ json: false, contentType: "", trailer: NO_TRAILER });

/** A value, not a tombstone. */
export interface StoredValue extends Payload, ValueKind {
  readonly tombstone: false;
  /** End of life, as the trailer says it; 0: none. */
  readonly end: number;
  /** In stored form: of JSON the whole `{"value":…}`. */
  readonly valueBytes: number;
}

/** At most CHUNK_BYTES. */
export interface InlineValue extends StoredValue {
  readonly bytes: Uint8Array;
}

/** A larger one that a replica holds, as part of its record with that ballot. */
export interface RemoteValue extends StoredValue {
  readonly node: string;
  readonly ballot: Ballot;
}

/** A larger one that was streamed to these replicas, where it waits for its accept. */
export interface StagedValue extends StoredValue {
  readonly staged: ReadonlySet<string>;
}

/**
 * A value that replicas hold at the ballot `base`, and are to hold from now on with this trailer: its bytes
 * stay where they are.
 */
export interface TouchedValue extends StoredValue {
  readonly base: Ballot;
  /**
   * What a replica gets that does not hold it; null: nothing, it gets the value later, as one that missed it.
   */
  readonly whole: InlineValue | null;
}

/** @param bytes must not change any more */
export function inlineValue({ json, contentType, trailer }: ValueKind, bytes: Uint8Array): InlineValue {
  const end = endOf(trailer);
  return { tombstone: false, json, contentType, trailer, end, valueBytes: bytes.length, bytes };
}

/** The same value with another end of life; 0: none. */
export function withLife<Value extends StoredValue>(value: Value, end: number): Value {
  return { ...value, trailer: withEnd(value.trailer, end), end };
}

/**
 * The same value with another end of life, written over the bytes that are there.
 * @param base where it is held
 * @param isHeld by a majority; otherwise a large one has to travel
 */
export function touchedValue(
  value: StoredValue,
  end: number,
  base: Ballot,
  isHeld: boolean,
): StoredValue | TouchedValue {
  const { tombstone, json, contentType, trailer, valueBytes } = withLife(value, end);
  const whole = isInline(value) ? withLife(value, end) : null;
  if (whole === null && !isHeld) return withLife(value, end);
  return { tombstone, json, contentType, trailer, end, valueBytes, base, whole };
}

/** A touched value as another node tells of it, without what a replica gets that does not hold it. */
export function baseOnly({ json, contentType, trailer }: ValueKind, base: Ballot): TouchedValue {
  const end = endOf(trailer);
  return { tombstone: false, json, contentType, trailer, end, valueBytes: 0, base, whole: null };
}

/** The same payload, whose record is to remember these recent operations; null: none. */
export function remembering(payload: Payload, recent: Uint8Array | null): Payload {
  if (payload.tombstone) return { ...payload, recent };
  const value = payload as StoredValue;
  const trailer = withRecent(value.trailer, recent);
  if (!isTouched(value)) return { ...value, trailer } as StoredValue;
  const { whole } = value;
  return { ...value, trailer, whole: whole === null ? null : { ...whole, trailer } } as TouchedValue;
}

/** The payload of a proposal, with what its record is to remember. */
export function payloadOf({ payload, recent }: Proposal): Payload {
  return recent === undefined ? payload : remembering(payload, recent);
}

/** The fields of the record of a payload. */
export function trailerOf(payload: Payload): Uint8Array {
  if (!payload.tombstone) return (payload as StoredValue).trailer;
  const { ended = false, end = 0, recent = null } = payload;
  const trailer = recent === null ? NO_TRAILER : withRecent(NO_TRAILER, recent);
  return ended ? withEnd(trailer, end) : trailer;
}

/** A value of which only the kind is told: its bytes go another way. */
export function kindOnly(kind: ValueKind): InlineValue {
  return inlineValue(kind, NOTHING);
}

export function isInline(value: Payload): value is InlineValue {
  return "bytes" in value;
}

export function isStaged(value: Payload): value is StagedValue {
  return "staged" in value;
}

export function isTouched(value: Payload): value is TouchedValue {
  return "base" in value;
}

export function isRemote(value: Payload): value is RemoteValue {
  return "node" in value;
}
