/**
 * What a request demands of the version that is there: `If-Match`, `If-None-Match`, `If-Unmodified-Since` and
 * `If-Modified-Since` of RFC 9110, section 13. The one reader of these headers, and the one judge, for reads
 * and writes, values of all sizes, one node and clusters. Pure.
 *
 * Headers are read once, at the edge, into the form in which conditions travel on to whoever judges:
 * - "": nothing is demanded;
 * - "*": there must be (If-Match), or must not be (If-None-Match), any value;
 * - entity tags with their quotes, separated by commas: only those that can name a version at all. Where none
 *   can: NO_TAG;
 * - in the place of If-Match, "@" and seconds since 1970: a value must not be younger (If-Unmodified-Since,
 *   which counts only without an If-Match).
 */
import { ETAG_BYTES, etagMillis } from "../format/version.ts";
import { readHttpDate } from "../util/http-date.ts";

/** Conditions in the form in which they travel. */
export interface Conditions {
  ifMatch: string;
  ifNoneMatch: string;
}

/** Names no version. */
export const NO_TAG = '""';
/** A header that is there and empty, as a list: it names no version, so no write may go on by it. */
export const EMPTY_LIST = ",";
const ANY = "*";
const SINCE = "@";

/**
 * How far behind its version a young value's `Last-Modified` is, in seconds. HTTP wants it never later than
 * `Date`, which uWS renews once a second; and what changes twice within a second must not keep one date. So
 * dates settle late: whoever was told the early one still holds the same version.
 */
const UNSETTLED_SECONDS = 2;
/** From this age on a version's own second is told: no other version will ever have it. */
const SETTLED_MS = 3000;

/**
 * The `Last-Modified` of a version, in seconds since 1970. A version from a clock that is ahead counts as
 * new.
 */
export function lastModifiedSeconds(versionMs: number, nowMs: number): number {
  if (nowMs - versionMs >= SETTLED_MS) return Math.floor(versionMs / 1000);
  return Math.floor(Math.min(versionMs, nowMs) / 1000) - UNSETTLED_SECONDS;
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const SPACE = 0x20;
const TAB = 0x09;

/**
 * Reads If-Match (`weak` false: a weak tag names nothing) or If-None-Match (`weak` true: it names what the
 * strong one does). Several lines come joined by commas. Tags without quotes, as people type them into curl,
 * count as if they had them. Null: the text is not a list of entity tags.
 */
export function readTags(header: string, weak: boolean): string | null {
  let tags = "";
  let isAny = false;
  const length = header.length;
  for (let at = skipSpace(header, 0); at < length; ) {
    // RFC 9110, section 5.6.1: a recipient accepts empty list elements.
    if (header.charCodeAt(at) === COMMA) {
      at = skipSpace(header, at + 1);
      continue;
    }
    const isWeak = header.startsWith("W/", at);
    if (isWeak) at += 2;
    const isQuoted = header.charCodeAt(at) === QUOTE;
    const from = isQuoted ? at + 1 : at;
    const to = isQuoted ? header.indexOf('"', from) : endOfToken(header, from);
    if (to < from || (!isQuoted && to === from)) return null;
    if (!isQuoted && !isWeak && to === from + 1 && header[from] === ANY) isAny = true;
    else if (to - from === ETAG_BYTES - 2 && (weak || !isWeak))
      tags += `${tags === "" ? "" : ","}"${header.slice(from, to)}"`;
    at = skipSpace(header, isQuoted ? to + 1 : to);
    if (at < length && header.charCodeAt(at) !== COMMA) return null;
  }
  if (isAny) return ANY;
  return tags === "" && header !== "" ? NO_TAG : tags;
}

/**
 * The condition that a value is not younger than a date; "", and so nothing, where the text is no date (RFC
 * 9110, section 13.1.4).
 */
export function readUnmodifiedSince(header: string, nowMs: number): string {
  const date = readHttpDate(header, nowMs);
  return date === null ? "" : SINCE + date;
}

/**
 * Whether `If-Modified-Since` asks for a value with this `Last-Modified`: false means 304. What is no date
 * asks for everything.
 */
export function isModifiedSince(header: string, modifiedSeconds: number, nowMs: number): boolean {
  const date = readHttpDate(header, nowMs);
  return date === null || modifiedSeconds > date;
}

/**
 * Whether If-Match, or what stands in its place, holds for a key that has version `etag` (null: there is no
 * value).
 */
export function matchHolds(ifMatch: string, etag: string | null): boolean {
  if (ifMatch === "") return true;
  // RFC 9110, section 13.1.4: what has no date of modification does not fail.
  if (ifMatch.startsWith(SINCE))
    return etag === null || earliestModifiedSeconds(etagMillis(etag)) <= Number(ifMatch.slice(1));
  return names(ifMatch, etag);
}

/** Whether If-None-Match holds for a key that has version `etag` (null: there is no value). */
export function noneMatchHolds(ifNoneMatch: string, etag: string | null): boolean {
  return ifNoneMatch === "" || !names(ifNoneMatch, etag);
}

/** Both of a write's conditions. */
export function conditionsHold({ ifMatch, ifNoneMatch }: Conditions, etag: string | null): boolean {
  return matchHolds(ifMatch, etag) && noneMatchHolds(ifNoneMatch, etag);
}

/** A tag holds no quote, so a whole one can only be found where it stands. */
function names(list: string, etag: string | null): boolean {
  return etag !== null && (list === ANY || list.includes(etag));
}

/** The earliest `Last-Modified` that anybody was told of a version. */
export function earliestModifiedSeconds(versionMs: number): number {
  return Math.floor(versionMs / 1000) - UNSETTLED_SECONDS;
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (text.charCodeAt(at) === SPACE || text.charCodeAt(at) === TAB) at++;
  return at;
}

/** Where a tag without quotes ends: at a comma, a blank, or a quote, which is then in the wrong place. */
function endOfToken(text: string, from: number): number {
  for (let at = from; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === COMMA || code === SPACE || code === TAB || code === QUOTE) return at;
  }
  return text.length;
}

/**
 * Whether `If-Range` allows the range: only of the very version, named by its tag or by its date. A date that
 * is not settled yet is a weak validator, which names nothing (RFC 9110, section 13.1.5).
 */
export function ifRangeHolds(header: string, etag: string, versionMs: number, nowMs: number): boolean {
  if (header === etag || `"${header}"` === etag) return true;
  if (nowMs - versionMs < SETTLED_MS) return false;
  return readHttpDate(header, nowMs) === Math.floor(versionMs / 1000);
}
