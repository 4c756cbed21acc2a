/** UploadPartCopy: an object, or a range of it, as a part. */

import { WRITE } from "../../auth/tokens.ts";
import type { KeptChecksum } from "../../format/fields/sums.ts";
import type { Range } from "../../server/transfer/find.ts";
import { createChecksum } from "../checksum/checksum.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { copyInto, openSource } from "../objects/copying.ts";
import { trailerOf } from "../objects/kept.ts";
import { S3Error } from "../protocol/errors.ts";
import { ValueSink } from "../store/value-sink.ts";
import { partNumberOf, placeOfPart } from "./upload-part.ts";
import { demandUpload, uploadIdOf } from "./uploads.ts";

export async function uploadPartCopy(exchange: Exchange): Promise<void> {
  const { front } = exchange;
  exchange.demand(WRITE, exchange.storeKey);
  const id = uploadIdOf(exchange);
  const number = partNumberOf(exchange);
  const { algorithm } = await demandUpload(exchange, id);
  const range = exchange.header("x-amz-copy-source-range");
  const source = await openSource(exchange, ({ valueBytes }) => rangeOf(range, valueBytes));
  let sink: ValueSink | null = null;
  try {
    sink = new ValueSink(front, placeOfPart(id, number), source.end - source.start);
    const checksum = algorithm === null ? null : createChecksum(algorithm);
    const md5 = await copyInto(source, sink, (piece) => checksum?.update(piece));
    const kept: KeptChecksum | null =
      checksum === null || algorithm === null
        ? null
        : { name: algorithm, sum: checksum.digest(), isComposite: false };
    await sink.commit(trailerOf([], { md5, parts: 0 }, kept));
    exchange.sendXml("CopyPartResult", {
      LastModified: new Date().toISOString(),
      ETag: `"${md5.toString("hex")}"`,
    });
  } finally {
    sink?.close();
    source.reader.close();
  }
}

function rangeOf(header: string, bytes: number): Range {
  if (header === "") return { start: 0, end: bytes };
  const match = /^bytes=(\d{1,15})-(\d{1,15})$/.exec(header.trim());
  const [start, last] = [Number(match?.[1]), Number(match?.[2])];
  if (match === null || start > last)
    throw new S3Error("InvalidArgument", "x-amz-copy-source-range is bytes=first-last.");
  if (last >= bytes) throw new S3Error("InvalidRange");
  return { start, end: last + 1 };
}
