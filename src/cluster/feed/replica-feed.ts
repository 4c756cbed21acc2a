/**
 * What has changed at the own replica, decided or not, for this node and for others.
 */
import type { FeedClient } from "../../shards/feed/client.ts";
import type { FeedAnswer, FeedQuestion, FeedRefusal } from "../../shards/feed/messages.ts";
import { STOPPING } from "../../shards/feed/refusals.ts";
import type { AnswerRoom } from "../peers/peer-handler.ts";
import { encodeListRefusal } from "../wire/list-wire.ts";
import { type ChangesRequest, decodeChangesRequest, encodeChanges } from "./feed-wire.ts";

/** An answer ends with the change that passes this. */
const CHANGES_BYTES_MAX = 128 * 1024;

export interface ReplicaFeedSetup {
  feed: Pick<FeedClient, "ask">;
  epoch: () => number;
  /** For which partitions the replica votes now, a bit each. */
  votes: () => Uint8Array;
}

export class ReplicaFeed {
  private readonly setup: ReplicaFeedSetup;
  private readonly waiting = new Set<(answer: FeedRefusal) => void>();
  private closed = false;

  constructor(setup: ReplicaFeedSetup) {
    this.setup = setup;
  }

  /** The answer to a request, as bytes. */
  async answer(request: ChangesRequest): Promise<Buffer> {
    const { feed, votes } = this.setup;
    const { epoch, prefixes, exact, since, cursor, catchesUp, waitMs, countMax } = request;
    if (epoch !== this.setup.epoch()) return this.refusal("stale_epoch");
    const before = votes();
    const question: FeedQuestion = {
      prefixes,
      exact,
      values: false,
      form: "objects",
      since,
      cursor,
      catchesUp,
      waitMs,
      bytesMax: CHANGES_BYTES_MAX,
      countMax,
    };
    const answer = await new Promise<FeedAnswer | FeedRefusal>((resolve) => {
      this.waiting.add(resolve);
      feed.ask(question, (told) => {
        this.waiting.delete(resolve);
        resolve(told);
      });
      if (this.closed) resolve(STOPPING);
    });
    if (answer.kind === "refused") return this.refusal(`${answer.code} ${answer.detail}`);
    // Under one epoch, or not at all; and what it votes for, it voted for all the time.
    if (epoch !== this.setup.epoch()) return this.refusal("stale_epoch");
    return encodeChanges(
      votes().map((bits, at) => bits & before[at]),
      answer,
    );
  }

  private refusal(text: string): Buffer {
    return encodeListRefusal({ epoch: this.setup.epoch(), text });
  }

  /** The node stops: nobody is kept waiting. */
  close(): void {
    this.closed = true;
    for (const resolve of this.waiting) resolve(STOPPING);
    this.waiting.clear();
  }

  /** Answers another node. */
  frame(bytes: Uint8Array, reply: (answer: Uint8Array) => void, room: AnswerRoom): void {
    const request = decodeChangesRequest(bytes);
    if (request === null) reply(this.refusal("bad_request"));
    else if (!room.take(CHANGES_BYTES_MAX)) reply(this.refusal("overloaded"));
    else void this.answer(request).then(reply);
  }
}
