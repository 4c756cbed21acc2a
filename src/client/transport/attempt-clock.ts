/** How long an attempt may take, and how long to wait before the next. */

/** A larger body takes as long as it takes. */
const TIMED_BODY_BYTES_MAX = 1024 * 1024;
/** Timers take no more; who names more than 24.8 days wants none. */
const TIMER_MS_MAX = 2 ** 31 - 1;
const PAUSE_MS_MIN = 50;
const PAUSE_MS_MAX = 2000;

/** What of a request its time depends on. */
interface Timed {
  body?: { bytes: number | null } | null;
  signal?: AbortSignal | undefined;
  streams?: boolean;
}

/** Ends an attempt that takes too long, or whose caller does not want it any more. */
export class AttemptClock {
  isOver = false;
  private readonly controller = new AbortController();
  private readonly timer: ReturnType<typeof setTimeout> | null = null;
  private readonly call: Timed;

  constructor(call: Timed, attemptMs: number) {
    this.call = call;
    if (call.signal?.aborted) this.abort();
    call.signal?.addEventListener("abort", this.abort);
    const bytes = call.body?.bytes ?? (call.body == null ? 0 : Number.POSITIVE_INFINITY);
    if (bytes > TIMED_BODY_BYTES_MAX || attemptMs > TIMER_MS_MAX) return;
    this.timer = setTimeout(() => {
      this.isOver = true;
      this.controller.abort();
    }, attemptMs);
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  private readonly abort = (): void => this.controller.abort(this.call.signal?.reason);

  /** The answer has begun: from now on its body takes as long as it takes. */
  begun(): void {
    if (this.timer !== null) clearTimeout(this.timer);
  }

  end(): void {
    this.begun();
    // The signal goes on to end an answer that streams.
    if (this.call.streams !== true) this.call.signal?.removeEventListener("abort", this.abort);
  }
}

/** Waits before a node is asked again: longer each time, and never as long as others. */
export async function pause(attempt: number, signal: AbortSignal | undefined): Promise<void> {
  const longest = Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** attempt);
  await sleep(longest * (0.5 + Math.random() / 2), signal);
}

/** Rejects with the signal's reason. */
export function sleep(ms: number, signal?: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(done, ms);
    function done(): void {
      signal?.removeEventListener("abort", aborted);
      resolve();
    }
    function aborted(): void {
      clearTimeout(timer);
      reject(signal?.reason);
    }
    if (signal?.aborted) aborted();
    else signal?.addEventListener("abort", aborted, { once: true });
  });
}
