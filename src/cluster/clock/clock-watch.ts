/**
 * Says it when a clock is off: the node works by cluster time (cluster-time.ts), so nothing breaks at once,
 * but whoever runs it should know.
 */

import type { ClusterTime } from "./cluster-time.ts";

/** From here on a clock is called off. */
const SKEW_MS_MAX = 1000;
/** How often it is looked, and said again while it lasts. */
const LOOK_MS = 1000;
const REMIND_MS = 10 * 60_000;

/** What the watch needs of a logger. */
interface ClockLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
}

/** What `/health` says of the clocks. */
export interface ClockHealth {
  /**
   * right: within a second of what the nodes agree on; off: not; unknown: too few of them were heard lately.
   */
  status: "right" | "off" | "unknown";
  /** How far the own clock is ahead of cluster time; negative: behind. */
  skewMs: number;
}

export function clockHealth(time: ClusterTime): ClockHealth {
  const skewMs = time.skewMs();
  if (!time.agreed) return { status: "unknown", skewMs };
  return { status: Math.abs(skewMs) > SKEW_MS_MAX ? "off" : "right", skewMs };
}

/**
 * Logs when the own clock goes off, from time to time while it is, and when it is right again. Answers a
 * function that ends it.
 */
export function watchClock(time: ClusterTime, log: ClockLog): () => void {
  let saidMs = Number.NEGATIVE_INFINITY;
  let isOff = false;
  const look = (): void => {
    const { status, skewMs } = clockHealth(time);
    const nowMs = performance.now();
    if (status === "off" && (!isOff || nowMs - saidMs >= REMIND_MS)) {
      log.warn(
        { skewMs },
        "the clock of this node is off from what the nodes of the cluster agree on; it works by their time, but set it right",
      );
      saidMs = nowMs;
      isOff = true;
    } else if (status === "right" && isOff) {
      log.info({ skewMs }, "the clock of this node is right again");
      isOff = false;
    }
  };
  const timer = setInterval(look, LOOK_MS);
  timer.unref();
  return () => clearInterval(timer);
}
