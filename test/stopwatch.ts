/**
 * Times for tests that say "at once" or "not before the timer": what the machine itself was late by, beside other load, does not count. A test that has to wait
 * for something waits for the event; this is only for what must not take long.
 */

const TICK_MS = 20;
/** Timers are that late on an idle machine, too. */
const LATE_MS_MIN = 10;

export interface Stopwatch {
  /** Milliseconds so far. */
  elapsed(): number;
  /** The same without those by which this process was late. Ends the watch. */
  stop(): number;
}

export function stopwatch(): Stopwatch {
  const begunMs = performance.now();
  let lastMs = begunMs;
  let lateMs = 0;
  const look = () => {
    const nowMs = performance.now();
    const late = nowMs - lastMs - TICK_MS;
    if (late > LATE_MS_MIN) lateMs += late;
    lastMs = nowMs;
  };
  const timer = setInterval(look, TICK_MS);
  const elapsed = () => performance.now() - begunMs;
  return {
    elapsed,
    stop() {
      clearInterval(timer);
      look();
      return elapsed() - lateMs;
    },
  };
}
