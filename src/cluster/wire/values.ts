/**
 * Values on their way through the cluster: what the coordinator calls a payload. Small ones carry their bytes
 * in stored form; of large ones only kind, length and where they can be had.
 */
import { NO_TRAILER } from "../../format/fields/trailer.ts";
import type { Ballot } from "../../format/record.ts";
import type { Payload } from "../register/ports.ts";

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

/** @param bytes must not change any more */
export function inlineValue({ json, contentType, trailer }: ValueKind, bytes: Uint8Array): InlineValue {
  return { tombstone: false, json, contentType, trailer, valueBytes: bytes.length, bytes };
}

const NOTHING = new Uint8Array(0);

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

export function isRemote(value: Payload): value is RemoteValue {
  return "node" in value;
}
