/**
 * What becomes of a write whose record is at hand: judged against the newest state of its key, its record is
 * staged at a version of its own, or of replication at the one that it came with.
 */
import { endOf } from "../../format/end.ts";
import { withEnd } from "../../format/fields/end.ts";
import { onceOf } from "../../format/fields/recent.ts";
import type { ChunkRef } from "../../format/manifest.ts";
import { END_BYTES, ENDING_VERSION_MIN, EXTENDED_VERSION_MIN } from "../../format/offsets.ts";
import { type Ballot, recordUnits } from "../../format/record.ts";
import { etagText } from "../../format/version.ts";
import { hasEnded } from "../../rules/expiry.ts";
import { isPromisedAbove } from "../../rules/register.ts";
import { failed, isConditional, judge, type Outcome, succeeded, type Write } from "../../rules/write.ts";
import type { ErrorCode } from "../../util/errors.ts";
import type { Batch } from "../batch/batch.ts";
import type { Current } from "../batch/current.ts";
import { markEnded } from "../batch/ended.ts";
import { answerOnce, makeRoomToRemember, recentOfKey, remembering, type ToRemember } from "./once.ts";
import { judgeAcceptOf } from "./replica.ts";

const UPGRADE_FIRST =
  "this data directory has an older format, which has no place for it: stop the node and run minivault upgrade on it";

/** What a write puts in its record. */
export interface Content {
  type: number;
  json: boolean;
  contentType: Uint8Array;
  valueBytes: number;
  /** The value is the concatenation of these. */
  parts: readonly Uint8Array[];
  /** Of a manifest. */
  chunks: readonly ChunkRef[];
  /** Fields. */
  trailer: Uint8Array;
}

/** Judges a write and stages its record. */
export function store(batch: Batch, write: Write, content: Content): Outcome {
  if (needsUpgrade(batch, write)) return upgradeFirst();
  const { log } = batch;
  try {
    const { contentType, valueBytes, trailer } = content;
    const trailerBytes = trailer.length + (write.keepsEnd ? END_BYTES : 0);
    batch.makeRoom(
      recordUnits(write.key.length, contentType.length, valueBytes, trailerBytes),
      write.verb === "delete",
    );
  } catch (error) {
    const failure = log.failure(error);
    return withoutRecord(batch, write) ?? failure;
  }
  const outcome = succeeded();
  const current = batch.currentOf(write, outcome);
  if (write.ballot !== null) return accept(batch, write, content, current, outcome);
  return decide(batch, write, content, current, outcome);
}

export function upgradeFirst(): Outcome {
  return failed("upgrade_first", UPGRADE_FIRST);
}

function needsUpgrade({ state: { store } }: Batch, { trailer, keepsEnd }: Write): boolean {
  if (keepsEnd && store.version < ENDING_VERSION_MIN) return true;
  if (trailer.length === 0) return false;
  return store.version < (endOf(trailer) === 0 ? EXTENDED_VERSION_MIN : ENDING_VERSION_MIN);
}

/**
 * Judges a write of a single node and stages its record. What has ended by now is not there; who is told so
 * has it written down first.
 */
export function decide(
  batch: Batch,
  write: Write,
  content: Content,
  current: Current,
  outcome: Outcome,
): Outcome {
  const { ends } = batch.state;
  const once = write.trailer.length === 0 ? null : onceOf(write.trailer);
  const recent = current.isExtended ? recentOfKey(batch, current) : null;
  if (once !== null && answerOnce(outcome, recent, once, ends.clock.now())) return outcome;
  const isOver = current.end !== 0 && current.state === "value" && hasEnded(current.end, ends.clock.now());
  const state = isOver ? "tombstone" : current.state;
  const exists = state === "value";
  outcome.created = !exists && state !== "damaged" && write.verb !== "touch";
  if (isConditional(write)) {
    const refusal = judge(write, state, exists ? etagText(batch.headOf(current)) : null);
    if (refusal !== null) {
      if (isOver && !markEnded(batch, write, outcome)) return outcome;
      // Who is refused may go on from what is there.
      if (exists) outcome.ballot = { ...batch.headOf(current) };
      return refuse(outcome, refusal);
    }
  }
  if (write.verb === "delete") {
    outcome.created = false;
    outcome.deleted = exists || state === "damaged";
    if (isOver && once === null) {
      if (markEnded(batch, write, outcome)) outcome.ballot = { ...batch.headOf(batch.currentOf(write)) };
      return outcome;
    }
    // Where a failed write may come back, only a record keeps it away; and only a record remembers.
    const certain = once === null && !batch.log.appender.file.uncertain;
    if (state === "absent" && certain) return outcome;
    if (state === "tombstone" && certain) {
      outcome.ballot = { ...batch.headOf(current) };
      return outcome;
    }
  }
  if (!batch.admits(write, current)) return refuse(outcome, "key_refused");
  const keptEnd = write.keepsEnd && exists ? current.end : 0;
  const kept = keptEnd === 0 ? content : { ...content, trailer: withEnd(content.trailer, keptEnd) };
  if (once === null && recent === null) return put(batch, write, kept, current, outcome);
  const memory = { once, recent, existed: exists || state === "damaged", nowMs: ends.clock.now() };
  return putRemembering(batch, write, kept, memory, outcome);
}

