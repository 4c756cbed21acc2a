/**
 * Marking a value as ended: a record in its place, at its own ballot, that says so. It holds no value, so it
 * may use what is kept for a full disk, as deletes may.
 */
import { endedTrailer } from "../../format/fields/end.ts";
import { TYPE_ENDED } from "../../format/offsets.ts";
import { type Ballot, recordUnits, trailerOf } from "../../format/record.ts";
import { hasEnded } from "../../rules/expiry.ts";
import { isPromisedAbove } from "../../rules/register.ts";
import { failed, type KeyRef, type Outcome, succeeded } from "../../rules/write.ts";
import { NOTHING } from "../../util/bytes.ts";
import { FIGURE } from "../slabs/figures.ts";
import type { Batch } from "./batch.ts";

/**
 * Stages that a key's value, if it still has one that has ended, has ended. False: it failed, as `outcome`
 * then says.
 */
export function markEnded(batch: Batch, ref: KeyRef, outcome: Outcome): boolean {
  let current = batch.currentOf(ref, outcome);
  if (current.state !== "value") return true;
  const before = batch.readable(current.slot, current.unit);
  const trailer = endedTrailer(trailerOf(before.source, before.unit).slice());
  try {
    batch.makeRoom(recordUnits(ref.key.length, 0, 0, trailer.length), true);
  } catch (error) {
    Object.assign(outcome, batch.log.failure(error));
    return false;
  }
  // What was staged may have been committed.
  current = batch.currentOf(ref, outcome);
  if (current.state !== "value") return true;
  const { head } = batch;
  batch.headOf(current);
  const { clockLow, clockHigh, node, incarnation, operationLow, operationHigh } = head;
  const ballot: Ballot = { clockLow, clockHigh, node, incarnation };
  batch.describe(TYPE_ENDED, false, ballot, operationLow, operationHigh);
  return batch.stage(ref, NOTHING, 0, [], [], current, outcome, trailer);
}

/**
 * Makes it known for good that a key's value has ended, if it has by then: for who was about to be told so.
 * On a single node.
 * @param nowMs by the clock of who asks
 */
export function endValue(batch: Batch, ref: KeyRef, nowMs: number): Outcome {
  if (batch.log.writesStopped) return batch.log.stoppedOutcome;
  const { ends, figures } = batch.state;
  // One replica does not decide that.
  if (figures[FIGURE.replicated] !== 0) return failed("unavailable");
  ends.clock.observe(nowMs);
  const outcome = succeeded();
  const current = batch.currentOf(ref, outcome);
  if (current.state === "damaged") outcome.error = "corrupt";
  else if (current.state === "value" && hasEnded(current.end, ends.clock.now()))
    markEnded(batch, ref, outcome);
  return outcome;
}

/** Whether a key's value may be marked by this shard alone: nobody was promised anything above it. */
export function isMarkable(batch: Batch, ref: KeyRef, ballot: Ballot): boolean {
  const promised = batch.promisedOf(ref);
  return promised === null || (promised.ballot !== null && !isPromisedAbove(promised.ballot, ballot));
}
