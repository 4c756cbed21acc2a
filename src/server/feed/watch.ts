/**
 * `GET /<prefix>?watch`: changes as a stream of events (HTML standard, "Server-sent events"). It asks for
 * what comes next only when the socket has taken what came before, so a client that reads slowly has at most
 * WATCHER_BYTES_MAX here, and gets later what it missed, from memory or from slabs.
 *
 *   first place ► (&initial: the list, a page at a time ► live) ► ask ► write ► ask ► …
 */
import type { Token } from "../../auth/tokens.ts";
import { type KeyRange, rangeOf } from "../../engine/catalog/runs/listing.ts";
import type { ListAnswer, ListQuestion } from "../../shards/catalog/messages.ts";
import type { FeedReply } from "../../shards/feed/client.ts";
import type { FeedAnswer, FeedQuestion, FeedRefusal } from "../../shards/feed/messages.ts";
import { bufferOf, nameOf } from "../../util/bytes.ts";
import { ERRORS } from "../../util/errors.ts";
import { WATCHER_BYTES_MAX } from "../../util/limits.ts";
import type { Res } from "../http/http.ts";
import type { Paced } from "../http/pace.ts";
import { sendError, statusLine } from "../http/reply.ts";
import { sourceOf } from "../list/list-source.ts";
import { GET } from "../status/meter.ts";
import type { FeedQuery } from "./feed-query.ts";
import { QUESTION, type Scoped, type Watcher, type WatcherSetup } from "./source.ts";

/** While events flow the place comes at least this often. */
const PLACE_MS = 100;
/** When nothing happens it comes this often: it moves on all the same. */
const PROGRESS_MS = 5000;
/** A client that takes nothing for so long is closed; it knows a place to go on from. */
const STALL_MS = 60_000;
/** When a browser comes back after a break. */
const RETRY_MS = 1000;
/** Keys of one piece of the first list. */
const INITIAL_KEYS = 200;
const COUNT_MAX = 10_000;
const HEAD = [
  statusLine(200),
  "Content-Type: text/event-stream",
  "Cache-Control: no-cache",
  "X-Content-Type-Options: nosniff",
  // nginx otherwise keeps events back until it has some kilobytes.
  "X-Accel-Buffering: no",
].join("\r\n");

export class Watch implements Watcher, Paced {
  readonly caller: Token;
  private readonly setup: WatcherSetup;
  private readonly res: Res;
  private readonly query: FeedQuery;
  /** What the first list is of; null: there is none. */
  private readonly scoped: Scoped | null;
  /** One for all times that it is asked: ten thousand watchers ask two thousand times a second. */
  private readonly question: FeedQuestion;
  private reply: FeedReply = ignore;
  private place: string | null;
  private cursor = -1;
  /** Events may be told only if nothing newer was: after a list, until it has caught up. */
  private catchesUp = false;
  /** What is left of the first list; null: nothing. */
  private initial: KeyRange | null = null;
  private open = true;
  private begun = false;
  private writable = true;
  private waitsSinceMs = 0;
  /** Of the question that is not answered yet; -1: there is none. */
  private asked = -1;
  /** What to do when the socket has room again. */
  private next: (() => void) | null = null;
  private placeSentMs = Number.NEGATIVE_INFINITY;
  /** Events were written after the last place. */
  private owesPlace = false;

  constructor(setup: WatcherSetup, res: Res, query: FeedQuery, scoped: Scoped) {
    const { context } = setup;
    this.caller = context.caller;
    this.setup = setup;
    this.res = res;
    this.query = query;
    this.scoped = query.initial ? scoped : null;
    this.question = {
      ...QUESTION,
      ...{ prefixes: scoped.scopes.map(nameOf), values: query.values },
      bytesMax: WATCHER_BYTES_MAX,
      countMax: COUNT_MAX,
    };
    this.place = query.since;
    context.pacer.add(this);
    res.onAborted(() => this.finish(0));
    res.onWritable(() => {
      this.writable = true;
      const { next } = this;
      this.next = null;
      if (this.open) next?.();
      return true;
    });
    this.ask(0, this.first);
  }

  private ask(waitMs: number, reply: FeedReply): void {
    const { question } = this;
    question.since = this.place;
    question.cursor = this.cursor;
    question.catchesUp = this.catchesUp;
    question.waitMs = waitMs;
    this.reply = reply;
    this.asked = this.setup.source.ask(question, this.answered);
  }

  private readonly answered: FeedReply = (answer) => {
    this.asked = -1;
    if (this.open) this.res.cork(() => this.reply(answer));
  };

  /** The first answer decides what becomes of the request. */
  private readonly first = (answer: FeedAnswer | FeedRefusal): void => {
    const isFresh = this.place === null;
    if (answer.kind === "refused") {
      if (answer.code === "place_too_old" && this.query.initial) {
        // It begins anew: what the client has is worth nothing.
        this.write(resetEvent(answer));
        this.place = null;
        this.ask(0, this.first);
      } else if (this.begun) this.reset(answer);
      else this.finish(sendError(this.res, answer.code, { detail: answer.detail }));
      return;
    }
    if (isFresh && this.query.initial) {
      this.place = answer.place;
      const { prefix, scopes } = this.scoped as Scoped;
      this.initial = rangeOf(prefix, false, null);
      if (this.setup.context.varies) this.initial.scopes = [...scopes];
      this.catchesUp = true;
      this.write("");
      this.goOn(this.list);
    } else this.told(answer);
  };

