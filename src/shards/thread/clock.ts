/**
 * Time, for what a shard thread does by itself: handed in, so that a test can be the clock. No timer keeps a
 * thread alive.
 */

export interface Timer {
  /** Begins its time anew, also when it is over. */
  again(): void;
  stop(): void;
}

export interface Clock {
  /** Milliseconds that only go forward. */
  now(): number;
  /** Calls once, after what waits in the event loop now. */
  soon(call: () => void): void;
  /** Calls once, when the time is over. */
  after(ms: number, call: () => void): Timer;
  /** Calls again and again. */
  every(ms: number, call: () => void): Timer;
}

function timerOf(timeout: NodeJS.Timeout): Timer {
  timeout.unref();
  return { again: () => void timeout.refresh(), stop: () => clearTimeout(timeout) };
}

export const systemClock: Clock = {
  now: () => performance.now(),
  soon: (call) => void setImmediate(call),
  after: (ms, call) => timerOf(setTimeout(call, ms)),
  every: (ms, call) => timerOf(setInterval(call, ms)),
};
