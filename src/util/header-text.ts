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

const JSON_TYPE = /^application\/json[ \t]*(;|$)/i;

/** Whether a content type is JSON's, with any parameters. */
export function isJsonType(contentType: string): boolean {
  return JSON_TYPE.test(contentType);
}
