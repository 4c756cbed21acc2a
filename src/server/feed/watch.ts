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
import type { FeedQuestion, FeedRefusal } from "../../shards/feed/messages.ts";
import { bufferOf, nameOf } from "../../util/bytes.ts";
import { ERRORS } from "../../util/errors.ts";
import { WATCHER_BYTES_MAX } from "../../util/limits.ts";
import type { Res } from "../http/http.ts";
import { type Paced, STALL_MS } from "../http/pace.ts";
import { sendError, statusLine } from "../http/reply.ts";
import { writePiece } from "../lines/pieces.ts";
import { sourceOf } from "../list/list-source.ts";
import { GET } from "../status/meter.ts";
import type { Asked, Asker } from "./fan-out.ts";
import type { FeedQuery } from "./feed-query.ts";
import type { Scoped, Watcher, WatcherSetup } from "./source.ts";
import { progressAt, type Told } from "./told.ts";

/** While events flow the place comes at least this often. */
const PLACE_MS = 100;
/** When nothing happens it comes this often: it moves on all the same. */
const PROGRESS_MS = 5000;
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

export class Watch implements Watcher, Paced, Asker {
  readonly caller: Token;
  private readonly setup: WatcherSetup;
  private readonly res: Res;
  private readonly query: FeedQuery;
  /** What the first list is of; null: there is none. */
  private readonly scoped: Scoped | null;
  /** One for all times that it is asked: ten thousand watchers ask two thousand times a second. */
  readonly question: FeedQuestion;
  asked: Asked = null;
  private reply: (told: Told) => void = ignore;
  private place: string | null;
  private cursor = -1;
  /** Events may be told only if nothing newer was: after a list, until it has caught up. */
  private catchesUp = false;
  /** What is left of the first list; null: nothing. */
  private initial: KeyRange | null = null;
  isOpen = true;
  private begun = false;
  private writable = true;
  private waitsSinceMs = 0;
  /** What to do when the socket has room again. */
  private next: (() => void) | null = null;
  /** When the latest answer came, and the one before that whose place was sent. */
  private toldMs = Number.NEGATIVE_INFINITY;
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
    // Field by field: what is spread here is slow to read, and a thousand are compared for each change.
    this.question = {
      prefixes: scoped.scopes.map(nameOf),
      exact: false,
      values: query.values,
      form: "events",
      since: query.since,
      cursor: -1,
      catchesUp: false,
      waitMs: 0,
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
      if (this.isOpen) next?.();
      return true;
    });
    this.ask(0, this.first);
  }

  private ask(waitMs: number, reply: (told: Told) => void): void {
    const { question } = this;
    const { fanOut } = this.setup;
    question.since = this.place;
    question.cursor = this.cursor;
    question.catchesUp = this.catchesUp;
    question.waitMs = waitMs;
    this.reply = reply;
    if (waitMs === 0) fanOut.askAlone(this);
    else fanOut.ask(this);
  }

  readonly answered: FeedReply = (answer) => this.setup.fanOut.answered(answer, [this]);

  tell(told: Told): void {
    this.toldMs = told.atMs;
    this.reply(told);
  }

  /** The first answer decides what becomes of the request. */
  private readonly first = (told: Told): void => {
    const { answer } = told;
    const isFresh = this.place === null;
    if (answer.kind === "refused") {
      if (answer.code === "place_too_old" && this.query.initial) {
        // It begins anew: what the client has is worth nothing.
        this.write(resetEvent(answer));
        this.place = null;
        this.ask(0, this.first);
      } else if (this.begun) this.reset(answer);
      else this.refuse(answer);
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
    } else this.follows(told);
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
      if (!this.isOpen) return;
      if (answer.kind === "refused") this.reset(answer);
      else this.listed(answer);
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
    this.placeGoes();
    this.write(`${text}event: live\nid: ${this.place}\ndata: {}\n\n`);
    this.goOn(this.follow);
  }

  private readonly follow = (): void => {
    const sinceMs = this.toldMs - this.placeSentMs;
    // Whole milliseconds: a question stays of one hidden class.
    this.ask(this.owesPlace ? Math.max(1, Math.ceil(PLACE_MS - sinceMs)) : PROGRESS_MS, this.follows);
  };

  private readonly follows = (told: Told): void => {
    const { answer } = told;
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
    const isDue = answer.count === 0 || this.toldMs - this.placeSentMs >= PLACE_MS;
    if (isDue) this.placeGoes();
    this.write(told.textOf(answer, isDue));
    this.goOn(this.follow);
  };

  /** It is about to be sent. */
  private placeGoes(): void {
    this.placeSentMs = this.toldMs;
    this.owesPlace = false;
  }

  /** Goes on as soon as the socket has room. */
  private goOn(next: () => void): void {
    if (!this.isOpen) return;
    if (this.writable) next();
    else this.next = next;
  }

  private write(text: string | Uint8Array): void {
    if (!this.begun) {
      this.begun = true;
      this.res.cork(() => {
        this.res.writeStatus(this.setup.context.varies ? `${HEAD}\r\nVary: Authorization` : HEAD);
        this.res.write(`retry: ${RETRY_MS}\n\n`);
      });
    }
    if (text.length === 0 || writePiece(this.res, text)) return;
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
    if (!this.isOpen) return;
    if (!this.begun) {
      this.refuse({ code: "stopping", detail: "" });
      return;
    }
    if (this.owesPlace) this.write(progressAt(this.place));
    this.end();
  }

  /** Before anything was said. */
  private refuse({ code, detail }: Pick<FeedRefusal, "code" | "detail">): void {
    this.res.cork(() => this.finish(sendError(this.res, code, { detail })));
  }

  private end(): void {
    this.res.end();
    this.finish(200);
  }

  beat(nowMs: number): void {
    if (this.writable) return;
    // It knows a place to go on from.
    if (nowMs - this.waitsSinceMs > STALL_MS) this.res.close();
    // uWS would close a connection that takes nothing for ten seconds: any write arms its timer anew.
    else this.res.cork(() => this.res.write(":\n"));
  }

  /** @param status 0: the client has gone */
  private finish(status: number): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    const { context, fanOut, done } = this.setup;
    fanOut.cancel(this);
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
