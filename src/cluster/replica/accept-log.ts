/**
 * Which accepts this replica has taken lately, and to whom it has shown them, in memory: a coordinator that
 * does not know whether its write had an effect can ask for that (coordinator/doubt). Complete from a
 * moment on, which it tells; a process that has just started knows nothing.
 */
import type { Ballot } from "../../format/record.ts";
import { OPERATION_MS_MAX } from "../../util/limits.ts";
import { FIRST_WRITE, type RecallYes } from "../register/ports.ts";

/** What is younger should be kept: an operation that asks is no older than this. */
const KEPT_MS = 2 * OPERATION_MS_MAX;
const ENTRIES_FIRST = 1 << 10;
/** 40 bytes each. */
const ENTRIES_MAX = 1 << 17;
const WORDS = 8;
const TAKEN = 1;
const SHOWN = 2;
/** Of no layout: it may have been taken, or counts under none. */
const NO_EPOCH = 0;

export class AcceptLog {
  /** Monotonic milliseconds. */
  private readonly now: () => number;
  private words = new Int32Array(ENTRIES_FIRST * WORDS);
  private times = new Float64Array(ENTRIES_FIRST);
  private next = 0;
  private count = 0;
  private completeSinceMs: number;

  constructor(now: () => number) {
    this.now = now;
    this.completeSinceMs = now();
  }

  /**
   * An accept was taken, or may have been.
   * @param epoch of the layout under which it was sent and counts; null: it may not have been taken, or does
   * not count
   */
  taken(ballot: Ballot, operationLow: number, operationHigh: number, epoch: number | null): void {
    this.note(TAKEN, ballot, operationLow, operationHigh, epoch ?? NO_EPOCH);
  }

  /**
   * A promise for this ballot, of a write that may build on what it is told, told of the operation's record.
   */
  shown(ballot: Ballot, operationLow: number, operationHigh: number): void {
    this.note(SHOWN, ballot, operationLow, operationHigh, NO_EPOCH);
  }

  private note(
    kind: number,
    ballot: Ballot,
    operationLow: number,
    operationHigh: number,
    epoch: number,
  ): void {
    const nowMs = this.now();
    const entries = this.times.length;
    if (this.count === entries) {
      const oldestMs = this.times[this.next];
      if (oldestMs > nowMs - KEPT_MS && entries < ENTRIES_MAX) this.grow();
      else this.completeSinceMs = oldestMs;
    }
    const { words, next } = this;
    const at = next * WORDS;
    words[at] = operationLow;
    words[at + 1] = operationHigh & ~FIRST_WRITE;
    words[at + 2] = ballot.clockLow;
    words[at + 3] = ballot.clockHigh;
    words[at + 4] = ballot.node;
    words[at + 5] = ballot.incarnation;
    words[at + 6] = kind;
    words[at + 7] = epoch;
    this.times[next] = nowMs;
    this.next = (next + 1) % this.times.length;
    this.count = Math.min(this.count + 1, this.times.length);
  }

  private grow(): void {
    const entries = this.times.length;
    const words = new Int32Array(2 * entries * WORDS);
    const times = new Float64Array(2 * entries);
    // In order of time from the start on: the oldest one stands at `next`.
    words.set(this.words.subarray(this.next * WORDS));
    words.set(this.words.subarray(0, this.next * WORDS), (entries - this.next) * WORDS);
    times.set(this.times.subarray(this.next));
    times.set(this.times.subarray(0, this.next), entries - this.next);
    this.words = words;
    this.times = times;
    this.next = entries;
  }

  /**
   * At which ballots an operation was taken here, and whether another node than this one was shown it.
   * @param epoch of the layout that is in force
   * @param node the number in the ballots of who asks
   * @param ageMs how long ago it began
   */
  recall(operationLow: number, operationHigh: number, epoch: number, node: number, ageMs: number): RecallYes {
    const ballots: Ballot[] = [];
    let shown = false;
    let certain = true;
    const { words } = this;
    const [low, high] = [operationLow | 0, (operationHigh & ~FIRST_WRITE) | 0];
    for (let at = 0; at < this.count * WORDS; at += WORDS) {
      if (words[at] !== low || words[at + 1] !== high) continue;
      if (words[at + 6] === SHOWN) shown ||= words[at + 4] >>> 0 !== node >>> 0;
      else {
        certain &&= words[at + 7] === (epoch | 0);
        ballots.push({
          clockLow: words[at + 2] >>> 0,
          clockHigh: words[at + 3] >>> 0,
          node: words[at + 4] >>> 0,
          incarnation: words[at + 5] >>> 0,
        });
      }
    }
    return { kind: "yes", known: this.completeSinceMs <= this.now() - ageMs, shown, ballots, certain };
  }
}
