/**
 * The work of all batches of a front, in small steps: in each turn of the event loop they have a slice of
 * time together, however many they are, and then whoever else waits is served. One step after another is of
 * the same work until the slice is over; the next slice begins with another one's.
 */

/** A slice, in milliseconds; the step that is under way at its end is done all the same. */
const SLICE_MS = 1;

interface Work {
  /** @returns whether there is more to do */
  step: () => boolean;
  failed: (error: unknown) => void;
}

export class Turns {
  private readonly waiting: Work[] = [];
  /** When the slice of this turn of the event loop is over. */
  private untilMs = 0;
  /** Another turn will come. */
  private isDue = false;
  private isWorking = false;

  /**
   * Does work, from now on if the slice is not over.
   * @param step called until there is no more to do
   * @param failed gets what a step throws; no other one follows
   */
  add(step: Work["step"], failed: Work["failed"]): void {
    this.waiting.push({ step, failed });
    if (!this.isDue) this.awaitTurn();
    if (!this.isWorking) this.work();
  }

  private awaitTurn(): void {
    this.isDue = true;
    this.untilMs = performance.now() + SLICE_MS;
    setImmediate(this.turn);
  }

  private readonly turn = (): void => {
    this.isDue = false;
    if (this.waiting.length === 0) return;
    this.awaitTurn();
    this.work();
  };

  private work(): void {
    const { waiting } = this;
    this.isWorking = true;
    while (waiting.length > 0 && performance.now() < this.untilMs) {
      const work = waiting.shift() as Work;
      if (this.goesOn(work)) waiting.push(work);
    }
    this.isWorking = false;
  }

  /** Does steps until the slice is over. False: there is no more to do. */
  private goesOn({ step, failed }: Work): boolean {
    try {
      while (step()) if (performance.now() >= this.untilMs) return true;
    } catch (error) {
      failed(error);
    }
    return false;
  }
}
