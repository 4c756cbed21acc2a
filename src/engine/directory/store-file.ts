/**
 * The STORE file: what a data directory is. Made at birth, its incarnation raised at every start before
 * anything is written. FORMAT.md has the members.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import {
  EXTENDED_VERSION_MIN,
  HEADER_BYTES,
  SLAB_UNIT_BITS,
  STORE_VERSION,
  STORE_VERSION_MIN,
  UNIT_BYTES,
} from "../../format/offsets.ts";
import { type KeyHash, SIPHASH, XXH32 } from "../../util/hash.ts";
import { CHUNK_BYTES, SHARDS_MAX, SLAB_BYTES } from "../../util/limits.ts";
import { readIfAny, sealed, unsealed } from "../../util/sealed-file.ts";
import { readSlabList } from "../list/slab-list.ts";
import { isSpare } from "../slabs/files.ts";
import { type FileIo, isDiskFull } from "../slabs/io.ts";

export interface StoreIdentity {
  /** Format version of the directory. */
  version: number;
  /** 16 bytes: which store this is, to other nodes. */
  id: Uint8Array;
  /** 16 bytes: whose its slabs are, by their headers. A restored copy keeps it and has another `id`. */
  slabId: Uint8Array;
  /** First word of `slabId`, signed: part of every record's place. */
  salt: number;
  node: number;
  shards: number;
  slabBytes: number;
  chunkBytes: number;
  keyHash: KeyHash;
  incarnation: number;
  lists: ListKeeping;
  /** Each shard had its list of slabs once. */
  complete: boolean;
  /** The STORE file was an older one than the shards' lists of slabs. */
  outdated: boolean;
}

/**
 * Whether the shards' lists of slabs are to be believed: none was made yet; all starts since have kept them;
 * or one has not.
 */
export type ListKeeping = "none" | "kept" | "interrupted";

/** What a new data directory is made with; the sizes are smaller in tests. */
export interface StoreBirth {
  shards: number;
  slabBytes?: number;
  chunkBytes?: number;
}

