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
