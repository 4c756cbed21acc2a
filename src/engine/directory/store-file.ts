/**
 * The STORE file: what a data directory is. Made at birth, its incarnation raised at every start before
 * anything is written. FORMAT.md has the members.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { STORE_VERSION } from "../../format/offsets.ts";
import { type KeyHash, SIPHASH, XXH32 } from "../../util/hash.ts";
import { CHUNK_BYTES, SHARDS_MAX, SLAB_BYTES } from "../../util/limits.ts";
import { readIfAny, sealed, unsealed } from "../../util/sealed-file.ts";
import { readSlabList } from "../list/copies.ts";
import { isSpare } from "../slabs/files.ts";
import { type FileIo, isDiskFull } from "../slabs/io.ts";
import { demandKnown, type StoreText } from "./store-text.ts";

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

const NAME = "STORE";
const SHARD_PREFIX = "shard-";
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
  demandKnown(text, directory);
  return text;
}

/**
 * Opens the store's identity, or makes one in an empty directory. Raises the incarnation. The directory must
 * be locked.
 * @throws Error with a sentence for a person when the directory holds something else
 */
export function openStoreFile(io: FileIo, directory: string, birth: StoreBirth): StoreIdentity {
  let text = read(directory);
  if (text === null) {
    demandNoSlabs(directory);
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

function demandNoSlabs(directory: string): void {
  if (fs.existsSync(path.join(directory, "shard-000")))
    throw new Error(`${directory} has slabs but no ${NAME} file; restore it from a copy, the slabs need it`);
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
 * written to it may be of format 2 and end. Its slabs stay as they are, and compaction replaces them in time.
 * One step: it is done, or it is not. The directory must be locked.
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

/** The members of STORE as they are, for a copy of the directory. Null: there is no STORE file. */
export function readStoreText(directory: string): StoreText | null {
  return read(directory);
}

/**
 * Makes a copied directory one of its own: it gets another id than the one that it is a copy of, and another
 * number in ballots, so that no version is given twice. What it holds must be durable.
 */
export function writeRestoredStore(io: FileIo, directory: string, text: StoreText): void {
  const id = randomBytes(16).toString("hex");
  write(io, directory, { ...text, id, node: randomBytes(4).readUInt32LE(0) });
}

/**
 * Reads the store's identity and changes nothing. Null: there is no STORE file.
 * @throws Error with a sentence for a person when it cannot be used
 */
export function readStoreFile(directory: string): StoreIdentity | null {
  const text = read(directory);
  return text === null ? null : identityOf(text);
}

export function identityOf(text: StoreText): StoreIdentity {
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
