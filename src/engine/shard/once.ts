/**
 * Writes with an `Idempotency-Key` on a single node: one that is known is answered as it was, and every
 * record that takes the place of one with recent operations remembers them. And the guard of those of a
 * replica (FORMAT.md, "Recent operations").
 */
import { type Once, recentAt, recentOf, untilOf, withOnce, withRecent } from "../../format/fields/recent.ts";
import { TRAILER_BYTES_MAX } from "../../format/offsets.ts";
import { type Ballot, recordUnits } from "../../format/record.ts";
import { carried, judgeOnce, remember } from "../../rules/recent.ts";
import type { Outcome, Write } from "../../rules/write.ts";
import type { Batch } from "../batch/batch.ts";
import type { Current } from "../batch/current.ts";

/** What a key's newest record, which has fields, names of recent operations, as a copy; null: none. */
export function recentOfKey(batch: Batch, { slot, unit }: Current): Uint8Array | null {
  const { source, unit: at } = batch.readable(slot, unit);
  return recentAt(source, at)?.slice() ?? null;
}

/** Answers a write that needs not be done, or cannot. False: it is new. */
export function answerOnce(outcome: Outcome, recent: Uint8Array | null, once: Once, nowMs: number): boolean {
  const known = judgeOnce(recent, once, nowMs);
  if (known === "new") return false;
  outcome.created = false;
  if (known === "reused") outcome.error = "key_reused";
  else if (known === "full") outcome.error = "unremembered";
  else {
    outcome.replayed = true;
    outcome.created = !known.existed;
    outcome.deleted = known.existed;
    outcome.ballot = known.ballot;
    outcome.detail = Buffer.from(known.told).toString("latin1");
  }
  return true;
}

/** What a write has to put into its record beside its own fields. */
export interface ToRemember {
  readonly recent: Uint8Array | null;
  readonly once: Once | null;
  /** The key had a value. */
  readonly existed: boolean;
  readonly nowMs: number;
}

/** Its fields, with what is to be remembered. */
export function remembering(trailer: Uint8Array, ballot: Ballot, memory: ToRemember): Uint8Array {
  const { recent, once, existed, nowMs } = memory;
  const field =
    once === null ? carried(recent, nowMs, false) : remember(recent, once, { ballot, existed }, nowMs);
  return withRecent(withOnce(trailer, null), field);
}

/**
 * Makes room for the longer record. What was staged may have been committed. False: there is none, as
 * `outcome` then says.
 */
export function makeRoomToRemember(
  batch: Batch,
  write: Write,
  { contentType, valueBytes }: { contentType: Uint8Array; valueBytes: number },
  trailer: Uint8Array,
  outcome: Outcome,
): boolean {
  if (trailer.length > TRAILER_BYTES_MAX) {
    outcome.error = "unremembered";
    return false;
  }
  try {
    const units = recordUnits(write.key.length, contentType.length, valueBytes, trailer.length);
    batch.makeRoom(units, write.verb === "delete");
  } catch (error) {
    Object.assign(outcome, batch.log.failure(error));
    return false;
  }
  return outcome.error === null;
}

/**
 * Whether a replica refuses this record in the place of one with fields, as it does not remember what that
 * one does: it was written by who has not asked.
 */
export function isUnprepared(batch: Batch, { trailer }: Write, current: Current): boolean {
  const recent = recentOfKey(batch, current);
  return recent !== null && recentOf(trailer) === null && untilOf(recent) > batch.state.ends.markable;
}
