/** `GET /<prefix>?changes`: a page of changes from a place on, or what comes first within a time. */
import type { Token } from "../../auth/tokens.ts";
import type { FeedAnswer, FeedRefusal } from "../../shards/feed/messages.ts";
import { nameOf } from "../../util/bytes.ts";
import type { Res } from "../http/http.ts";
import { sendError, statusLine } from "../http/reply.ts";
import { GET } from "../status/meter.ts";
import type { FeedQuery } from "./feed-query.ts";
import type { Scoped, Watcher, WatcherSetup } from "./source.ts";

/** A page ends with the change that passes this. */
const PAGE_BYTES_MAX = 1024 * 1024;
const HEAD = [
  statusLine(200),
  "Content-Type: application/json",
  "Cache-Control: no-cache",
  "X-Content-Type-Options: nosniff",
].join("\r\n");

export class ChangesPage implements Watcher {
  readonly caller: Token;
  private readonly setup: WatcherSetup;
  private readonly res: Res;
  private readonly asked: number;
  private open = true;

  constructor(
    setup: WatcherSetup,
    res: Res,
    { values, since, limit, waitMs }: FeedQuery,
    { scopes }: Scoped,
  ) {
    const { context, source } = setup;
    this.caller = context.caller;
    this.setup = setup;
    this.res = res;
    res.onAborted(() => this.finish(0));
    this.asked = source.ask(
      {
        prefixes: scopes.map(nameOf),
        exact: false,
        values,
        form: "objects",
        since,
        cursor: -1,
        catchesUp: false,
        waitMs,
        bytesMax: PAGE_BYTES_MAX,
        countMax: limit,
      },
      (answer) => {
        if (this.open) this.res.cork(() => this.answer(answer));
      },
    );
  }

  private answer(answer: FeedAnswer | FeedRefusal): void {
    if (answer.kind === "refused") {
      this.finish(sendError(this.res, answer.code, { detail: answer.detail }));
      return;
    }
    const { text, place, more } = answer;
    this.res.writeStatus(this.setup.context.varies ? `${HEAD}\r\nVary: Authorization` : HEAD);
    this.res.end(
      Buffer.concat([
        Buffer.from('{"success":true,"changes":['),
        text,
        Buffer.from(`],"place":"${place}","more":${more}}\n`),
      ]),
    );
    this.finish(200);
  }

  stop(): void {
    if (this.open) this.res.cork(() => this.finish(sendError(this.res, "stopping")));
  }

  /** @param status 0: the client has gone */
  private finish(status: number): void {
    if (!this.open) return;
    this.open = false;
    const { context, source, done } = this.setup;
    source.cancel(this.asked);
    if (status === 0) context.meter.countAborted(GET);
    else context.meter.count(GET, status);
    done(this);
  }
}
