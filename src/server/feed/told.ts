/** An answer of the feed as watchers are told it: what they are written of it is made once for all. */
import type { FeedAnswer, FeedRefusal } from "../../shards/feed/messages.ts";
import { bufferOf } from "../../util/bytes.ts";

/** Says a place in a stream of events. */
export function progressAt(place: string | null): string {
  return `event: progress\nid: ${place}\ndata: {}\n\n`;
}

export class Told {
  readonly answer: FeedAnswer | FeedRefusal;
  /** When it came, by `performance.now`: the same for all, so that they go on alike. */
  readonly atMs = performance.now();
  private plain: Buffer | null = null;
  private placed: Buffer | null = null;

  constructor(answer: FeedAnswer | FeedRefusal) {
    this.answer = answer;
  }

  /** Its changes as events, and where that is due its place behind them. */
  textOf({ text, place }: FeedAnswer, isPlaceDue: boolean): Buffer {
    this.plain ??= bufferOf(text);
    if (!isPlaceDue) return this.plain;
    this.placed ??= Buffer.concat([this.plain, Buffer.from(progressAt(place))]);
    return this.placed;
  }
}
