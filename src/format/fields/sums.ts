/**
 * Sums over a value as fields of a record's trailer, for clients that want to be told them again: its MD5,
 * and one other checksum. FORMAT.md has the fields. What reads a value is kept from damage by the record's
 * own checksum; these say that it is what its sender meant.
 */
import { FIELD_CHECKSUM, FIELD_MD5 } from "../offsets.ts";
import { type Field, fieldOf, readFields, writeFields } from "./trailer.ts";

const MD5_BYTES = 16;
const PARTS_BYTES = 4;
const CHECKSUM_HEAD_BYTES = 2;

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