interface StoreText {
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

const NAME = "STORE";
const SHARD_PREFIX = "shard-";
/** What a position in the index can reach. */
const SLAB_BYTES_MAX = 2 ** SLAB_UNIT_BITS * UNIT_BYTES;

function write(io: FileIo, directory: string, text: StoreText): void {
  const bytes = Buffer.from(sealed(text));
  const fresh = path.join(directory, `${NAME}.new`);
  const put = (flags: "wx+" | "r+", sync: boolean): void => {
    const fd = io.open(fresh, flags);
    try {
      io.pwrite(fd, bytes, 0, bytes.length, 0);
      if (flags === "r+") io.ftruncate(fd, bytes.length);
      if (sync) io.fsync(fd);
    } finally {
      io.close(fd);
    }
  };
  const flags = fs.existsSync(fresh) ? "r+" : "wx+";
  try {
    put(flags, true);
  } catch (error) {
    // Rather no spare slab than no start: reads need none.
    if (!isDiskFull(error) || !removeSpare(io, directory)) throw error;
    put(fs.existsSync(fresh) ? "r+" : flags, true);
  }
  io.rename(fresh, path.join(directory, NAME));
  io.syncDirectory(directory);
  try {
    // The next start writes into these blocks, so that it needs none of a full disk.
    put("wx+", false);
  } catch (error) {
    if (!isDiskFull(error)) throw error;
  }
}

/** Removes a spare slab, so that the disk has room for another file. False: there is none. */
function removeSpare(io: FileIo, directory: string): boolean {
  for (const shard of fs.readdirSync(directory).filter((name) => name.startsWith(SHARD_PREFIX)))
    for (const name of fs.readdirSync(path.join(directory, shard))) {
      if (!isSpare(name)) continue;
      io.unlink(path.join(directory, shard, name));
      return true;
    }
  return false;
}

function read(directory: string): StoreText | null {
  const file = path.join(directory, NAME);
  const content = readIfAny(file);
  if (content === null) return null;
  let text: StoreText;
  try {
    text = unsealed(content) as unknown as StoreText;
  } catch (error) {
    throw new Error(
      `${file} is damaged: ${(error as Error).message}; restore it from a copy, the slabs need it`,
    );
  }
  if (text.format !== "minivault") throw new Error(`${file} is not a minivault store`);
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
  return text;
}

/** Hashes of keys by version of the directory: an upgraded one keeps its own. */
const KNOWN_HASHES: Readonly<Record<number, readonly string[]>> = {
  1: [XXH32],
  2: [SIPHASH],
  3: [SIPHASH, XXH32],
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

/**
 * Opens the store's identity, or makes one in an empty directory. Raises the incarnation. The directory must
 * be locked.
 * @throws Error with a sentence for a person when the directory holds something else
 */
export function openStoreFile(io: FileIo, directory: string, birth: StoreBirth): StoreIdentity {
  let text = read(directory);
  if (text === null) {
    if (fs.existsSync(path.join(directory, "shard-000")))
      throw new Error(
        `${directory} has slabs but no ${NAME} file; restore it from a copy, the slabs need it`,
      );
    const id = randomBytes(16).toString("hex");
    text = {
      format: "minivault",
      version: STORE_VERSION,
      endian: "little",
      hash: SIPHASH,
      id,
      slabId: id,
      node: randomBytes(4).readUInt32LE(0),
      shards: Math.min(birth.shards, SHARDS_MAX),
      slabBytes: birth.slabBytes ?? SLAB_BYTES,
      chunkBytes: birth.chunkBytes ?? CHUNK_BYTES,
      hashSecret: randomBytes(16).toString("hex"),
      incarnation: 0,
    };
  }
  const identity = identityOf(text);
  const newest = newestListed(directory, identity);
  identity.outdated = newest > text.incarnation;
  // Of two starts with one incarnation the second could give a version twice.
  text.incarnation = Math.max(text.incarnation, newest) + 1;
  text.listed = text.incarnation;
  write(io, directory, text);
  return { ...identity, incarnation: text.incarnation };
}

/** The highest incarnation in the shards' lists of slabs, 0: there is none. */
function newestListed(directory: string, { shards, slabId }: StoreIdentity): number {
  let newest = 0;
  for (let shard = 0; shard < shards; shard++) {
    const { content } = readSlabList(shardDirectory(directory, shard), { shard, storeId: slabId });
    newest = Math.max(newest, content?.incarnation ?? 0);
  }
  return newest;
}

/** Notes that each shard has its list of slabs now: from here on a missing one is damage. */
export function completeStoreFile(io: FileIo, directory: string): void {
  const text = read(directory);
  if (text === null || text.complete === true) return;
  write(io, directory, { ...text, complete: true });
}

/**
 * Gives a directory of an older version this program's: from then on older programs refuse it, and what is
 * written to it may be of format 2. Its slabs stay as they are, and compaction replaces them in time. One
 * step: it is done, or it is not. The directory must be locked.
 * @returns the version that it had; null: there is no store
 */
export function upgradeStoreFile(io: FileIo, directory: string): number | null {
  const text = read(directory);
  if (text === null) return null;
  const { version, hash = XXH32, slabId = text.id, ...rest } = text;
  if (version < STORE_VERSION) {
    const { format, endian, id, ...others } = rest;
    write(io, directory, { format, version: STORE_VERSION, endian, hash, id, slabId, ...others });
  }
  return version;
}

/**
 * Reads the store's identity and changes nothing. Null: there is no STORE file.
 * @throws Error with a sentence for a person when it cannot be used
 */
export function readStoreFile(directory: string): StoreIdentity | null {
  const text = read(directory);
  return text === null ? null : identityOf(text);
}

function identityOf(text: StoreText): StoreIdentity {
  const slabId = Buffer.from(text.slabId ?? text.id, "hex");
  return {
    version: text.version,
    id: new Uint8Array(Buffer.from(text.id, "hex")),
    slabId: new Uint8Array(slabId),
    salt: slabId.readInt32LE(0),
    node: text.node,
    shards: text.shards,
    slabBytes: text.slabBytes,
    chunkBytes: text.chunkBytes,
    keyHash: keyHashOf(text),
    incarnation: text.incarnation,
    lists: text.listed === undefined ? "none" : text.listed === text.incarnation ? "kept" : "interrupted",
    complete: text.complete === true,
    outdated: false,
  };
}

function keyHashOf({ hashSeed, hashSecret }: StoreText): KeyHash {
  if (hashSecret === undefined) return { name: XXH32, secret: Int32Array.of(hashSeed as number) };
  const bytes = Buffer.from(hashSecret, "hex");
  return { name: SIPHASH, secret: Int32Array.from({ length: 4 }, (_, word) => bytes.readInt32LE(word * 4)) };
}

/** Directory of a shard within the data directory. */
export function shardDirectory(directory: string, shard: number): string {
  return path.join(directory, `${SHARD_PREFIX}${String(shard).padStart(3, "0")}`);
}
