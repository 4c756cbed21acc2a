/**
 * Where lists come from, and what the answers to them have in common.
 */
import type {
  CatalogAnswer,
  CatalogQuestion,
  CountQuestion,
  ListQuestion,
  Refused,
} from "../../shards/catalog/messages.ts";
import type { ErrorCode } from "../../util/errors.ts";
import type { FrontContext } from "../http/context.ts";
import { Tries } from "../lines/tries.ts";
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

/**
 * Asks for what is left of something long. That is not broken off by what passes by itself.
 * @param goesOn whether anybody still waits for it
 */
export async function askOn<Question extends CatalogQuestion>(
  source: ListSource,
  question: Question,
  consistency: ListQuery["consistency"],
  goesOn: () => boolean,
): ReturnType<typeof source.ask<Question>> {
  for (const tries = new Tries(goesOn); ; ) {
    const answer = await source.ask(question, consistency);
    if (!("code" in answer) || !(await tries.again(answer.code))) return answer;
  }
}

/** The question for the next page of a list. */
export function questionOf(
  { range, limit, values, count }: ListQuery,
  lines: boolean,
): ListQuestion | CountQuestion {
  return count ? { kind: "count", range } : { kind: "list", range, limit, values, lines };
}
