/**
 * What was begun goes on where a try of it is refused for a while: the machine is busy, or too few replicas
 * can be reached just now.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { ERRORS, type ErrorCode } from "../../util/errors.ts";

/** How long something is tried again, and the time between two tries. */
const TRIES_MS_MAX = 60_000;
const AGAIN_MS = 50;
/** The same request may succeed later, but only once somebody has done something. */
const NOT_BY_ITSELF: readonly ErrorCode[] = ["internal", "disk_full", "stopping"];

/** Tries of one thing, the first of which is made when this is. */
export class Tries {
  private readonly goesOn: () => boolean;
  private readonly also: readonly ErrorCode[];
  private readonly untilMs = performance.now() + TRIES_MS_MAX;

  /**
   * @param goesOn whether anybody still waits for it
   * @param also refusals after which it may be tried again although they do not say so
   */
  constructor(goesOn: () => boolean, also: readonly ErrorCode[] = []) {
    this.goesOn = goesOn;
    this.also = also;
  }

  /** Waits until it may be tried again. False: what refused it does not pass by itself, or not in time. */
  async again(refusal: ErrorCode): Promise<boolean> {
    const passes = ERRORS[refusal].retryable && !NOT_BY_ITSELF.includes(refusal);
    if (!(passes || this.also.includes(refusal)) || performance.now() > this.untilMs) return false;
    await sleep(AGAIN_MS);
    return this.goesOn();
  }
}
