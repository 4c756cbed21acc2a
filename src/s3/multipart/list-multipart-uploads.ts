/** ListMultipartUploads: uploads of a bucket that are under way, in order of their keys. */
import { scopeFrom } from "../../engine/catalog/runs/listing.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { LIST } from "../exchange/needs.ts";
import { S3Error } from "../protocol/errors.ts";
import { compareKeys, storeKey } from "../protocol/names.ts";
import { encodeUri } from "../signature/canonical.ts";
import { numberOf } from "./list-parts.ts";
import { uploadsOf } from "./uploads.ts";

const UPLOADS_MAX = 1000;

export async function listMultipartUploads(exchange: Exchange): Promise<void> {
  const { asked, context, front } = exchange;
  const { bucket } = asked;
  const [prefix, delimiter, keyMarker, idMarker] = [
    ...["prefix", "delimiter", "key-marker", "upload-id-marker"],
  ].map((name) => exchange.parameter(name) ?? "");
  const scopes = exchange.scopesOf(LIST, Buffer.from(`${bucket}/${prefix}`, "utf8"));
  const limit = Math.min(
    UPLOADS_MAX,
    numberOf(exchange.parameter("max-uploads"), UPLOADS_MAX, "max-uploads"),
  );
  const encoding = exchange.parameter("encoding-type");
  if (encoding !== null && encoding !== "url") throw new S3Error("InvalidArgument", "encoding-type is url.");
  const encode = (text: string): string =>
    encoding === null ? text : encodeUri(text).replaceAll("%2F", "/");
  await context.buckets.demand(bucket);
  const isSeen = (key: string): boolean => scopes === null || scopeFrom(scopes, storeKey(bucket, key)) === 0;
  const isAfter = (key: string, id: string): boolean =>
    keyMarker === "" ||
    compareKeys(key, keyMarker) > 0 ||
    (key === keyMarker && idMarker !== "" && id > idMarker);
  const all = (await uploadsOf(front, bucket))
    .filter(({ key, id }) => key.startsWith(prefix) && isSeen(key) && isAfter(key, id))
    .sort((a, b) => compareKeys(a.key, b.key) || compareKeys(a.id, b.id));
  const prefixes = new Set<string>();
  const uploads = all.filter(({ key }) => {
    const at = delimiter === "" ? -1 : key.indexOf(delimiter, prefix.length);
    if (at >= 0) prefixes.add(key.slice(0, at + delimiter.length));
    return at < 0;
  });
  const page = uploads.slice(0, limit);
  const isTruncated = uploads.length > page.length;
  exchange.sendXml("ListMultipartUploadsResult", {
    ...{ Bucket: bucket, KeyMarker: encode(keyMarker), UploadIdMarker: idMarker, Prefix: encode(prefix) },
    Delimiter: delimiter === "" ? undefined : encode(delimiter),
    NextKeyMarker: isTruncated ? encode(page.at(-1)?.key ?? "") : undefined,
    NextUploadIdMarker: isTruncated ? page.at(-1)?.id : undefined,
    ...{ MaxUploads: limit, IsTruncated: isTruncated, EncodingType: encoding ?? undefined },
    Upload: page.map(({ key, id, begunMs }) => ({
      ...{
        Key: encode(key),
        UploadId: id,
        StorageClass: "STANDARD",
        Initiated: new Date(begunMs).toISOString(),
      },
    })),
    CommonPrefixes: [...prefixes].map((one) => ({ Prefix: encode(one) })),
  });
}
