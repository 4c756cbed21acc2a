/**
 * How writes travel between the front and a shard thread: as bytes in shared memory, so that handing over
 * costs the same for one write as for hundreds.
 *
 *   arena  = ring of buffers; the front fills them in turn, the thread takes them in turn and writes its answers into them
 *   buffer = operation | operation | …      as in operation-bytes.ts
 *            and behind them, in its answers: sentence | sentence | …
 *
 * A buffer's state is one word, only changed by compare-and-swap: the number of its operations, and two
 * flags. CLOSED: nothing may be added; set by the thread when it is ready for a batch, whatever has gathered
 * by then, or by the front when the buffer is full. DONE: the answers are in it; the front reads them and
 * sets the word to 0. So the thread goes from one batch to the next without asking the front, and a batch is
 * what arrived while the one before it was written.
 *
 * Two more words say who sleeps: the thread when it has found nothing to do, the front when it has waited
 * long enough for answers (patience.ts). The sleeper sets its word and then looks once more; the other side
 * adds, or answers, and then resets the word; if it was set, it wakes the sleeper. So nothing is left lying.
 * The last word is set while the front has so much to do that a thread should leave it the processor.
 */

import { writeEtag } from "../../format/version.ts";
import type { Outcome, RegisterOutcome } from "../../rules/write.ts";
import { ERRORS, type ErrorCode } from "../../util/errors.ts";
import { type Arena, BUFFER_BYTES, BUFFERS, DETAILS_BYTES } from "./arena.ts";
import { readBallot, writeBallot } from "./ballot-words.ts";
import type { Operation } from "./operation.ts";
import { readOperation, writeOperation } from "./operation-bytes.ts";
import type { WriteResult } from "./write.ts";

const CLOSED = 1 << 24;
const DONE = 1 << 25;
const COUNT_MASK = CLOSED - 1;

const CODES = Object.keys(ERRORS) as ErrorCode[];
/** Refusals that tell which version is in the way. */
const TELLS_VERSION: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["precondition_failed", "exists"]);
const CREATED = 1;
const DELETED = 2;
const VERSIONED = 4;
/** The answer to a prepare or an accept: its verdict is in the next bits. */
const REGISTER = 8;
const TOMBSTONE = 16;
const FLOORED = 32;
const ENDED = 64;
/** An end of life is told, in the place of a floor: who holds something has none. */
const ENDING = 128;
const VERDICT_SHIFT = 8;
const VERDICTS: readonly RegisterOutcome["verdict"][] = ["no", "yes", "already", "damaged", "unprepared"];
const REMEMBERS = 1 << 16;
const REPLAYED = 1 << 17;

const encoder = new TextEncoder();

/** One buffer of an arena, as seen by either side. */
export class BatchBuffer {
  private readonly bytes: Uint8Array;
  private readonly words: Int32Array;
  private readonly states: Int32Array;
  private readonly number: number;
  private readonly details: Uint8Array;
  /** Thread: bytes of `details` in use. */
  private detailsUsed = 0;
  /** Front: bytes in use. */
  used = 0;

  constructor(arena: Arena, number: number) {
    this.bytes = new Uint8Array(arena.bytes, number * BUFFER_BYTES, BUFFER_BYTES);
    this.words = new Int32Array(arena.bytes, number * BUFFER_BYTES, BUFFER_BYTES / 4);
    this.states = new Int32Array(arena.states);
    this.details = new Uint8Array(
      arena.bytes,
      BUFFERS * BUFFER_BYTES + number * DETAILS_BYTES,
      DETAILS_BYTES,
    );
    this.number = number;
  }

  private get state(): number {
    return Atomics.load(this.states, this.number);
  }

  /** Whether there is something in it that is not answered. */
  get pending(): boolean {
    const { state } = this;
    return (state & COUNT_MASK) !== 0 && (state & DONE) === 0;
  }

  /** Whether nothing may be added any more. */
  get closed(): boolean {
    return (this.state & CLOSED) !== 0;
  }

  /** Whether the answers are in it. */
  get done(): boolean {
    return (this.state & DONE) !== 0;
  }

  /** Closes it if it holds anything to do; answers the number of operations to do. */
  close(): number {
    for (;;) {
      const { state } = this;
      if ((state & DONE) !== 0) return 0;
      const count = state & COUNT_MASK;
      if (count === 0 || (state & CLOSED) !== 0) return count;
      if (Atomics.compareExchange(this.states, this.number, state, state | CLOSED) === state) return count;
    }
  }

  /** Thread: the answers are complete. */
  finish(): void {
    this.detailsUsed = 0;
    Atomics.or(this.states, this.number, DONE);
  }

