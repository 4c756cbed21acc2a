/**
 * What the own replica holds of keys in order, for this node and for others.
 */
import type { CatalogClient } from "../../shards/catalog/client.ts";
import type { AnswerRoom } from "../peers/peer-handler.ts";
import { decodeListRequest, encodeListed, encodeListRefusal, type ListRequest } from "../wire/list-wire.ts";

/** An answer ends after so many bytes of entries. */
const LISTED_BYTES_MAX = 256 * 1024;

export interface ReplicaListSetup {
  catalog: Pick<CatalogClient, "ask">;
  epoch: () => number;
  /** For which partitions the replica votes now, a bit each. */
  votes: () => Uint8Array;
}

export class ReplicaList {
  private readonly setup: ReplicaListSetup;

  constructor(setup: ReplicaListSetup) {
    this.setup = setup;
  }

  /** The answer to a request, as bytes. */
  async answer({ epoch, limit, range }: ListRequest): Promise<Buffer> {
    const { catalog } = this.setup;
    if (epoch !== this.setup.epoch()) return this.refusal("stale_epoch");
    const before = this.setup.votes();
    const answer = await catalog.ask({ kind: "held", range, limit });
    if (answer.kind === "refused") return this.refusal(`${answer.code} ${answer.detail}`);
    // Under one epoch, or not at all; and what it votes for, it voted for all the time.
    if (epoch !== this.setup.epoch()) return this.refusal("stale_epoch");
    const votes = this.setup.votes().map((bits, at) => bits & before[at]);
    const { left } = answer;
    const place = left === null ? null : range.reverse ? left.high : left.low;
    return encodeListed(votes, place, answer.entries);
  }

  private refusal(text: string): Buffer {
    return encodeListRefusal({ epoch: this.setup.epoch(), text });
  }

  /** Answers another node. */
  frame(bytes: Uint8Array, reply: (answer: Uint8Array) => void, room: AnswerRoom): void {
    const request = decodeListRequest(bytes);
    if (request === null) reply(this.refusal("bad_request"));
    else if (!room.take(LISTED_BYTES_MAX)) reply(this.refusal("overloaded"));
    else void this.answer(request).then(reply);
  }
}
