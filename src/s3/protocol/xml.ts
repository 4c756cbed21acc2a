/** The XML of S3, built and read: the door to fast-xml-parser. */
import { XMLBuilder, XMLParser, XMLValidator } from "fast-xml-parser";
import { bufferOf } from "../../util/bytes.ts";
import { S3Error } from "./errors.ts";

/** Elements by name; a list is an element for each; undefined is none. */
export type Elements = { readonly [name: string]: Content };
export type Content = string | number | boolean | undefined | Elements | readonly Content[];

export const XML_TYPE = "application/xml";
export const XML_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n';
const NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/";

const builder = new XMLBuilder({
  ignoreAttributes: false,
  attributeNamePrefix: "@",
  processEntities: true,
  suppressEmptyNode: false,
});
const parser = new XMLParser({
  ignoreAttributes: true,
  parseTagValue: false,
  trimValues: false,
  removeNSPrefix: true,
  // It drops references to control characters, which keys may have: another key would be meant.
  processEntities: false,
});
/** The longest key, each character written as a reference of ten characters, and a tag. */
const PIECE_CHARACTERS_MAX = 16 * 1024;
/** Ten thousand parts of an upload, each with all its checksums. */
const TAGS_MAX = 10_000 * 20;
/** A thousand of the longest keys, which take five times as many characters when they come out of CDATA. */
const PLAIN_CHARACTERS_MAX = 8 * 1024 * 1024;
/** What stands for a character, or an ampersand that does not. */
const REFERENCE = /&(?:#x([0-9a-f]{1,8});|#(\d{1,8});|(amp|lt|gt|quot|apos);)?/gi;
const COMMENT = "<!--";
const CDATA = "<![CDATA[";
const CDATA_END = "]]>";
/** A tag, in whose quoted texts anything but its beginning may stand. */
const TAG = /^<[^<>"'!][^<>"']*(?:(?:"[^<"]*"|'[^<']*')[^<>"']*)*>/;
const NAMED: ReadonlyMap<string, string> = new Map([
  ["amp", "&"],
  ["lt", "<"],
  ["gt", ">"],
  ["quot", '"'],
  ["apos", "'"],
]);

/** What XML has no character for, or would not give back as it was. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f\ufffe\uffff]/g;

/** A document without its head. */
export function elementText(root: string, content: Elements, namespace = true): string {
  const attributes = namespace ? { "@xmlns": NAMESPACE } : {};
  const text: string = builder.build({ [root]: { ...attributes, ...content } });
  return text.replace(CONTROLS, (character) => `&#x${character.charCodeAt(0).toString(16)};`);
}

/** A whole document. */
export function documentText(root: string, content: Elements, namespace = true): string {
  return XML_HEAD + elementText(root, content, namespace);
}

/** An element that was read. */
export type Read = { readonly [name: string]: unknown };

/**
 * Reads a document.
 * @param root what its element must be
 * @throws S3Error MalformedXML
 */
export function readDocument(bytes: Uint8Array, root: string): Read {
  const text = plainText(bufferOf(bytes).toString("utf8"));
  if (text === null || !isModest(text) || XMLValidator.validate(text) !== true)
    throw new S3Error("MalformedXML");
  let read: unknown;
  try {
    read = parser.parse(text);
  } catch {
    throw new S3Error("MalformedXML");
  }
  const element = (read as Record<string, unknown>)[root];
  if (element === "") return {};
  if (typeof element !== "object" || element === null || Array.isArray(element))
    throw new S3Error("MalformedXML", `a document with the element ${root} is expected here`);
  return element as Read;
}

/**
 * A document that says the same without comments and CDATA: what stands in CDATA is written with references.
 * Null: its markup is none, or it declares something; entities of a document's own are none of S3's, and a
 * way to make much of little. It is read once, from front to back.
 */
function plainText(text: string): string | null {
  if (!text.includes("<!")) return text;
  let plain = "";
  let from = 0;
  let markups = 0;
  for (let at = text.indexOf("<"); at >= 0; at = text.indexOf("<", from)) {
    plain += text.slice(from, at);
    const end = endOfMarkup(text, at);
    if (end === null || ++markups > TAGS_MAX || plain.length > PLAIN_CHARACTERS_MAX) return null;
    if (text.startsWith(CDATA, at)) {
      const said = text.slice(at + CDATA.length, end - CDATA_END.length);
      if (said.length > PIECE_CHARACTERS_MAX) return null;
      plain += withReferences(said);
    } else if (!text.startsWith(COMMENT, at)) plain += text.slice(at, end);
    from = end;
  }
  return plain + text.slice(from);
}

/** Where the markup ends that begins here; null: it is none, or a declaration. */
function endOfMarkup(text: string, at: number): number | null {
  const behind = (end: string, from: number): number | null => {
    const found = text.indexOf(end, from);
    return found < 0 ? null : found + end.length;
  };
  if (text.startsWith(COMMENT, at)) {
    // Two hyphens are in no comment but at its end.
    const end = behind("--", at + COMMENT.length);
    return end === null || text[end] !== ">" ? null : end + 1;
  }
  if (text.startsWith(CDATA, at)) return behind(CDATA_END, at + CDATA.length);
  if (text.startsWith("<?", at)) return behind("?>", at);
  const tag = TAG.exec(text.slice(at, at + PIECE_CHARACTERS_MAX));
  return tag === null ? null : at + tag[0].length;
}

function withReferences(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** Whether it has no more tags, and no longer texts, than S3 has: with those the parser is slow. */
function isModest(text: string): boolean {
  let tags = 0;
  for (let from = 0; from < text.length; tags++) {
    const next = text.indexOf("<", from);
    const end = next < 0 ? text.length : next;
    if (end - from > PIECE_CHARACTERS_MAX || tags > TAGS_MAX) return false;
    from = end + 1;
  }
  return true;
}

/** The elements of a name: as many as there are. */
export function allOf(read: Read, name: string): Read[] {
  const value = read[name];
  if (value === undefined) return [];
  const list = Array.isArray(value) ? value : [value];
  if (list.some((one) => typeof one !== "object" || one === null))
    throw new S3Error("MalformedXML", `${name} holds elements`);
  return list as Read[];
}

/** The text of the one element of a name; null: there is none. */
export function textOf(read: Read, name: string): string | null {
  const value = read[name];
  if (value === undefined) return null;
  if (typeof value !== "string") throw new S3Error("MalformedXML", `${name} is one element with a text`);
  return value.includes("&") ? value.replace(REFERENCE, characterOf) : value;
}

/** @throws S3Error MalformedXML where it is none */
function characterOf(_: string, hex?: string, decimal?: string, name?: string): string {
  if (name !== undefined) return NAMED.get(name) ?? malformed();
  const code = hex === undefined ? Number(decimal) : Number.parseInt(hex, 16);
  const isSurrogate = code >= 0xd800 && code <= 0xdfff;
  return code <= 0x10ffff && !isSurrogate ? String.fromCodePoint(code) : malformed();
}

function malformed(): never {
  throw new S3Error("MalformedXML", "A reference to a character cannot be understood.");
}
