/** CopyObject: an object's bytes under another key, or with other metadata. */

import { WRITE } from "../../auth/tokens.ts";
import type { KeptChecksum } from "../../format/fields/sums.ts";
import { etagMillis } from "../../format/version.ts";
import { algorithmOf, createChecksum } from "../checksum/checksum.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { S3Error } from "../protocol/errors.ts";
import { lastModified, s3Checksum } from "../protocol/etag.ts";
import { whole } from "../store/objects.ts";
import { ValueSink } from "../store/value-sink.ts";
import { copyInto, openSource } from "./copying.ts";
import { demandFields, describedAs, describedBy, trailerOf } from "./kept.ts";
import { commitUnder, conditionsOf, termsNow } from "./terms.ts";

export async function copyObject(exchange: Exchange): Promise<void> {
  const { asked, front, context } = exchange;
  const key = exchange.storeKey;
  exchange.demand(WRITE, key);
  demandFields(front);
  const directive = exchange.header("x-amz-metadata-directive").toUpperCase() || "COPY";
  if (directive !== "COPY" && directive !== "REPLACE")
    throw new S3Error("InvalidArgument", "x-amz-metadata-directive is COPY or REPLACE.");
  const conditions = conditionsOf(exchange);
  const own = directive === "REPLACE" ? describedBy(asked.headers) : null;
  await context.buckets.demand(asked.bucket);
  const source = await openSource(exchange, whole);
  let sink: ValueSink | null = null;
  try {
    if (own === null && Buffer.compare(source.storeKey, key) === 0)
      throw new S3Error("InvalidRequest", "A copy to itself has to change the metadata (REPLACE).");
    const terms = await termsNow(exchange, conditions);
    const { contentType, lines } = own ?? describedAs(source);
    sink = new ValueSink(front, { key, contentType }, source.valueBytes, terms);
    const algorithm =
      algorithmOf(exchange.header("x-amz-checksum-algorithm")) ?? s3Checksum(source.trailer)?.name;
    const checksum = algorithm === undefined ? null : createChecksum(algorithm);
    const md5 = await copyInto(source, sink, (piece) => checksum?.update(piece));
    const kept: KeptChecksum | null =
      checksum === null || algorithm === undefined
        ? null
        : { name: algorithm, sum: checksum.digest(), isComposite: false };
    const { version } = await commitUnder(
      exchange,
      sink,
      trailerOf(lines, { md5, parts: 0 }, kept),
      conditions,
      terms,
    );
    exchange.sendXml("CopyObjectResult", {
      LastModified: lastModified(etagMillis(`"${version}"`)).toISOString(),
      ETag: `"${md5.toString("hex")}"`,
    });
  } finally {
    sink?.close();
    source.reader.close();
  }
}
