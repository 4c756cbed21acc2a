/**
 * Values with an end of life: which there are, and by which clock they are judged.
 *
 * The calendar knows what was written since the start at once, and what was there before once the shard has
 * looked through its tables (sweep.ts), which takes a while. Nobody waits for it: who asks for a value judges
 * its end by the record.
 */
import type { SteadyClock } from "../../util/clock.ts";
import { FIGURE, logPlace } from "../slabs/figures.ts";
import { Calendar } from "./calendar.ts";

export class Ends {
  /** Judges what is asked of this shard, on a single node. */
  readonly clock: SteadyClock;
  readonly calendar = new Calendar();
  private readonly figures: Float64Array;
  /** Where the log ended at the start (`logPlace`), and up to where the calendar has what was before that. */
  private openedEnd = 0;
  private known = 0;

  constructor(figures: Float64Array, clock: SteadyClock) {
    this.figures = figures;
    this.clock = clock;
  }

  /** Where the log ended at the start. */
  get openedAt(): number {
    return this.openedEnd;
  }

  /** The log ends here, and what is before that is not in the calendar yet. */
  opened(openedEnd: number): void {
    this.openedEnd = openedEnd;
  }

  /** What is before this place is in the calendar now. */
  knownUpTo(place: number): void {
    this.known = place;
  }

  /**
   * Values that end up to this moment may be marked as ended by this shard, in milliseconds since 1970. On a
   * node of a cluster its clock alone does not decide.
   */
  get markable(): number {
    return this.figures[FIGURE.replicated] === 0 ? this.clock.now() : this.figures[FIGURE.endTime];
  }

  /** A value with an end has come to be what its key has. */
  entered(end: number, sequence: number, unit: number): void {
    this.calendar.add(end, logPlace({ sequence, unit }));
    this.figures[FIGURE.ending]++;
    this.figures[FIGURE.calendar] = this.calendar.entries;
  }

  /** A value lies elsewhere now. `end` 0: it has none. */
  moved(end: number, sequence: number, unit: number, toSequence: number, toUnit: number): void {
    if (end === 0) return;
    this.left(sequence, unit);
    this.entered(end, toSequence, toUnit);
  }

  /** One is what its key has no longer. */
  left(sequence: number, unit: number): void {
    const place = logPlace({ sequence, unit });
    if (place >= this.openedEnd || place < this.known) this.figures[FIGURE.ending]--;
  }
}
