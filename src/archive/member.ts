/**
 * What a member of an archive says of its value. Pure.
 *
 * All that tar has no place for stands in pax records of the form that GNU tar and libarchive have for
 * extended attributes, so that both read such an archive without a word, and unpack it with the attributes
 * where that is wished for:
 *
 *   user.minivault.etag      the version, 32 hex digits
 *   user.mime_type           the type; application/json: the file is the value's JSON text
 *   user.minivault.form      raw: the value is the file's bytes, though the type is application/json
 *   user.minivault.key       the key, where the member's name is another one
 *   user.minivault.metadata  headers that are kept with the value, as in its record
 *   user.minivault.sums      MD5 and checksum that are kept with the value, as format/fields/sums.ts writes them
 *   user.minivault.expires   the end of its life, in milliseconds since 1970
 */
import { isUtf8 } from "node:buffer";
import { bufferOf } from "../util/bytes.ts";
import { BYTES_TYPE, JSON_TYPE } from "../util/header-text.ts";

const ATTRIBUTE = "SCHILY.xattr.user.";
const ETAG = `${ATTRIBUTE}minivault.etag`;
const TYPE = `${ATTRIBUTE}mime_type`;
const FORM = `${ATTRIBUTE}minivault.form`;
const KEY = `${ATTRIBUTE}minivault.key`;
const METADATA = `${ATTRIBUTE}minivault.metadata`;
const SUMS = `${ATTRIBUTE}minivault.sums`;
const EXPIRES = `${ATTRIBUTE}minivault.expires`;

const RAW_FORM = "raw";

/** A value on its way into an archive. */
export interface ArchivedValue {
  key: Uint8Array;
  /** Without quotes. */
  etag: string;
  versionMs: number;
  /** The file is the text of a JSON value; then so is the type. */
  json: boolean;
  contentType: string;
  /** Lines of metadata, as in a record; empty: none. */
  metadata: string;
  /** Lines of sums; empty: none. */
  sums: string;
  /** End of its life, in milliseconds since 1970; 0: none. */
  end: number;
  /** Of the file. */
  bytes: number;
}

/** What is put before a member's bytes. */
export interface MemberHead {
  name: string;
  size: number;
  mtime: Date;
  mode: number;
  pax: Record<string, string>;
}

/** What a member that was read says. */
export interface ReadMember extends Omit<ArchivedValue, "key" | "etag" | "versionMs"> {
  key: Buffer;
  /** Null: it does not say. */
  etag: string | null;
}

/** Only its user may read what is unpacked: so it is in the store. */
const MODE = 0o600;

export function headOf(value: ArchivedValue): MemberHead {
  const { key, etag, versionMs, json, contentType, metadata, sums, end, bytes } = value;
  const text = bufferOf(key).toString("utf8");
  const name = memberName(text);
  const pax: Record<string, string> = { [ETAG]: etag, [TYPE]: contentType };
  if (contentType === JSON_TYPE && !json) pax[FORM] = RAW_FORM;
  if (name !== text) pax[KEY] = text;
  if (metadata !== "") pax[METADATA] = metadata;
  if (sums !== "") pax[SUMS] = sums;
  if (end !== 0) pax[EXPIRES] = String(end);
  return { name, size: bytes, mtime: new Date(versionMs), mode: MODE, pax };
}

/**
 * A relative path for a key, another one for each: what would lead elsewhere, or be no name of a file, is
 * percent-encoded.
 */
export function memberName(key: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  const text = key.replace(/[%\\\u0000-\u001f\u007f]/g, (character) => encoded(character));
  // A slash that nothing stands before, or after, makes no folder.
  return text
    .replace(/^\/+|(?<=\/)\/+|\/+$/g, (slashes) => "%2F".repeat(slashes.length))
    .split("/")
    .map((segment) => (/^\.\.?$/.test(segment) ? segment.replaceAll(".", "%2E") : segment))
    .join("/");
}

function encoded(character: string): string {
  return `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`;
}

/** Records of a file whose holes GNU tar has left out: its bytes are a map of them, and what lies between. */
const SPARSE = "GNU.sparse.";

/** What a member is; a text says why it is no value. */
export function readMember({
  name,
  size,
  pax,
}: {
  name: string;
  size: number;
  pax?: Record<string, string> | null;
}): ReadMember | string {
  for (const record in pax)
    if (record.startsWith(SPARSE)) return "its holes are left out: make the archive without --sparse";
  const etag = pax?.[ETAG] ?? null;
  if (etag !== null && !/^[0-9a-f]{32}$/.test(etag)) return "its version is none";
  const expires = pax?.[EXPIRES] ?? "0";
  if (!/^\d{1,15}$/.test(expires)) return "the end of its life is none";
  // Other programs write what paths begin with.
  const text = pax?.[KEY] ?? (etag === null ? name.replace(/^(?:\.?\/)+/, "") : name);
  const key = Buffer.from(text, "utf8");
  // A name that is no UTF-8 was read with replacements.
  if (!isUtf8(key) || (etag === null && text.includes("\ufffd"))) return "its name is not valid UTF-8";
  const contentType = pax?.[TYPE] ?? BYTES_TYPE;
  return {
    key,
    etag,
    json: contentType === JSON_TYPE && pax?.[FORM] !== RAW_FORM,
    contentType,
    metadata: pax?.[METADATA] ?? "",
    sums: pax?.[SUMS] ?? "",
    end: Number(expires),
    bytes: size,
  };
}
