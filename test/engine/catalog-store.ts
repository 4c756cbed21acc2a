/** A store of some shards with its catalog, as a node has them, in this thread; and keys that are hard to keep in order. */
import assert from "node:assert/strict";
import { Catalog } from "../../src/engine/catalog/catalog.ts";
import { Slices } from "../../src/engine/catalog/slices.ts";
import type { StoreIdentity } from "../../src/engine/directory/store-file.ts";
import { type FileIo, nodeIo } from "../../src/engine/slabs/io.ts";
import { shardOf } from "../../src/util/hash.ts";
import type { Random } from "../random.ts";
import { Harness } from "./harness.ts";

export const TAIL_KEYS = 64;

/** A store of some shards with its catalog, as a node has them. */
export class Store {
  readonly shards: Harness[];
  readonly catalog: Catalog;
  readonly warnings: string[] = [];

  private constructor(directory: string, shards: Harness[], io: FileIo) {
    this.shards = shards;
    this.catalog = new Catalog({
      dataDirectory: directory,
      store: shards[0].store,
      memories: shards.map(({ memory }) => memory),
      held: shards.map(({ memory }) => memory.held[1]),
      io,
      readOnly: false,
      warn: (message) => this.warnings.push(message),
      tailKeysMax: TAIL_KEYS,
    });
  }

  /** @param disk for all files; `io` for those of the catalog alone */
  static async open(
    directory: string,
    count: number,
    replicated = false,
    io = nodeIo,
    disk?: FileIo,
  ): Promise<Store> {
    const options = {
      ...{ readers: 1, slabBytes: 32 * 1024, replicated },
      ...(disk === undefined ? {} : { io: disk }),
    };
    const first = await Harness.open(directory, options);
    const store: StoreIdentity = { ...first.store, shards: count };
    const others: Harness[] = [];
    for (let shard = 1; shard < count; shard++)
      others.push(await Harness.open(directory, { ...options, store: first.store, shard }));
    const harnesses = [first, ...others];
    // It was born with one shard.
    for (const harness of harnesses) Object.assign(harness.store, store);
    return new Store(directory, harnesses, disk ?? io);
  }

  shardOf(key: string): Harness {
    const { hashA, hashB } = this.shards[0].hashes(key);
    return this.shards[shardOf(hashA, hashB, this.shards.length)];
  }

  absorb(): void {
    const slices = new Slices();
    for (let i = 0; !this.catalog.absorb(slices); i++) assert.ok(i < 100_000, "the log has no end");
  }

  /** All keys that are there, by the catalog and the shards' indexes. */
  list(): string[] {
    this.absorb();
    assert.equal(this.catalog.state, "ready");
    const found: string[] = [];
    const merged = this.catalog.keys();
    for (merged.seek(new Uint8Array(0), 0); merged.valid; merged.advance()) {
      const { bytes, from, to } = merged.current;
      const key = Buffer.from(bytes.subarray(from, to)).toString();
      const { state } = this.shardOf(key).read(key);
      assert.notEqual(state, "damaged");
      if (state === "found") found.push(key);
    }
    return found;
  }

  async close(): Promise<void> {
    for (const harness of this.shards) await harness.shard.close();
    await this.catalog.close();
  }

  /** As kill -9 would. */
  async crash(): Promise<void> {
    for (const harness of this.shards) await harness.crash();
    this.catalog.abandon();
  }
}

const PARTS = ["a", "b", "a/", "a/b/", "/", "\u00e9", "\u{10ffff}", "\uffff", "z".repeat(30)];

export function randomKey(random: Random): string {
  const count = 1 + random.below(3);
  let key = "";
  for (let i = 0; i < count; i++) key += PARTS[random.below(PARTS.length)];
  return key + (random.below(3) === 0 ? String(random.below(100)) : "");
}

export function sorted(keys: Iterable<string>): string[] {
  return [...keys]
    .map((key) => Buffer.from(key))
    .sort(Buffer.compare)
    .map(String);
}
