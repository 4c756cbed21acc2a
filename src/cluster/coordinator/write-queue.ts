/**
 * Writes of one key stand in line in their coordinator: one is under way, the others wait for it. Writers
 * that race with ballots would only lose to each other, over and over. Waiting also makes most of their work
 * unnecessary:
 *
 * - Plain PUTs that wait together become one write, of the last one's value: each of the others was replaced
 *   by the next one before anybody could see it. They have versions of their own, which the write draws
 *   together. Not values that end: that of one might have ended before the next one came.
 * - When a write is decided, or refused by what is there, the conditions of those that waited since before it
 *   was sent are judged by that: the key was in this state at a moment when they were already under way.
 *   Those that do not hold are refused at once. (Not by a value whose end has come meanwhile, and not what has
 *   an `Idempotency-Key`, which may be known.)
 *
 * Pure: time comes from outside. A write that waits has had no effect, so one that waits too long is answered
 * "no_quorum", truly; unless another node has sent it, too.
 */
import type { Ballot } from "../../format/record.ts";
import { compareOptionalBallots } from "../../format/version.ts";
import { hasEnded } from "../../rules/expiry.ts";
import { nameOf } from "../../util/bytes.ts";
import { OPERATION_MS_MAX } from "../../util/limits.ts";
import { lowerBallot } from "../clock/ballots.ts";
import { type RegisterResult, type RegisterWrite, undone } from "../register/requests.ts";

/** Writes of one key that may wait; the next one is refused. */
export const WAITING_MAX = 1024;
/** Writes that become one. */
const MERGED_MAX = 256;
/** Outcomes that tell what is there. */
const DECIDED: ReadonlySet<RegisterResult["outcome"]> = new Set([
  ...(["done", "exists", "precondition_failed", "not_found"] as const),
]);

/**
 * Runs one write to its answer. It draws as many versions as it has weight; the answer's is the highest of
 * them.
 */
export type RunWrite = (
  request: RegisterWrite,
  weight: number,
  done: (result: RegisterResult) => void,
) => void;

interface Waiting {
  request: RegisterWrite;
  done: (result: RegisterResult) => void;
  sinceMs: number;
}

/** The writes of one key. */
interface Line {
  /** Those that wait, in the order in which they came. */
  waiting: Waiting[];
  /** How many of these were there when the write under way began. */
  before: number;
  /** The answer to the write under way, once it is there. */
  result: RegisterResult | null;
  batch: Waiting[];
}

export class WriteQueue {
  private readonly run: RunWrite;
  /** Monotonic milliseconds. */
  private readonly now: () => number;
  /** Cluster time, in ms since 1970. */
  private readonly clusterMillis: () => number;
  /** By key, as latin1. */
  private readonly lines = new Map<string, Line>();

  constructor(run: RunWrite, now: () => number, clusterMillis: () => number) {
    this.run = run;
    this.now = now;
    this.clusterMillis = clusterMillis;
  }

  /** `done` is called exactly once, possibly before this returns. */
  write(request: RegisterWrite, done: (result: RegisterResult) => void): void {
    const name = nameOf(request.key.bytes);
    const line = this.lines.get(name);
    const own: Waiting = { request, done, sinceMs: this.now() };
    if (line === undefined) {
      const first: Line = { waiting: [], before: 0, result: null, batch: [] };
      this.lines.set(name, first);
      if (this.begin(name, first, [own])) this.goOn(name, first);
    } else if (line.waiting.length < WAITING_MAX) line.waiting.push(own);
    else done(undone(request, "overloaded"));
  }

  /** True: it is answered already. */
  private begin(name: string, line: Line, batch: Waiting[]): boolean {
    line.batch = batch;
    line.before = line.waiting.length;
    let inside = true;
    const { request } = batch[batch.length - 1];
    // What stands for several is never merged: it has conditions.
    this.run(request, batch.length - 1 + (request.versions ?? 1), (result) => {
      line.result = result;
      // A write that is answered at once must not go deeper and deeper into the next one.
      if (!inside) this.goOn(name, line);
    });
    inside = false;
    return line.result !== null;
  }

  /** The write under way has its answer: goes on with the next ones. */
  private goOn(name: string, line: Line): void {
    do {
      this.settle(line);
      if (line.waiting.length === 0) {
        this.lines.delete(name);
        return;
      }
    } while (this.begin(name, line, takeBatch(line)));
  }

  private hasEnded({ exists, end }: RegisterResult): boolean {
    return exists && end !== 0 && hasEnded(end, this.clusterMillis());
  }

  /** Answers whom the result of the write under way answers. */
  private settle(line: Line): void {
    const result = line.result as RegisterResult;
    line.result = null;
    const again = answer(line.batch, result);
    if (DECIDED.has(result.outcome) && result.replayed == null && !this.hasEnded(result))
      refuse(line, result);
    line.waiting.unshift(...again);
    const late = this.now() - OPERATION_MS_MAX;
    const isLate = ({ sinceMs }: Waiting): boolean => sinceMs < late;
    if (line.waiting.some(isLate)) {
      for (const { request, done } of line.waiting.filter(isLate)) done(undone(request, "no_quorum"));
      line.waiting = line.waiting.filter((one) => !isLate(one));
    }
  }
}

/** Answers a batch; gives back those that have to be tried again. */
function answer(batch: readonly Waiting[], result: RegisterResult): Waiting[] {
  const last = batch.length - 1;
  const again: Waiting[] = [];
  const lowest = result.ballot === null ? null : lowerBallot(result.ballot, last);
  // Else a version among theirs may lie below one that the key had before.
  const areSure = result.certain && compareOptionalBallots(result.previous, lowest) < 0;
  for (let index = 0; index < last; index++) {
    const { done, request } = batch[index];
    // The last one's bound is none of theirs.
    const isBound = batch[last].request.bound != null && request.bound == null;
    if (result.outcome === "no_quorum" && !isBound) done(result);
    else if (result.outcome === "done" && areSure) {
      const ballot = lowerBallot(result.ballot as Ballot, last - index);
      done({ ...result, ballot, existed: index > 0 || result.existed });
    } else again.push(batch[index]);
  }
  const existed = result.existed || (last > again.length && result.outcome === "done");
  batch[last].done(existed === result.existed ? result : { ...result, existed });
  return again;
}

/**
 * Refuses those that waited since before the write was sent and whose conditions do not hold in the state
 * that it met or made.
 */
function refuse(line: Line, result: RegisterResult): void {
  const { before, waiting } = line;
  let kept = 0;
  for (let index = 0; index < waiting.length; index++) {
    const { request, done } = waiting[index];
    const refusal =
      index < before && request.condition !== null && request.lost !== true && request.only == null
        ? request.condition(result.exists, result.ballot)
        : null;
    if (refusal === null) waiting[kept++] = waiting[index];
    else done({ ...result, outcome: refusal, existed: result.exists });
  }
  waiting.length = kept;
}

/** The first of those that wait; a plain PUT with all others of its kind. */
function takeBatch(line: Line): Waiting[] {
  const [first] = line.waiting;
  if (!canMerge(first)) {
    line.waiting.shift();
    return [first];
  }
  const batch: Waiting[] = [];
  const rest: Waiting[] = [];
  for (const one of line.waiting) (canMerge(one) && batch.length < MERGED_MAX ? batch : rest).push(one);
  line.waiting = rest;
  return batch;
}

function canMerge({ request }: Waiting): boolean {
  const { condition, staged, lost, payload, only } = request;
  if (only != null) return false;
  const { tombstone, end = 0 } = payload;
  return condition === null && staged !== true && lost !== true && !tombstone && end === 0;
}
