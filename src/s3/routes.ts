/** Which verb of S3 a request is: by its method, what it is about, and the parameters of its query. */

import { createBucket } from "./buckets/create-bucket.ts";
import { deleteBucket } from "./buckets/delete-bucket.ts";
import { getBucketLocation } from "./buckets/get-bucket-location.ts";
import { getBucketVersioning } from "./buckets/get-bucket-versioning.ts";
import { headBucket } from "./buckets/head-bucket.ts";
import { listBuckets } from "./buckets/list-buckets.ts";
import { listObjects } from "./buckets/list-objects.ts";
import type { Asked, Exchange } from "./exchange/exchange.ts";
import { abortMultipartUpload } from "./multipart/abort-multipart-upload.ts";
import { completeMultipartUpload } from "./multipart/complete-multipart-upload.ts";
import { createMultipartUpload } from "./multipart/create-multipart-upload.ts";
import { listMultipartUploads } from "./multipart/list-multipart-uploads.ts";
import { listParts } from "./multipart/list-parts.ts";
import { uploadPart } from "./multipart/upload-part.ts";
import { uploadPartCopy } from "./multipart/upload-part-copy.ts";
import { copyObject } from "./objects/copy-object.ts";
import { deleteObject } from "./objects/delete-object.ts";
import { deleteObjects } from "./objects/delete-objects.ts";
import { getObject } from "./objects/get-object.ts";
import { putObject } from "./objects/put-object.ts";
import { S3Error } from "./protocol/errors.ts";

export type Verb = (exchange: Exchange) => Promise<void>;

/** Parameters that make a request one about something else than an object, a bucket or a list. */
const SUBRESOURCES: ReadonlySet<string> = new Set([
  ...["acl", "accelerate", "analytics", "attributes", "cors", "encryption", "intelligent-tiering"],
  ...["inventory", "legal-hold", "lifecycle", "logging", "metrics", "notification", "object-lock"],
  ...["ownershipControls", "policy", "policyStatus", "publicAccessBlock", "replication", "requestPayment"],
  ...["restore", "retention", "select", "tagging", "torrent", "versions", "website", "append"],
  ...["renameObject", "session", "metadataConfiguration", "metadataTable"],
]);
/** Parameters that only some methods have. */
const OF_METHOD: ReadonlyMap<string, readonly string[]> = new Map([
  ["versioning", ["GET"]],
  ["location", ["GET"]],
  ["uploads", ["GET", "POST"]],
  ["uploadId", ["GET", "PUT", "POST", "DELETE"]],
  ["delete", ["POST"]],
]);
/** Parameters that requests about a bucket have. */
const OF_BUCKET: ReadonlySet<string> = new Set([
  ...["versioning", "location", "uploads", "delete"],
  ...["list-type", "prefix", "delimiter", "encoding-type", "fetch-owner", "max-keys", "marker"],
  ...["start-after", "continuation-token", "max-uploads", "key-marker", "upload-id-marker"],
]);
/** Of a signature, or a client's own words, as S3 has it. */
const OWN_WORD = /^x-/i;
/** Headers that ask for what is not there. */
const HEADERS: ReadonlySet<string> = new Set([
  ...["x-amz-tagging", "x-amz-website-redirect-location", "x-amz-write-offset-bytes", "x-amz-mfa"],
  ...["x-amz-if-match-last-modified-time", "x-amz-if-match-size", "x-amz-bypass-governance-retention"],
]);
/** And all that begin so. */
const HEADER_FAMILIES = /^x-amz-(?:grant-|object-lock-|(?:copy-source-)?server-side-encryption(?:-|$))/;
const CONDITIONS = ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"];
/** Conditions that writes have. Whoever sends another one relies on it; of reads they save only time. */
const OF_WRITE: ReadonlyMap<Verb, readonly string[]> = new Map([
  [putObject, ["if-match", "if-none-match"]],
  [copyObject, ["if-match", "if-none-match"]],
  [createMultipartUpload, ["if-match", "if-none-match"]],
  [completeMultipartUpload, ["if-match", "if-none-match"]],
  [deleteObject, ["if-match"]],
]);
/** What an object or a bucket has anyway. */
const ACLS: ReadonlySet<string> = new Set(["private", "bucket-owner-full-control", "bucket-owner-read"]);
const STANDARD = "STANDARD";

