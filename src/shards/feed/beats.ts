/**
 * When the logs are looked at: as soon as a shard's thread rings, if somebody waits; not before what was met
 * last has been sent; and now and then, for what nobody rings for.
 */
import type { Bell } from "../arena/bell.ts";

/** At least so long is between two turns that have met something. */
const TURN_MS = 1;
/** So long each answer keeps the next turn away, since the fronts have to send it. */
const TURN_MS_PER_ANSWER = 0.2;
/** At most so long in all. */
const TURN_MS_MAX = 100;
/** How often they are looked at all the same: for what is written beside batches, and who waits too long. */
const LOOK_MS = 10;

export class Beats {
  private readonly bell: Pick<Bell, "listen" | "ignore">;
  private readonly beat: () => void;
  private timer: NodeJS.Timeout | null = null;
  private dueMs = 0;
  private restsUntilMs = 0;

  /** @param bell rings after a batch once it is told to listen; `rung` is to be called then */
  constructor(bell: Pick<Bell, "listen" | "ignore">, beat: () => void) {
    this.bell = bell;
    this.beat = beat;
  }

  /** So many answers were made. */
  answered(count: number): void {
    const ms = Math.max(TURN_MS, Math.min(TURN_MS_MAX, count * TURN_MS_PER_ANSWER));
    this.restsUntilMs = performance.now() + ms;
  }

  /**
   * Plans the next beat, unless there is one before.
   * @param isAwaited somebody waits for what is written next
   * @param isBehind whether something has been written that was not looked at
   */
  plan(isAwaited: boolean, isBehind: () => boolean): void {
    const nowMs = performance.now();
    const rests = nowMs < this.restsUntilMs;
    let dueMs = rests ? this.restsUntilMs : nowMs + LOOK_MS;
    if (!rests && isAwaited) {
      this.bell.listen();
      // What came before that was not rung for.
      if (isBehind()) dueMs = nowMs;
    }
    if (this.timer !== null && this.dueMs <= dueMs) return;
    this.stop();
    this.dueMs = dueMs;
    this.timer = setTimeout(() => this.go(), dueMs - nowMs);
  }

  /** A batch has been written since somebody began to wait. */
  rung(): void {
    if (this.timer !== null && performance.now() >= this.restsUntilMs) this.go();
  }

  stop(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }

  private go(): void {
    this.stop();
    this.bell.ignore();
    this.beat();
  }
}
