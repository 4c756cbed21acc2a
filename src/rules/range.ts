/**
 * `Range` of RFC 9110, section 14: one range of bytes. Pure. Anything else (several ranges, other units, bad
 * syntax) is ignored, as the RFC allows, and the whole value is sent.
 */

/** The range asks for nothing that could be sent: the whole value answers. */
export const RANGE_IGNORED = 0;
/** Answer `bytes[start .. end)` with 206. */
export const RANGE_PART = 1;
/** Answer 416. */
export const RANGE_UNSATISFIABLE = 2;

/** Filled by `parseRange`; `start` and `end` (exclusive) count for RANGE_PART only. */
export interface ByteRange {
  kind: number;
  start: number;
  end: number;
}

/** A longer header is none that could be meant: two numbers of 20 digits take 47 characters. */
const RANGE_CHARACTERS_MAX = 256;
/** Blanks can only be taken by one part of it, so that it fails in linear time. */
const SYNTAX = /^bytes[ \t]*=[ \t]*(?:(\d+)[ \t]*)?-[ \t]*(?:(\d+)[ \t]*)?$/i;

/** Reads the header's text for a value of `totalBytes`. */
export function parseRange(header: string, totalBytes: number): ByteRange {
  const range: ByteRange = { kind: RANGE_IGNORED, start: 0, end: totalBytes };
  const match = header.length > RANGE_CHARACTERS_MAX ? null : SYNTAX.exec(header);
  if (match === null) return range;
  const [, first = "", last = ""] = match;
  if (first === "") {
    if (last === "") return range;
    const suffixBytes = Number(last);
    if (suffixBytes === 0) {
      range.kind = RANGE_UNSATISFIABLE;
    } else if (totalBytes > 0) {
      // A suffix of an empty value is satisfiable by the RFC's words, but no Content-Range can say so:
      // ignored.
      range.kind = RANGE_PART;
      range.start = Math.max(0, totalBytes - suffixBytes);
    }
    return range;
  }
  const start = Number(first);
  const end = last === "" ? totalBytes : Math.min(Number(last) + 1, totalBytes);
  if (last !== "" && Number(last) < start) return range;
  if (start >= totalBytes) {
    range.kind = RANGE_UNSATISFIABLE;
    return range;
  }
  range.kind = RANGE_PART;
  range.start = start;
  range.end = end;
  return range;
}
