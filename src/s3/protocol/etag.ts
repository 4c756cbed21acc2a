/**
 * What S3 calls the ETag of an object, beside the version that the store knows: the MD5 of its bytes, or of
 * the MD5s of its parts with their number. Values that did not come by S3 have none; their version stands in
 * its place, with a hyphen, so that nobody takes it for an MD5.
 */
import { checksumIn, type KeptChecksum, md5In } from "../../format/fields/sums.ts";
import { earliestModifiedSeconds, isModifiedSince, lastModifiedSeconds } from "../../rules/conditions.ts";
import { readHttpDate } from "../../util/http-date.ts";
import { S3Error } from "./errors.ts";

/** In the place of a number of parts, behind a version. */
const VERSION_MARK = "-1";

/** The ETag, without quotes. */
export function s3Etag(trailer: Uint8Array, version: string): string {
  const sum = md5In(trailer);
  if (sum === null) return `${version.replaceAll('"', "")}${VERSION_MARK}`;
  return etagText(sum.md5, sum.parts);
}

/** @param parts 0: it is the MD5 of the bytes */
export function etagText(md5: Uint8Array, parts: number): string {
  const digits = Buffer.from(md5).toString("hex");
  return parts === 0 ? digits : `${digits}-${parts}`;
}

export function s3Checksum(trailer: Uint8Array): KeptChecksum | null {
  return checksumIn(trailer);
}

/** Whether an If-Match or If-None-Match names an ETag. */
export function namesEtag(header: string, etag: string): boolean {
  return header.split(",").some((item) => {
    const tag = item.trim().replace(/^W\//, "");
    return tag === "*" || tag === etag || tag === `"${etag}"`;
  });
}

/**
 * When an object was changed, as headers and lists tell it: as on the other port never later than `Date`,
 * which uWS renews once a second.
 */
export function lastModified(versionMs: number): Date {
  return new Date(lastModifiedSeconds(versionMs, Date.now()) * 1000);
}

/** Conditions of a read, as they were sent; empty: there is none. */
export interface ReadConditions {
  ifMatch: string;
  ifNoneMatch: string;
  ifModifiedSince: string;
  ifUnmodifiedSince: string;
}

/**
 * Judges them, in the order of RFC 9110.
 * @throws S3Error PreconditionFailed, or NotModified
 */
export function demandConditions(conditions: ReadConditions, etag: string, versionMs: number): void {
  const { ifMatch, ifNoneMatch, ifModifiedSince, ifUnmodifiedSince } = conditions;
  if (ifMatch !== "") {
    if (!namesEtag(ifMatch, etag)) throw new S3Error("PreconditionFailed");
  } else if (ifUnmodifiedSince !== "") {
    const date = readHttpDate(ifUnmodifiedSince, Date.now());
    if (date !== null && earliestModifiedSeconds(versionMs) > date) throw new S3Error("PreconditionFailed");
  }
  if (ifNoneMatch !== "") {
    if (namesEtag(ifNoneMatch, etag)) throw new S3Error("NotModified");
  } else if (ifModifiedSince !== "") {
    const nowMs = Date.now();
    if (!isModifiedSince(ifModifiedSince, lastModifiedSeconds(versionMs, nowMs), nowMs))
      throw new S3Error("NotModified");
  }
}
