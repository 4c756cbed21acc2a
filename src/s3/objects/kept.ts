/**
 * What is kept with an object beside its bytes: its type, headers, the metadata of its user (`x-amz-meta-…`,
 * which is `X-Meta-…` to other clients of the store), its MD5 and its checksum; and the headers that say so
 * of it again.
 */

import { endOf } from "../../format/end.ts";
import {
  isMetadataName,
  META_PREFIX,
  type MetadataLine,
  metadataOf,
  metadataTrailer,
} from "../../format/fields/metadata.ts";
import { checksumField, type KeptChecksum, type Md5Sum, md5Field, md5In } from "../../format/fields/sums.ts";
import { type Field, readFields, writeFields } from "../../format/fields/trailer.ts";
import type { FrontContext } from "../../server/http/context.ts";
import { isHeaderText } from "../../util/header-text.ts";
import { CONTENT_TYPE_BYTES_MAX, KEPT_HEADER_BYTES_MAX, META_BYTES_MAX } from "../../util/limits.ts";
import { headerOf } from "../checksum/checksum.ts";
import type { Lines } from "../exchange/answer.ts";
import { S3Error } from "../protocol/errors.ts";
import { lastModified, s3Checksum } from "../protocol/etag.ts";
import type { ObjectFacts } from "../store/objects.ts";

const DEFAULT_TYPE = "binary/octet-stream";
const S3_META_PREFIX = "x-amz-meta-";
const NAMES = [
  "cache-control",
  "content-disposition",
  "content-encoding",
  "content-language",
  "expires",
] as const;
/** How a body travels, and not what it is. */
const CHUNKED_CODING = "aws-chunked";
const UPGRADE =
  "Objects need a place for what is kept with them: upgrade the data directory, or the cluster (minivault upgrade, minivault upgrade-cluster).";

/** What a request says of the object that it makes. */
export interface Described {
  contentType: string;
  lines: readonly MetadataLine[];
}

/** @throws S3Error where it cannot be kept */
export function describedBy(headers: ReadonlyMap<string, string>): Described {
  const contentType = headers.get("content-type") || DEFAULT_TYPE;
  if (contentType.length > CONTENT_TYPE_BYTES_MAX || !isHeaderText(contentType))
    throw new S3Error(
      "InvalidArgument",
      `Content-Type is header text of at most ${CONTENT_TYPE_BYTES_MAX} bytes.`,
    );
  const lines: MetadataLine[] = [];
  for (const name of NAMES) {
    const value = name === "content-encoding" ? codingsOf(headers.get(name)) : headers.get(name);
    if (value === undefined || value === "") continue;
    if (value.length > KEPT_HEADER_BYTES_MAX || !isHeaderText(value))
      throw new S3Error(
        "InvalidArgument",
        `${name} is header text of at most ${KEPT_HEADER_BYTES_MAX} bytes.`,
      );
    lines.push([name, value]);
  }
  let bytes = 0;
  for (const [name, value] of headers) {
    if (!name.startsWith(S3_META_PREFIX)) continue;
    const own = META_PREFIX + name.slice(S3_META_PREFIX.length);
    if (!isMetadataName(own) || !(value === "" || isHeaderText(value)))
      throw new S3Error("InvalidArgument", `${name.slice(0, 80)}: user metadata is visible ASCII.`);
    bytes += own.length - META_PREFIX.length + value.length;
    lines.push([own, value]);
  }
  if (bytes > META_BYTES_MAX) throw new S3Error("MetadataTooLarge");
  return { contentType, lines };
}

function codingsOf(header: string | undefined): string | undefined {
  return header
    ?.split(",")
    .map((coding) => coding.trim())
    .filter((coding) => coding.toLowerCase() !== CHUNKED_CODING)
    .join(", ");
}

/** @throws S3Error where the store has no place for fields */
export function demandFields({ cluster, vault }: FrontContext): void {
  if (!(cluster ?? vault).keepsFields) throw new S3Error("NotImplemented", UPGRADE);
}

/** The fields that are kept with an object. */
export function trailerOf(
  lines: readonly MetadataLine[],
  md5: Md5Sum,
  checksum: KeptChecksum | null,
): Uint8Array {
  const fields: Field[] = [...(readFields(metadataTrailer(lines)) ?? []), md5Field(md5)];
  if (checksum !== null) fields.push(checksumField(checksum));
  return writeFields(fields);
}

/** What another object says of itself. */
export function describedAs({ contentType, trailer }: ObjectFacts): Described {
  return { contentType, lines: metadataOf(trailer) };
}

/**
 * The headers of a checksum.
 * @param parts of which the object was put together; one of their checksums names their number
 */
export function checksumLines(checksum: KeptChecksum | null, parts = 0): Lines {
  if (checksum === null) return [];
  const { name, sum, isComposite } = checksum;
  const text = Buffer.from(sum).toString("base64");
  return [
    [headerOf(name), isComposite ? `${text}-${parts}` : text],
    ["x-amz-checksum-type", isComposite ? "COMPOSITE" : "FULL_OBJECT"],
  ];
}

/**
 * The headers of an object but its type and length.
 * @param showsChecksum it was asked for
 */
export function headersOf(facts: ObjectFacts, showsChecksum: boolean): [string, string][] {
  const lines: [string, string][] = [
    ["ETag", `"${facts.etag}"`],
    ["Last-Modified", lastModified(facts.versionMs).toUTCString()],
    ["Accept-Ranges", "bytes"],
  ];
  for (const [name, value] of metadataOf(facts.trailer))
    lines.push([
      name.startsWith(META_PREFIX) ? S3_META_PREFIX + name.slice(META_PREFIX.length) : name,
      value,
    ]);
  const end = endOf(facts.trailer);
  if (end !== 0)
    lines.push(["x-amz-expiration", `expiry-date="${new Date(end).toUTCString()}", rule-id="ttl"`]);
  if (showsChecksum)
    for (const [name, value] of checksumLines(s3Checksum(facts.trailer), md5In(facts.trailer)?.parts))
      lines.push([name, String(value)]);
  return lines;
}

/** What a response parameter such as response-content-type may set. */
export const OVERRIDES: ReadonlyMap<string, string> = new Map([
  ["response-cache-control", "cache-control"],
  ["response-content-disposition", "content-disposition"],
  ["response-content-encoding", "content-encoding"],
  ["response-content-language", "content-language"],
  ["response-content-type", "content-type"],
  ["response-expires", "expires"],
]);
