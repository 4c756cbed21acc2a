/**
 * Lists in the form of minikeyvalue (`-compat mkv`): `GET /<prefix>?list[&start=…][&limit=…]` is answered
 *
 *   {"keys":["/a","/b"],"next":"/c"}
 *
 * when `list` is the first parameter of the query, which is its own rule; any other order, and a stream, is
 * our list. Keys have their slash. `next` is the key to start at for what `limit` has left out. Without a
 * limit, or with a larger one, more than KEYS_MAX keys are 413. `?unlinked` tells of keys that are deleted
 * and whose values are still there: here there are none.
 */
import type { KeyRange } from "../../engine/catalog/runs/listing.ts";
import { rangeOf } from "../../engine/catalog/runs/listing.ts";
import type { Refused } from "../../shards/catalog/messages.ts";
import { copyOf } from "../../util/bytes.ts";
import type { ErrorCode } from "../../util/errors.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import type { Paced } from "../http/pace.ts";
import { sendError } from "../http/reply.ts";
import { TARGET_EMPTY_KEY, TARGET_KEY, TARGET_ROOT } from "../http/target.ts";
import { LINES_TYPE, streamHead } from "../lines/line-answer.ts";
import { GET } from "../status/meter.ts";
import { higher } from "./list-query.ts";
import { type ListSource, STALL_MS, sourceOf } from "./list-source.ts";
import { type AnswerList, scopesOf } from "./lists.ts";

/** It lists so many keys at once. */
const KEYS_MAX = 1_000_001;
const PAGE_KEYS = 2000;
const TOO_MANY = `there are more than ${KEYS_MAX} keys: list them in pages, by limit and start`;
const ACCEPT = Buffer.from("accept");
const SLASH = 0x2f;
const BLANK = Buffer.from("\n");
const NOTHING_UNLINKED = Buffer.from('{"keys":[],"next":""}');

/** @param lists what answers all other lists */
export function createMkvLists(context: FrontContext, lists: AnswerList): AnswerList {
  const { meter, key } = context;
  return (res, req, query, target, head) => {
    const [operation] = query.split("&");
    const isList = target === TARGET_KEY || target === TARGET_ROOT || target === TARGET_EMPTY_KEY;
    const isOurs = req.getHeader(ACCEPT).toLowerCase().includes(LINES_TYPE);
    if (head || !isList || isOurs || (operation !== "list" && operation !== "unlinked"))
      return lists(res, req, query, target, head);
    const refused = (code: ErrorCode, detail: string): true => {
      meter.count(GET, sendError(res, code, { detail }));
      return true;
    };
    const parameters = new URLSearchParams(query);
    const limit = parameters.get("limit") || "0";
    if (!/^[+-]?\d{1,18}$/.test(limit)) return refused("bad_request", "limit is a number");
    if (operation === "unlinked") {
      res.writeStatus(streamHead("application/json", context));
      res.end(NOTHING_UNLINKED);
      meter.count(GET, 200);
      return true;
    }
    const range = rangeOf(copyOf(key.bytes, 0, key.length));
    range.low = higher(range.low, startOf(parameters.get("start") ?? ""));
    if (context.varies) range.scopes = scopesOf(context, key.bytes.subarray(0, key.length));
    const source = sourceOf(context);
    if ("code" in source) return refused(source.code, source.detail);
    void new MkvList(context, res, source, range, Number(limit)).run();
    return true;
  };
}

/** What `start` stands for among our keys, which have no slash before them. */
function startOf(start: string): Uint8Array {
  const bytes = new Uint8Array(Buffer.from(start));
  if (bytes.length === 0 || bytes[0] < SLASH) return new Uint8Array(0);
  // Behind the slash of every key: nothing is there.
  return bytes[0] === SLASH ? bytes.slice(1) : Uint8Array.of(255);
}

/** One list on its way, a page at a time. */
class MkvList implements Paced {
  private readonly context: FrontContext;
  private readonly res: Res;
  private readonly source: ListSource;
  private readonly limit: number;
  private left: KeyRange | null;
  private open = true;
  private begun = false;
  private writable = true;
  private waitsSinceMs = 0;
  private keys = 0;
  private wake = (): void => {};

