/**
 * Patience with slow clients. uWS closes a connection when an upload stays under 16 KB/s, or when a download
 * makes no room in the socket's buffer (megabytes) for 10 s: too strict for a phone on a bad link, and not
 * configurable. Some calls arm that timer anew, so transfers that move are given a beat every PACE_MS to make
 * one.
 */

/** Shorter than uWS' 10 s by more than its granularity of 4 s. */
const PACE_MS = 3000;
/** A client that takes nothing for so long is closed. */
export const STALL_MS = 60_000;

/** A transfer that waits for its client. */
export interface Paced {
  /** Called every PACE_MS with the monotonic time in milliseconds. */
  beat(nowMs: number): void;
}

/** The transfers under way, and one timer while there are any. */
export class Pacer {
  private readonly transfers = new Set<Paced>();
  private timer: NodeJS.Timeout | null = null;

  add(transfer: Paced): void {
    this.transfers.add(transfer);
    if (this.timer !== null) return;
    this.timer = setInterval(() => {
      const nowMs = performance.now();
      // A beat may close its transfer, which removes it here: a Set allows that during iteration.
      for (const each of this.transfers) each.beat(nowMs);
    }, PACE_MS);
    this.timer.unref();
  }

  delete(transfer: Paced): void {
    if (!this.transfers.delete(transfer) || this.transfers.size > 0 || this.timer === null) return;
    clearInterval(this.timer);
    this.timer = null;
  }
}
