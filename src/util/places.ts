/**
 * A bound on how many may be under way at once, where the slow ones must not keep the others out: whoever
 * finds every place taken gets the one of the slowest, if that is slow; a client that is slow on purpose then
 * only loses its own. Addresses say nothing here: behind a proxy all clients have the same one.
 */

/** Nobody who is faster than this on average has to give way. */
const SLOW_BYTES_PER_SECOND = 64 * 1024;
/** Added to everybody's age: who has just come had no time to move anything. */
const GRACE_MS = 1000;

/** Somebody who has a place. */
export interface PlaceHolder {
  /** Bytes it has moved so far. */
  readonly movedBytes: number;
  /** Since when it has the place, by the monotonic clock. */
  readonly sinceMs: number;
  /** Its place is somebody else's from now on. Called once, from inside the newcomer's `enter`. */
  giveWay(): void;
}

export class Places {
  private readonly countMax: number;
  private readonly now: () => number;
  private readonly holders = new Set<PlaceHolder>();

  /** @param now a monotonic clock in milliseconds */
  constructor(countMax: number, now = () => performance.now()) {
    this.countMax = countMax;
    this.now = now;
  }

  get count(): number {
    return this.holders.size;
  }

  /** Takes a place. False: all are taken, and nobody is slow. */
  enter(newcomer: PlaceHolder): boolean {
    if (this.holders.size >= this.countMax) {
      const slowest = this.slowest();
      if (slowest === null) return false;
      this.holders.delete(slowest);
      slowest.giveWay();
    }
    this.holders.add(newcomer);
    return true;
  }

  /** Idempotent. */
  leave(holder: PlaceHolder): void {
    this.holders.delete(holder);
  }

  private slowest(): PlaceHolder | null {
    const nowMs = this.now();
    let slowest: PlaceHolder | null = null;
    let lowest = SLOW_BYTES_PER_SECOND / 1000;
    for (const holder of this.holders) {
      const bytesPerMs = holder.movedBytes / (nowMs - holder.sinceMs + GRACE_MS);
      if (bytesPerMs >= lowest) continue;
      lowest = bytesPerMs;
      slowest = holder;
    }
    return slowest;
  }
}
