/** Lines of those who want to change one key each: they are served in turns, as many in one as can be. */

/** Who may wait for one key, and for all keys. */
const LINE_MAX = 1000;
const WAITING_MAX = 10_000;

/** How a turn has ended. */
export interface Left<W, T> {
  /** What is there now; null: nobody knows. */
  readonly known: T | null;
  /** How many were answered. */
  readonly answered: number;
  /** Those who stand at the head of the line again. */
  readonly again: readonly W[];
}

/**
 * Serves one turn.
 * @param line those who wait, at least one; those who are served are taken from its head
 * @param known what the turn before has left; null: nobody knows
 * @param leave must be called once
 */
export type Serve<W, T> = (line: W[], known: T | null, leave: (left: Left<W, T>) => void) => void;

export class Lines<W, T> {
  private readonly serve: Serve<W, T>;
  private readonly lines = new Map<string, W[]>();
  /** Those who wait or are being served. */
  private present = 0;

  constructor(serve: Serve<W, T>) {
    this.serve = serve;
  }

  /** Stands in line; the turn may come at once. False: there is no room. */
  enter(key: string, one: W): boolean {
    const line = this.lines.get(key);
    if ((line?.length ?? 0) >= LINE_MAX || this.present >= WAITING_MAX) return false;
    this.present++;
    if (line !== undefined) line.push(one);
    else {
      const first = [one];
      this.lines.set(key, first);
      this.run(key, first, null);
    }
    return true;
  }

  private run(key: string, line: W[], known: T | null): void {
    this.serve(line, known, (left) => {
      this.present -= left.answered;
      line.unshift(...left.again);
      if (line.length === 0) this.lines.delete(key);
      // Later: turns that end at once would otherwise stand on one another.
      else setImmediate(() => this.run(key, line, left.known));
    });
  }
}
