/**
 * Headers of archives, as they are read. What GNU tar, bsdtar and other programs write is understood: POSIX
 * ustar and pax, with records for one member or for all that follow; GNU's long names; sizes in base 256; V7.
 * Pure.
 */
import { isAscii } from "node:buffer";

export const BLOCK_BYTES = 512;

export type PaxRecords = Record<string, string>;
export type MemberType = "file" | "contiguous-file" | "directory" | "link" | "symlink" | "device" | "pipe";

/** What an archive says of a member. */
export interface MemberHeader {
  name: string;
  size: number;
  /** Null: of a kind that is not known. */
  type: MemberType | null;
  pax: PaxRecords | null;
}

/** Offsets and lengths of what is read of a header. */
const NAME = [0, 100] as const;
const SIZE = [124, 12] as const;
const CHECKSUM = [148, 8] as const;
export const TYPE_AT = 156;
export const MAGIC_AT = 257;
const PREFIX = [345, 155] as const;
/** POSIX; GNU's has blanks behind it, and no prefix. */
export const USTAR = Buffer.from("ustar\u0000");

const TYPES: Readonly<Record<string, MemberType>> = {
  "\u0000": "file",
  0: "file",
  1: "link",
  2: "symlink",
  3: "device",
  4: "device",
  5: "directory",
  6: "pipe",
  7: "contiguous-file",
};

/** What headers before a member say of it. */
export interface Said {
  pax: PaxRecords | null;
  /** Of GNU's; null: none. */
  name: string | null;
}

export function headOf(
  block: Buffer,
  kind: string,
  bytes: number,
  { pax: own, name: long }: Said,
  forAll: PaxRecords | null,
): MemberHeader {
  const pax = forAll === null ? own : { ...forAll, ...own };
  const text = textIn(block, ...NAME);
  const isPosix = USTAR.compare(block, MAGIC_AT, MAGIC_AT + USTAR.length) === 0;
  const short = isPosix && block[PREFIX[0]] !== 0 ? `${textIn(block, ...PREFIX)}/${text}` : text;
  const name = pax?.path ?? long ?? short;
  const size = pax?.size === undefined ? bytes : /^\d+$/.test(pax.size) ? Number(pax.size) : Number.NaN;
  if (!Number.isSafeInteger(size) || size < 0) throw new Error("the size of a member is none");
  const type = TYPES[kind] ?? null;
  // Old programs have no type for folders.
  return { name, size, type: type === "file" && name.endsWith("/") ? "directory" : type, pax };
}

export function isEmpty(block: Buffer): boolean {
  // A header begins with a name.
  return block[0] === 0 && block.every((byte) => byte === 0);
}

/**
 * The size that a header says.
 * @throws Error where it is no header
 */
export function sizeOf(block: Buffer): number {
  // As if blanks stood where the sum is.
  let sum = CHECKSUM[1] * 0x20;
  for (let at = 0; at < CHECKSUM[0]; at++) sum += block[at];
  for (let at = CHECKSUM[0] + CHECKSUM[1]; at < BLOCK_BYTES; at++) sum += block[at];
  if (sum !== numberIn(block, ...CHECKSUM)) throw new Error("a header is damaged, or this is no tar");
  return numberIn(block, ...SIZE);
}

/** A number in octal digits, or in base 256. NaN: it is none. */
function numberIn(block: Buffer, from: number, bytes: number): number {
  let number = 0;
  if (block[from] === 0x80) {
    for (let at = from + 1; at < from + bytes; at++) number = number * 256 + block[at];
    return number;
  }
  let at = from;
  while (at < from + bytes && block[at] === 0x20) at++;
  for (; at < from + bytes && block[at] !== 0 && block[at] !== 0x20; at++) {
    const digit = block[at] - 0x30;
    if (digit < 0 || digit > 7) return Number.NaN;
    number = number * 8 + digit;
  }
  return number;
}

/** A text that ends at its first zero. */
export function textIn(bytes: Buffer, from: number, length: number): string {
  const zero = bytes.indexOf(0, from);
  return bytes.toString("utf8", from, zero === -1 || zero > from + length ? from + length : zero);
}

/**
 * Records of pax: length in decimal digits, of which it is a part, a blank, name, "=", value, a line's end.
 * @throws Error where they are damaged
 */
export function recordsIn(buffer: Buffer): PaxRecords {
  const records: PaxRecords = {};
  // A character is a byte.
  const text = buffer.toString("latin1");
  const isPlain = isAscii(buffer);
  for (let from = 0; from < text.length; ) {
    const blank = text.indexOf(" ", from);
    const length = text.slice(from, Math.max(from, blank));
    const end = /^\d+$/.test(length) ? from + Number(length) : Number.NaN;
    const equals = text.indexOf("=", blank);
    if (!(blank > from && equals > blank && end > equals && end <= text.length && text[end - 1] === "\n"))
      throw new Error("records of a member are damaged");
    const part = (start: number, stop: number) =>
      isPlain ? text.slice(start, stop) : buffer.toString("utf8", start, stop);
    records[part(blank + 1, equals)] = part(equals + 1, end - 1);
    from = end;
  }
  return records;
}
