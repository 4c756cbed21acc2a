/**
 * Recent operations as a field of a record's trailer: the writes of its key that came with an
 * `Idempotency-Key`, so that one that is sent again is known. FORMAT.md, "Recent operations". And the field
 * by which such a write tells on its way what it is known by.
 */
import { FIELD_ONCE, FIELD_RECENT, RECENT_BYTES_MAX } from "../offsets.ts";
import { type Ballot, isExtended, type RecordSource, trailerOf } from "../record.ts";
import { type Field, fieldOf, NO_TRAILER, readFields, writeFields } from "./trailer.ts";

/** A write that was done. Arrays may be views. */
export interface RecentOperation {
  /** NAME_BYTES: of the hash of its key. */
  readonly name: Uint8Array;
  /** REQUEST_BYTES: of the hash of what it asked for. */
  readonly request: Uint8Array;
  /** When it was done, in seconds since 1970. */
  readonly atSeconds: number;
  /** The version that it made. */
  readonly ballot: Ballot;
  /** The key had a value before. */
  readonly existed: boolean;
  /** What it was answered beside that, at most TOLD_BYTES_MAX; empty: nothing is known. */
  readonly told: Uint8Array;
}

export interface Recent {
  /** Up to when nobody writes the key without having asked what is there, in ms since 1970. */
  readonly until: number;
  /** The oldest first. */
  readonly operations: readonly RecentOperation[];
}

/** What a write is known by: name, request, and what it is to be answered. */
export type Once = Uint8Array;

export const NAME_BYTES = 8;
export const REQUEST_BYTES = 4;
export const TOLD_BYTES_MAX = 63;
/** Bytes of the field before its first entry. */
export const UNTIL_BYTES = 8;
const BALLOT_AT = 16;
const FLAGS_AT = 32;
/** Of an entry, without what was told. */
export const ENTRY_BYTES = 33;
const EXISTED = 0x40;
const WORD = 2 ** 32;
/** Latest moment that is believed: what a date can say. */
const UNTIL_MAX = 8.64e15;

/** The field's bytes in a trailer: a view; null: there is none, or it has a length that none has. */
export function recentOf(trailer: Uint8Array): Uint8Array | null {
  const field = trailer.length === 0 ? null : fieldOf(trailer, FIELD_RECENT);
  return field !== null && field.length >= UNTIL_BYTES && field.length <= RECENT_BYTES_MAX ? field : null;
}

/** The same of the record at `unit`. */
export function recentAt(source: RecordSource, unit: number): Uint8Array | null {
  return isExtended(source, unit) ? recentOf(trailerOf(source, unit)) : null;
}

/** Up to when nobody writes the key without having asked, in ms since 1970. */
export function untilOf(field: Uint8Array): number {
  const view = viewOf(field);
  return Math.min(view.getUint32(4, true) * WORD + view.getUint32(0, true), UNTIL_MAX);
}

/** Reads a field. An entry that does not fit ends it. */
export function readRecent(field: Uint8Array): Recent {
  const view = viewOf(field);
  const operations: RecentOperation[] = [];
  for (let at = UNTIL_BYTES; at + ENTRY_BYTES <= field.length; ) {
    const end = at + ENTRY_BYTES + (field[at + FLAGS_AT] & TOLD_BYTES_MAX);
    if (end > field.length) break;
    const word = (offset: number): number => view.getUint32(at + offset, true);
    operations.push({
      name: field.subarray(at, at + NAME_BYTES),
      request: field.subarray(at + NAME_BYTES, at + NAME_BYTES + REQUEST_BYTES),
      atSeconds: word(NAME_BYTES + REQUEST_BYTES),
      ballot: {
        clockLow: word(BALLOT_AT),
        clockHigh: word(BALLOT_AT + 4),
        node: word(BALLOT_AT + 8),
        incarnation: word(BALLOT_AT + 12),
      },
      existed: (field[at + FLAGS_AT] & EXISTED) !== 0,
      told: field.subarray(at + ENTRY_BYTES, end),
    });
    at = end;
  }
  return { until: untilOf(field), operations };
}

/** The bytes of a field. */
export function writeRecent({ until, operations }: Recent): Uint8Array {
  const bytes = operations.reduce((sum, { told }) => sum + ENTRY_BYTES + told.length, UNTIL_BYTES);
  const field = new Uint8Array(bytes);
  const view = viewOf(field);
  view.setUint32(0, until % WORD, true);
  view.setUint32(4, Math.floor(until / WORD), true);
  let at = UNTIL_BYTES;
  for (const { name, request, atSeconds, ballot, existed, told } of operations) {
    field.set(name, at);
    field.set(request, at + NAME_BYTES);
    view.setUint32(at + NAME_BYTES + REQUEST_BYTES, atSeconds, true);
    view.setUint32(at + BALLOT_AT, ballot.clockLow, true);
    view.setUint32(at + BALLOT_AT + 4, ballot.clockHigh, true);
    view.setUint32(at + BALLOT_AT + 8, ballot.node, true);
    view.setUint32(at + BALLOT_AT + 12, ballot.incarnation, true);
    field[at + FLAGS_AT] = told.length | (existed ? EXISTED : 0);
    field.set(told, at + ENTRY_BYTES);
    at += ENTRY_BYTES + told.length;
  }
  return field;
}

/** A trailer with this field in the place of the one that it has; null: without one. */
export function withRecent(trailer: Uint8Array, recent: Uint8Array | null): Uint8Array {
  return withField(trailer, FIELD_RECENT, recent);
}

/** What a write is known by, where its trailer says it: a view; null: it has no `Idempotency-Key`. */
export function onceOf(trailer: Uint8Array): Once | null {
  const once = trailer.length === 0 ? null : fieldOf(trailer, FIELD_ONCE);
  return once !== null && once.length >= NAME_BYTES + REQUEST_BYTES ? once : null;
}

/** A trailer that says what its write is known by; null: that says it no more. */
export function withOnce(trailer: Uint8Array, once: Once | null): Uint8Array {
  return withField(trailer, FIELD_ONCE, once);
}

function withField(trailer: Uint8Array, type: number, bytes: Uint8Array | null): Uint8Array {
  const before = fieldOf(trailer, type);
  if (before === null && bytes === null) return trailer;
  if (trailer.length === 0) return writeFields([{ type, bytes: bytes as Uint8Array }]);
  const fields: Field[] = (readFields(trailer) ?? []).filter((field) => field.type !== type);
  if (bytes !== null) fields.push({ type, bytes });
  return fields.length === 0 ? NO_TRAILER : writeFields(fields);
}

function viewOf({ buffer, byteOffset, length }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, length);
}
