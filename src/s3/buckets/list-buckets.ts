/** ListBuckets: first segments of keys that a bucket's name can be, as far as the caller may see them. */
import { type KeyRange, rangeOf } from "../../engine/catalog/runs/listing.ts";
import { etagMillis } from "../../format/version.ts";
import type { ListSource } from "../../server/list/list-source.ts";
import { sourceOf } from "../../server/list/list-source.ts";
import type { ListAnswer, ListQuestion, Refused } from "../../shards/catalog/messages.ts";
import { LIST_LIMIT_MAX } from "../../util/limits.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { LIST } from "../exchange/needs.ts";
import { s3ErrorOf } from "../protocol/errors.ts";
import { isBucketName, markerOf } from "../protocol/names.ts";
import { factsAt } from "../store/objects.ts";

/** Of a bucket that nobody has made: it is there by the keys in it. */
const NO_DATE_MS = 0;
const SLASH = new Uint8Array([0x2f]);

export async function listBuckets(exchange: Exchange): Promise<void> {
  const { front } = exchange;
  const nothing = new Uint8Array(0);
  const scopes = exchange.scopesOf(LIST, nothing);
  const source = sourceOf(front);
  if ("code" in source) throw s3ErrorOf(source.code, source.detail);
  const buckets: { Name: string; CreationDate: string }[] = [];
  const range = { ...rangeOf(nothing, false, SLASH), scopes };
  for await (const name of prefixesOf(source, range)) {
    const bucket = name.slice(0, -1);
    if (!isBucketName(bucket)) continue;
    const marker = await factsAt(front, markerOf(bucket));
    const madeMs = marker === null ? NO_DATE_MS : etagMillis(marker.version);
    buckets.push({ Name: bucket, CreationDate: new Date(madeMs).toISOString() });
  }
  exchange.sendXml("ListAllMyBucketsResult", {
    Owner: { ID: "minivault", DisplayName: "minivault" },
    Buckets: { Bucket: buckets },
  });
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
