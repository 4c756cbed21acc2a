/**
 * The keys of a range as one JSON array, page by page, as fast as the client takes them. Where it cannot go
 * on, the connection is cut: an array without its end is no JSON.
 */
import type { KeyRange } from "../../engine/catalog/runs/listing.ts";
import { isStorageKey } from "../../rules/storage-key.ts";
import type { CatalogAnswer } from "../../shards/catalog/messages.ts";
import { bufferOf } from "../../util/bytes.ts";
import { JSON_TYPE } from "../../util/header-text.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import { streamHead } from "../lines/line-answer.ts";
import { StreamedAnswer } from "../lines/streamed-answer.ts";
import { askOn, type ListSource } from "../list/list-source.ts";

/** Keys asked for at a time. */
const PAGE_KEYS = 2000;
/** Ends the keys of what unstorage keeps beside a value, which it does not list. */
const META = 0x24;

export class KeyArray {
  private readonly context: FrontContext;
  private readonly answer: StreamedAnswer;
  private readonly source: ListSource;
  private range: KeyRange;
  /** A page that waits for room. */
  private next: CatalogAnswer | null = null;
  private count = 0;

  /** To be made in the request's handler. */
  constructor(context: FrontContext, res: Res, source: ListSource, range: KeyRange) {
    this.context = context;
    this.source = source;
    this.range = range;
    const head = streamHead(JSON_TYPE, context);
    this.answer = new StreamedAnswer(context, res, head, { onRoom: () => this.pump() });
  }

  begin(): void {
    this.ask();
  }

  private ask(): void {
    const { source, range, answer } = this;
    // Before the first key a refusal is an answer like any other.
    const goesOn = (): boolean => answer.begun && answer.isOpen;
    void askOn(source, { kind: "names", range, limit: PAGE_KEYS }, null, goesOn).then((next) => {
      this.next = next;
      answer.cork(() => this.pump());
    });
  }

  private pump(): void {
    const { next, answer } = this;
    if (next === null || !answer.hasRoom) return;
    this.next = null;
    if (next.kind !== "names") {
      this.fail(next);
      return;
    }
    const isLast = next.left === null;
    const text = `${answer.begun ? "" : "["}${this.elements(next.keys)}${isLast ? "]" : ""}`;
    if (next.left === null) {
      answer.end(Buffer.from(text));
      return;
    }
    answer.send(Buffer.from(text));
    this.range = next.left;
    this.ask();
  }

  private elements(keys: readonly Uint8Array[]): string {
    let text = "";
    for (const key of keys) {
      if (!isStorageKey(key) || key[key.length - 1] === META) continue;
      const name = bufferOf(key).toString("utf8");
      text += `${this.count++ === 0 ? "" : ","}${JSON.stringify(name)}`;
    }
    return text;
  }

  private fail(next: CatalogAnswer): void {
    const { code, detail } = next.kind === "refused" ? next : { code: "internal" as const, detail: "" };
    if (!this.answer.begun) {
      this.answer.refuse({ code, detail });
      return;
    }
    this.context.log.error({ code, detail }, "a list broke off");
    this.answer.cut();
  }
}
