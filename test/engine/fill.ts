/**
 * Fills a data directory with many small keys through the engine itself, in this process: a few microseconds a key, where HTTP costs
 * twenty and more.
 */
import { mkdirSync } from "node:fs";
import { openStoreFile, type StoreIdentity } from "../../src/engine/directory/store-file.ts";
import { Shard } from "../../src/engine/shard/shard.ts";
import { nodeIo } from "../../src/engine/slabs/io.ts";
import { createShardMemory, type ShardMemory } from "../../src/engine/state/memory.ts";
import type { Write } from "../../src/rules/write.ts";
import { emptyOperation } from "../../src/shards/arena/operation.ts";
import { hashBOf, hashKey, loadHash } from "../../src/util/hash.ts";

/** Writes between commits, and commits between turns of the event loop. */
const BATCH_WRITES = 256;
const BATCHES_A_TURN = 64;

export interface FillOptions {
  valueBytes: number;
  slabBytes?: number;
  /** Name of a key by its number; `keyName` when left out. */
  nameOf?: (number: number) => string;
}

/** Name of a key by its number. */
export function keyName(number: number): string {
  return `key-${String(number).padStart(9, "0")}`;
}

/** The value of a key by its number. */
export function valueText(number: number, valueBytes: number): string {
  return `${number} `.padEnd(valueBytes, "x");
}

/** A shard being filled, in this process. */
export class Filler {
  readonly shard: Shard;
  readonly memory: ShardMemory;
  private readonly store: StoreIdentity;
  private readonly valueBytes: number;
  private readonly nameOf: (number: number) => string;
  private readonly write: Write;
  /** Of the idle work after each batch, as `Shard.idle` takes it; 0: none. */
  idleBytes = 0;
  private staged = 0;
  private written = 0;

  private constructor(directory: string, options: FillOptions) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.valueBytes = options.valueBytes;
    this.nameOf = options.nameOf ?? keyName;
    this.memory = createShardMemory(1);
    this.store = openStoreFile(nodeIo, directory, {
      shards: 1,
      ...(options.slabBytes === undefined ? {} : { slabBytes: options.slabBytes }),
    });
    this.shard = Shard.open(
      {
        dataDirectory: directory,
        shard: 0,
        store: this.store,
        sync: "os",
        memory: this.memory,
        io: nodeIo,
        now: Date.now,
        warn: (message) => process.stderr.write(`${message}\n`),
      },
      () => {},
    );
    this.write = { ...emptyOperation(), contentType: Buffer.from("application/octet-stream") };
  }

  /** Opens the store in `directory`, or makes one of one shard there. */
  static async open(directory: string, options: FillOptions): Promise<Filler> {
    await loadHash();
    return new Filler(directory, options);
  }

  /** `PUT`s one key. Every so many writes are a batch, and after some batches the event loop has its turn. */
  put(number: number): Promise<void> | null {
    const { write } = this;
    const key = Buffer.from(this.nameOf(number), "latin1");
    write.key = key;
    write.hashA = hashKey(key, key.length, 0);
    write.hashB = hashBOf(key, key.length, this.store.keyHash);
    write.operationLow = this.written++;
    const outcome = this.shard.apply(write, Buffer.from(valueText(number, this.valueBytes), "latin1"));
    if (outcome.error !== null) throw new Error(`key ${number}: ${outcome.error} ${outcome.detail}`);
    if (++this.staged < BATCH_WRITES) return null;
    this.commit();
    if (this.idleBytes > 0) this.shard.idle(this.idleBytes);
    else if (this.written % (BATCH_WRITES * BATCHES_A_TURN) >= BATCH_WRITES) return null;
    return new Promise((resolve) => setImmediate(resolve));
  }

  /** Ends the batch. To be called before `shard.idle`. */
  commit(): void {
    this.staged = 0;
    this.shard.commit();
  }

  /** Syncs everything and closes the shard. `clean` false: leaves the directory as kill -9 would. */
  async close(clean = true): Promise<void> {
    this.shard.commit();
    if (clean) await this.shard.close();
    else {
      this.shard.log.syncNow();
      await this.shard.log.succession.abandon();
    }
  }
}

/** Fills a store with the keys of 0 to keys - 1. `clean` false: leaves the directory as kill -9 would. */
export async function fillStore(
  directory: string,
  options: FillOptions & { keys: number },
  clean = true,
): Promise<void> {
  const filler = await Filler.open(directory, options);
  for (let number = 0; number < options.keys; number++) {
    const turn = filler.put(number);
    if (turn !== null) await turn;
  }
  await filler.close(clean);
}
