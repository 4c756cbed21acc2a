/** How long a request's body is, as its headers tell it. */
import type { Req } from "./http.ts";

const CONTENT_LENGTH = Buffer.from("content-length");
const TRANSFER_ENCODING = Buffer.from("transfer-encoding");

/** `declaredBytes` where there is neither Content-Length nor Transfer-Encoding. */
export const NO_BODY = -1;
/** `declaredBytes` of a Content-Length that is no number: uWS answers it itself, after the handler. */
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
 * Why requests are refused, and their connections closed (RFC 9112, sections 6.3 and 3.2): uWS believes the
 * first line, no length where that is empty, and what stands before it may believe something else.
 */
export const LENGTHS_DIFFER = "the Content-Length headers differ, or one is empty";
export const HOSTS_DIFFER = "there is more than one Host header";

/** What is wrong with lengths and host of a request that changes something, as a sentence; null: nothing. */
export function framingProblem(req: Req): string | null {
  let [length, hosts]: [string | null, number] = [null, 0];
  let problem: string | null = null;
  req.forEach((name, value) => {
    if (name === "host" && ++hosts > 1) problem ??= HOSTS_DIFFER;
    if (name !== "content-length") return;
    length ??= value;
    if (value === "" || value !== length) problem = LENGTHS_DIFFER;
  });
  return problem;
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
