/**
 * How long to go on looking for what must come soon, before going to sleep for it. To wake a sleeping thread
 * takes 50 to 150 µs on a virtual machine, which may be as long as the sync of the disk; to look costs
 * processor time. So, like the halt polling of KVM, a waiter looks only while what it waits for has lately
 * come in time: a fast disk and clients nearby; and not while the fronts are busy: then throughput counts,
 * and they need the processor. Otherwise it sleeps at once.
 */
import type { Flag } from "./arena.ts";

/** Looking is worth while if so many of the latest waits ended in time. */
const HITS_MIN = 0.25;
/** Share of the latest wait in that. */
const LATEST = 1 / 16;
/**
 * While one side sleeps, the other waits longer; so now and then it is tried what looking would bring: so
 * many waits of so many.
 */
const TRIAL_WAITS = 16;
const TRIAL_PERIOD_WAITS = 256;

export class Patience {
  private readonly maxMs: number;
  /** Share of the latest waits that were short enough. */
  private hits = 0;
  private sinceMs = 0;
  private waits = 0;
  private looks = false;

  private readonly now: () => number;

  /**
   * @param maxMs longest time to look; 0: never
   * @param now a clock in milliseconds
   */
  constructor(maxMs: number, now = () => performance.now()) {
    this.maxMs = maxMs;
    this.now = now;
  }

  /**
   * The wait begins.
   * @param busy others need the processor
   */
  begin(busy: boolean): void {
    this.waits = (this.waits + 1) % TRIAL_PERIOD_WAITS;
    this.looks = !busy && this.maxMs > 0 && (this.hits > HITS_MIN || this.waits < TRIAL_WAITS);
    this.sinceMs = this.now();
  }

  /** Whether to look once more rather than to sleep. */
  get lasts(): boolean {
    return this.looks && this.now() - this.sinceMs < this.maxMs;
  }

  /** What was waited for has come. */
  end(): void {
    const hit = this.now() - this.sinceMs < this.maxMs ? 1 : 0;
    this.hits += (hit - this.hits) * LATEST;
  }
}

/**
 * With one client a turn of the event loop takes 5 to 20 µs, with 16 up to 80 µs. From here on the front is
 * busy.
 */
const BUSY_TURN_MS = 0.1;
/** From so many operations under way on, too: between two batches there are others to receive. */
const BUSY_OPERATIONS = 7;
/** What is kept of the longest turn with each turn. */
const TURN_DECAY = 15 / 16;

/** How busy a front is. The shard threads see it in a flag. */
export class Busyness {
  private readonly flag: Flag;
  isBusy = false;
  /** Since when the next turn is awaited, and the longest that it took lately. */
  private sinceMs = 0;
  private longestMs = 0;

  constructor(flag: Flag) {
    this.flag = flag;
  }

  /** A turn of the event loop begins. */
  awaitTurn(): void {
    this.sinceMs = performance.now();
  }

  /** It has come. `peak`: operations that were under way lately. */
  turned(peak: number): void {
    const tookMs = performance.now() - this.sinceMs;
    this.longestMs = Math.max(tookMs, this.longestMs * TURN_DECAY);
    const isBusy = this.longestMs > BUSY_TURN_MS || peak >= BUSY_OPERATIONS;
    if (isBusy === this.isBusy) return;
    this.isBusy = isBusy;
    if (isBusy) this.flag.set();
    else this.flag.reset();
  }
}
