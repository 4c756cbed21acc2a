/**
 * All pages of a list as one answer, as fast as the client takes it: one page is on its way to the client,
 * and the next is made meanwhile.
 */
import type { Token } from "../../auth/tokens.ts";
import type { KeyRange } from "../../engine/catalog/runs/listing.ts";
import type { AnswerTo, CatalogAnswer, CatalogQuestion, Refused } from "../../shards/catalog/messages.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import { REVOKED } from "../lines/line-answer.ts";
import { StreamedAnswer } from "../lines/streamed-answer.ts";
import type { ListQuery } from "./list-query.ts";
import { askOn, type ListSource } from "./list-source.ts";

/** What the pages are, and what is sent of them. */
export interface Pages<Question extends CatalogQuestion> {
  /** Status and headers. */
  head: string;
  consistency: ListQuery["consistency"];
  /** Asks for a page of what is left. */
  question(range: KeyRange): Question;
  /** What is sent of a page. */
  piece(page: AnswerTo<Question>): Uint8Array;
  /** What is sent behind the last one. */
  last(): Uint8Array;
  /** Tells that no more pages come, once some of them were sent. */
  breakOff(answer: StreamedAnswer, refusal: Refused): void;
}

export class PagedStream<Question extends CatalogQuestion> {
  private readonly context: FrontContext;
  private readonly caller: Token;
  private readonly answer: StreamedAnswer;
  private readonly source: ListSource;
  private readonly pages: Pages<Question>;
  /** A page that waits for room. */
  private next: AnswerTo<Question> | Refused | null = null;

  /** To be made in the request's handler. */
  constructor(context: FrontContext, res: Res, source: ListSource, pages: Pages<Question>) {
    this.context = context;
    this.caller = context.caller;
    this.source = source;
    this.pages = pages;
    this.answer = new StreamedAnswer(context, res, pages.head, { onRoom: () => this.pump() });
  }

  /** Asks for the pages of a range, one after the other. */
  ask(range: KeyRange): void {
    const { source, pages, answer } = this;
    // Before the first piece a refusal is an answer like any other.
    const goesOn = (): boolean => answer.begun && answer.isOpen;
    void askOn(source, pages.question(range), pages.consistency, goesOn).then((next) => {
      this.next = next as AnswerTo<Question> | Refused;
      if (answer.isOpen) this.pump();
    });
  }

  private pump(): void {
    const { next, answer, pages, context } = this;
    if (next === null || !answer.hasRoom) return;
    this.next = null;
    if ("code" in next) this.refuse(next);
    else if (!context.mayGoOn(this.caller)) this.refuse({ kind: "refused", ...REVOKED });
    else {
      const { left } = next as Exclude<CatalogAnswer, Refused>;
      if (left !== null) this.ask(left);
      answer.send(pages.piece(next));
      if (left === null) answer.end(pages.last());
    }
  }

  private refuse(refusal: Refused): void {
    if (this.answer.begun) this.pages.breakOff(this.answer, refusal);
    else this.answer.refuse(refusal);
  }
}
