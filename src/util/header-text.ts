/** What headers may say, and the content types of what is kept and answered. */

export const JSON_TYPE = "application/json";
/** Lines of JSON. */
export const LINES_TYPE = "application/x-ndjson";
/** Of bytes of which nothing is said. */
export const BYTES_TYPE = "application/octet-stream";

/** What may stand in a header's value, such as the content type of a value: visible ASCII, space, tab. */
const HEADER_TEXT = /^[\t\x20-\x7e]+$/;

export function isHeaderText(text: string): boolean {
  return HEADER_TEXT.test(text);
}

/** The same of bytes, which may also be none. */
export function areHeaderText(bytes: Uint8Array): boolean {
  for (const byte of bytes) if ((byte < 0x20 && byte !== 0x09) || byte > 0x7e) return false;
  return true;
}

const JSON_SYNTAX = /^application\/json[ \t]*(;|$)/i;

/** Whether a content type is JSON's, with any parameters. */
export function isJsonType(contentType: string): boolean {
  return JSON_SYNTAX.test(contentType);
}
