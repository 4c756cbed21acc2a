/**
 * Uploads in parts, as keys of the store that have an end of life, so that what nobody completes or aborts
 * goes away by itself:
 *
 *   _s3/uploads/BUCKET/UPLOAD      what the object is to be, as JSON
 *   _s3/parts/UPLOAD/00001         a part, with its MD5 and checksum
 *
 * The id of an upload says when it ends: 12 hexadecimal digits of milliseconds since 1970; then 20 at random.
 */
import { randomBytes } from "node:crypto";
import { rangeOf } from "../../engine/catalog/runs/listing.ts";
import type { MetadataLine } from "../../format/fields/metadata.ts";
import { CHECKSUMS, type ChecksumName } from "../../format/fields/sums.ts";
import { NO_TRAILER } from "../../format/fields/trailer.ts";
import type { FrontContext } from "../../server/http/context.ts";
import { sourceOf } from "../../server/list/list-source.ts";
import { piecesOf } from "../../server/transfer/outgoing.ts";
import type { NamesAnswer, NamesQuestion, Refused } from "../../shards/catalog/messages.ts";
import type { Exchange } from "../exchange/exchange.ts";
import type { WriteConditions } from "../objects/terms.ts";
import { S3Error, s3ErrorOf } from "../protocol/errors.ts";
import { openObject, whole } from "../store/objects.ts";
import { removeKey } from "../store/remove.ts";
import { ValueSink } from "../store/value-sink.ts";

/** After so long an upload that was neither completed nor aborted is gone, with its parts. */
const UPLOAD_MS_MAX = 7 * 24 * 3600 * 1000;
/** So long it is known that one was completed: for clients that have not heard it. */
const COMPLETED_MS = 15 * 60 * 1000;
export const PART_NUMBER_MAX = 10_000;
const TYPE = "application/x-minivault-upload";
const ID = /^[0-9a-f]{32}$/;
const END_DIGITS = 12;
const RANDOM_BYTES = 10;
const NUMBER_DIGITS = 5;
/** Keys that are asked for, and deletes that are under way, at once. */
const PAGE_KEYS = 1000;
const UNDER_WAY_MAX = 64;
const UPGRADE =
  "Uploads in parts need values that can end: upgrade the data directory, or the cluster (minivault upgrade, minivault upgrade-cluster).";

/** What an upload is to become. */
export interface UploadRecord {
  key: string;
  contentType: string;
  lines: readonly MetadataLine[];
  algorithm: ChecksumName | null;
  /** The checksum is one of the whole object, and not of its parts' checksums. */
  isFullObject: boolean;
  begunMs: number;
  /** Of the object's write, where its completion names none; left out: an older release has begun it. */
  conditions?: WriteConditions;
  /** It was completed, and this is the object's ETag. */
  etag?: string;
  /** And these elements tell its checksum. */
  checksum?: Record<string, string>;
}

/** An id for an upload that begins now. */
export function newUploadId({ cluster, vault }: FrontContext): string {
  const target = cluster ?? vault;
  if (!target.keepsEnds || !target.keepsFields) throw new S3Error("NotImplemented", UPGRADE);
  const end = Math.floor(target.now() + UPLOAD_MS_MAX);
  return end.toString(16).padStart(END_DIGITS, "0") + randomBytes(RANDOM_BYTES).toString("hex");
}

/** When an upload ends, in milliseconds since 1970. */
export function endOfUpload(id: string): number {
  return Number.parseInt(id.slice(0, END_DIGITS), 16);
}

/** The id that a request names. @throws S3Error NoSuchUpload */
export function uploadIdOf(exchange: Exchange): string {
  const id = exchange.parameter("uploadId") ?? "";
  const { cluster, vault } = exchange.front;
  const nowMs = (cluster ?? vault).now();
  // One that ends much later was never given out.
  if (!ID.test(id) || endOfUpload(id) <= nowMs || endOfUpload(id) > nowMs + 2 * UPLOAD_MS_MAX)
    throw new S3Error("NoSuchUpload");
  return id;
}

function recordsPrefix(bucket: string): string {
  return `_s3/uploads/${bucket}/`;
}

function recordKey(bucket: string, id: string): Uint8Array {
  return new Uint8Array(Buffer.from(recordsPrefix(bucket) + id, "utf8"));
}

function partsPrefix(id: string): string {
  return `_s3/parts/${id}/`;
}

export function partKey(id: string, number: number): Uint8Array {
  return new Uint8Array(Buffer.from(partsPrefix(id) + String(number).padStart(NUMBER_DIGITS, "0"), "latin1"));
}

