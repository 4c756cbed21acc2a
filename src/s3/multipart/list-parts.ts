/** ListParts: which parts of an upload have come. */

import { WRITE } from "../../auth/tokens.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { S3Error } from "../protocol/errors.ts";
import { factsAt } from "../store/objects.ts";
import { demandUpload, partKey, partNumbers, uploadIdOf } from "./uploads.ts";

const PARTS_MAX = 1000;

export async function listParts(exchange: Exchange): Promise<void> {
  const { asked, front } = exchange;
  exchange.demand(WRITE, exchange.storeKey);
  const id = uploadIdOf(exchange);
  await demandUpload(exchange, id);
  const after = numberOf(exchange.parameter("part-number-marker"), 0, "part-number-marker");
  const limit = Math.min(PARTS_MAX, numberOf(exchange.parameter("max-parts"), PARTS_MAX, "max-parts"));
  const rest = (await partNumbers(front, id)).filter((number) => number > after);
  const page = rest.slice(0, limit);
  const facts = await Promise.all(page.map((number) => factsAt(front, partKey(id, number))));
  exchange.sendXml("ListPartsResult", {
    ...{ Bucket: asked.bucket, Key: asked.key, UploadId: id, PartNumberMarker: after },
    NextPartNumberMarker: page.at(-1) ?? after,
    MaxParts: limit,
    IsTruncated: limit > 0 && rest.length > page.length,
    StorageClass: "STANDARD",
    Part: page.flatMap((number, index) => {
      const found = facts[index];
      if (found === null) return [];
      const { versionMs, etag, valueBytes } = found;
      const LastModified = new Date(versionMs).toISOString();
      return [{ PartNumber: number, LastModified, ETag: `"${etag}"`, Size: valueBytes }];
    }),
  });
}

export function numberOf(text: string | null, preset: number, name: string): number {
  if (text === null || text === "") return preset;
  if (!/^\d{1,9}$/.test(text)) throw new S3Error("InvalidArgument", `${name} is a number.`);
  return Number(text);
}
