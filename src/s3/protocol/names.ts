/**
 * Buckets and keys of S3 as keys of the store: a bucket is the first segment of a key, and what follows its
 * slash is the key in it. The key `bucket/`, which no object can have, says that a bucket was made. Pure.
 */
import { RECORD_KEY_BYTES_MAX } from "../../util/limits.ts";
import { S3Error } from "./errors.ts";

/** Longest key in a bucket. */
const S3_KEY_BYTES_MAX = 1024;
const BUCKET_BYTES_MAX = 63;
if (BUCKET_BYTES_MAX + 1 + S3_KEY_BYTES_MAX > RECORD_KEY_BYTES_MAX)
  throw new Error("names.ts: records have no room for the longest key of S3");
/** Names that a bucket can be made with, as S3 has them. */
const NEW_BUCKET = /^(?!.*(?:\.\.|\.-|-\.))(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
/** Names that a bucket can have: some were made before there were rules, or by other ways. */
const BUCKET = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

/** What a request is about. Empty: no bucket, or no key. */
export interface Place {
  bucket: string;
  key: string;
}

export function isBucketName(name: string): boolean {
  return BUCKET.test(name);
}

export function isNewBucketName(name: string): boolean {
  return NEW_BUCKET.test(name);
}

/**
 * What a path and a Host name.
 * @param path as it was sent, without the query
 * @param host as it was sent
 * @param ownHosts names of this node, in small letters: `bucket.name` is that bucket
 * @throws S3Error
 */
export function placeOf(path: string, host: string, ownHosts: readonly string[]): Place {
  const bucketOfHost = bucketIn(host, ownHosts);
  const rest = path.slice(1);
  const slash = rest.indexOf("/");
  const [bucket, key] =
    bucketOfHost !== null
      ? [bucketOfHost, decoded(rest)]
      : slash < 0
        ? [decoded(rest), ""]
        : [decoded(rest.slice(0, slash)), decoded(rest.slice(slash + 1))];
  return checked({ bucket, key });
}

/**
 * What `bucket/key` names, with or without a slash before it, where all of it is percent-encoded: its slashes
 * may be, too.
 * @throws S3Error
 */
export function placeIn(text: string): Place {
  const rest = decoded(text).replace(/^\//, "");
  const slash = rest.indexOf("/");
  if (slash < 0) return checked({ bucket: rest, key: "" });
  return checked({ bucket: rest.slice(0, slash), key: rest.slice(slash + 1) });
}

function checked(place: Place): Place {
  const { bucket, key } = place;
  if (bucket !== "" && !isBucketName(bucket)) throw new S3Error("InvalidBucketName");
  if (bucket === "" && key !== "")
    throw new S3Error("InvalidBucketName", "The path begins with two slashes.");
  return place;
}

/** The bucket that a Host begins with; null: it is this node's own name, or one that nobody knows. */
function bucketIn(host: string, ownHosts: readonly string[]): string | null {
  const name = host.replace(/:\d+$/, "").toLowerCase();
  let bucket: string | null = null;
  for (const own of ownHosts) {
    if (name === own) return null;
    // Of two names of which one ends with the other, the longer one leaves the shorter bucket.
    if (!name.endsWith(`.${own}`)) continue;
    const first = name.slice(0, -own.length - 1);
    if (bucket === null || first.length < bucket.length) bucket = first;
  }
  return bucket;
}

function decoded(text: string): string {
  if (text.includes("\ufffd")) throw new S3Error("InvalidURI", "The path is not valid UTF-8.");
  try {
    return decodeURIComponent(text);
  } catch {
    throw new S3Error("InvalidURI", "The path is not percent-encoded UTF-8.");
  }
}

/** The key of the store for a key in a bucket. */
export function storeKey(bucket: string, key: string): Uint8Array {
  const bytes = new Uint8Array(Buffer.from(`${bucket}/${key}`, "utf8"));
  if (bytes.length - bucket.length - 1 > S3_KEY_BYTES_MAX)
    throw new S3Error("KeyTooLongError", `A key is limited to ${S3_KEY_BYTES_MAX} bytes.`);
  return bytes;
}

/** The key that says that a bucket was made; all keys in it begin with that. */
export function markerOf(bucket: string): Uint8Array {
  return storeKey(bucket, "");
}

/** The order of keys, which is that of their bytes; negative when `a` comes first. */
export function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a, "utf8"), Buffer.from(b, "utf8"));
}
