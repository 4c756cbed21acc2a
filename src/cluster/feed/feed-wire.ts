/**
 * What nodes ask each other for changes, as bytes. The first byte tells these frames from the others.
 *
 *   changes 29 1 · the request as JSON
 *
 *   told    0 1 · partitions that it votes for, a bit each · the answer as JSON
 *   refused as in ../wire/list-wire.ts
 */
import { CHANGE_EVENTS, type ChangeEvent } from "../../shards/feed/change.ts";
import type { FeedQuestion } from "../../shards/feed/messages.ts";
import { bufferOf } from "../../util/bytes.ts";
import { WATCHERS_MAX } from "../../util/limits.ts";
import { type ListRefusal, votesBytes } from "../wire/list-wire.ts";

const CHANGES = 29;
const YES = 0;
const REFUSED = 2;
/** Longest request: prefixes of a token, a place. */
const REQUEST_BYTES_MAX = 1024 * 1024;
const PREFIXES_MAX = WATCHERS_MAX;
const WAIT_MS_MAX = 60_000;
const COUNT_MAX = 10_000;

/** Of one replica; see FeedQuestion. */
export interface ChangesRequest extends Omit<FeedQuestion, "values" | "form" | "bytesMax"> {
  epoch: number;
}

/** What a replica holds of a key since then. */
export interface ReplicaChange {
  event: ChangeEvent;
  key: string;
  etag: string;
}

export interface ReplicaChanges {
  /** A bit for each partition that it votes for. */
  votes: Uint8Array;
  place: string;
  cursor: number;
  more: boolean;
  /** With all members that an event has. */
  changes: ReplicaChange[];
}

export function isChangesFrame(bytes: Uint8Array): boolean {
  return bytes.length > 0 && bytes[0] === CHANGES;
}

export function encodeChangesRequest(request: ChangesRequest): Buffer {
  return Buffer.concat([Buffer.from([CHANGES]), Buffer.from(JSON.stringify(request))]);
}

/** Null: it is none. */
export function decodeChangesRequest(bytes: Uint8Array): ChangesRequest | null {
  if (!isChangesFrame(bytes) || bytes.length > REQUEST_BYTES_MAX) return null;
  const request = objectOf(bytes.subarray(1)) as unknown as ChangesRequest | null;
  if (request === null) return null;
  const { epoch, prefixes, exact, since, cursor, catchesUp, waitMs, countMax } = request;
  const good =
    isCount(epoch, 2 ** 32) &&
    Array.isArray(prefixes) &&
    prefixes.length <= PREFIXES_MAX &&
    prefixes.every((prefix) => typeof prefix === "string") &&
    (since === null || typeof since === "string") &&
    Number.isSafeInteger(cursor) &&
    typeof exact === "boolean" &&
    typeof catchesUp === "boolean" &&
    isCount(waitMs, WAIT_MS_MAX) &&
    isCount(countMax, COUNT_MAX) &&
    countMax > 0;
  return good ? { epoch, prefixes, exact, since, cursor, catchesUp, waitMs, countMax } : null;
}

/** @param changes objects with commas between them */
export function encodeChanges(
  votes: Uint8Array,
  { place, cursor, more, text }: { place: string; cursor: number; more: boolean; text: Uint8Array },
): Buffer {
  const head = `{"place":${JSON.stringify(place)},"cursor":${cursor},"more":${more},"changes":[`;
  return Buffer.concat([Buffer.from([YES]), votes, Buffer.from(head), text, Buffer.from("]}")]);
}

/** By a layout of so many partitions. Null: it is none. */
export function decodeChanges(bytes: Uint8Array, partitions: number): ReplicaChanges | ListRefusal | null {
  const frame = bufferOf(bytes);
  if (frame.length >= 5 && frame[0] === REFUSED)
    return { epoch: frame.readUInt32LE(1), text: frame.toString("utf8", 5) };
  const votesEnd = 1 + votesBytes(partitions);
  if (frame.length < votesEnd || frame[0] !== YES) return null;
  const told = objectOf(frame.subarray(votesEnd)) as unknown as ReplicaChanges | null;
  if (told === null) return null;
  const { place, cursor, more, changes } = told;
  const good =
    typeof place === "string" &&
    Number.isSafeInteger(cursor) &&
    typeof more === "boolean" &&
    Array.isArray(changes) &&
    changes.every(
      (change) =>
        typeof change === "object" &&
        change !== null &&
        typeof change.key === "string" &&
        CHANGE_EVENTS.includes(change.event) &&
        /^[0-9a-f]{32}$/.test(change.etag),
    );
  const votes = Uint8Array.from(frame.subarray(1, votesEnd));
  return good ? { votes, place, cursor, more, changes } : null;
}

function objectOf(bytes: Uint8Array): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(bufferOf(bytes).toString());
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

function isCount(value: unknown, max: number): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= max;
}
