/**
 * All pages of a list as one stream of lines, as fast as the client takes it: one page is on its way to the
 * client, and the next is made meanwhile.
 */
import type { Token } from "../../auth/tokens.ts";
import type { CatalogAnswer, Refused } from "../../shards/catalog/messages.ts";
import { LINES_TYPE } from "../../util/header-text.ts";
import { LIST_LIMIT_MAX } from "../../util/limits.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import { REVOKED, streamHead } from "../lines/line-answer.ts";
import { StreamedAnswer } from "../lines/streamed-answer.ts";
import type { ListQuery } from "./list-query.ts";
import { askOn, type ListSource, questionOf } from "./list-source.ts";

/** Entries of one piece: some 200 KB. */
const PIECE_ENTRIES = Math.min(2000, LIST_LIMIT_MAX);
export class ListStream {
  private readonly answer: StreamedAnswer;
  private readonly context: FrontContext;
  private readonly caller: Token;
  private readonly source: ListSource;
  private readonly list: ListQuery;
  /** A page that waits for room. */
  private next: CatalogAnswer | null = null;
  private count = 0;

  /** To be made in the request's handler. */
  constructor(context: FrontContext, res: Res, source: ListSource, list: ListQuery) {
    this.context = context;
    this.caller = context.caller;
    this.source = source;
    this.list = { ...list, limit: PIECE_ENTRIES };
    const head = streamHead(LINES_TYPE, context);
    this.answer = new StreamedAnswer(context, res, head, { onRoom: () => this.pump() });
  }

  begin(): void {
    this.ask();
  }

  private ask(): void {
    const { source, list, answer } = this;
    // Before the first line a refusal is an answer like any other.
    const goesOn = (): boolean => answer.begun && answer.isOpen;
    void askOn(source, questionOf(list, true), list.consistency, goesOn).then((next) => {
      this.next = next;
      answer.cork(() => this.pump());
    });
  }

  private pump(): void {
    const { next, answer } = this;
    if (next === null || !answer.hasRoom) return;
    this.next = null;
    if (next.kind === "refused") {
      this.refuse(next);
      return;
    }
    if (!this.context.mayGoOn(this.caller)) {
      this.refuse({ kind: "refused", ...REVOKED });
      return;
    }
    if (next.kind === "count" || next.kind === "list") this.count += next.count;
    if (next.left !== null) {
      this.list.range = next.left;
      this.ask();
    }
    answer.send(next.kind === "list" ? next.keys : this.countLine(next.left === null));
    if (next.left === null)
      answer.end(Buffer.from(`{"success":true,"count":${this.count},"complete":true}\n`));
  }

  private countLine(isLast: boolean): Uint8Array {
    return isLast ? new Uint8Array(0) : Buffer.from(`{"count":${this.count}}\n`);
  }

  /** Before the first line it is an answer like any other; later it is the last line. */
  private refuse({ code, detail }: Refused): void {
    const line = { success: false, error: detail || code, code };
    if (this.answer.begun) this.answer.end(Buffer.from(`${JSON.stringify(line)}\n`), 500);
    else this.answer.refuse({ code, detail });
  }
}
