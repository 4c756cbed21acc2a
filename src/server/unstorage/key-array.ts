/**
 * The keys of a range as one JSON array, page by page, as fast as the client takes them. Where it cannot go
 * on, the connection is cut: an array without its end is no JSON.
 */
import type { KeyRange } from "../../engine/catalog/runs/listing.ts";
import { isStorageKey } from "../../rules/storage-key.ts";
import type { NamesQuestion } from "../../shards/catalog/messages.ts";
import { bufferOf } from "../../util/bytes.ts";
import { JSON_TYPE } from "../../util/header-text.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import { streamHead } from "../lines/line-answer.ts";
import type { ListSource } from "../list/list-source.ts";
import { PagedStream, type Pages } from "../list/paged-stream.ts";

/** Keys asked for at a time. */
const PAGE_KEYS = 2000;
/** Ends the keys of what unstorage keeps beside a value, which it does not list. */
const META = 0x24;

/** Answers with the keys of a range. To be called in the request's handler. */
export function streamKeys(context: FrontContext, res: Res, source: ListSource, range: KeyRange): void {
  new PagedStream(context, res, source, elementsOf(context)).ask(range);
}

function elementsOf(context: FrontContext): Pages<NamesQuestion> {
  let before = "[";
  return {
    head: streamHead(JSON_TYPE, context),
    consistency: null,
    question: (range) => ({ kind: "names", range, limit: PAGE_KEYS }),
    piece({ keys }) {
      let text = "";
      for (const key of keys) {
        if (!isStorageKey(key) || key[key.length - 1] === META) continue;
        text += `${before}${JSON.stringify(bufferOf(key).toString("utf8"))}`;
        before = ",";
      }
      return Buffer.from(text);
    },
    last: () => Buffer.from(before === "[" ? "[]" : "]"),
    breakOff(answer, { code, detail }) {
      context.log.error({ code, detail }, "a list broke off");
      answer.cut();
    },
  };
}
