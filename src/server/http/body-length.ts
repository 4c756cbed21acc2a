/** How long a request's body is, as its headers tell it. */
import type { Req } from "./http.ts";

const CONTENT_LENGTH = Buffer.from("content-length");
const TRANSFER_ENCODING = Buffer.from("transfer-encoding");

/** `declaredBytes` where there is neither Content-Length nor Transfer-Encoding. */
export const NO_BODY = -1;
/**
 * `declaredBytes` of a Content-Length that is not a number. uWS answers those itself, once the handler
 * returns.
 */
export const BAD_LENGTH = -2;
/** A body of unknown length. */
export const CHUNKED = Number.POSITIVE_INFINITY;

/** Length of a request's body as its headers tell it. */
export function declaredBytes(req: Req): number {
  const length = req.getHeader(CONTENT_LENGTH);
  return bytesDeclared(length, length === "" ? req.getHeader(TRANSFER_ENCODING) : "");
}

/** The same by the two headers, which are empty where they are absent. */
export function bytesDeclared(contentLength: string, transferEncoding: string): number {
  if (contentLength !== "") return decimal(contentLength);
  return transferEncoding === "" ? NO_BODY : CHUNKED;
}

/**
 * Why a request that gives two lengths is refused, and its connection closed (RFC 9112, section 6.3): uWS
 * believes the first one, none where that is empty, and what stands before it may believe something else.
 */
export const LENGTHS_DIFFER = "the Content-Length headers differ, or one is empty";

/** Whether a request gives two lengths, or one that is empty. */
export function lengthsDiffer(req: Req): boolean {
  let first: string | null = null;
  let differs = false;
  req.forEach((name, value) => {
    if (name !== "content-length") return;
    differs ||= value === "" || (first !== null && first !== value);
    first = value;
  });
  return differs;
}

/** uWS refuses longer ones, whatever their value: nothing may be done for them. */
const LENGTH_DIGITS_MAX = 18;

/** A Content-Length as a number. By hand: the pattern and `Number` showed in profiles. */
function decimal(text: string): number {
  if (text.length > LENGTH_DIGITS_MAX) return BAD_LENGTH;
  let value = 0;
  for (let index = 0; index < text.length; index++) {
    const digit = text.charCodeAt(index) - 48;
    if (digit < 0 || digit > 9) return BAD_LENGTH;
    value = value * 10 + digit;
  }
  return value;
}
