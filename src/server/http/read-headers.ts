/**
 * What the headers of a request say of conditions and ranges, read once, before the request is gone. A header
 * that came in several lines is one list (RFC 9110, section 5.3); uWS shows the first line only, so whoever
 * finds one looks at all.
 */
import { type Conditions, readTags, readUnmodifiedSince } from "../../rules/conditions.ts";
import { CONDITION_BYTES_MAX } from "../../util/limits.ts";
import type { Req } from "./http.ts";

/** A header's name, as text and as bytes: bytes are cheaper to pass to uWS than strings. */
export interface HeaderName {
  readonly text: string;
  readonly bytes: ArrayBuffer;
}

export function headerName(text: string): HeaderName {
  return { text, bytes: new TextEncoder().encode(text).buffer as ArrayBuffer };
}

const IF_MATCH = headerName("if-match");
const IF_NONE_MATCH = headerName("if-none-match");
const IF_UNMODIFIED_SINCE = headerName("if-unmodified-since");
const IF_MODIFIED_SINCE = headerName("if-modified-since");
const RANGE = headerName("range");
const IF_RANGE = headerName("if-range");

/** All lines of a header, joined by commas; "" where there is none. */
export function headerLines(req: Req, { text, bytes }: HeaderName): string {
  // Mostly it is absent, and this is all.
  if (req.getHeader(bytes) === "") return "";
  const lines: string[] = [];
  req.forEach((name, value) => {
    if (name === text) lines.push(value);
  });
  return lines.join(", ");
}

const LISTS_PROBLEM = {
  tooLong: `If-Match and If-None-Match are limited to ${CONDITION_BYTES_MAX} bytes`,
  malformed: 'If-Match and If-None-Match are "*" or lists of entity tags, such as "a1", "b2"',
};

/** Reads the conditions that reads and writes have in common. Answers what is wrong, or null. */
function readConditions(req: Req, into: Conditions): string | null {
  const ifMatch = headerLines(req, IF_MATCH);
  const date = ifMatch === "" ? headerLines(req, IF_UNMODIFIED_SINCE) : "";
  return judgeConditions(ifMatch, headerLines(req, IF_NONE_MATCH), date, into);
}

/**
 * The same by the headers' lines; empty where they are absent.
 * @param date of If-Unmodified-Since
 */
export function judgeConditions(
  ifMatch: string,
  ifNoneMatch: string,
  date: string,
  into: Conditions,
): string | null {
  into.ifMatch = "";
  into.ifNoneMatch = "";
  if (ifMatch === "") {
    if (date !== "") into.ifMatch = readUnmodifiedSince(date, Date.now());
    if (ifNoneMatch === "") return null;
  }
  if (ifMatch.length > CONDITION_BYTES_MAX || ifNoneMatch.length > CONDITION_BYTES_MAX)
    return LISTS_PROBLEM.tooLong;
  const match = readTags(ifMatch, false);
  const noneMatch = readTags(ifNoneMatch, true);
  if (match === null || noneMatch === null) return LISTS_PROBLEM.malformed;
  if (ifMatch !== "") into.ifMatch = match;
  into.ifNoneMatch = noneMatch;
  return null;
}

/** What a GET or HEAD asks for beside its key. */
export interface ReadHeaders extends Conditions {
  /** As it was sent: counts only without an If-None-Match. */
  ifModifiedSince: string;
  /** As they were sent. Empty for HEAD, to which a range means nothing (RFC 9110, section 14.2). */
  range: string;
  ifRange: string;
  /** What is wrong with the conditions, or null. */
  problem: string | null;
}

/** Whether a GET asks for anything but the whole value, whatever version it is. */
export function isPlainRead(req: Req): boolean {
  return (
    req.getHeader(IF_NONE_MATCH.bytes) === "" &&
    req.getHeader(RANGE.bytes) === "" &&
    req.getHeader(IF_MODIFIED_SINCE.bytes) === "" &&
    req.getHeader(IF_MATCH.bytes) === "" &&
    req.getHeader(IF_UNMODIFIED_SINCE.bytes) === ""
  );
}

export const PLAIN_READ: ReadHeaders = Object.freeze({
  ifMatch: "",
  ifNoneMatch: "",
  ifModifiedSince: "",
  range: "",
  ifRange: "",
  problem: null,
});

export function readHeaders(req: Req, head: boolean): ReadHeaders {
  const headers: ReadHeaders = { ...PLAIN_READ };
  headers.problem = readConditions(req, headers);
  headers.ifModifiedSince = headerLines(req, IF_MODIFIED_SINCE);
  if (head) return headers;
  headers.range = headerLines(req, RANGE);
  if (headers.range !== "") headers.ifRange = headerLines(req, IF_RANGE);
  return headers;
}
