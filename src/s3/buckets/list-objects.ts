/** ListObjectsV2 and ListObjects: a bucket's objects in order, a page at a time. */

import { LIST } from "../../auth/tokens.ts";
import { RECORD_KEY_BYTES_MAX } from "../../util/limits.ts";
import { encodingOf } from "../exchange/encoding.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { S3Error } from "../protocol/errors.ts";
import { lastModified } from "../protocol/etag.ts";
import { compareKeys } from "../protocol/names.ts";
import type { Elements } from "../protocol/xml.ts";
import { behind, type ObjectPage, pageOf } from "./entries.ts";

const KEYS_MAX = 1000;
const OWNER = { ID: "minivault", DisplayName: "minivault" };

export async function listObjects(exchange: Exchange): Promise<void> {
  const { asked, context, front } = exchange;
  const { bucket } = asked;
  const prefix = textParameter(exchange, "prefix");
  const delimiter = textParameter(exchange, "delimiter");
  const scopes = exchange.scopesOf(LIST, Buffer.from(`${bucket}/${prefix}`, "utf8"));
  const type = exchange.parameter("list-type");
  if (type !== null && type !== "2") throw new S3Error("InvalidArgument", "list-type is 2.");
  const limit = limitOf(exchange.parameter("max-keys"));
  const { name: encoding, encode } = encodingOf(exchange);
  const from =
    type === "2" ? tokenOrStart(exchange, prefix, delimiter) : markerStart(exchange, prefix, delimiter);
  await context.buckets.demand(bucket);
  const page: ObjectPage =
    limit === 0
      ? { objects: [], prefixes: [], next: null }
      : await pageOf(front, { bucket, prefix, delimiter, from, limit, scopes });
  const common = {
    Name: bucket,
    // The older list tells it as it is: clients decode the rest.
    Prefix: type === "2" ? encode(prefix) : prefix,
    Delimiter: delimiter === "" ? undefined : encode(delimiter),
    MaxKeys: limit,
    EncodingType: encoding,
    IsTruncated: page.next !== null,
  };
  const own = type === "2" ? ofV2(exchange, page, encode) : ofV1(exchange, page, encode, delimiter);
  const showsOwner = type !== "2" || exchange.parameter("fetch-owner") === "true";
  exchange.sendXml("ListBucketResult", { ...common, ...own, ...contentsOf(page, encode, showsOwner) });
}

function contentsOf(page: ObjectPage, encode: (text: string) => string, showsOwner: boolean): Elements {
  return {
    Contents: page.objects.map(({ key, etag, bytes, versionMs }) => ({
      Key: encode(key),
      LastModified: lastModified(versionMs).toISOString(),
      ETag: `"${etag}"`,
      Size: bytes,
      StorageClass: "STANDARD",
      Owner: showsOwner ? OWNER : undefined,
    })),
    CommonPrefixes: page.prefixes.map((prefix) => ({ Prefix: encode(prefix) })),
  };
}

function ofV2(
  exchange: Exchange,
  { objects, prefixes, next }: ObjectPage,
  encode: (text: string) => string,
): Elements {
  const start = exchange.parameter("start-after");
  return {
    KeyCount: objects.length + prefixes.length,
    ContinuationToken: exchange.parameter("continuation-token") ?? undefined,
    NextContinuationToken: next === null ? undefined : Buffer.from(next).toString("base64url"),
    StartAfter: start === null ? undefined : encode(start),
  };
}

function ofV1(
  exchange: Exchange,
  { objects, prefixes, next }: ObjectPage,
  encode: (text: string) => string,
  delimiter: string,
): Elements {
  // Without a delimiter the last key says where to go on.
  const last = [objects.at(-1)?.key ?? "", prefixes.at(-1) ?? ""].reduce((a, b) =>
    compareKeys(a, b) < 0 ? b : a,
  );
  return {
    Marker: encode(exchange.parameter("marker") ?? ""),
    NextMarker: next === null || delimiter === "" ? undefined : encode(last),
  };
}

function textParameter(exchange: Exchange, name: string): string {
  const text = exchange.parameter(name) ?? "";
  if (Buffer.byteLength(text) > RECORD_KEY_BYTES_MAX)
    throw new S3Error("InvalidArgument", `${name} is longer than a key.`);
  return text;
}

function limitOf(text: string | null): number {
  if (text === null || text === "") return KEYS_MAX;
  if (!/^\d{1,9}$/.test(text)) throw new S3Error("InvalidArgument", "max-keys is a number.");
  return Math.min(KEYS_MAX, Number(text));
}

function tokenOrStart(exchange: Exchange, prefix: string, delimiter: string): Uint8Array | null {
  const { bucket } = exchange.asked;
  const token = exchange.parameter("continuation-token");
  if (token !== null && token !== "") {
    const from = new Uint8Array(Buffer.from(token, "base64url"));
    const isOurs =
      Buffer.from(from).toString("base64url") === token &&
      from.length > 0 &&
      from.length <= RECORD_KEY_BYTES_MAX + 1;
    if (!isOurs) throw new S3Error("InvalidArgument", "The continuation token is none of this list.");
    return from;
  }
  const start = textParameter(exchange, "start-after");
  return start === "" ? null : behind(bucket, start, prefix, delimiter);
}

function markerStart(exchange: Exchange, prefix: string, delimiter: string): Uint8Array | null {
  const marker = textParameter(exchange, "marker");
  return marker === "" ? null : behind(exchange.asked.bucket, marker, prefix, delimiter);
}
