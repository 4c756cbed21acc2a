/**
 * Values on their way through the cluster: what the coordinator calls a payload. Small ones carry their bytes
 * in stored form; of large ones only kind, length and where they can be had.
 */
import type { Ballot } from "../../format/record.ts";
import type { Payload } from "../register/ports.ts";

/** A value, not a tombstone. */
export interface StoredValue extends Payload {
  readonly tombstone: false;
  readonly json: boolean;
  /** "application/json" where `json`. */
  readonly contentType: string;
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
export function inlineValue(json: boolean, contentType: string, bytes: Uint8Array): InlineValue {
  return { tombstone: false, json, contentType, valueBytes: bytes.length, bytes };
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
