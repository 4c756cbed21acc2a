/**
 * When the logs are looked at: as soon as a shard's thread rings, if somebody waits; and now and then, for
 * what nobody rings for. Where several changes are met at once, more is being written than is told one by
 * one: then it rests, so that what comes next comes together. Who writes only what he has heard of before
 * never meets a rest.
 */
import type { Bell } from "../arena/bell.ts";
import type { Clock, Timer } from "../thread/clock.ts";

/** At least so long is between two turns the first of which has met several changes. */
const REST_MS = 1;
/** So long each answer keeps the next turn away, since the fronts have to send it. */
const REST_MS_PER_ANSWER = 0.2;
/** At most so long in all. */
const REST_MS_MAX = 100;
/** How often they are looked at all the same: for what is written beside batches, and who waits too long. */
const LOOK_MS = 10;

export class Beats {
  private readonly bell: Pick<Bell, "listen" | "ignore">;
  private readonly clock: Clock;
  private readonly beat: () => void;
  private timer: Timer | null = null;
  private dueMs = 0;
  private restsUntilMs = 0;
  /** A beat is about to come, after what waits in the event loop. */
  private isNext = false;
  private stopped = false;

  /** @param bell rings after a batch once it is told to listen; `rung` is to be called then */
  constructor(bell: Pick<Bell, "listen" | "ignore">, clock: Clock, beat: () => void) {
    this.bell = bell;
    this.clock = clock;
    this.beat = beat;
  }

  /** So many changes were met, and so many answers made of them. */
  answered(changes: number, answers: number): void {
    if (changes <= 1) return;
    const ms = Math.max(REST_MS, Math.min(REST_MS_MAX, answers * REST_MS_PER_ANSWER));
    this.restsUntilMs = this.clock.now() + ms;
  }

  /**
   * Plans the next beat, unless there is one before.
   * @param isAwaited somebody waits for what is written next
   * @param isBehind whether something has been written that was not looked at
   */
  plan(isAwaited: boolean, isBehind: () => boolean): void {
    const nowMs = this.clock.now();
    const rests = nowMs < this.restsUntilMs;
    if (!rests && isAwaited) {
      this.bell.listen();
      // What came before that was not rung for.
      if (isBehind()) this.goNext();
    }
    const dueMs = rests ? this.restsUntilMs : nowMs + LOOK_MS;
    if (this.timer !== null && this.dueMs <= dueMs) return;
    this.timer?.stop();
    this.dueMs = dueMs;
    this.timer = this.clock.after(dueMs - nowMs, () => this.go());
  }

  /** A batch has been written since somebody began to wait. */
  rung(): void {
    if (this.timer !== null && this.clock.now() >= this.restsUntilMs) this.go();
  }

  stop(): void {
    this.stopped = true;
    this.timer?.stop();
    this.timer = null;
  }

  private goNext(): void {
    if (this.isNext) return;
    this.isNext = true;
    this.clock.soon(() => {
      if (this.isNext) this.go();
    });
  }

  private go(): void {
    if (this.stopped) return;
    this.timer?.stop();
    this.timer = null;
    this.isNext = false;
    this.bell.ignore();
    this.beat();
  }
}
