/**
 * Pace of what a node does in the background: while clients are served, as much time passes between two
 * pieces of work as they took, and keys are taken over evenly, at a bounded rate: a request of a client then
 * waits for few of them.
 */
import { setTimeout as sleep } from "node:timers/promises";

/** Operations of clients per second from which on the node counts as busy. */
const BUSY_RATE = 50;
const LOOK_MS = 200;
const PAUSE_MS_MAX = 1000;
const BUSY_KEYS_PER_SECOND = 4000;
/** Keys that become due within this time go together, as timers are not exact. */
const GRAIN_MS = 2;

export class RepairPace {
  private readonly operations: () => number;
  private seen = 0;
  private seenMs = 0;
  private busy = false;
  /** When the next key is due. */
  private dueMs = 0;

  /** @param operations how many operations of clients have begun so far */
  constructor(operations: () => number) {
    this.operations = operations;
  }

  get isBusy(): boolean {
    const nowMs = performance.now();
    if (nowMs - this.seenMs >= LOOK_MS) {
      const count = this.operations();
      this.busy = (count - this.seen) / ((nowMs - this.seenMs) / 1000) > BUSY_RATE;
      this.seen = count;
      this.seenMs = nowMs;
    }
    return this.busy;
  }

  /** Waits for the turn of the next key, where there is load here or (`busy`) at a node that is asked. */
  async turn(busy = false): Promise<void> {
    if (!busy && !this.isBusy) return;
    const nowMs = performance.now();
    this.dueMs = Math.max(nowMs, this.dueMs + 1000 / BUSY_KEYS_PER_SECOND);
    if (this.dueMs - nowMs >= GRAIN_MS) await sleep(this.dueMs - nowMs);
  }

  /**
   * Waits as the load, here or (`busy`) at a node that was asked, wants it after a piece of work that took so
   * long.
   */
  async rest(tookMs: number, busy = false): Promise<void> {
    if (busy || this.isBusy) await sleep(Math.min(PAUSE_MS_MAX, Math.max(1, tookMs)));
    else await new Promise((resolve) => setImmediate(resolve));
  }
}
