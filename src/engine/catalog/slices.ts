/**
 * Long work in slices, so that everything else in the thread has its turn in between.
 */

/** Longest that one piece of work keeps the others waiting. */
export const SLICE_MS = 2;
/** Between two looks at the clock. */
const STEPS = 64;

export class Slices {
  private readonly now: () => number;
  private readonly sliceMs: number;
  private readonly stopped: () => boolean;
  private steps = 0;
  /** When the slice is over, by the clock that was given. */
  endsMs = 0;

  /** @param stopped whether the work is to stop */
  constructor(stopped: () => boolean = () => false, now = () => performance.now(), sliceMs = SLICE_MS) {
    this.stopped = stopped;
    this.now = now;
    this.sliceMs = sliceMs;
    this.begin();
  }

  /** A slice begins. */
  begin(): void {
    this.endsMs = this.now() + this.sliceMs;
    this.steps = 0;
  }

  /** Whether the slice is over; to be asked at each step, however small. */
  get isOver(): boolean {
    return ++this.steps % STEPS === 0 && this.now() >= this.endsMs;
  }

  /**
   * Lets the others have their turn.
   * @returns false: the work is to stop
   */
  async turn(): Promise<boolean> {
    await new Promise((resolve) => setImmediate(resolve));
    this.begin();
    return !this.stopped();
  }
}
