/**
 * The keys of a range as one JSON array, page by page, as fast as the client takes them. Where it cannot go
 * on, the connection is cut: an array without its end is no JSON.
 */
import type { KeyRange } from "../../engine/catalog/runs/listing.ts";
import { isStorageKey } from "../../rules/storage-key.ts";
import type { CatalogAnswer } from "../../shards/catalog/messages.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import type { Paced } from "../http/pace.ts";
import { sendError } from "../http/reply.ts";
import { streamHead } from "../lines/line-answer.ts";
import { type ListSource, STALL_MS } from "../list/list-source.ts";
import { GET } from "../status/meter.ts";

/** Keys asked for at a time. */
const PAGE_KEYS = 2000;
/** White space between two elements means nothing, and keeps a connection that waits. */
const BLANK = Buffer.from("\n");
/** Ends the keys of what unstorage keeps beside a value, which it does not list. */
const META = 0x24;

export class KeyArray implements Paced {
  private readonly context: FrontContext;
  private readonly res: Res;
  private readonly source: ListSource;
  private range: KeyRange;
  private open = true;
  private begun = false;
  /** The socket has room. */
  private writable = true;
  /** A page that waits for room. */
  private next: CatalogAnswer | null = null;
  private count = 0;
  private waitsSinceMs = 0;

  constructor(context: FrontContext, res: Res, source: ListSource, range: KeyRange) {
    this.context = context;
    this.res = res;
    this.source = source;
    this.range = range;
  }

  /** To be called in the request's handler. */
  begin(): void {
    const { res, context } = this;
    context.inFlight.enter();
    context.pacer.add(this);
    res.onAborted(() => this.finish(0));
    res.onWritable(() => {
      this.writable = true;
      this.pump();
      return true;
    });
    this.ask();
  }

  private ask(): void {
    const { source, range } = this;
    void source.ask({ kind: "names", range, limit: PAGE_KEYS }, null).then((answer) => {
      this.next = answer;
      if (this.open) this.res.cork(() => this.pump());
    });
  }

  private pump(): void {
    const { next, res } = this;
    if (!this.open || next === null || !this.writable) return;
    this.next = null;
    if (next.kind !== "names") {
      this.fail(next);
      return;
    }
    const isLast = next.left === null;
    const text = `${this.begun ? "" : "["}${this.elements(next.keys)}${isLast ? "]" : ""}`;
    if (!this.begun) res.writeStatus(streamHead("application/json", this.context));
    this.begun = true;
    if (next.left === null) {
      res.end(Buffer.from(text));
      this.finish(200);
      return;
    }
    this.range = next.left;
    // An empty piece would end the answer.
    if (text !== "" && !res.write(Buffer.from(text))) {
      this.writable = false;
      this.waitsSinceMs = performance.now();
    }
    this.ask();
  }

  private elements(keys: readonly Uint8Array[]): string {
    let text = "";
    for (const key of keys) {
      if (!isStorageKey(key) || key[key.length - 1] === META) continue;
      const name = Buffer.from(key.buffer, key.byteOffset, key.length).toString("utf8");
      text += `${this.count++ === 0 ? "" : ","}${JSON.stringify(name)}`;
    }
    return text;
  }

  private fail(answer: CatalogAnswer): void {
    const { code, detail } = answer.kind === "refused" ? answer : { code: "internal" as const, detail: "" };
    if (!this.begun) {
      this.finish(sendError(this.res, code, { detail }));
      return;
    }
    this.context.log.error({ code, detail }, "a list broke off");
    // `finish` is called by what follows.
    this.res.close();
  }

  beat(nowMs: number): void {
    if (!this.writable && nowMs - this.waitsSinceMs > STALL_MS) this.res.close();
    else if (this.begun && this.writable) this.res.cork(() => this.blank());
  }

  private blank(): void {
    if (this.res.write(BLANK)) return;
    this.writable = false;
    this.waitsSinceMs = performance.now();
  }

  /** @param status 0: the connection is gone */
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
