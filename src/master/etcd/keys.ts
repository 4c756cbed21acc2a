/** The keys under the prefix of -registry, and what is in them. FORMAT.md has the members. */
import { gunzipSync, gzipSync } from "node:zlib";
import { sealed, unsealed } from "../../util/sealed-file.ts";

/** A value that is longer is kept compressed: etcd takes 1.5 MiB at most. */
const PLAIN_BYTES_MAX = 256 * 1024;
/** What gzip begins with. */
const GZIP_MAGIC = 0x1f8b;

export interface Keys {
  /** Who leads; it goes with its lease. */
  leader: string;
  state: string;
  lives: string;
}

export function keysUnder(prefix: string): Keys {
  return { leader: `${prefix}/leader`, state: `${prefix}/state`, lives: `${prefix}/lives` };
}

/** A document as a value: as the file of that name holds it, compressed where it is long. */
export function encodeValue(document: object): Buffer {
  const plain = Buffer.from(sealed(document));
  return plain.length <= PLAIN_BYTES_MAX ? plain : gzipSync(plain);
}

/**
 * The document in a value.
 * @throws Error with a sentence for a person
 */
export function decodeValue(key: string, value: Buffer): Record<string, unknown> {
  try {
    const isPacked = value.length > 2 && value.readUInt16BE(0) === GZIP_MAGIC;
    return unsealed((isPacked ? gunzipSync(value) : value).toString());
  } catch (error) {
    throw new Error(
      `what etcd has under ${key} is damaged, or nothing of minivault: ${(error as Error).message}`,
    );
  }
}

export interface Leader {
  /** Its URL. */
  url: string;
  /** Drawn at its start. */
  id: string;
}

export function decodeLeader(key: string, value: Buffer): Leader {
  const { url, id } = decodeValue(key, value);
  if (typeof url !== "string" || typeof id !== "string")
    throw new Error(`what etcd has under ${key} names no master of minivault`);
  return { url, id };
}
