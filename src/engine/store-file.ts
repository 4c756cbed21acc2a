/**
 * The STORE file: what a data directory is. Made at birth, its incarnation raised at every start before anything is
 * written. FORMAT.md has the members.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { FORMAT_VERSION, HEADER_BYTES, SLAB_UNIT_BITS, UNIT_BYTES } from "../format/layout.ts";
import { CHUNK_BYTES, SHARDS_MAX, SLAB_BYTES } from "../util/limits.ts";
import { readIfAny, sealed, unsealed } from "../util/sealed-file.ts";
import { type FileIo, isDiskFull } from "./io.ts";

export interface StoreIdentity {
  /** 16 bytes. */
  id: Uint8Array;
  /** First word of the id, signed: part of every record's place. */
  salt: number;
  node: number;
  shards: number;
  slabBytes: number;
  chunkBytes: number;
  hashSeed: number;
  incarnation: number;
}

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
  /** Absent: xxh32. */
  hash?: string;
  id: string;
  node: number;
  shards: number;
  slabBytes: number;
  chunkBytes: number;
  hashSeed: number;
  incarnation: number;
}

const NAME = "STORE";
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
  put(fs.existsSync(fresh) ? "r+" : "wx+", true);
  io.rename(fresh, path.join(directory, NAME));
  io.syncDirectory(directory);
  try {
    // The next start writes into these blocks, so that it needs none of a full disk.
    put("wx+", false);
  } catch (error) {
    if (!isDiskFull(error)) throw error;
  }
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
  if (text.version !== FORMAT_VERSION)
    throw new Error(
      `${directory} has format version ${text.version}; this program reads ${FORMAT_VERSION}. Use the release that wrote it`,
    );
  if (text.endian !== "little")
    throw new Error(
      `${directory} was written on a machine of another byte order (${text.endian} endian); this program reads little endian. Open it on such a machine, and copy the keys over HTTP`,
    );
  const problem = settingProblem(text);
  if (problem !== null) throw new Error(`${directory} ${problem}. Use the release or build that wrote it`);
  return text;
}

const isWord = (value: unknown): boolean =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 32;

/** Which setting of a store this program cannot work with, for a person; null: none. */
function settingProblem({ hash, slabBytes, chunkBytes, shards, ...text }: StoreText): string | null {
  if (hash !== undefined && hash !== "xxh32") return `uses the hash ${hash}; this program knows xxh32`;
  const isSlab = isWord(slabBytes) && slabBytes > HEADER_BYTES && slabBytes % HEADER_BYTES === 0;
  if (!isSlab || slabBytes > SLAB_BYTES_MAX)
    return `has slabs of ${slabBytes} bytes; this program knows multiples of ${HEADER_BYTES} up to ${SLAB_BYTES_MAX}`;
  if (!isWord(chunkBytes) || chunkBytes === 0 || chunkBytes > CHUNK_BYTES || chunkBytes * 2 > slabBytes)
    return `has chunks of ${chunkBytes} bytes; this program knows up to ${CHUNK_BYTES}, and half a slab at most`;
  if (!isWord(shards) || shards === 0 || shards > SHARDS_MAX)
    return `has ${shards} shards; this program knows 1 to ${SHARDS_MAX}`;
  const words = [text.node, text.hashSeed, text.incarnation];
  if (!/^[0-9a-f]{32}$/.test(String(text.id)) || !words.every(isWord))
    return "lacks a setting in its STORE file, or has one that makes no sense";
  return null;
}

/**
 * Opens the store's identity, or makes one in an empty directory. Raises the incarnation. The directory must be locked.
 * @throws Error with a sentence for a person when the directory holds something else
 */
export function openStoreFile(io: FileIo, directory: string, birth: StoreBirth): StoreIdentity {
  let text = read(directory);
  if (text === null) {
    if (fs.existsSync(path.join(directory, "shard-000")))
      throw new Error(
        `${directory} has slabs but no ${NAME} file; restore it from a copy, the slabs need it`,
      );
    const random = randomBytes(8);
    text = {
      format: "minivault",
      version: FORMAT_VERSION,
      endian: "little",
      id: randomBytes(16).toString("hex"),
      node: random.readUInt32LE(0),
      shards: Math.min(birth.shards, SHARDS_MAX),
      slabBytes: birth.slabBytes ?? SLAB_BYTES,
      chunkBytes: birth.chunkBytes ?? CHUNK_BYTES,
      hashSeed: random.readUInt32LE(4),
      incarnation: 0,
    };
  }
  text.incarnation++;
  write(io, directory, text);
  return identityOf(text);
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
  const id = Buffer.from(text.id, "hex");
  return {
    id: new Uint8Array(id),
    salt: id.readInt32LE(0),
    node: text.node,
    shards: text.shards,
    slabBytes: text.slabBytes,
    chunkBytes: text.chunkBytes,
    hashSeed: text.hashSeed | 0,
    incarnation: text.incarnation,
  };
}

/** Directory of a shard within the data directory. */
export function shardDirectory(directory: string, shard: number): string {
  return path.join(directory, `shard-${String(shard).padStart(3, "0")}`);
}
