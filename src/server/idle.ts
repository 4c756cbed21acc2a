/** The end of what is under way, for a front that closes. */
import type { InFlight } from "./http/context.ts";

/** Waits until no request is under way, or the deadline. */
export async function idle(inFlight: InFlight, deadlineMs: number): Promise<void> {
  if (inFlight.count > 0) {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, deadlineMs);
      inFlight.onIdle.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
  // The last answer is written when its cork ends, which may be after the request was counted as answered.
  await new Promise<void>((resolve) => setImmediate(resolve));
}
