/**
 * All pages of a list as one stream of lines, as fast as the client takes it: one page is on its way to the
 * client, and the next is made meanwhile.
 */
import type { CatalogAnswer } from "../../shards/catalog/messages.ts";
import { LIST_LIMIT_MAX } from "../../util/limits.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import type { Paced } from "../http/pace.ts";
import { sendError } from "../http/reply.ts";
import { LINES_TYPE, streamHead } from "../lines/line-answer.ts";
import { GET } from "../status/meter.ts";
import type { ListQuery } from "./list-query.ts";
import { type ListSource, questionOf, STALL_MS } from "./list-source.ts";

/** Entries of one piece: some 200 KB. */
const PIECE_ENTRIES = Math.min(2000, LIST_LIMIT_MAX);
/** White space between two lines means nothing, and keeps a connection that waits. */
const BLANK = Buffer.from("\n");

export class ListStream implements Paced {
  private readonly context: FrontContext;
  private readonly res: Res;
  private readonly source: ListSource;
  private readonly list: ListQuery;
  private open = true;
  private begun = false;
  /** The socket has room. */
  private writable = true;
  /** A page that waits for room. */
  private next: CatalogAnswer | null = null;
  private asking = false;
  private count = 0;
  private waitsSinceMs = 0;

  constructor(context: FrontContext, res: Res, source: ListSource, list: ListQuery) {
    this.context = context;
    this.res = res;
    this.source = source;
    this.list = { ...list, limit: PIECE_ENTRIES };
  }

  /** To be called in the request's handler. */
  begin(): void {
    const { res, context } = this;
    context.inFlight.enter();
    context.pacer.add(this);
    res.onAborted(() => this.finish(0));
    res.onWritable(() => {
      this.writable = true;
      this.waitsSinceMs = 0;
      this.pump();
      return true;
    });
    this.ask();
  }

  private ask(): void {
    const { source, list } = this;
    this.asking = true;
    void source.ask(questionOf(list, true), list.consistency).then((answer) => {
      this.asking = false;
      this.next = answer;
      if (this.open) this.res.cork(this.pumpCorked);
    });
  }

  private readonly pumpCorked = (): void => this.pump();

  private pump(): void {
    const { next } = this;
    if (!this.open || next === null || !this.writable) return;
    this.next = null;
    if (next.kind === "refused") {
      this.refuse(next);
      return;
    }
    if (!this.begun) this.res.writeStatus(streamHead(LINES_TYPE, this.context));
    this.begun = true;
    if (next.kind === "count") this.count += next.count;
    else if (next.kind === "list") this.count += next.count;
    if (next.left !== null) {
      this.list.range = next.left;
      this.ask();
    }
    const lines = next.kind === "list" ? next.keys : this.countLine(next.left === null);
    if (lines.length > 0) this.write(lines);
    if (next.left === null) this.end();
  }

  private countLine(isLast: boolean): Uint8Array {
    return isLast ? new Uint8Array(0) : Buffer.from(`{"count":${this.count}}\n`);
  }

  private write(lines: Uint8Array): void {
    if (this.res.write(lines)) return;
    this.writable = false;
    this.waitsSinceMs = performance.now();
  }

  private end(): void {
    this.res.end(Buffer.from(`{"success":true,"count":${this.count},"complete":true}\n`));
    this.finish(200);
  }

  /** Before the first line it is an answer like any other; later it is the last line. */
  private refuse({ code, detail }: CatalogAnswer & { kind: "refused" }): void {
    if (this.begun) {
      this.res.end(Buffer.from(`${JSON.stringify({ success: false, error: detail || code, code })}\n`));
      this.finish(500);
    } else this.finish(sendError(this.res, code, { detail }));
  }

  beat(nowMs: number): void {
    if (!this.writable && nowMs - this.waitsSinceMs > STALL_MS) this.res.close();
    else if (this.begun && (this.asking || !this.writable)) this.res.cork(() => this.write(BLANK));
  }

  /** @param status 0: the client has gone */
  private finish(status: number): void {
    if (!this.open) return;
    this.open = false;
    const { meter, pacer, inFlight } = this.context;
    pacer.delete(this);
    inFlight.leave();
    if (status === 0) meter.countAborted(GET);
    else meter.count(GET, status);
  }
}
