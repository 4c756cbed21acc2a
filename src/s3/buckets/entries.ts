/**
 * A page of a bucket's objects: keys in order from the lists of the store, and of each what S3 says of it,
 * which mostly lies on this node.
 */
import { afterAll, justAfter, type KeyRange, rangeOf } from "../../engine/catalog/runs/listing.ts";
import { etagMillis, etagOf } from "../../format/version.ts";
import type { FrontContext } from "../../server/http/context.ts";
import { sourceOf } from "../../server/list/list-source.ts";
import type { ListAnswer, ListQuestion, Refused } from "../../shards/catalog/messages.ts";
import { s3ErrorOf } from "../protocol/errors.ts";
import { s3Etag } from "../protocol/etag.ts";
import { compareKeys, markerOf } from "../protocol/names.ts";
import { factsAt } from "../store/objects.ts";

/** Keys that are looked up at once. */
const LOOKUPS_MAX = 250;
/** How often a record is looked for here that is not in memory, before it is asked for. */
const COLD_TRIES = 2;

export interface ObjectEntry {
  /** In its bucket. */
  key: string;
  etag: string;
  bytes: number;
  versionMs: number;
}

export interface ObjectPage {
  objects: ObjectEntry[];
  /** In the bucket. */
  prefixes: string[];
  /** Where the next page begins, as a key of the store; null: there is none. */
  next: Uint8Array | null;
}

export interface PageQuestion {
  bucket: string;
  prefix: string;
  delimiter: string;
  /** Keys of the store from this one on; null: all. */
  from: Uint8Array | null;
  limit: number;
  scopes: readonly Uint8Array[] | null;
}

/** What a list of the store says of a key. */
interface Listed {
  key: string;
  etag: string;
  bytes: number;
}

/** Reads one page, which is full unless it is the last. */
export async function pageOf(context: FrontContext, question: PageQuestion): Promise<ObjectPage> {
  const { bucket, limit } = question;
  const page: ObjectPage = { objects: [], prefixes: [], next: null };
  const source = sourceOf(context);
  if ("code" in source) throw s3ErrorOf(source.code, source.detail);
  // One more than is asked for tells whether there are more.
  let left = limit + 1;
  for (let range: KeyRange | null = rangeFor(question); range !== null && left > 0; ) {
    const asked: ListQuestion = { kind: "list", range, limit: left, values: false, lines: false };
    const answer: ListAnswer | Refused = await source.ask(asked, null);
    if (answer.kind === "refused") throw s3ErrorOf(answer.code, answer.detail);
    const listed = JSON.parse(`[${Buffer.from(answer.keys).toString("utf8")}]`) as Listed[];
    const prefixes = JSON.parse(`[${Buffer.from(answer.prefixes).toString("utf8")}]`) as string[];
    page.objects.push(...(await entriesOf(context, bucket, listed)));
    for (const prefix of prefixes) page.prefixes.push(prefix.slice(bucket.length + 1));
    range = answer.left;
    left = limit + 1 - page.objects.length - page.prefixes.length;
  }
  if (left <= 0) page.next = storeKeyOf(bucket, takeLast(page));
  return page;
}

/** Takes the one off that is last in order. */
function takeLast({ objects, prefixes }: ObjectPage): string {
  const object = objects.at(-1)?.key;
  const prefix = prefixes.at(-1);
  const isPrefixLast = object === undefined || (prefix !== undefined && compareKeys(object, prefix) < 0);
  if (isPrefixLast) return prefixes.pop() as string;
  objects.pop();
  return object;
}

function storeKeyOf(bucket: string, key: string): Uint8Array {
  return new Uint8Array(Buffer.from(`${bucket}/${key}`, "utf8"));
}

/** What S3 says of keys that were listed, without those that have gone since. */
async function entriesOf(
  context: FrontContext,
  bucket: string,
  listed: readonly Listed[],
): Promise<ObjectEntry[]> {
  const entries: ObjectEntry[] = [];
  for (let from = 0; from < listed.length; from += LOOKUPS_MAX) {
    const some = listed.slice(from, from + LOOKUPS_MAX);
    for (const entry of await Promise.all(some.map((one) => entryOf(context, bucket, one))))
      if (entry !== null) entries.push(entry);
  }
  return entries;
}

function rangeFor({ bucket, prefix, delimiter, from, scopes }: PageQuestion): KeyRange {
  const marker = markerOf(bucket);
  const text = (part: string): Uint8Array => new Uint8Array(Buffer.from(part, "utf8"));
  const range = rangeOf(text(`${bucket}/${prefix}`), false, delimiter === "" ? null : text(delimiter));
  // The bucket's own mark is no object in it.
  for (const low of [justAfter(marker), ...(from === null ? [] : [from])])
    if (Buffer.compare(range.low, low) < 0) range.low = new Uint8Array(low);
  range.scopes = scopes;
  return range;
}

/** The first key of the store behind one of a bucket, which may stand for all that it is the beginning of. */
export function behind(bucket: string, marker: string, prefix: string, delimiter: string): Uint8Array {
  const key = Buffer.from(`${bucket}/${marker}`, "utf8");
  const at = delimiter === "" || !marker.startsWith(prefix) ? -1 : marker.indexOf(delimiter, prefix.length);
  // One that goes on behind its first delimiter is a key in what is listed as one prefix.
  const isPrefix = at >= 0 && at + delimiter.length === marker.length;
  return isPrefix ? (afterAll(key) as Uint8Array) : justAfter(key);
}

/** What S3 says of a key that was listed; null: it has gone since. */
async function entryOf(context: FrontContext, bucket: string, listed: Listed): Promise<ObjectEntry | null> {
  const storeKey = Buffer.from(listed.key, "utf8");
  const key = listed.key.slice(bucket.length + 1);
  for (let tries = 0; tries < COLD_TRIES; tries++) {
    const here = context.vault.findResident({ bytes: storeKey, length: storeKey.length });
    if (here.state === "found" && etagOf(here.etag) === `"${listed.etag}"`) {
      const etag = s3Etag(here.trailer, listed.etag);
      return { key, etag, bytes: listed.bytes, versionMs: etagMillis(`"${listed.etag}"`) };
    }
    if (here.state !== "cold") break;
    await new Promise<void>((resolve) => context.vault.warm(resolve));
  }
  const facts = await factsAt(context, storeKey);
  if (facts === null) return null;
  return { key, etag: facts.etag, bytes: facts.valueBytes, versionMs: facts.versionMs };
}
