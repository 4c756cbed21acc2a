/**
 * CompleteMultipartUpload: reads the parts, one after the other, into the object, which is there from the
 * moment at which all of it is written. A client that waits for long is sent blanks, as S3 does.
 */
import { createHash } from "node:crypto";
import { WRITE } from "../../auth/tokens.ts";
import type { KeptChecksum } from "../../format/fields/sums.ts";
import { piecesOf } from "../../server/transfer/outgoing.ts";
import {
  announcedIn,
  type Checksum,
  createChecksum,
  headerOf,
  readSum,
  sumBytes,
} from "../checksum/checksum.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { trailerOf } from "../objects/kept.ts";
import { commitUnder, conditionsOf, termsNow } from "../objects/terms.ts";
import { S3Error } from "../protocol/errors.ts";
import { etagText, s3Checksum } from "../protocol/etag.ts";
import { elementText, readDocument } from "../protocol/xml.ts";
import { openObject, whole } from "../store/objects.ts";
import { ValueSink } from "../store/value-sink.ts";
import { type Part, partsOf } from "./named-parts.ts";
import { demandUpload, partKey, removeParts, type UploadRecord, uploadIdOf, writeRecord } from "./uploads.ts";

const BODY_BYTES_MAX = 4 * 1024 * 1024;

/** What an upload has become. */
type Completed = Pick<UploadRecord, "etag" | "checksum">;

type Terms = Awaited<ReturnType<typeof termsNow>>;

export async function completeMultipartUpload(exchange: Exchange): Promise<void> {
  const { asked, body } = exchange;
  exchange.demand(WRITE, exchange.storeKey);
  const id = uploadIdOf(exchange);
  const own = conditionsOf(exchange);
  const document = readDocument(await body.whole(BODY_BYTES_MAX), "CompleteMultipartUpload");
  const begun = await demandUpload(exchange, id, true);
  const resultOf = ({ etag = "", checksum = {} }: Completed): string =>
    elementText("CompleteMultipartUploadResult", {
      ...{ Location: asked.path, Bucket: asked.bucket, Key: asked.key, ETag: `"${etag}"`, ...checksum },
    });
  // The answer was lost.
  if (begun.etag !== undefined) {
    exchange.sendElement(resultOf(begun));
    return;
  }
  const record = asClaimed(exchange, begun);
  const isFree = own.ifMatch === "" && own.ifNoneMatch === "";
  const conditions = (isFree ? record.conditions : null) ?? own;
  const byAnother = (error: unknown): Promise<Completed> => doneMeanwhile(exchange, id, error);
  let parts: Part[];
  let terms: Terms;
  try {
    parts = await partsOf(exchange, id, document);
    terms = await termsNow(exchange, conditions);
  } catch (error) {
    exchange.sendElement(resultOf(await byAnother(error)));
    return;
  }
  await exchange.sendWhenDone(async () =>
    resultOf(await assemble(exchange, id, record, parts, conditions, terms).catch(byAnother)),
  );
}

/** What an upload has become by another request; throws why this one failed where it has not. */
async function doneMeanwhile(exchange: Exchange, id: string, error: unknown): Promise<Completed> {
  const record = await demandUpload(exchange, id, true).catch(() => null);
  if (record?.etag === undefined) throw error;
  return record;
}

/**
 * The upload, with the checksum that its completion names.
 * @throws S3Error where it was begun with another one
 */
function asClaimed({ asked }: Exchange, record: UploadRecord): UploadRecord {
  const { algorithm, isFullObject } = record;
  const type = algorithm === null || isFullObject ? "FULL_OBJECT" : "COMPOSITE";
  const claimed = asked.headers.get("x-amz-checksum-type")?.toUpperCase() || type;
  if (claimed !== type)
    throw new S3Error("InvalidRequest", `The upload was begun with a checksum of the type ${type}.`);
  const sent = announcedIn(asked.headers);
  if (sent === null || sent.value === null || sent.name === algorithm) return record;
  if (algorithm !== null)
    throw new S3Error("InvalidRequest", `The upload was begun with ${algorithm}, and not with ${sent.name}.`);
  // It was begun with none: this one is that of all bytes, which are about to be read.
  return { ...record, algorithm: sent.name, isFullObject: true };
}

