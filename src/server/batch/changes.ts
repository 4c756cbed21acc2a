/**
 * The changes in place of one batch: a few at a time, begun one after another, since each may have a value of
 * a mebibyte to read, parse and write.
 */
import type { Asked, MakeChange } from "../patch/asked.ts";
import type { Ending } from "../patch/ending.ts";
import type { Turns } from "./turns.ts";

/** Each holds its value, what it becomes, and what is answered. */
const UNDER_WAY_MAX = 32;

type Done = (ending: Ending) => void;

export class Changes {
  private readonly turns: Turns;
  private readonly change: MakeChange;
  private readonly failed: (error: unknown) => void;
  private readonly waiting: [Asked, Done][] = [];
  private underWay = 0;
  /** Those that wait are being begun. */
  private isBeginning = false;

  /** @param failed gets what making a change throws */
  constructor(turns: Turns, change: MakeChange, failed: (error: unknown) => void) {
    this.turns = turns;
    this.change = change;
    this.failed = failed;
  }

  /** Takes one; it ends later. */
  add(asked: Asked, done: Done): void {
    this.waiting.push([asked, done]);
    this.begin();
  }

  private get canBegin(): boolean {
    return this.waiting.length > 0 && this.underWay < UNDER_WAY_MAX;
  }

  private begin(): void {
    if (this.isBeginning || !this.canBegin) return;
    this.isBeginning = true;
    this.turns.add(this.step, this.failed);
  }

  private readonly step = (): boolean => {
    const [asked, done] = this.waiting.shift() as [Asked, Done];
    this.underWay++;
    this.change(asked, (ending) => {
      this.underWay--;
      done(ending);
      this.begin();
    });
    this.isBeginning = this.canBegin;
    return this.isBeginning;
  };
}
