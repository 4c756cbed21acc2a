/** ListMultipartUploads: uploads of a bucket that are under way, in order of their keys. */

import { LIST } from "../../auth/tokens.ts";
import { scopeFrom } from "../../engine/catalog/runs/listing.ts";
import { encodingOf } from "../exchange/encoding.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { compareKeys, storeKey } from "../protocol/names.ts";
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
  const { name: encoding, encode } = encodingOf(exchange);
  await context.buckets.demand(bucket);
  const isSeen = (key: string): boolean => scopes === null || scopeFrom(scopes, storeKey(bucket, key)) === 0;
  const isAfter = (key: string, id: string): boolean =>
    keyMarker === "" ||
    compareKeys(key, keyMarker) > 0 ||
    (key === keyMarker && idMarker !== "" && id > idMarker);
  const all = (await uploadsOf(front, bucket))
    .filter(({ key, id }) => key.startsWith(prefix) && isSeen(key) && isAfter(key, id))
    .sort((a, b) => compareKeys(a.key, b.key) || compareKeys(a.id, b.id));
  const groupOf = (key: string): string | null => {
    const at = delimiter === "" ? -1 : key.indexOf(delimiter, prefix.length);
    return at < 0 ? null : key.slice(0, at + delimiter.length);
  };
  const [page, prefixes]: [typeof all, string[]] = [[], []];
  let last: { key: string; id?: string } | null = null;
  let isTruncated = false;
  for (const upload of all) {
    const group = groupOf(upload.key);
    // Those of one beginning follow each other; that of the marker was on the page before.
    if (group !== null && (group === prefixes.at(-1) || group === keyMarker)) continue;
    if (page.length + prefixes.length >= limit) {
      isTruncated = limit > 0;
      break;
    }
    if (group === null) page.push(upload);
    else prefixes.push(group);
    last = group === null ? upload : { key: group };
  }
  exchange.sendXml("ListMultipartUploadsResult", {
    ...{ Bucket: bucket, KeyMarker: encode(keyMarker), UploadIdMarker: idMarker, Prefix: encode(prefix) },
    Delimiter: delimiter === "" ? undefined : encode(delimiter),
    NextKeyMarker: isTruncated ? encode(last?.key ?? "") : undefined,
    NextUploadIdMarker: isTruncated ? last?.id : undefined,
    ...{ MaxUploads: limit, IsTruncated: isTruncated, EncodingType: encoding },
    Upload: page.map(({ key, id, begunMs }) => ({
      ...{
        Key: encode(key),
        UploadId: id,
        StorageClass: "STANDARD",
        Initiated: new Date(begunMs).toISOString(),
      },
    })),
    CommonPrefixes: prefixes.map((one) => ({ Prefix: encode(one) })),
  });
}
