/**
 * Which headers of a write are kept with its value, to go back with it: Content-Encoding, Content-Language,
 * Content-Disposition, Cache-Control and the client's own `X-Meta-…`.
 */
import {
  isMetadataName,
  META_PREFIX,
  type MetadataLine,
  metadataTrailer,
} from "../../format/fields/metadata.ts";
import { NO_TRAILER } from "../../format/fields/trailer.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { isHeaderText } from "../../util/header-text.ts";
import { KEPT_HEADER_BYTES_MAX, META_BYTES_MAX } from "../../util/limits.ts";
import type { HeadLines } from "./head-lines.ts";

/** Any list of codings that change nothing; "" where there is none. */
const IDENTITY_SYNTAX = /^(?:identity(?=[, \t]|$)|[, \t])*$/i;
const CODINGS_SYNTAX = /^[\w!#$%&'*+.^`|~-]+(?:[ \t]*,[ \t]*[\w!#$%&'*+.^`|~-]+)*$/;
/** What answers say where nothing is kept. */
const PRESET_CACHING = /^no-cache$/i;

/** What is to be kept: the fields of a record's trailer; or why it cannot be. */
export type KeptHeaders = Uint8Array | { code: ErrorCode; detail: string };

/** @param json the value is JSON, which is stored in a form of its own */
export function keptHeaders(lines: HeadLines, json: boolean): KeptHeaders {
  const { contentEncoding, contentLanguage, contentDisposition, cacheControl, meta } = lines;
  // Mostly there is nothing.
  if (
    contentEncoding === "" &&
    contentLanguage === "" &&
    contentDisposition.length === 0 &&
    cacheControl === "" &&
    meta.length === 0
  )
    return NO_TRAILER;
  const kept: MetadataLine[] = [];
  if (!isIdentity(contentEncoding)) {
    if (json) return { code: "unsupported_encoding", detail: "" };
    if (!CODINGS_SYNTAX.test(contentEncoding)) return bad("Content-Encoding is no list of codings");
    kept.push(["content-encoding", contentEncoding]);
  }
  if (contentLanguage !== "") kept.push(["content-language", contentLanguage]);
  if (contentDisposition.length > 1) return bad("Content-Disposition came more than once");
  if (contentDisposition.length === 1) kept.push(["content-disposition", contentDisposition[0]]);
  if (cacheControl !== "" && !PRESET_CACHING.test(cacheControl)) kept.push(["cache-control", cacheControl]);
  for (const [name, value] of kept)
    if (value.length > KEPT_HEADER_BYTES_MAX)
      return bad(`${name} is limited to ${KEPT_HEADER_BYTES_MAX} bytes`);
  const metaBytes = meta.reduce(
    (sum, [name, value]) => sum + name.length - META_PREFIX.length + value.length,
    0,
  );
  if (metaBytes > META_BYTES_MAX)
    return bad(
      `X-Meta headers are limited to ${META_BYTES_MAX} bytes of names and values, these are ${metaBytes}`,
    );
  kept.push(...meta);
  for (const [name, value] of kept) {
    if (!isMetadataName(name)) return bad("an X-Meta header needs a name behind the second hyphen");
    if (value === "") return bad(`${name} is empty; leave it out, or percent-encode what is no ASCII`);
    if (!isHeaderText(value)) return bad(`${name} holds characters that a header must not have`);
  }
  return metadataTrailer(kept);
}

/** Whether a body comes as it is, by all lines of its Content-Encoding. */
export function isIdentity(codings: string): boolean {
  return IDENTITY_SYNTAX.test(codings);
}

function bad(detail: string): KeptHeaders {
  return { code: "bad_request", detail };
}
