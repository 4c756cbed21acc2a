/** A list as a stream of lines, the last of which says that it is complete, or why it is not. */
import type { CountQuestion, ListQuestion } from "../../shards/catalog/messages.ts";
import { NOTHING } from "../../util/bytes.ts";
import { LINES_TYPE } from "../../util/header-text.ts";
import { LIST_LIMIT_MAX } from "../../util/limits.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import { streamHead } from "../lines/line-answer.ts";
import { lineOf } from "../lines/pieces.ts";
import type { ListQuery } from "./list-query.ts";
import { type ListSource, questionOf } from "./list-source.ts";
import { PagedStream, type Pages } from "./paged-stream.ts";

/** Entries of one piece: some 200 KB. */
const PIECE_ENTRIES = Math.min(2000, LIST_LIMIT_MAX);

/** Answers a list with all that is in it. To be called in the request's handler. */
export function streamList(context: FrontContext, res: Res, source: ListSource, list: ListQuery): void {
  new PagedStream(context, res, source, linesOf(context, list)).ask(list.range);
}

function linesOf(context: FrontContext, list: ListQuery): Pages<ListQuestion | CountQuestion> {
  let count = 0;
  return {
    head: streamHead(LINES_TYPE, context),
    consistency: list.consistency,
    question: (range) => questionOf({ ...list, range, limit: PIECE_ENTRIES }, true),
    piece(page) {
      count += page.count;
      if (page.kind === "list") return page.keys;
      return page.left === null ? NOTHING : lineOf({ count });
    },
    last: () => lineOf({ success: true, count, complete: true }),
    breakOff(answer, { code, detail }) {
      answer.end(lineOf({ success: false, error: detail || code, code }), 500);
    },
  };
}