  /** Front: the answers are read. */
  clear(): void {
    this.used = 0;
    Atomics.store(this.states, this.number, 0);
  }

  hasRoom(bytes: number): boolean {
    return this.used + bytes <= BUFFER_BYTES;
  }

  /**
   * Front: adds an operation of so many `operationBytes`; there must be room. False: the thread has closed
   * the buffer meanwhile.
   */
  push(o: Operation, operationBytes: number): boolean {
    const { state } = this;
    if ((state & CLOSED) !== 0) return false;
    writeOperation(this.words, this.bytes, this.used, o, operationBytes);
    if (Atomics.compareExchange(this.states, this.number, state, state + 1) !== state) return false;
    this.used += operationBytes;
    return true;
  }

  /** Thread: reads the operation at `position` into `o` (views of the arena); answers the next position. */
  read(position: number, o: Operation): number {
    return readOperation(this.words, this.bytes, position, o);
  }

  /** Thread: answers the operation at `position`. */
  answer(position: number, outcome: Outcome): void {
    const { words } = this;
    const w = position >>> 2;
    words[w + 1] = outcome.error === null ? 0 : CODES.indexOf(outcome.error) + 1;
    const { register } = outcome;
    const ballot = register === null ? outcome.ballot : register.ballot;
    words[w + 2] =
      (outcome.created ? CREATED : 0) |
      (outcome.deleted ? DELETED : 0) |
      (ballot === null ? 0 : VERSIONED) |
      (outcome.replayed === true ? REPLAYED : 0);
    if (register !== null) {
      words[w + 2] |=
        REGISTER |
        (register.tombstone ? TOMBSTONE : 0) |
        (register.ended ? ENDED : 0) |
        (register.remembers ? REMEMBERS : 0) |
        (VERDICTS.indexOf(register.verdict) << VERDICT_SHIFT);
      words[w + 8] = register.operationLow;
      words[w + 9] = register.operationHigh;
      words[w + 14] = register.next;
      const { floor } = register;
      if (floor !== null) {
        words[w + 2] |= FLOORED;
        writeBallot(words, w + 10, floor);
      } else if (register.end !== 0) {
        words[w + 2] |= ENDING;
        words[w + 10] = register.end % 2 ** 32;
        words[w + 11] = Math.floor(register.end / 2 ** 32);
      }
    }
    if (ballot !== null) writeBallot(words, w + 3, ballot);
    words[w + 7] = 0;
    if (outcome.detail !== "") this.writeDetail(w, outcome.detail);
  }

  private writeDetail(w: number, detail: string): void {
    const { read, written } = encoder.encodeInto(detail, this.details.subarray(this.detailsUsed));
    if (read < detail.length) return;
    this.words[w + 15] = this.detailsUsed;
    this.words[w + 7] = written;
    this.detailsUsed += written;
  }

  /** Front: reads the answer at `position` into `result`; answers the next position. */
  result(position: number, result: WriteResult, etag: Uint8Array): number {
    const { words } = this;
    const w = position >>> 2;
    result.error = words[w + 1] === 0 ? null : CODES[words[w + 1] - 1];
    const flags = words[w + 2];
    result.created = (flags & CREATED) !== 0;
    result.deleted = (flags & DELETED) !== 0;
    result.replayed = (flags & REPLAYED) !== 0;
    result.etag = null;
    result.register = null;
    if ((flags & REGISTER) !== 0) {
      result.register = {
        verdict: VERDICTS[(flags >>> VERDICT_SHIFT) & 0xff],
        ballot: (flags & VERSIONED) === 0 ? null : readBallot(words, w + 3),
        tombstone: (flags & TOMBSTONE) !== 0,
        ended: (flags & ENDED) !== 0,
        remembers: (flags & REMEMBERS) !== 0,
        end: (flags & ENDING) === 0 ? 0 : (words[w + 10] >>> 0) + words[w + 11] * 2 ** 32,
        operationLow: words[w + 8] >>> 0,
        operationHigh: words[w + 9] >>> 0,
        floor: (flags & FLOORED) === 0 ? null : readBallot(words, w + 10),
        next: words[w + 14],
      };
    } else if ((flags & VERSIONED) !== 0 && (result.error === null || TELLS_VERSION.has(result.error))) {
      writeEtag(etag, words[w + 3], words[w + 4], words[w + 5], words[w + 6]);
      result.etag = etag;
    }
    const at = words[w + 15];
    result.detail =
      words[w + 7] === 0 ? "" : Buffer.from(this.details.slice(at, at + words[w + 7])).toString();
    return position + words[w];
  }
}
