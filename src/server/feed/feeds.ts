/**
 * `GET /<prefix>?watch`, `GET /<prefix>?changes` and `GET /key?wait`: what has changed, as a stream, in
 * pages, or of one key.
 */
import type { Token } from "../../auth/tokens.ts";
import { copyOf } from "../../util/bytes.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { WATCHERS_MAX } from "../../util/limits.ts";
import type { FrontContext } from "../http/context.ts";
import type { Req, Res } from "../http/http.ts";
import { sendError } from "../http/reply.ts";
import {
  TARGET_BAD_KEY,
  TARGET_EMPTY_KEY,
  TARGET_KEY,
  TARGET_ROOT,
  TARGET_TOO_LONG,
} from "../http/target.ts";
import type { AnswerQuery } from "../reads/reads.ts";
import { GET, HEAD } from "../status/meter.ts";
import { ChangesPage } from "./changes-page.ts";
import { FanOut, type FeedSource } from "./fan-out.ts";
import { type FeedQuery, isFeedQuery, readFeedQuery } from "./feed-query.ts";
import { KeyWait } from "./key-wait.ts";
import type { Watcher } from "./source.ts";
import { Watch } from "./watch.ts";

/** As fetch and EventSource send it when they come back. */
const LAST_EVENT_ID = Buffer.from("last-event-id");

export class Feeds {
  private readonly context: FrontContext;
  private readonly watchers = new Set<Watcher>();
  private fanOut: FanOut | null = null;

  constructor(context: FrontContext) {
    this.context = context;
  }

  /** Answers a GET or HEAD whose query asks for changes; false: it does not. */
  readonly answer: AnswerQuery = (res, req, query, target, head) => {
    if (!isFeedQuery(query)) return false;
    const isPrefix = target === TARGET_KEY || target === TARGET_ROOT || target === TARGET_EMPTY_KEY;
    if (!isPrefix && target !== TARGET_BAD_KEY && target !== TARGET_TOO_LONG) return false;
    const { meter } = this.context;
    const refused = (code: ErrorCode, detail = ""): true => {
      meter.count(head ? HEAD : GET, sendError(res, code, { detail, head }));
      return true;
    };
    if (head) {
      meter.count(HEAD, sendError(res, "method_not_allowed", { headers: [["Allow", "GET"]] as const, head }));
      return true;
    }
    if (!isPrefix) return refused(target === TARGET_TOO_LONG ? "key_too_long" : "bad_key");
    const asked = readFeedQuery(query);
    if (typeof asked === "string") return refused("bad_request", asked);
    if (asked.kind === "wait" && target !== TARGET_KEY) return refused("bad_key");
    const source = this.source();
    if ("code" in source) return refused(source.code, source.detail);
    this.begin(res, req, asked, source);
    return true;
  };

  /** Where changes come from now, or why nobody can follow them. */
  private source(): FeedSource | { code: ErrorCode; detail: string } {
    const { cluster, vault, stopping } = this.context;
    if (stopping) return { code: "stopping", detail: "" };
    const source = cluster === null ? vault.feed : cluster.feeds;
    if (source === undefined) return { code: "not_yet", detail: "this node keeps no feed of changes" };
    if (this.watchers.size >= WATCHERS_MAX)
      return { code: "overloaded", detail: `${WATCHERS_MAX} clients wait for changes already` };
    return source;
  }

  /** One for all who ask the same source, which changes when a node becomes one of a cluster. */
  private fanOutOf(source: FeedSource): FanOut {
    const { meter, inFlight } = this.context;
    // Twice, so that an answer to what was in flight changes it, too.
    if (this.fanOut?.source !== source)
      this.fanOut = new FanOut(source, () => 2 * meter.total + inFlight.count);
    return this.fanOut;
  }

  private begin(res: Res, req: Req, query: FeedQuery, source: FeedSource): void {
    const { context } = this;
    const fanOut = this.fanOutOf(source);
    const { caller, key } = context;
    const prefix = new Uint8Array(copyOf(key.bytes, 0, key.length));
    const done = (watcher: Watcher): void => {
      this.watchers.delete(watcher);
      this.tell();
    };
    if (query.kind === "wait") {
      this.watchers.add(new KeyWait({ context, source, fanOut, done }, res, req, prefix, query.waitMs));
      this.tell();
      return;
    }
    const scopes = caller.covers(prefix, prefix.length) ? [prefix] : caller.within(prefix);
    const sent = req.getHeader(LAST_EVENT_ID);
    const since = sent === "" ? query.since : sent;
    const scoped = { prefix, scopes: scopes.map((scope) => new Uint8Array(scope)) };
    const asked = { ...query, since };
    const Kind = query.kind === "watch" ? Watch : ChangesPage;
    this.watchers.add(new Kind({ context, source, fanOut, done }, res, asked, scoped));
    this.tell();
  }

  /** How many there are, for the figures. */
  private tell(): void {
    this.context.meter.watchers[0] = this.watchers.size;
  }

  /** Ends all in order. */
  stop(): void {
    for (const watcher of [...this.watchers]) watcher.stop();
    this.context.cluster?.feeds.close();
  }

  /** Ends those whose tokens are not what they were. */
  recheck(isGood: (token: Token) => boolean): void {
    for (const watcher of [...this.watchers]) if (!isGood(watcher.caller)) watcher.stop();
  }
}
