/**
 * `GET /<prefix>?list`: a page, a count, or all of it as a stream.
 */
import type { CatalogAnswer, ListAnswer, Refused } from "../../shards/catalog/messages.ts";
import { copyOf } from "../../util/bytes.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { LINES_TYPE } from "../../util/header-text.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import { sendError } from "../http/reply.ts";
import {
  TARGET_BAD_KEY,
  TARGET_EMPTY_KEY,
  TARGET_KEY,
  TARGET_ROOT,
  TARGET_TOO_LONG,
} from "../http/target.ts";
import { streamHead } from "../lines/line-answer.ts";
import type { AnswerQuery } from "../reads/reads.ts";
import { GET, HEAD } from "../status/meter.ts";
import { cursorOf, isListQuery, type ListQuery, readListQuery } from "./list-query.ts";
import { type ListSource, questionOf, sourceOf } from "./list-source.ts";
import { streamList } from "./list-stream.ts";

const ACCEPT = Buffer.from("accept");

/**
 * What takes a GET or HEAD whose query asks for a list.
 * @returns a function that answers false where the request is for something else
 */
export function createLists(context: FrontContext): AnswerQuery {
  const { meter, key } = context;
  const refused = (res: Res, code: ErrorCode, detail: string): true => {
    meter.count(GET, sendError(res, code, { detail }));
    return true;
  };
  return (res, req, query, target, head) => {
    if (!isListQuery(query)) return false;
    const isList = target === TARGET_KEY || target === TARGET_ROOT || target === TARGET_EMPTY_KEY;
    if (!isList && target !== TARGET_BAD_KEY && target !== TARGET_TOO_LONG) return false;
    if (head) {
      const headers = [["Allow", "GET"]] as const;
      meter.count(HEAD, sendError(res, "method_not_allowed", { headers, head }));
      return true;
    }
    if (!isList) return refused(res, target === TARGET_TOO_LONG ? "key_too_long" : "bad_key", "");
    const list = readListQuery(new Uint8Array(copyOf(key.bytes, 0, key.length)), query);
    if (typeof list === "string") return refused(res, "bad_request", list);
    if (context.varies) list.range.scopes = scopesOf(context, key.bytes.subarray(0, key.length));
    const source = sourceOf(context);
    if ("code" in source) return refused(res, source.code, source.detail);
    if (req.getHeader(ACCEPT).toLowerCase().includes(LINES_TYPE)) streamList(context, res, source, list);
    else answerPage(context, res, source, list);
    return true;
  };
}

/** What the caller may see of the keys with a prefix; null: all. */
export function scopesOf({ caller }: FrontContext, prefix: Uint8Array): readonly Uint8Array[] | null {
  if (caller.covers(prefix, prefix.length)) return null;
  // In memory of their own: a range is copied to other threads.
  return caller.within(prefix).map((scope) => new Uint8Array(scope));
}

function answerPage(context: FrontContext, res: Res, source: ListSource, list: ListQuery): void {
  const { meter, inFlight } = context;
  let isOpen = true;
  inFlight.enter();
  const leave = (): void => {
    isOpen = false;
    inFlight.leave();
  };
  res.onAborted(() => {
    if (!isOpen) return;
    leave();
    meter.countAborted(GET);
  });
  void source.ask(questionOf(list, false), list.consistency).then((answer) => {
    if (!isOpen) return;
    res.cork(() => {
      if (answer.kind === "refused") meter.count(GET, sendError(res, answer.code, { detail: answer.detail }));
      else {
        res.writeStatus(streamHead("application/json", context));
        res.end(bodyOf(answer, list.tie));
        meter.count(GET, 200);
      }
    });
    leave();
  });
}

function bodyOf(answer: Exclude<CatalogAnswer, Refused>, tie: number): Uint8Array {
  const cursor = answer.left === null ? "null" : `"${cursorOf(answer.left, tie)}"`;
  if (answer.kind === "count")
    return Buffer.from(`{"success":true,"count":${answer.count},"cursor":${cursor}}\n`);
  const { keys, prefixes } = answer as ListAnswer;
  return Buffer.concat([
    Buffer.from('{"success":true,"keys":['),
    keys,
    Buffer.from('],"prefixes":['),
    prefixes,
    Buffer.from(`],"cursor":${cursor}}\n`),
  ]);
}
