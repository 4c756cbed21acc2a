/**
 * What the disk has done to a shard's writes: whether they are stopped, and what an operator is told. A
 * failed sync stops them until a restart: nobody can know which pages the kernel has dropped (Rebello et al.,
 * "Can Applications Recover from fsync Failures?", 2020).
 */
import { sentenceOf } from "../../platform/system-error.ts";
import { FIGURE } from "../slabs/figures.ts";
import type { State } from "../state/state.ts";

/** A write that fails is told at most this often. */
const WARN_MS = 5000;

export class DiskTrouble {
  writesStopped = false;
  private readonly state: State;
  private readonly now: () => number;
  /** When a warning of a failed write was last given, by `now`, and how many were not since. */
  private warnedAt = Number.NEGATIVE_INFINITY;
  private unwarned = 0;

  constructor(state: State, now: () => number) {
    this.state = state;
    this.now = now;
  }

  /** No write is taken from now on. */
  refuseWrites(): void {
    this.writesStopped = true;
    this.state.figures[FIGURE.writesStopped] = 1;
  }

  /** The same, and says why. */
  stop(why: string): void {
    this.refuseWrites();
    this.state.warn(`shard ${this.state.shard}: ${why}`);
  }

  /** The same, for what a call to the disk said. */
  stopFor(error: unknown, what = "sync failed"): void {
    this.stop(`${what}, writes are stopped until a restart: ${sentenceOf(error as Error)}`);
  }

  /** Tells of a failed write, with a line now and then: what keeps failing fails many times a second. */
  warnOfFailure(error: unknown): void {
    const now = this.now();
    if (Math.abs(now - this.warnedAt) < WARN_MS) {
      this.unwarned++;
      return;
    }
    const others = this.unwarned === 0 ? "" : `; ${this.unwarned} more failed since the last such line`;
    this.state.warn(`shard ${this.state.shard}: a write failed: ${sentenceOf(error as Error)}${others}`);
    this.warnedAt = now;
    this.unwarned = 0;
  }
}