/**
 * The verb of a request.
 * @throws S3Error NotImplemented, MethodNotAllowed
 */
export function verbOf(asked: Asked): Verb {
  demandKnown(asked);
  const { bucket, key, method } = asked;
  const verb = bucket === "" ? ofService(method) : key === "" ? ofBucket(asked) : ofObject(asked);
  if (verb === null) throw new S3Error("MethodNotAllowed");
  if (method !== "GET" && method !== "HEAD") demandConditions(asked.headers, OF_WRITE.get(verb) ?? []);
  return verb;
}

function demandConditions(headers: Asked["headers"], known: readonly string[]): void {
  const unknown = CONDITIONS.find((name) => headers.has(name) && !known.includes(name));
  if (unknown !== undefined) throw new S3Error("NotImplemented", `${unknown} is no condition of this here.`);
}

/**
 * Whether a parameter makes a request about a bucket one about something of it that nobody has heard of here.
 * Such a word has no value; what a read says with one is a wish, such as other servers know.
 */
function isOfUnknown(name: string, value: string, { bucket, key, method }: Asked): boolean {
  if (bucket === "" || key !== "" || OF_BUCKET.has(name) || OWN_WORD.test(name)) return false;
  return value === "" || (method !== "GET" && method !== "HEAD");
}

function demandKnown(asked: Asked): void {
  const { query, headers, method } = asked;
  // A request has few parameters and headers, and what is not here is much.
  for (const [name, value] of query)
    if (
      SUBRESOURCES.has(name) ||
      OF_METHOD.get(name)?.includes(method) === false ||
      isOfUnknown(name, value, asked)
    )
      throw new S3Error("NotImplemented", `There is no ?${name} here.`);
  const version = query.get("versionId");
  if (version !== undefined && version !== "null" && version !== "")
    throw new S3Error("NotImplemented", "There are no versions here.");
  for (const name of headers.keys())
    if (HEADERS.has(name) || HEADER_FAMILIES.test(name))
      throw new S3Error("NotImplemented", `What ${name} asks for is not there.`);
  const acl = headers.get("x-amz-acl");
  if (acl !== undefined && !ACLS.has(acl))
    throw new S3Error("NotImplemented", "There are no public ACLs here.");
  const storage = headers.get("x-amz-storage-class");
  if (storage !== undefined && storage !== STANDARD)
    throw new S3Error("NotImplemented", `The one storage class is ${STANDARD}.`);
}

function ofService(method: string): Verb | null {
  return method === "GET" ? listBuckets : null;
}

function ofBucket({ method, query }: Asked): Verb | null {
  switch (method) {
    case "GET":
      if (query.has("uploads")) return listMultipartUploads;
      if (query.has("versioning")) return getBucketVersioning;
      return query.has("location") ? getBucketLocation : listObjects;
    case "HEAD":
      return headBucket;
    case "PUT":
      return createBucket;
    case "DELETE":
      return deleteBucket;
    case "POST":
      if (query.has("delete")) return deleteObjects;
      throw new S3Error("NotImplemented", "Uploads by a form are not there: use a presigned URL.");
    default:
      return null;
  }
}

function ofObject({ method, headers, query }: Asked): Verb | null {
  const isUpload = query.has("uploadId");
  const isCopy = headers.has("x-amz-copy-source");
  switch (method) {
    case "GET":
    case "HEAD":
      if (query.has("partNumber"))
        throw new S3Error("NotImplemented", "Parts of an object are not kept apart.");
      return isUpload && method === "GET" ? listParts : getObject;
    case "PUT":
      if (isUpload) return isCopy ? uploadPartCopy : uploadPart;
      // A part that has lost its upload must not become the object.
      if (query.has("partNumber")) throw new S3Error("InvalidArgument", "A part needs its uploadId.");
      return isCopy ? copyObject : putObject;
    case "POST":
      if (query.has("uploads")) return createMultipartUpload;
      return isUpload ? completeMultipartUpload : null;
    case "DELETE":
      return isUpload ? abortMultipartUpload : deleteObject;
    default:
      return null;
  }
}
