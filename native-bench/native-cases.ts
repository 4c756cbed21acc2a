/** The operations that `bench:native` measures. Each case is one call of the engine as the product makes it. */

import { isIntact, placeOf } from "../src/format/record.ts";
import type { KeyBytes, WriteResult } from "../src/shards/arena/write.ts";
import type { LocalVault } from "../src/shards/vault/local-vault.ts";
import type { Found } from "../src/shards/vault/vault.ts";
import { hash32 } from "../src/util/hash.ts";
import { ValueScanner } from "../src/value/scanner.ts";
import { type BenchShard, KEY_BYTES, loadKey, putHead } from "./native-stores.ts";
import { byteSize } from "./statistics.ts";

export interface Case {
  name: string;
  /** Operations that one call does; the figures are for one operation. */
  operations?: number;
  /** What the seed of this project promised for one operation, in seconds. */
  promise?: number;
  run?: () => void;
  /** For what ends later. */
  runDeferred?: (done: () => void) => void;
}

export interface Stored {
  /** How many keys of 100 bytes there are; a power of two. */
  small: Uint8Array;
  absent: Uint8Array;
  medium: Uint8Array;
  large: Uint8Array;
}

export const SMALL_BYTES = 100;
export const MEDIUM_BYTES = 100 * 1024;
export const LARGE_BYTES = 5 * 1024 * 1024;
export const BATCH_WRITES = 64;

/** The seed: small GET < 5 µs, 100 KiB < 100 µs, 5 MiB < 10 ms, 10,000 writes a second. */
const PROMISE = { small: 5e-6, medium: 100e-6, large: 10e-3, write: 1 / 10_000 };

/** Bytes an idle step of the shard may move between two batches, as in the shard thread. */
const IDLE_STEP_BYTES = 32 * 1024;

/** Results go here, so that no call can be optimised away. */
export const sink = { value: 0 };

function expectFound(found: Found): void {
  if (found.state !== "found") throw new Error(`a key is ${found.state}`);
}

/** Steps through `count` keys in an order without pattern: a full-cycle generator modulo a power of two. */
function wanderer(count: number): () => number {
  let state = 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % count;
  };
}

export function readCases(vault: LocalVault, stored: Stored): Case[] {
  const key: KeyBytes = { bytes: new Uint8Array(KEY_BYTES), length: KEY_BYTES };
  const count = stored.small.length / KEY_BYTES;
  const next = wanderer(count);
  const copy = Buffer.allocUnsafeSlow(LARGE_BYTES);

  const view = (keys: Uint8Array, number: number) => {
    loadKey(key, keys, number);
    const found = vault.find(key);
    expectFound(found);
    const bytes = found.view();
    sink.value ^= bytes[0] ^ bytes[bytes.length - 1];
  };
  /** As a value is sent that is too long for one copy. */
  const stream = (keys: Uint8Array, take: (piece: Uint8Array, offset: number) => void) => {
    loadKey(key, keys, 0);
    const found = vault.find(key);
    expectFound(found);
    const reader = found.open();
    for (let offset = 0; offset < reader.valueBytes; ) {
      const piece = reader.read(offset);
      take(piece, offset);
      offset += piece.length;
    }
    reader.close();
  };
  const look = (piece: Uint8Array) => {
    sink.value ^= piece[0] ^ piece[piece.length - 1];
  };
  const take = (piece: Uint8Array, offset: number) => copy.set(piece, offset);
  return [
    {
      name: "GET 100 B to a readable view, one hot key",
      promise: PROMISE.small,
      run: () => view(stored.small, 0),
    },
    {
      name: `GET 100 B to a readable view, ${count.toLocaleString("en-US")} keys at random`,
      promise: PROMISE.small,
      run: () => view(stored.small, next()),
    },
    {
      name: "GET of an absent key",
      promise: PROMISE.small,
      run: () => {
        loadKey(key, stored.absent, next());
        if (vault.find(key).state !== "absent") throw new Error("an absent key was found");
      },
    },
    {
      name: "GET 100 KiB to a readable view",
      promise: PROMISE.medium,
      run: () => stream(stored.medium, look),
    },
    {
      name: "GET 100 KiB, all bytes copied out",
      promise: PROMISE.medium,
      run: () => stream(stored.medium, take),
    },
    {
      name: "GET 5 MiB, opened and every chunk a readable view",
      promise: PROMISE.large,
      run: () => stream(stored.large, look),
    },
    {
      name: "GET 5 MiB, all bytes copied out",
      promise: PROMISE.large,
      run: () => stream(stored.large, take),
    },
  ];
}

