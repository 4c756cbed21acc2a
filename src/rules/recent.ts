/**
 * The rules for writes with an `Idempotency-Key`: whether such a write is known, and what its key's next
 * record remembers. Pure; FORMAT.md says what the field holds, docs/decisions why it is enough.
 */
import {
  ENTRY_BYTES,
  NAME_BYTES,
  type Once,
  REQUEST_BYTES,
  type RecentOperation,
  readRecent,
  TOLD_BYTES_MAX,
  UNTIL_BYTES,
  untilOf,
  writeRecent,
} from "../format/fields/recent.ts";
import { RECENT_BYTES_MAX } from "../format/offsets.ts";
import type { Ballot } from "../format/record.ts";
import { compareBallots } from "../format/version.ts";
import { sameBytes } from "../util/bytes.ts";

/** How long a write is known. */
export const RECENT_MS = 10 * 60_000;
/** In a cluster: how long nobody writes the key without having asked, once somebody has. */
export const GUARDED_MS = 2 * RECENT_MS;
/** How much of that must be left when a write is added: as long as it is known, and clocks may differ. */
export const GUARD_MS_MIN = RECENT_MS + 60_000;

/** What a key's record says of a write. */
export type Known =
  /** It was done: answer the same. */
  | RecentOperation
  /** It was not. */
  | "new"
  /** Another one had its key. */
  | "reused"
  /** It was not, and it could not be remembered. */
  | "full";

/**
 * Judges a write by what its key's record remembers.
 * @param recent the field; null: there is none
 */
export function judgeOnce(recent: Uint8Array | null, once: Once, nowMs: number): Known {
  const operations = recent === null ? [] : liveOf(recent, nowMs);
  const name = once.subarray(0, NAME_BYTES);
  const known = operations.find((operation) => sameBytes(operation.name, name));
  if (known !== undefined) {
    const request = once.subarray(NAME_BYTES, NAME_BYTES + REQUEST_BYTES);
    return sameBytes(known.request, request) ? known : "reused";
  }
  const bytes = operations.reduce((sum, { told }) => sum + ENTRY_BYTES + told.length, 0);
  return bytes + ENTRY_BYTES + TOLD_BYTES_MAX + UNTIL_BYTES > RECENT_BYTES_MAX ? "full" : "new";
}

/** The field of a record that such a write makes: it and those before it. */
export function remember(
  recent: Uint8Array | null,
  once: Once,
  { ballot, existed }: { ballot: Ballot; existed: boolean },
  nowMs: number,
): Uint8Array {
  const operation: RecentOperation = {
    name: once.subarray(0, NAME_BYTES),
    request: once.subarray(NAME_BYTES, NAME_BYTES + REQUEST_BYTES),
    atSeconds: Math.ceil(nowMs / 1000),
    ballot,
    existed,
    told: once.subarray(NAME_BYTES + REQUEST_BYTES).subarray(0, TOLD_BYTES_MAX),
  };
  const operations = recent === null ? [] : liveOf(recent, nowMs);
  return writeRecent({ until: nowMs + GUARDED_MS, operations: [...operations, operation] });
}

/** The field of a record that guards its key from now on, and remembers what the one before it did. */
export function guard(recent: Uint8Array | null, nowMs: number): Uint8Array {
  const operations = recent === null ? [] : liveOf(recent, nowMs);
  return writeRecent({ until: nowMs + GUARDED_MS, operations });
}

/**
 * The field of a record that takes the place of one with such a field; null: there is nothing to remember.
 * @param keepsGuard as in a cluster: it stays, without entries too, up to its moment
 */
export function carried(recent: Uint8Array | null, nowMs: number, keepsGuard: boolean): Uint8Array | null {
  if (recent === null) return null;
  const { until } = readRecent(recent);
  const operations = liveOf(recent, nowMs);
  if (operations.length === 0 && !(keepsGuard && nowMs < until)) return null;
  return writeRecent({ until, operations });
}

/** The same field where a value got another version and nothing else: what made it has made that one. */
export function moved(recent: Uint8Array, from: Ballot, to: Ballot): Uint8Array {
  const { until, operations } = readRecent(recent);
  const isMoved = ({ ballot }: RecentOperation): boolean => compareBallots(ballot, from) === 0;
  if (!operations.some(isMoved)) return recent;
  const renamed = operations.map((each) => (isMoved(each) ? { ...each, ballot: to } : each));
  return writeRecent({ until, operations: renamed });
}

/** Whether a record may still be asked for what it remembers: its newest operation is not too old. */
export function isLive(recent: Uint8Array, nowMs: number): boolean {
  return untilOf(recent) - (GUARDED_MS - RECENT_MS) > nowMs;
}

/** Those that are not too old to be known. */
function liveOf(recent: Uint8Array, nowMs: number): RecentOperation[] {
  return readRecent(recent).operations.filter(({ atSeconds }) => nowMs - atSeconds * 1000 < RECENT_MS);
}
