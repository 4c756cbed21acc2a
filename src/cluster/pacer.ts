/**
 * Pace of what a node does in the background: while clients are served, as much time passes between two pieces of work as they took.
 */
import { setTimeout as sleep } from "node:timers/promises";

/** Operations of clients per second from which on the node counts as busy. */
const BUSY_RATE = 50;
const LOOK_MS = 200;
const PAUSE_MS_MAX = 1000;

export class RepairPace {
  private readonly operations: () => number;
  private seen = 0;
  private seenMs = 0;
  private busy = false;

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

  /** Waits as the load, here or (`busy`) at a node that was asked, wants it after a piece of work that took so long. */
  async rest(tookMs: number, busy = false): Promise<void> {
    if (busy || this.isBusy) await sleep(Math.min(PAUSE_MS_MAX, Math.max(1, tookMs)));
    else await new Promise((resolve) => setImmediate(resolve));
  }
}
