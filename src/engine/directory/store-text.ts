/**
 * The members of a STORE file, as JSON has them, and which of them this program can work with. Pure;
 * FORMAT.md says what they mean.
 */
import {
  EXTENDED_VERSION_MIN,
  HEADER_BYTES,
  SLAB_UNIT_BITS,
  STORE_VERSION,
  STORE_VERSION_MIN,
  UNIT_BYTES,
} from "../../format/offsets.ts";
import { SIPHASH, XXH32 } from "../../util/hash.ts";
import { CHUNK_BYTES, SHARDS_MAX } from "../../util/limits.ts";

/** The members of STORE. */
export interface StoreText {
  format: string;
  version: number;
  endian: string;
  /** Absent: XXH32. With that `hashSeed` is there, else `hashSecret`. */
  hash?: string;
  id: string;
  /** Absent before version 3: `id`. */
  slabId?: string;
  node: number;
  shards: number;
  slabBytes: number;
  chunkBytes: number;
  hashSeed?: number;
  hashSecret?: string;
  incarnation: number;
  /** The incarnation of the last start by a program that keeps lists of slabs. */
  listed?: number;
  /** Each shard has had its list of slabs. */
  complete?: boolean;
}

/** What a position in the index can reach. */
const SLAB_BYTES_MAX = 2 ** SLAB_UNIT_BITS * UNIT_BYTES;

/**
 * Whether this program can work with a store.
 * @param directory for the error
 * @throws Error with a sentence for a person
 */
export function demandKnown(text: StoreText, directory: string): void {
  if (!Number.isInteger(text.version) || text.version < STORE_VERSION_MIN || text.version > STORE_VERSION)
    throw new Error(
      `${directory} has format version ${text.version}; this program reads ${STORE_VERSION_MIN} to ${STORE_VERSION}. Use the release that wrote it`,
    );
  if (text.endian !== "little")
    throw new Error(
      `${directory} was written on a machine of another byte order (${text.endian} endian); this program reads little endian. Open it on such a machine, and copy the keys over HTTP`,
    );
  const problem = settingProblem(text);
  if (problem !== null) throw new Error(`${directory} ${problem}. Use the release or build that wrote it`);
}

/** Hashes of keys by version of the directory: an upgraded one keeps its own. */
const KNOWN_HASHES: Readonly<Record<number, readonly string[]>> = {
  1: [XXH32],
  2: [SIPHASH],
  3: [SIPHASH, XXH32],
  4: [SIPHASH, XXH32],
};

const isWord = (value: unknown): boolean =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 32;

/** Which setting of a store this program cannot work with, for a person; null: none. */
function settingProblem({ slabBytes, chunkBytes, shards, ...text }: StoreText): string | null {
  const { hash = XXH32 } = text;
  const known = KNOWN_HASHES[text.version];
  if (!known.includes(hash))
    return `uses the hash ${hash}; this program knows ${known.join(" and ")} for format version ${text.version}`;
  const isSlab = isWord(slabBytes) && slabBytes > HEADER_BYTES && slabBytes % HEADER_BYTES === 0;
  if (!isSlab || slabBytes > SLAB_BYTES_MAX)
    return `has slabs of ${slabBytes} bytes; this program knows multiples of ${HEADER_BYTES} up to ${SLAB_BYTES_MAX}`;
  if (!isWord(chunkBytes) || chunkBytes === 0 || chunkBytes > CHUNK_BYTES || chunkBytes * 2 > slabBytes)
    return `has chunks of ${chunkBytes} bytes; this program knows up to ${CHUNK_BYTES}, and half a slab at most`;
  if (!isWord(shards) || shards === 0 || shards > SHARDS_MAX)
    return `has ${shards} shards; this program knows 1 to ${SHARDS_MAX}`;
  const words = [text.node, text.incarnation, ...(hash === XXH32 ? [text.hashSeed] : [])];
  const names = [
    text.id,
    ...(text.version < EXTENDED_VERSION_MIN ? [] : [text.slabId]),
    ...(hash === XXH32 ? [] : [text.hashSecret]),
  ];
  if (!names.every((name) => /^[0-9a-f]{32}$/.test(String(name))) || !words.every(isWord))
    return "lacks a setting in its STORE file, or has one that makes no sense";
  return null;
}
