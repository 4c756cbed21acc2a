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
import { parametersOf } from "../../rules/query.ts";
import type { Refused } from "../../shards/catalog/messages.ts";
import { bufferOf, copyOf } from "../../util/bytes.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { JSON_TYPE, LINES_TYPE } from "../../util/header-text.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import { sendError } from "../http/reply.ts";
import { TARGET_EMPTY_KEY, TARGET_KEY, TARGET_ROOT } from "../http/target.ts";
import { streamHead } from "../lines/line-answer.ts";
import { StreamedAnswer } from "../lines/streamed-answer.ts";
import { higher } from "../list/list-query.ts";
import { type ListSource, sourceOf } from "../list/list-source.ts";
import { scopesOf } from "../list/lists.ts";
import type { AnswerQuery } from "../reads/reads.ts";
import { GET } from "../status/meter.ts";

/** It lists so many keys at once. */
const KEYS_MAX = 1_000_001;
const PAGE_KEYS = 2000;
const TOO_MANY = `there are more than ${KEYS_MAX} keys: list them in pages, by limit and start`;
const ACCEPT = Buffer.from("accept");
const SLASH = 0x2f;
const NOTHING_UNLINKED = Buffer.from('{"keys":[],"next":""}');

/** @param lists what answers all other lists */
export function createMkvLists(context: FrontContext, lists: AnswerQuery): AnswerQuery {
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
    const parameters = parametersOf(query);
    const limit = parameters.get("limit") || "0";
    if (!/^[+-]?\d{1,18}$/.test(limit)) return refused("bad_request", "limit is a number");
    if (operation === "unlinked") {
      res.writeStatus(streamHead(JSON_TYPE, context));
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
class MkvList {
  private readonly answer: StreamedAnswer;
  private readonly source: ListSource;
  private readonly limit: number;
  private left: KeyRange | null;
  private keys = 0;
  private wake = (): void => {};

  /** To be made in the request's handler. */
  constructor(context: FrontContext, res: Res, source: ListSource, range: KeyRange, limit: number) {
    this.source = source;
    this.left = range;
    this.limit = limit > 0 ? limit : Number.POSITIVE_INFINITY;
    const wake = () => this.wake();
    const head = streamHead(JSON_TYPE, context);
    this.answer = new StreamedAnswer(context, res, head, { onRoom: wake, onOver: wake });
  }

  async run(): Promise<void> {
    const { answer } = this;
    const refusal = await this.list();
    if (refusal === null) return;
    // What has begun cannot be refused any more; cut, it is no JSON.
    if (answer.begun) answer.cut();
    else answer.refuse(refusal);
  }

  /** @returns why there is no list */
  private async list(): Promise<Refused | null> {
    const { answer } = this;
    let next: string | null = null;
    while (answer.isOpen && next === null && this.left !== null) {
      const limit = Math.min(PAGE_KEYS, this.limit - this.keys + 1);
      const page = await this.source.ask({ kind: "names", range: this.left, limit }, null);
      if (page.kind === "refused") return page;
      this.left = page.left;
      const refusal = answer.begun ? null : await this.refusal(page.keys.length);
      if (refusal !== null) return refusal;
      const shown = page.keys.slice(0, this.limit - this.keys).map(textOf);
      if (shown.length < page.keys.length) next = textOf(page.keys[shown.length]);
      answer.send(this.piece(shown));
      await this.room();
    }
    answer.end(Buffer.from(`${this.start}],"next":${next ?? '""'}}`));
    return null;
  }

  /** Counts what is behind the first page, where it may be too much. */
  private async refusal(first: number): Promise<Refused | null> {
    if (this.limit <= KEYS_MAX) return null;
    let { left } = this;
    for (let keys = first; left !== null && this.answer.isOpen; ) {
      const part = await this.source.ask({ kind: "count", range: left }, null);
      if (part.kind === "refused") return part;
      keys += part.count;
      left = part.left;
      if (keys > KEYS_MAX) return { kind: "refused", code: "too_large", detail: TOO_MANY };
    }
    return null;
  }

  private get start(): string {
    return this.answer.begun ? "" : '{"keys":[';
  }

  private piece(keys: readonly string[]): Uint8Array {
    const text = `${this.start}${this.keys > 0 && keys.length > 0 ? "," : ""}${keys.join(",")}`;
    this.keys += keys.length;
    return Buffer.from(text);
  }

  /** Waits until the client has taken what was sent. */
  private async room(): Promise<void> {
    while (this.answer.isOpen && !this.answer.hasRoom)
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
  }
}

/** A key with its slash, as JSON. */
function textOf(key: Uint8Array): string {
  return JSON.stringify(`/${bufferOf(key).toString()}`);
}
