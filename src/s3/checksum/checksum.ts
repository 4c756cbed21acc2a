/** The checksums that clients may send with a body: in a header, or in a trailer behind it. */
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { CHECKSUMS, type ChecksumName } from "../../format/fields/sums.ts";
import { S3Error } from "../protocol/errors.ts";
import { Crc64Nvme, crc32c } from "./crc.ts";

const PREFIX = "x-amz-checksum-";
/** Headers that begin so and are no sums. */
const OTHERS: ReadonlySet<string> = new Set(["algorithm", "mode", "type"]);

/** A sum over bytes that come in pieces. */
export interface Checksum {
  update(bytes: Uint8Array): void;
  digest(): Buffer;
}

class Crc32 implements Checksum {
  private crc = 0;
  private readonly next: (bytes: Uint8Array, crc: number) => number;

  constructor(next: (bytes: Uint8Array, crc: number) => number) {
    this.next = next;
  }

  update(bytes: Uint8Array): void {
    this.crc = this.next(bytes, this.crc);
  }

  digest(): Buffer {
    const sum = Buffer.alloc(4);
    sum.writeUInt32BE(this.crc >>> 0, 0);
    return sum;
  }
}

export function createChecksum(name: ChecksumName): Checksum {
  switch (name) {
    case "crc32":
      return new Crc32(crc32);
    case "crc32c":
      return new Crc32(crc32c);
    case "crc64nvme":
      return new Crc64Nvme();
    default:
      return createHash(name);
  }
}

/** What a client says of its checksum. */
export interface Announced {
  name: ChecksumName;
  /** As it was sent; null: it comes as a trailer. */
  value: string | null;
}

/** By its name in a header, such as x-amz-checksum-crc32. */
export function headerOf(name: ChecksumName): string {
  return PREFIX + name;
}

function nameOf(text: string): ChecksumName {
  const known = CHECKSUMS.find(({ name }) => name === text);
  if (known === undefined)
    throw new S3Error("InvalidRequest", `The checksum ${text.slice(0, 40)} is not known.`);
  return known.name;
}

/**
 * The checksum that a request announces; null: none.
 * @param headers names in small letters, with what they say
 * @throws S3Error
 */
export function announcedIn(headers: Iterable<readonly [string, string]>): Announced | null {
  const found: Announced[] = [];
  for (const [name, value] of headers) {
    const isTrailer = name === "x-amz-trailer" && value.toLowerCase().startsWith(PREFIX);
    if (isTrailer) found.push({ name: nameOf(value.toLowerCase().slice(PREFIX.length).trim()), value: null });
    else if (name.startsWith(PREFIX) && !OTHERS.has(name.slice(PREFIX.length)))
      found.push({ name: nameOf(name.slice(PREFIX.length)), value });
  }
  if (found.length > 1)
    throw new S3Error("InvalidRequest", "One checksum is expected, and several were sent.");
  return found[0] ?? null;
}

/** The algorithm that a request asks for without a sum of its own; null: none. */
export function algorithmOf(text: string | null): ChecksumName | null {
  return text === null || text === "" ? null : nameOf(text.toLowerCase());
}

/**
 * A sum as it was sent, in base64.
 * @throws S3Error where it is none
 */
export function readSum(
  text: string,
  bytes: number,
  code: "BadDigest" | "InvalidDigest" = "BadDigest",
): Buffer {
  const sum = Buffer.from(text, "base64");
  if (sum.length !== bytes || sum.toString("base64") !== text) throw new S3Error(code);
  return sum;
}

export function sumBytes(name: ChecksumName): number {
  return (CHECKSUMS.find((one) => one.name === name) as (typeof CHECKSUMS)[number]).bytes;
}
