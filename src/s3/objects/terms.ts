/**
 * Conditions of a write. The store judges versions, and clients of S3 name ETags: so what is there is looked
 * up, and the write then depends on the very version whose ETag that was.
 */
import type { Exchange } from "../exchange/exchange.ts";
import { S3Error } from "../protocol/errors.ts";
import { namesEtag } from "../protocol/etag.ts";
import { factsAt } from "../store/objects.ts";
import { NO_TERMS, type Stored, type Terms, type ValueSink } from "../store/value-sink.ts";

/** How often another write may come between, before it is told so. */
const TRIES_MAX = 20;

/** Conditions as they were sent. */
export interface WriteConditions {
  ifMatch: string;
  ifNoneMatch: string;
}

const ANY = "*";

export function conditionsOf(exchange: Exchange): WriteConditions {
  const [ifMatch, ifNoneMatch] = ["if-match", "if-none-match"].map((name) => exchange.header(name).trim());
  return { ifMatch, ifNoneMatch };
}

/** Whether they name ETags, so that what is there has to be looked at before the write. */
export function nameEtags({ ifMatch, ifNoneMatch }: WriteConditions): boolean {
  return ifMatch !== "" || (ifNoneMatch !== "" && ifNoneMatch !== ANY);
}

/**
 * What the store has to hold to now.
 * @throws S3Error where they do not hold
 */
export async function termsNow(
  exchange: Exchange,
  conditions: WriteConditions,
  key = exchange.storeKey,
): Promise<Terms> {
  const { ifMatch, ifNoneMatch } = conditions;
  if (!nameEtags(conditions)) return ifNoneMatch === "" ? NO_TERMS : { ...NO_TERMS, ifNoneMatch };
  const facts = await factsAt(exchange.front, key);
  if (facts === null) {
    if (ifMatch !== "") throw new S3Error("NoSuchKey");
    return { ...NO_TERMS, ifNoneMatch: ANY };
  }
  if (ifMatch !== "" && !namesEtag(ifMatch, facts.etag)) throw new S3Error("PreconditionFailed");
  if (ifNoneMatch !== "" && namesEtag(ifNoneMatch, facts.etag)) throw new S3Error("PreconditionFailed");
  return { ...NO_TERMS, ifMatch: facts.version };
}

/**
 * Commits a value whose bytes have all come, under these conditions.
 * @param terms of a large value, which it was begun with
 */
export async function commitUnder(
  exchange: Exchange,
  sink: ValueSink,
  trailer: Uint8Array,
  conditions: WriteConditions,
  terms: Terms,
): Promise<Stored> {
  for (let tries = 1; ; tries++) {
    try {
      return await sink.commit(trailer, sink.isSmall ? await termsNow(exchange, conditions) : terms);
    } catch (error) {
      const isOutrun =
        error instanceof S3Error && error.code === "PreconditionFailed" && nameEtags(conditions);
      if (!isOutrun) throw error;
      // What is there now decides: another version with the ETag that is asked for is no reason to refuse.
      await termsNow(exchange, conditions);
      if (!sink.isSmall || tries === TRIES_MAX) throw new S3Error("ConditionalRequestConflict");
    }
  }
}
