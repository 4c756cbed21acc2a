/**
 * Fills a data directory with many small keys through the engine itself, in this process: a few microseconds a key, where HTTP costs
 * twenty and more.
 */
import { mkdirSync } from "node:fs";
import { nodeIo } from "../../src/engine/io.ts";
import type { ShardWrite } from "../../src/engine/operations.ts";
import { Shard } from "../../src/engine/shard.ts";
import { createShardMemory } from "../../src/engine/shard-memory.ts";
import { openStoreFile } from "../../src/engine/store-file.ts";
import { hashKey, loadHash } from "../../src/util/hash.ts";

/** Writes between commits, and commits between turns of the event loop. */
const BATCH_WRITES = 256;
const BATCHES_A_TURN = 64;

export interface FillOptions {
  keys: number;
  valueBytes: number;
  slabBytes?: number;
}

/** Name of a key by its number. */
export function keyName(number: number): string {
  return `key-${String(number).padStart(9, "0")}`;
}

/** The value of a key by its number. */
export function valueText(number: number, valueBytes: number): string {
  return `${number} `.padEnd(valueBytes, "x");
}

/**
 * Makes a store of one shard in `directory` and `PUT`s the keys of 0 to keys - 1. Everything is synced at the end.
 * @param clean false: leaves the directory as kill -9 would
 */
export async function fillStore(directory: string, options: FillOptions, clean = true): Promise<void> {
  await loadHash();
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const store = openStoreFile(nodeIo, directory, {
    shards: 1,
    ...(options.slabBytes === undefined ? {} : { slabBytes: options.slabBytes }),
  });
  const shard = Shard.open(
    {
      dataDirectory: directory,
      shard: 0,
      store,
      sync: "os",
      memory: createShardMemory(1),
      io: nodeIo,
      now: Date.now,
      warn: (message) => process.stderr.write(`${message}\n`),
    },
    () => {},
  );
  const write: ShardWrite = {
    verb: "put",
    key: new Uint8Array(0),
    hashA: 0,
    hashB: 0,
    json: false,
    contentType: Buffer.from("application/octet-stream"),
    ifMatch: "",
    ifNoneMatch: "",
    operationLow: 0,
    operationHigh: 0,
  };
  for (let number = 0; number < options.keys; number++) {
    const key = Buffer.from(keyName(number), "latin1");
    write.key = key;
    write.hashA = hashKey(key, key.length, 0);
    write.hashB = hashKey(key, key.length, store.hashSeed);
    write.operationLow = number;
    const outcome = shard.apply(write, Buffer.from(valueText(number, options.valueBytes), "latin1"));
    if (outcome.error !== null) throw new Error(`key ${number}: ${outcome.error} ${outcome.detail}`);
    if (number % BATCH_WRITES !== BATCH_WRITES - 1) continue;
    shard.commit();
    if (number % (BATCH_WRITES * BATCHES_A_TURN) === BATCH_WRITES * BATCHES_A_TURN - 1)
      await new Promise((resolve) => setImmediate(resolve));
  }
  shard.commit();
  if (clean) await shard.close();
  else {
    shard.syncNow();
    await shard.appender.abandon();
  }
}
