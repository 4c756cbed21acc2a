/**
 * Sums over a value as fields of a record's trailer, for clients that want to be told them again: its MD5,
 * and one other checksum. FORMAT.md has the fields. What reads a value is kept from damage by the record's
 * own checksum; these say that it is what its sender meant.
 */

import { bufferOf } from "../../util/bytes.ts";
import { FIELD_CHECKSUM, FIELD_MD5 } from "../offsets.ts";
import { type Field, fieldOf, readFields, writeFields } from "./trailer.ts";

const MD5_BYTES = 16;
const PARTS_BYTES = 4;
const CHECKSUM_HEAD_BYTES = 2;
/** As text. */
const MD5_NAME = "md5";
const COMPOSITE = " composite";

/** Algorithms by their number in the field, and the bytes of their sums. */
export const CHECKSUMS = [
  { name: "crc32", number: 1, bytes: 4 },
  { name: "crc32c", number: 2, bytes: 4 },
  { name: "sha1", number: 3, bytes: 20 },
  { name: "sha256", number: 4, bytes: 32 },
  { name: "crc64nvme", number: 5, bytes: 8 },
] as const;

export type ChecksumName = (typeof CHECKSUMS)[number]["name"];

export interface Md5Sum {
  md5: Uint8Array;
  /** 0: of the value's bytes; else of the MD5s of so many parts. */
  parts: number;
}

export interface KeptChecksum {
  name: ChecksumName;
  sum: Uint8Array;
  /** Of the sums of the parts, and not of the value's bytes. */
  isComposite: boolean;
}

export function md5Field({ md5, parts }: Md5Sum): Field {
  const bytes = Buffer.alloc(MD5_BYTES + (parts === 0 ? 0 : PARTS_BYTES));
  bytes.set(md5);
  if (parts !== 0) bytes.writeUInt32LE(parts, MD5_BYTES);
  return { type: FIELD_MD5, bytes };
}

export function md5In(trailer: Uint8Array): Md5Sum | null {
  const field = fieldOf(trailer, FIELD_MD5);
  if (field === null) return null;
  const md5 = field.subarray(0, MD5_BYTES);
  if (field.length === MD5_BYTES) return { md5, parts: 0 };
  if (field.length !== MD5_BYTES + PARTS_BYTES) return null;
  return { md5, parts: new DataView(field.buffer, field.byteOffset).getUint32(MD5_BYTES, true) };
}

/** A trailer without any of them: they are of other bytes than those that the value has now. */
export function withoutSums(trailer: Uint8Array): Uint8Array {
  if (fieldOf(trailer, FIELD_MD5) === null && fieldOf(trailer, FIELD_CHECKSUM) === null) return trailer;
  const fields = readFields(trailer) ?? [];
  return writeFields(fields.filter(({ type }) => type !== FIELD_MD5 && type !== FIELD_CHECKSUM));
}

export function checksumField({ name, sum, isComposite }: KeptChecksum): Field {
  const { number } = CHECKSUMS.find((one) => one.name === name) as (typeof CHECKSUMS)[number];
  return { type: FIELD_CHECKSUM, bytes: Buffer.concat([Buffer.from([number, isComposite ? 1 : 0]), sum]) };
}

export function checksumIn(trailer: Uint8Array): KeptChecksum | null {
  const field = fieldOf(trailer, FIELD_CHECKSUM);
  const known = CHECKSUMS.find(({ number }) => number === field?.[0]);
  if (field === null || known === undefined || field.length !== CHECKSUM_HEAD_BYTES + known.bytes)
    return null;
  return { name: known.name, sum: field.subarray(CHECKSUM_HEAD_BYTES), isComposite: field[1] === 1 };
}

/** The sums in a trailer as text, for where there are no fields: a line each; empty: there are none. */
export function sumsText(trailer: Uint8Array): string {
  const lines: string[] = [];
  const md5 = md5In(trailer);
  if (md5 !== null) lines.push(`${MD5_NAME}: ${hexOf(md5.md5)}${md5.parts === 0 ? "" : `-${md5.parts}`}\n`);
  const checksum = checksumIn(trailer);
  if (checksum !== null)
    lines.push(`${checksum.name}: ${hexOf(checksum.sum)}${checksum.isComposite ? COMPOSITE : ""}\n`);
  return lines.join("");
}

/** What `sumsText` has written; null: it did not write this. */
export function readSums(text: string): { md5: Md5Sum | null; checksum: KeptChecksum | null } | null {
  const sums: { md5: Md5Sum | null; checksum: KeptChecksum | null } = { md5: null, checksum: null };
  for (const line of text === "" ? [] : text.replace(/\n$/, "").split("\n")) {
    const [name, value = ""] = line.split(": ");
    if (name === MD5_NAME && sums.md5 === null) {
      const match = /^([0-9a-f]{32})(?:-([1-9]\d{0,8}))?$/.exec(value);
      if (match === null) return null;
      sums.md5 = { md5: Buffer.from(match[1], "hex"), parts: Number(match[2] ?? 0) };
      continue;
    }
    const known = CHECKSUMS.find((one) => one.name === name);
    const isComposite = value.endsWith(COMPOSITE);
    const hex = isComposite ? value.slice(0, -COMPOSITE.length) : value;
    const isSum = /^[0-9a-f]+$/.test(hex) && hex.length === 2 * (known?.bytes ?? 0);
    if (known === undefined || !isSum || sums.checksum !== null) return null;
    sums.checksum = { name: known.name, sum: Buffer.from(hex, "hex"), isComposite };
  }
  return sums;
}

function hexOf(sum: Uint8Array): string {
  return bufferOf(sum).toString("hex");
}
