/**
 * A front's end of the way to the feed of changes. What is asked, and answered, in one turn of the event loop
 * travels as one message.
 */
import type { FeedAnswer, FeedAsked, FeedQuestion, FeedRefusal, FeedTold } from "./messages.ts";
import { STOPPING } from "./refusals.ts";

export type FeedReply = (answer: FeedAnswer | FeedRefusal) => void;

export class FeedClient {
  private readonly send: (asked: FeedAsked[]) => void;
  private readonly waiting = new Map<number, FeedReply>();
  private asked: FeedAsked[] = [];
  private next = 0;
  private refusal: FeedRefusal | null = null;

  constructor(send: (asked: FeedAsked[]) => void) {
    this.send = send;
  }

  /**
   * Asks; `reply` is called once, later, unless `cancel` is called before.
   * @returns what `cancel` wants to know
   */
  ask(question: FeedQuestion, reply: FeedReply): number {
    const id = this.next++;
    const { refusal } = this;
    if (refusal !== null) {
      queueMicrotask(() => reply(refusal));
      return id;
    }
    this.waiting.set(id, reply);
    this.post({ id, question });
    return id;
  }

  /** Nobody waits for the answer any more. */
  cancel(id: number): void {
    if (this.waiting.delete(id)) this.post({ id, question: null });
  }

  private post(asked: FeedAsked): void {
    if (this.asked.length === 0) queueMicrotask(this.flush);
    this.asked.push(asked);
  }

  private readonly flush = (): void => {
    const { asked } = this;
    this.asked = [];
    if (this.refusal === null) this.send(asked);
  };

  /** Answers have come. */
  take(told: readonly FeedTold[]): void {
    for (const { id, answer } of told) {
      const reply = this.waiting.get(id);
      this.waiting.delete(id);
      reply?.(answer);
    }
  }

  /** No more answers will come. */
  end(refusal: FeedRefusal = STOPPING): void {
    this.refusal ??= refusal;
    const replies = [...this.waiting.values()];
    this.waiting.clear();
    for (const reply of replies) reply(this.refusal);
  }
}
