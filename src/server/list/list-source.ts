/**
 * Where lists come from, and what the answers to them have in common.
 */
import type { CatalogAnswer, CatalogQuestion, Refused } from "../../shards/catalog/messages.ts";
import type { ErrorCode } from "../../util/errors.ts";
import type { FrontContext } from "../http/context.ts";
import type { ListQuery } from "./list-query.ts";
import { settleEnded } from "./settle-ended.ts";

/** What answers the questions of lists: on a single node its catalog. */
export interface ListSource {
  ask<Question extends CatalogQuestion>(
    question: Question,
    consistency: ListQuery["consistency"],
  ): Promise<Extract<CatalogAnswer, { kind: Question["kind"] }> | Refused>;
}

/** Where lists come from now; a text says why there are none. */
export function sourceOf({ cluster, vault }: FrontContext): ListSource | { code: ErrorCode; detail: string } {
  if (cluster !== null) {
    type Ask = ListSource["ask"];
    const ask = (question: CatalogQuestion, consistency: ListQuery["consistency"]) =>
      cluster.list(question, consistency ?? cluster.consistency);
    return { ask: ask as Ask };
  }
  const { catalog } = vault;
  if (catalog === undefined) return { code: "not_yet", detail: "this node keeps no list of its keys" };
  return {
    async ask(question) {
      const answer = await catalog.ask(question);
      return ("ended" in answer ? await settleEnded(vault, answer.ended) : null) ?? answer;
    },
  };
}

/** The question for the next page of a list. */
export function questionOf({ range, limit, values, count }: ListQuery, lines: boolean): CatalogQuestion {
  return count ? { kind: "count", range } : { kind: "list", range, limit, values, lines };
}