  private readonly list = (): void => {
    const { initial, query } = this;
    const source = sourceOf(this.setup.context);
    if (initial === null) return;
    if ("code" in source) {
      this.reset(source);
      return;
    }
    const { values } = query;
    const question: ListQuestion = { kind: "list", range: initial, limit: INITIAL_KEYS, values, lines: true };
    void source.ask(question, "quorum").then((answer) => {
      if (!this.open) return;
      this.res.cork(() => {
        if (answer.kind === "refused") this.reset(answer);
        else this.listed(answer);
      });
    });
  };

  private listed({ keys, left }: ListAnswer): void {
    const lines = bufferOf(keys).toString().split("\n");
    let text = "";
    for (const line of lines) if (line !== "") text += `event: put\ndata: ${line}\n\n`;
    this.initial = left;
    if (left !== null) {
      if (text !== "") this.write(text);
      this.goOn(this.list);
      return;
    }
    this.write(`${text}event: live\n${this.placeLine()}data: {}\n\n`);
    this.goOn(this.follow);
  }

  private readonly follow = (): void => {
    const sinceMs = performance.now() - this.placeSentMs;
    this.ask(this.owesPlace ? Math.max(1, PLACE_MS - sinceMs) : PROGRESS_MS, this.told);
  };

  private readonly told = (answer: FeedAnswer | FeedRefusal): void => {
    if (answer.kind === "refused") {
      this.reset(answer);
      return;
    }
    const isOver = this.caller.hasEnd && this.caller.isOver(Date.now());
    if (isOver) {
      this.stop();
      return;
    }
    this.place = answer.place;
    this.cursor = answer.cursor;
    if (answer.cursor >= 0) this.catchesUp = false;
    if (answer.count > 0) this.owesPlace = true;
    const isDue = answer.count === 0 || performance.now() - this.placeSentMs >= PLACE_MS;
    if (answer.count === 0) {
      this.write(this.progress());
      this.goOn(this.follow);
      return;
    }
    const text = Buffer.from(answer.text.buffer, answer.text.byteOffset, answer.text.length);
    if (isDue) this.write(Buffer.concat([text, Buffer.from(this.progress())]));
    else this.write(text);
    this.goOn(this.follow);
  };

  private progress(): string {
    return `event: progress\n${this.placeLine()}data: {}\n\n`;
  }

  private placeLine(): string {
    this.placeSentMs = performance.now();
    this.owesPlace = false;
    return `id: ${this.place}\n`;
  }

  /** Goes on as soon as the socket has room. */
  private goOn(next: () => void): void {
    if (!this.open) return;
    if (this.writable) next();
    else this.next = next;
  }

  private write(text: string | Uint8Array): void {
    if (!this.begun) {
      this.begun = true;
      this.res.writeStatus(this.setup.context.varies ? `${HEAD}\r\nVary: Authorization` : HEAD);
      this.res.write(`retry: ${RETRY_MS}\n\n`);
    }
    if (text.length === 0 || this.res.write(text)) return;
    this.writable = false;
    this.waitsSinceMs = performance.now();
  }

  /** The place is worth nothing any more, or nobody can tell what has changed. */
  private reset(refusal: { code: FeedRefusal["code"]; detail: string }): void {
    if (refusal.code === "stopping") {
      this.stop();
      return;
    }
    this.write(resetEvent(refusal));
    this.end();
  }

  stop(): void {
    if (!this.open) return;
    this.res.cork(() => {
      if (!this.begun) {
        this.finish(sendError(this.res, "stopping"));
        return;
      }
      if (this.owesPlace) this.write(this.progress());
      this.end();
    });
  }

  private end(): void {
    this.res.end();
    this.finish(200);
  }

  beat(nowMs: number): void {
    if (this.writable) return;
    if (nowMs - this.waitsSinceMs > STALL_MS) this.res.close();
    // uWS would close a connection that takes nothing for ten seconds: any write arms its timer anew.
    else this.res.cork(() => this.res.write(":\n"));
  }

  /** @param status 0: the client has gone */
  private finish(status: number): void {
    if (!this.open) return;
    this.open = false;
    const { context, source, done } = this.setup;
    if (this.asked >= 0) source.cancel(this.asked);
    context.pacer.delete(this);
    if (status === 0) context.meter.countAborted(GET);
    else context.meter.count(GET, status);
    done(this);
  }
}

function ignore(): void {}

/** An empty id: who comes back begins anew. */
function resetEvent({ code, detail }: { code: FeedRefusal["code"]; detail: string }): string {
  const data = JSON.stringify({ code, error: detail === "" ? ERRORS[code].message : detail });
  return `event: reset\nid:\ndata: ${data}\n\n`;
}
