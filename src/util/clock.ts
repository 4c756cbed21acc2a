/** How far `CoarseClock` may be behind. */
const COARSE_MS = 250;

/** The wall clock for what is asked very often and may be a little behind: reading it costs nothing. */
export class CoarseClock {
  private timer: NodeJS.Timeout | null = null;
  private ms = 0;

  /** Milliseconds since 1970, at most COARSE_MS ago, or as long as this thread was busy. */
  now(): number {
    if (this.timer === null) {
      this.ms = Date.now();
      this.timer = setInterval(() => {
        this.ms = Date.now();
      }, COARSE_MS);
      this.timer.unref();
    }
    return this.ms;
  }
}

/**
 * A wall clock that never goes back: where the one that it follows is set back, it goes on from the highest
 * that it has shown, by the monotonic clock.
 */
export class SteadyClock {
  private readonly wall: () => number;
  private readonly monotonic: () => number;
  private highest = 0;
  /**
   * What the monotonic clock said when the wall clock was found behind, and what this one said then; null: it
   * is not.
   */
  private behind: { monotonicMs: number; ms: number } | null = null;

  /**
   * @param wall milliseconds since 1970
   * @param monotonic milliseconds that only go forward, from anywhere
   */
  constructor(wall: () => number = Date.now, monotonic: () => number = () => performance.now()) {
    this.wall = wall;
    this.monotonic = monotonic;
  }

  /** Milliseconds since 1970, never less than before. */
  now(): number {
    const wall = this.wall();
    if (wall >= this.highest && this.behind === null) {
      this.highest = wall;
      return wall;
    }
    return this.goOn(wall);
  }

  /** It is at least so late: somebody has seen that time. */
  observe(ms: number): void {
    if (ms <= this.highest) return;
    this.highest = ms;
    this.behind = null;
  }

  private goOn(wall: number): number {
    const monotonicMs = this.monotonic();
    this.behind ??= { monotonicMs, ms: this.highest };
    const ms = Math.floor(this.behind.ms + monotonicMs - this.behind.monotonicMs);
    this.highest = Math.max(this.highest, ms, wall);
    if (wall === this.highest) this.behind = null;
    return this.highest;
  }
}

/**
 * Hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014): wall-clock milliseconds and a
 * 16-bit counter in one 64-bit number that never repeats and never runs backwards, as two unsigned 32-bit
 * words.
 */
export class HybridClock {
  private readonly now: () => number;
  private millis = 0;
  private counter = 0;
  /** The last value given or observed. */
  low = 0;
  high = 0;

  /** @param now wall clock in milliseconds since 1970 */
  constructor(now: () => number) {
    this.now = now;
  }

  /**
   * Moves to a value above every earlier one; it is then in `high` and `low`.
   * @param count it and the values right below it, so many in all, at most 65,536, are above every earlier
   * one
   */
  tick(count = 1): void {
    const wall = this.now();
    if (wall > this.millis) {
      this.millis = wall;
      this.counter = count - 1;
    } else {
      this.counter += count;
      if (this.counter > 0xffff) {
        this.millis++;
        this.counter -= 0x10000;
      }
    }
    this.high = Math.floor(this.millis / 0x10000);
    this.low = (this.millis % 0x10000) * 0x10000 + this.counter;
  }

  /** Makes sure that later values are above this one. */
  observe(high: number, low: number): void {
    if (high < this.high || (high === this.high && low <= this.low)) return;
    this.high = high;
    this.low = low;
    this.millis = high * 0x10000 + Math.floor(low / 0x10000);
    this.counter = low % 0x10000;
  }
}