/** Writes the object; answers what it is. */
async function assemble(
  exchange: Exchange,
  id: string,
  record: UploadRecord,
  parts: readonly Part[],
  conditions: ReturnType<typeof conditionsOf>,
  terms: Terms,
): Promise<Completed> {
  const { asked, front } = exchange;
  const { contentType, lines, algorithm, isFullObject } = record;
  const bytes = parts.reduce((sum, { facts }) => sum + facts.valueBytes, 0);
  const sink = new ValueSink(front, { key: exchange.storeKey, contentType }, bytes, terms);
  try {
    const whole = isFullObject && algorithm !== null ? createChecksum(algorithm) : null;
    await readInto(exchange, id, parts, sink, whole);
    const md5 = createHash("md5");
    for (const { etag } of parts) md5.update(Buffer.from(etag, "hex"));
    const sum = { md5: md5.digest(), parts: parts.length };
    const checksum = checksumOf(exchange, record, parts, whole);
    await commitUnder(exchange, sink, trailerOf(lines, sum, checksum), conditions, terms);
    const completed = { etag: etagText(sum.md5, sum.parts), checksum: toldOf(checksum, parts.length) };
    await forget(exchange, asked.bucket, id, { ...record, ...completed });
    return completed;
  } finally {
    sink.close();
  }
}

/** Elements that tell a checksum. */
function toldOf(checksum: KeptChecksum | null, parts: number): Record<string, string> {
  if (checksum === null) return {};
  const { name, sum, isComposite } = checksum;
  const text = Buffer.from(sum).toString("base64");
  return {
    [`Checksum${name.toUpperCase()}`]: isComposite ? `${text}-${parts}` : text,
    ChecksumType: isComposite ? "COMPOSITE" : "FULL_OBJECT",
  };
}

/** What is left of the upload. The object is there: nothing of this may make its answer an error. */
async function forget(exchange: Exchange, bucket: string, id: string, record: UploadRecord): Promise<void> {
  try {
    await writeRecord(exchange.front, bucket, id, record);
    await removeParts(exchange.front, id);
  } catch (error) {
    exchange.front.log.info({ error: String(error) }, "parts of an upload stay until its end");
  }
}

/** Reads the parts into the value, as fast as that takes them. */
async function readInto(
  { front }: Exchange,
  id: string,
  parts: readonly Part[],
  sink: ValueSink,
  sum: Checksum | null,
): Promise<void> {
  let drained = (): void => {};
  sink.onDrain = () => drained();
  for (const { number, facts } of parts) {
    const part = await openObject(front, partKey(id, number), whole);
    if (part?.version !== facts.version) {
      part?.reader.close();
      throw new S3Error("InvalidPart", `Part ${number} was sent again meanwhile.`);
    }
    for await (const piece of piecesOf(part)) {
      sum?.update(piece);
      const room = new Promise<void>((resolve) => {
        drained = resolve;
      });
      if (!sink.take(piece)) await room;
    }
  }
}

/** The checksum of the object, as the upload was begun; null: none can be told. */
function checksumOf(
  exchange: Exchange,
  { algorithm }: UploadRecord,
  parts: readonly Part[],
  whole: Checksum | null,
): KeptChecksum | null {
  if (algorithm === null) return null;
  const sent = exchange.header(headerOf(algorithm));
  if (whole !== null) {
    const sum = whole.digest();
    if (sent !== "" && !readSum(sent, sumBytes(algorithm)).equals(sum)) throw new S3Error("BadDigest");
    return { name: algorithm, sum, isComposite: false };
  }
  const composite = createChecksum(algorithm);
  for (const { facts } of parts) {
    const kept = s3Checksum(facts.trailer);
    if (kept?.name !== algorithm) return null;
    composite.update(kept.sum);
  }
  const sum = composite.digest();
  const told = `${sum.toString("base64")}-${parts.length}`;
  if (sent !== "" && sent !== told) throw new S3Error("BadDigest");
  return { name: algorithm, sum, isComposite: true };
}
