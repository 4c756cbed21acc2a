/** Answers on their way to the fronts: those of one turn travel as one message. */
import type { FeedAnswer, FeedRefusal, FeedTold } from "./messages.ts";
import type { Pending } from "./waiting.ts";

export class Outbox {
  private readonly tell: (front: number, told: FeedTold[]) => void;
  private waiting = new Map<number, FeedTold[]>();

  constructor(tell: (front: number, told: FeedTold[]) => void) {
    this.tell = tell;
  }

  add({ front, id }: Pending, answer: FeedAnswer | FeedRefusal): void {
    const told = this.waiting.get(front);
    if (told === undefined) this.waiting.set(front, [{ id, answer }]);
    else told.push({ id, answer });
  }

  flush(): void {
    if (this.waiting.size === 0) return;
    const { waiting } = this;
    this.waiting = new Map();
    for (const [front, told] of waiting) this.tell(front, told);
  }
}
