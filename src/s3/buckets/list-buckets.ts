/** ListBuckets: first segments of keys that a bucket's name can be, as far as the caller may see them. */

import { LIST } from "../../auth/tokens.ts";
import { afterAll, type KeyRange, rangeOf } from "../../engine/catalog/runs/listing.ts";
import { etagMillis } from "../../format/version.ts";
import type { ListSource } from "../../server/list/list-source.ts";
import { sourceOf } from "../../server/list/list-source.ts";
import type { ListAnswer, ListQuestion, Refused } from "../../shards/catalog/messages.ts";
import { LIST_LIMIT_MAX } from "../../util/limits.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { S3Error, s3ErrorOf } from "../protocol/errors.ts";
import { isBucketName, markerOf } from "../protocol/names.ts";
import { factsAt } from "../store/objects.ts";

/** Of a bucket that nobody has made: it is there by the keys in it. */
const NO_DATE_MS = 0;
const SLASH = new Uint8Array([0x2f]);

/** Buckets of one page, and of all where nobody says. */
const BUCKETS_MAX = 10_000;

export async function listBuckets(exchange: Exchange): Promise<void> {
  const { front } = exchange;
  const prefix = exchange.parameter("prefix") ?? "";
  const scopes = exchange.scopesOf(LIST, new Uint8Array(Buffer.from(prefix)));
  const source = sourceOf(front);
  if ("code" in source) throw s3ErrorOf(source.code, source.detail);
  const limit = limitOf(exchange.parameter("max-buckets"));
  const after = Buffer.from(exchange.parameter("continuation-token") ?? "", "base64url").toString("utf8");
  const range = { ...rangeOf(new Uint8Array(Buffer.from(prefix)), false, SLASH), scopes };
  range.prefixBytes = 0;
  const low = afterAll(Buffer.from(`${after}/`));
  if (isBucketName(after) && low !== null && Buffer.compare(low, range.low) > 0)
    range.low = new Uint8Array(low);
  const buckets: { Name: string; CreationDate: string }[] = [];
  let next: string | undefined;
  for await (const name of prefixesOf(source, range)) {
    const bucket = name.slice(0, -1);
    if (!isBucketName(bucket)) continue;
    if (buckets.length === limit) {
      next = Buffer.from(buckets.at(-1)?.Name ?? "", "utf8").toString("base64url");
      break;
    }
    const marker = await factsAt(front, markerOf(bucket));
    const madeMs = marker === null ? NO_DATE_MS : etagMillis(marker.version);
    buckets.push({ Name: bucket, CreationDate: new Date(madeMs).toISOString() });
  }
  exchange.sendXml("ListAllMyBucketsResult", {
    Owner: { ID: "minivault", DisplayName: "minivault" },
    Buckets: { Bucket: buckets },
    Prefix: prefix === "" ? undefined : prefix,
    ContinuationToken: next,
  });
}

function limitOf(text: string | null): number {
  if (text === null || text === "") return BUCKETS_MAX;
  if (!/^\d{1,5}$/.test(text) || Number(text) < 1 || Number(text) > BUCKETS_MAX)
    throw new S3Error("InvalidArgument", `max-buckets is a number from 1 to ${BUCKETS_MAX}.`);
  return Number(text);
}

async function* prefixesOf(source: ListSource, whole: KeyRange): AsyncGenerator<string> {
  for (let range: KeyRange | null = whole; range !== null; ) {
    const question: ListQuestion = {
      kind: "list",
      range,
      limit: LIST_LIMIT_MAX,
      values: false,
      lines: false,
    };
    const answer: ListAnswer | Refused = await source.ask(question, null);
    if (answer.kind === "refused") throw s3ErrorOf(answer.code, answer.detail);
    yield* JSON.parse(`[${Buffer.from(answer.prefixes).toString("utf8")}]`) as string[];
    range = answer.left;
  }
}
