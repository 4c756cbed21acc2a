/**
 * The changes in place of one batch: a few at a time, begun one after another, with turns for others in
 * between, since each may have a value of a mebibyte to read, parse and write.
 */
import type { Asked, MakeChange } from "../patch/asked.ts";
import type { Ending } from "../patch/ending.ts";

/** Each holds its value, what it becomes, and what is answered. */
const UNDER_WAY_MAX = 32;

type Done = (ending: Ending) => void;

export class Changes {
  private readonly change: MakeChange;
  private readonly waiting: [Asked, Done][] = [];
  private underWay = 0;
  /** A turn will come. */
  private isDue = false;

  constructor(change: MakeChange) {
    this.change = change;
  }

  /** Takes one; it ends later. */
  add(asked: Asked, done: Done): void {
    this.waiting.push([asked, done]);
    this.awaitTurn();
  }

  private awaitTurn(): void {
    if (this.isDue || this.waiting.length === 0 || this.underWay >= UNDER_WAY_MAX) return;
    this.isDue = true;
    setImmediate(() => {
      this.isDue = false;
      const [asked, done] = this.waiting.shift() as [Asked, Done];
      this.underWay++;
      this.change(asked, (ending) => {
        this.underWay--;
        done(ending);
        this.awaitTurn();
      });
      this.awaitTurn();
    });
  }
}