  constructor(context: FrontContext, res: Res, source: ListSource, range: KeyRange, limit: number) {
    this.context = context;
    this.res = res;
    this.source = source;
    this.left = range;
    this.limit = limit > 0 ? limit : Number.POSITIVE_INFINITY;
  }

  async run(): Promise<void> {
    const { res, context } = this;
    context.inFlight.enter();
    context.pacer.add(this);
    res.onAborted(() => this.finish(0));
    res.onWritable(() => {
      this.writable = true;
      this.wake();
      return true;
    });
    const refusal = await this.answer();
    if (!this.open || refusal === null) return;
    // What has begun cannot be refused any more; cut, it is no JSON.
    if (this.begun) res.close();
    else
      res.cork(() => {
        this.finish(sendError(res, refusal.code, { detail: refusal.detail }));
      });
  }

  /** @returns why there is no list */
  private async answer(): Promise<Refused | null> {
    let next: string | null = null;
    while (this.open && next === null && this.left !== null) {
      const limit = Math.min(PAGE_KEYS, this.limit - this.keys + 1);
      const page = await this.source.ask({ kind: "names", range: this.left, limit }, null);
      if (page.kind === "refused") return page;
      this.left = page.left;
      const refusal = this.begun ? null : await this.refusal(page.keys.length);
      if (refusal !== null) return refusal;
      const shown = page.keys.slice(0, this.limit - this.keys).map(textOf);
      if (shown.length < page.keys.length) next = textOf(page.keys[shown.length]);
      if (this.open) this.res.cork(() => this.write(shown));
      await this.room();
    }
    if (!this.open) return null;
    this.res.cork(() => {
      this.begin();
      this.res.end(Buffer.from(`],"next":${next ?? '""'}}`));
      this.finish(200);
    });
    return null;
  }

  /** Counts what is behind the first page, where it may be too much. */
  private async refusal(first: number): Promise<Refused | null> {
    if (this.limit <= KEYS_MAX) return null;
    let { left } = this;
    for (let keys = first; left !== null && this.open; ) {
      const part = await this.source.ask({ kind: "count", range: left }, null);
      if (part.kind === "refused") return part;
      keys += part.count;
      left = part.left;
      if (keys > KEYS_MAX) return { kind: "refused", code: "too_large", detail: TOO_MANY };
    }
    return null;
  }

  private begin(): void {
    if (this.begun) return;
    this.begun = true;
    this.res.writeStatus(streamHead("application/json", this.context));
    this.res.write(Buffer.from('{"keys":['));
  }

  private write(keys: readonly string[]): void {
    this.begin();
    if (keys.length === 0) return;
    const text = `${this.keys === 0 ? "" : ","}${keys.join(",")}`;
    this.keys += keys.length;
    this.send(Buffer.from(text));
  }

  private send(bytes: Uint8Array): void {
    if (this.res.write(bytes)) return;
    this.writable = false;
    this.waitsSinceMs = performance.now();
  }

  /** Waits until the client has taken what was sent. */
  private async room(): Promise<void> {
    while (this.open && !this.writable)
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
  }

  beat(nowMs: number): void {
    if (!this.writable && nowMs - this.waitsSinceMs > STALL_MS) this.res.close();
    else if (this.begun && this.writable) this.res.cork(() => this.send(BLANK));
  }

  /** @param status 0: the client has gone */
  private finish(status: number): void {
    if (!this.open) return;
    this.open = false;
    this.wake();
    const { meter, pacer, inFlight } = this.context;
    pacer.delete(this);
    inFlight.leave();
    if (status === 0) meter.countAborted(GET);
    else meter.count(GET, status);
  }
}

/** A key with its slash, as JSON. */
function textOf(key: Uint8Array): string {
  return JSON.stringify(`/${Buffer.from(key.buffer, key.byteOffset, key.length).toString()}`);
}