/** Stages the record of a write that goes ahead, at a version of its own. */
function put(batch: Batch, write: Write, content: Content, current: Current, outcome: Outcome): Outcome {
  return putAt(nextBallot(batch), batch, write, content, current, outcome);
}

/** The same of a write that is to be remembered, or that comes after such ones. */
function putRemembering(
  batch: Batch,
  write: Write,
  content: Content,
  memory: ToRemember,
  outcome: Outcome,
): Outcome {
  const ballot = nextBallot(batch);
  const trailer = remembering(content.trailer, ballot, memory);
  if (!makeRoomToRemember(batch, write, content, trailer, outcome)) return refused(outcome);
  const current = batch.currentOf(write, outcome);
  return putAt(ballot, batch, write, { ...content, trailer }, current, outcome);
}

function nextBallot({ state: { clock, store } }: Batch): Ballot {
  clock.tick();
  const { node, incarnation } = store;
  return { clockLow: clock.low, clockHigh: clock.high, node, incarnation };
}

function putAt(
  ballot: Ballot,
  batch: Batch,
  write: Write,
  content: Content,
  current: Current,
  outcome: Outcome,
): Outcome {
  batch.describe(content.type, content.json, ballot, write.operationLow, write.operationHigh);
  if (stage(batch, write, content, current, outcome)) outcome.ballot = ballot;
  return outcome;
}

/** A write of replication: its conditions were judged where its ballot was drawn. */
export function accept(
  batch: Batch,
  write: Write,
  content: Content,
  current: Current,
  outcome: Outcome,
): Outcome {
  const { ballot } = write;
  if (ballot === null || !judgeAcceptOf(batch, write, ballot, current, outcome)) return outcome;
  if (!batch.admits(write, current)) return Object.assign(outcome, failed("key_refused"));
  batch.describe(content.type, content.json, ballot, write.operationLow, write.operationHigh);
  batch.head.outranked = isPromisedAbove(batch.promisedOf(write)?.ballot ?? null, ballot);
  stage(batch, write, content, current, outcome);
  return outcome;
}

function stage(batch: Batch, write: Write, content: Content, current: Current, outcome: Outcome): boolean {
  const { contentType, valueBytes, parts, chunks, trailer } = content;
  return batch.stage(write, contentType, valueBytes, parts, chunks, current, outcome, trailer);
}

/**
 * The outcome of a delete that needs no record, where there is no room for one: the key is not there. Null:
 * it needs one.
 */
function withoutRecord(batch: Batch, write: Write): Outcome | null {
  if (write.verb !== "delete" || write.ballot !== null || isConditional(write)) return null;
  if (write.trailer.length > 0) return null;
  if (batch.log.writesStopped || batch.log.appender.file.uncertain || batch.has(write)) return null;
  const current = batch.currentOf(write);
  if (current.state !== "absent" && current.state !== "tombstone") return null;
  const outcome = succeeded();
  if (current.state === "tombstone") outcome.ballot = { ...batch.headOf(current) };
  return outcome;
}

function refuse(outcome: Outcome, error: ErrorCode): Outcome {
  outcome.error = error;
  return refused(outcome);
}

function refused(outcome: Outcome): Outcome {
  outcome.created = outcome.deleted = false;
  return outcome;
}