export async function writeRecord(
  context: FrontContext,
  bucket: string,
  id: string,
  record: UploadRecord,
): Promise<void> {
  const bytes = Buffer.from(JSON.stringify(record));
  const expiresMs =
    record.etag === undefined
      ? endOfUpload(id)
      : Math.floor((context.cluster ?? context.vault).now() + COMPLETED_MS);
  const life = { ttlMs: 0, expiresMs, keep: false };
  const sink = new ValueSink(context, { key: recordKey(bucket, id), contentType: TYPE, life }, bytes.length);
  try {
    sink.take(bytes);
    await sink.commit(NO_TRAILER);
  } finally {
    sink.close();
  }
}

/** What an upload is; null: there is none. */
async function readRecord(context: FrontContext, key: Uint8Array): Promise<UploadRecord | null> {
  const object = await openObject(context, key, whole);
  if (object === null) return null;
  const pieces: Uint8Array[] = [];
  for await (const piece of piecesOf(object)) pieces.push(piece);
  const record: UploadRecord = JSON.parse(Buffer.concat(pieces).toString("utf8"));
  const isKnown = record.algorithm === null || CHECKSUMS.some(({ name }) => name === record.algorithm);
  if (typeof record.key !== "string" || !isKnown) throw new S3Error("InternalError");
  return record;
}

/**
 * The upload that a request is about.
 * @param withCompleted also one that was completed a short while ago
 * @throws S3Error NoSuchBucket, NoSuchUpload
 */
export async function demandUpload(
  { asked, front, context }: Exchange,
  id: string,
  withCompleted = false,
): Promise<UploadRecord> {
  const record = await readRecord(front, recordKey(asked.bucket, id));
  if (!context.buckets.isKnown(asked.bucket)) await context.buckets.demand(asked.bucket);
  const isThere = record?.key === asked.key && (withCompleted || record.etag === undefined);
  if (record === null || !isThere) throw new S3Error("NoSuchUpload");
  return record;
}

/** Numbers of the parts that have come, rising. */
export async function partNumbers(context: FrontContext, id: string): Promise<number[]> {
  const prefix = partsPrefix(id);
  const numbers: number[] = [];
  for await (const name of namesIn(context, prefix)) numbers.push(Number(name.slice(prefix.length)));
  return numbers;
}

/** Uploads of a bucket that are under way, with their ids. */
export async function uploadsOf(
  context: FrontContext,
  bucket: string,
): Promise<(UploadRecord & { id: string })[]> {
  const prefix = recordsPrefix(bucket);
  const uploads: (UploadRecord & { id: string })[] = [];
  for await (const name of namesIn(context, prefix)) {
    const record = await readRecord(context, new Uint8Array(Buffer.from(name, "utf8")));
    if (record !== null && record.etag === undefined)
      uploads.push({ ...record, id: name.slice(prefix.length) });
  }
  return uploads;
}

async function* namesIn(context: FrontContext, prefix: string): AsyncGenerator<string> {
  const source = sourceOf(context);
  if ("code" in source) throw s3ErrorOf(source.code, source.detail);
  for (
    let range: NamesQuestion["range"] | null = rangeOf(new Uint8Array(Buffer.from(prefix)));
    range !== null;
  ) {
    const answer: NamesAnswer | Refused = await source.ask({ kind: "names", range, limit: PAGE_KEYS }, null);
    if (answer.kind === "refused") throw s3ErrorOf(answer.code, answer.detail);
    for (const key of answer.keys) yield Buffer.from(key).toString("utf8");
    range = answer.left;
  }
}

/** Removes the parts; what comes later goes away at the upload's end. */
export async function removeParts(context: FrontContext, id: string): Promise<void> {
  const numbers = await partNumbers(context, id);
  const work = async (): Promise<void> => {
    for (let number = numbers.pop(); number !== undefined; number = numbers.pop())
      await removeKey(context, partKey(id, number));
  };
  await Promise.all(Array.from({ length: Math.min(UNDER_WAY_MAX, numbers.length) }, work));
}

/** Removes an upload. The parts go first: as long as there is a record, it can be removed again. */
export async function removeUpload(context: FrontContext, bucket: string, id: string): Promise<void> {
  await removeParts(context, id);
  await removeKey(context, recordKey(bucket, id));
}

/** Removes all uploads of a bucket, also those that were completed a short while ago. */
export async function removeUploads(context: FrontContext, bucket: string): Promise<void> {
  const prefix = recordsPrefix(bucket);
  for await (const name of namesIn(context, prefix))
    await removeUpload(context, bucket, name.slice(prefix.length));
}
