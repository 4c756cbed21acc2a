/** Lines of those who want to change one key each, one after the other. */

/** Who may wait for one key, and for all keys. */
const LINE_MAX = 1000;
const WAITING_MAX = 10_000;

/**
 * One's turn.
 * @param known what the one before has left; null: nobody knows
 * @param leave must be called once, with what is there now, or null
 */
type Turn<T> = (known: T | null, leave: (left: T | null) => void) => void;

export class Lines<T> {
  private readonly lines = new Map<string, Turn<T>[]>();
  private waiting = 0;

  /** Stands in line; the turn may come at once. False: there is no room. */
  enter(key: string, turn: Turn<T>): boolean {
    const line = this.lines.get(key);
    if (line === undefined) {
      this.lines.set(key, []);
      this.run(key, turn, null);
      return true;
    }
    if (line.length >= LINE_MAX || this.waiting >= WAITING_MAX) return false;
    line.push(turn);
    this.waiting++;
    return true;
  }

  private run(key: string, turn: Turn<T>, known: T | null): void {
    turn(known, (left) => {
      const next = this.lines.get(key)?.shift();
      if (next === undefined) {
        this.lines.delete(key);
        return;
      }
      this.waiting--;
      // Later: turns that end at once would otherwise stand on one another.
      setImmediate(() => this.run(key, next, left));
    });
  }
}