/** Durable or not is the vault's setting. One write at a time, and BATCH_WRITES at once; the way through the thread included. */
export function vaultWriteCases(vault: LocalVault, keys: Uint8Array, sync: string): Case[] {
  const key: KeyBytes = { bytes: new Uint8Array(KEY_BYTES), length: KEY_BYTES };
  const next = wanderer(keys.length / KEY_BYTES);
  const head = putHead(key);
  const body = new Uint8Array(SMALL_BYTES).fill(0x76);
  const submit = (done: (result: WriteResult) => void) => {
    loadKey(key, keys, next());
    if (!vault.submit(head, body, done)) throw new Error("the vault's queue is full");
  };
  const expect = (result: WriteResult) => {
    if (result.error !== null) throw new Error(`a write failed: ${result.error}`);
  };
  return [
    {
      name: `PUT 100 B through the shard thread, one at a time (sync ${sync})`,
      promise: PROMISE.write,
      runDeferred: (done) =>
        submit((result) => {
          expect(result);
          done();
        }),
    },
    {
      name: `PUT 100 B through the shard thread, ${BATCH_WRITES} at once (sync ${sync})`,
      operations: BATCH_WRITES,
      promise: PROMISE.write,
      runDeferred: (done) => {
        let left = BATCH_WRITES;
        for (let one = 0; one < BATCH_WRITES; one++)
          submit((result) => {
            expect(result);
            if (--left === 0) done();
          });
      },
    },
  ];
}

export function hashCases(stored: Stored): Case[] {
  const key = stored.small.slice(0, KEY_BYTES);
  return [
    {
      name: "xxHash of a 16-byte key",
      run: () => {
        sink.value ^= hash32(key, 0);
      },
    },
  ];
}

/** The engine in this thread: index, checksum, append. `keys` are stored there; `absent` are not. */
export function shardCases(bench: BenchShard, keys: Uint8Array, stored: Stored, sync: string): Case[] {
  const { shard, reader, write, store } = bench;
  const count = keys.length / KEY_BYTES;
  const next = wanderer(count);
  const body = new Uint8Array(SMALL_BYTES).fill(0x76);
  const find = (block: Uint8Array, number: number, state: string) => {
    bench.aim(block, number);
    if (reader.find(write.key, KEY_BYTES, write.hashA, write.hashB) !== state)
      throw new Error(`a lookup was not ${state}`);
  };
  const verify = () => {
    const { map, unit } = reader;
    const place = placeOf(store.salt, 0, map.sequence, unit);
    if (!isIntact(map, unit, map.bytes.length >>> 4, place)) throw new Error("a record is damaged");
  };
  const put = () => {
    bench.aim(keys, next());
    const { error } = shard.apply(write, body);
    if (error !== null) throw new Error(`a write failed: ${error}`);
  };
  const commit = () => {
    shard.commit();
    shard.idle(IDLE_STEP_BYTES);
  };
  const checksum = (block: Uint8Array, bytes: number, promise: number): Case => ({
    name: `lookup and full checksum of ${byteSize(bytes)} (a cold GET)`,
    promise,
    run: () => {
      find(block, 0, "found");
      verify();
    },
  });
  return [
    { name: "index lookup, hit (two hashes included)", run: () => find(keys, next(), "found") },
    { name: "index lookup, miss (two hashes included)", run: () => find(stored.absent, next(), "absent") },
    checksum(keys, SMALL_BYTES, PROMISE.small),
    checksum(stored.medium, MEDIUM_BYTES, PROMISE.medium),
    {
      name: `append 100 B and ${sync === "always" ? "fdatasync" : "write"}, one at a time`,
      promise: PROMISE.write,
      run: () => {
        put();
        commit();
      },
    },
    {
      name: `append 100 B, ${BATCH_WRITES} for each ${sync === "always" ? "fdatasync" : "write"}`,
      operations: BATCH_WRITES,
      promise: PROMISE.write,
      run: () => {
        for (let one = 0; one < BATCH_WRITES; one++) put();
        commit();
      },
    },
  ];
}

/** A document like those people store: small objects, as many as fit into so many bytes; exactly that long. */
export function sampleDocument(bytes: number): Buffer {
  const item = (id: number) => JSON.stringify({ id, name: `näher ${id}`, price: 12.5, tags: ["new"] });
  let text = `{"value":[${item(0)}`;
  for (let id = 1; Buffer.byteLength(text) + 80 < bytes; id++) text += `,${item(id)}`;
  return Buffer.concat([Buffer.from(text), Buffer.from("]}".padStart(bytes - Buffer.byteLength(text)))]);
}

export function jsonCases(): Case[] {
  return [SMALL_BYTES, MEDIUM_BYTES].map((bytes) => {
    const document = sampleDocument(bytes);
    const scanner = new ValueScanner();
    return {
      name: `JSON check of ${byteSize(document.length)}`,
      run: () => {
        scanner.reset();
        if (!scanner.feed(document, 0, document.length) || !scanner.finish()) throw new Error(scanner.detail);
        sink.value ^= scanner.valueEnd;
      },
    };
  });
}
