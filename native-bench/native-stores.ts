/** The stores that `bench:native` measures: a vault with its threads, and a shard in this thread, both on temporary folders and filled. */
import { mkdirSync } from "node:fs";
import path from "node:path";
import { openStoreFile, type StoreIdentity } from "../src/engine/directory/store-file.ts";
import { Shard } from "../src/engine/shard/shard.ts";
import { nodeIo } from "../src/engine/slabs/io.ts";
import { ShardLookup } from "../src/engine/state/lookup.ts";
import { createShardMemory } from "../src/engine/state/memory.ts";
import { NO_TRAILER } from "../src/format/fields/trailer.ts";
import { NO_LIFE } from "../src/rules/expiry.ts";
import type { Write } from "../src/rules/write.ts";
import { emptyOperation } from "../src/shards/arena/operation.ts";
import type { KeyBytes, WriteHead, WriteResult } from "../src/shards/arena/write.ts";
import type { LocalVault } from "../src/shards/vault/local-vault.ts";
import { openVault } from "../src/shards/vault/open.ts";
import { hash32, hashBOf, loadHash } from "../src/util/hash.ts";
import { CHUNK_BYTES } from "../src/util/limits.ts";

/** Every key of these benchmarks has this length. */
export const KEY_BYTES = 16;
const CONTENT_TYPE = "application/octet-stream";
/** Writes under way while a vault is filled. */
const FILL_WINDOW = 512;

/** Keys as one block of bytes: the n-th is at n × KEY_BYTES. */
export function makeKeys(prefix: string, count: number): Uint8Array {
  const digits = KEY_BYTES - prefix.length;
  const text = Array.from(
    { length: count },
    (_, number) => prefix + String(number).padStart(digits, "0"),
  ).join("");
  return Uint8Array.from(Buffer.from(text, "latin1"));
}

/** Puts the n-th key into the scratch, as the front does with the path of a request. */
export function loadKey(scratch: KeyBytes, keys: Uint8Array, number: number): void {
  const { bytes } = scratch;
  const from = number * KEY_BYTES;
  for (let index = 0; index < KEY_BYTES; index++) bytes[index] = keys[from + index];
  scratch.length = KEY_BYTES;
}

export function putHead(key: KeyBytes): WriteHead {
  return {
    verb: "put",
    key,
    json: false,
    contentType: CONTENT_TYPE,
    trailer: NO_TRAILER,
    life: NO_LIFE,
    ifMatch: "",
    ifNoneMatch: "",
  };
}

function expectSuccess(result: WriteResult): void {
  if (result.error !== null) throw new Error(`a write failed: ${result.error} ${result.detail}`);
}

/** Opens a vault with one shard thread, as a worker does. */
export function openBenchVault(folder: string, sync: "always" | "os"): Promise<LocalVault> {
  return openVault({
    dataDirectory: path.join(folder, "vault"),
    sync,
    threads: 1,
    warn: (message) => console.error(message),
    fatal: (error) => {
      throw error;
    },
  });
}

/** Stores `value` under each of the keys, and waits for the answers. */
export async function fillVault(vault: LocalVault, keys: Uint8Array, value: Uint8Array): Promise<void> {
  const scratch: KeyBytes = { bytes: new Uint8Array(KEY_BYTES), length: KEY_BYTES };
  const count = keys.length / KEY_BYTES;
  for (let number = 0; number < count; ) {
    const window = Math.min(FILL_WINDOW, count - number);
    await new Promise<void>((resolve) => {
      let left = window;
      const done = (result: WriteResult) => {
        expectSuccess(result);
        if (--left === 0) resolve();
      };
      for (let one = 0; one < window; one++) {
        loadKey(scratch, keys, number++);
        if (!vault.submit(putHead(scratch), value, done)) throw new Error("the vault's queue is full");
      }
    });
  }
}

/** Stores one value of any size, in pieces. */
export async function uploadToVault(vault: LocalVault, key: Uint8Array, value: Uint8Array): Promise<void> {
  const upload = vault.upload(putHead({ bytes: key, length: key.length }));
  if (upload === null) throw new Error("the vault takes no upload");
  for (let at = 0; at < value.length; at += CHUNK_BYTES) {
    const drained = new Promise<void>((resolve) => {
      upload.onDrain = resolve;
    });
    if (!upload.write(value.subarray(at, at + CHUNK_BYTES))) await drained;
  }
  await new Promise<void>((resolve) =>
    upload.commit((result) => {
      expectSuccess(result);
      resolve();
    }),
  );
}

export interface BenchShard {
  store: StoreIdentity;
  shard: Shard;
  /** Sees the shard as a front thread does. */
  reader: ShardLookup;
  /** A write of a key, to be filled with the key by `aim`. */
  write: Write;
  /** Points `write` to the n-th key. */
  aim(keys: Uint8Array, number: number): void;
}

/** Opens a shard in this thread: the engine without the thread hop. */
export async function openBenchShard(folder: string, sync: "always" | "os"): Promise<BenchShard> {
  await loadHash();
  const dataDirectory = path.join(folder, "shard");
  mkdirSync(dataDirectory);
  const store = openStoreFile(nodeIo, dataDirectory, { shards: 1 });
  const memory = createShardMemory(1);
  const warn = (message: string) => console.error(message);
  const shard = Shard.open(
    { dataDirectory, shard: 0, store, sync, memory, io: nodeIo, now: Date.now, warn },
    () => {},
  );
  const reader = new ShardLookup(dataDirectory, 0, store, memory, memory.held[0]);
  const write: Write = {
    ...emptyOperation(),
    key: new Uint8Array(KEY_BYTES),
    contentType: Uint8Array.from(Buffer.from(CONTENT_TYPE)),
  };
  return {
    store,
    shard,
    reader,
    write,
    aim(keys, number) {
      const from = number * KEY_BYTES;
      for (let index = 0; index < KEY_BYTES; index++) write.key[index] = keys[from + index];
      write.hashA = hash32(write.key, 0);
      write.hashB = hashBOf(write.key, write.key.length, store.keyHash);
      write.operationLow++;
    },
  };
}
