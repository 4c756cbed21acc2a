/**
 * The golden store: always the same operations with the same clock and identity, so that its files are the same to the byte.
 *   node --import tsx test/golden/store.ts DIR VERSION [replica]     writes it anew (a new format version gets a new folder; old ones stay)
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { dropTombstone, prepare } from "../../src/engine/shard/replica.ts";
import { withEnd } from "../../src/format/fields/end.ts";
import { type Field, NO_TRAILER, writeFields } from "../../src/format/fields/trailer.ts";
import { FIELD_METADATA } from "../../src/format/offsets.ts";
import type { Ballot } from "../../src/format/record.ts";
import type { Write } from "../../src/rules/write.ts";
import { hash32, loadHash } from "../../src/util/hash.ts";
import { Harness, restartOperations } from "../engine/harness.ts";

export const BIG = Buffer.alloc(20_000);
for (let i = 0; i < BIG.length; i++) BIG[i] = (Math.imul(i, 2654435761) >>> 13) & 0xff;

/** What every golden store holds: key → value as a GET sends it, null for a deleted key. */
const CONTENT: Readonly<Record<string, Buffer | null>> = {
  greeting: Buffer.from('{"value":"hello"}'),
  "raw/ünï": Buffer.from([0, 1, 2, 255]),
  replaced: Buffer.from("second"),
  deleted: null,
  big: BIG,
  empty: Buffer.alloc(0),
};

/** The fields of "described", a key of version 3: metadata, and one that no program knows. */
export const FIELDS: readonly Field[] = [
  { type: FIELD_METADATA, bytes: Buffer.from("cache-control: max-age=60\nx-meta-colour: blue\n") },
  { type: 0x7fff, bytes: Buffer.from("from the future") },
];

/** What the golden store of a version holds. */
export function contentOf(version: number): Readonly<Record<string, Buffer | null>> {
  if (version < 3) return CONTENT;
  const content = {
    ...{ ...CONTENT, described: Buffer.from("with fields") },
    "described/big": BIG.subarray(0, 3000),
  };
  if (version < 4) return content;
  return { ...content, ending: Buffer.from("for a while"), touched: BIG.subarray(0, 2000), ended: null };
}

/** The end of life of what ends in a golden store of version 4, long after all tests. */
export const GOLDEN_END = Date.UTC(2126, 0, 1);

const SIPHASH_SETTINGS = { hash: "siphash-1-3", hashSecret: "101112131415161718191a1b1c1d1e1f" };
/** What STORE says of the hash and of its slabs, by version. The third is as after a restore. */
const SETTINGS: Record<number, object> = {
  1: { hashSeed: 0x55667788 },
  2: SIPHASH_SETTINGS,
  3: { ...SIPHASH_SETTINGS, slabId: "202122232425262728292a2b2c2d2e2f" },
  4: { ...SIPHASH_SETTINGS, slabId: "303132333435363738393a3b3c3d3e3f" },
};

const IDENTITY = {
  format: "minivault",
  version: 0,
  endian: "little",
  id: "000102030405060708090a0b0c0d0e0f",
  node: 0x11223344,
  shards: 1,
  slabBytes: 16_384,
  chunkBytes: 1024,
  incarnation: 0,
};

const START = Date.UTC(2026, 0, 1);

/** Makes an empty directory of a format version, always the same. */
export async function writeIdentity(directory: string, version: number): Promise<void> {
  await loadHash();
  mkdirSync(directory, { recursive: true });
  const { incarnation, ...identity } = IDENTITY;
  const line = JSON.stringify({ ...identity, version, ...SETTINGS[version], incarnation });
  const sum = (hash32(Buffer.from(line), 0) >>> 0).toString(16).padStart(8, "0");
  writeFileSync(path.join(directory, "STORE"), `${line}\n${sum}\n`);
}

/** A ballot of another node in the replica's golden store. */
export function goldenBallot(number: number): Ballot {
  const millis = START + number;
  return {
    clockLow: ((millis % 0x10000) * 0x10000) >>> 0,
    clockHigh: Math.floor(millis / 0x10000),
    node: 0x55,
    incarnation: 3,
  };
}

/** Makes the golden store of a cluster's node: promises, a floor, a forgotten key, and copies of records that a promise outranks. */
export async function writeGoldenReplica(directory: string, version: number): Promise<void> {
  await writeIdentity(directory, version);
  const vault = await Harness.open(directory, { now: () => START + 1000, replicated: true });
  const { shard } = vault;
  const ref = (key: string) => {
    const { bytes, hashA, hashB } = vault.hashes(key);
    return { key: bytes, hashA, hashB };
  };
  const accept = (key: string, number: number, value: string | null): void => {
    const write = vault.write(key, { verb: value === null ? "delete" : "put", contentType: "text/plain" });
    write.operationLow = number;
    shard.apply({ ...write, ballot: goldenBallot(number) }, Buffer.from(value ?? ""));
    shard.commit();
  };
  accept("outranked", 1, "below its promise");
  prepare(shard.batch, ref("outranked"), goldenBallot(9));
  shard.commit();
  prepare(shard.batch, ref("promised only"), goldenBallot(8));
  shard.commit();
  accept("tombstone", 5, null);
  if (version >= 4) {
    const ending = (key: string, verb: "put" | "delete" | "touch", number: number, end: number) => ({
      ...vault.write(key, { verb, contentType: "text/plain", trailer: withEnd(NO_TRAILER, end) }),
      ...{ operationLow: number, ballot: goldenBallot(number) },
    });
    const done = (write: Write, value = ""): void => {
      shard.apply(write, Buffer.from(value));
      shard.commit();
    };
    done(ending("ended", "put", 6, START + 100), "it has ended");
    done({ ...ending("ended", "delete", 6, START + 100), ended: true });
    done(ending("touched", "put", 7, START + 100), "for longer");
    done({ ...ending("touched", "touch", 8, GOLDEN_END), base: goldenBallot(7) });
  }
  accept("replicated", 2, "value");
  // Enough dead bytes for compaction, which moves the record of "outranked" behind its promise.
  for (let i = 0; i < 200; i++)
    accept(i > 30 && i % 10 === 0 ? `kept ${i}` : "replicated", 10 + i, `value ${i} ${"v".repeat(500)}`);
  accept("collected", 300, "gone");
  accept("collected", 301, null);
  dropTombstone(shard.batch, ref("collected"), goldenBallot(301));
  shard.commit();
  // What compaction chooses depends on which slabs are sealed, so that is waited for.
  for (let step = 0; step < 200; step++) {
    while (
      [...shard.state.slabs.all()].some(
        ({ sequence, sealed }) => !sealed && sequence !== shard.log.appender.sequence,
      )
    )
      await new Promise((resolve) => setTimeout(resolve, 1));
    shard.idle(2048);
  }
  await vault.shard.close();
}

/** Makes the golden store in an empty directory. */
export async function writeGoldenStore(directory: string, version: number): Promise<void> {
  await writeIdentity(directory, version);
  restartOperations();
  let now = START;
  const vault = await Harness.open(directory, { now: () => ++now });
  vault.put("greeting", '{"value": "hello"}', { json: true });
  vault.put("raw/ünï", Buffer.from([0, 1, 2, 255]), { contentType: "image/png" });
  vault.put("replaced", "first", { contentType: "text/plain" });
  vault.put("replaced", "second", { contentType: "text/plain" });
  vault.put("deleted", "gone soon", { contentType: "text/plain" });
  vault.remove("deleted");
  vault.upload("big", BIG, { contentType: "application/zip" });
  vault.put("empty", "", { contentType: "text/plain" });
  if (version >= 3) {
    const trailer = writeFields(FIELDS);
    vault.put("described", "with fields", { contentType: "text/plain", trailer });
    vault.upload("described/big", BIG.subarray(0, 3000), { contentType: "text/plain", trailer });
  }
  if (version >= 4) {
    const described = writeFields(FIELDS);
    vault.put("ending", "for a while", {
      contentType: "text/plain",
      trailer: withEnd(described, GOLDEN_END),
    });
    vault.upload("touched", BIG.subarray(0, 2000), { contentType: "text/plain", trailer: described });
    vault.touch("touched", GOLDEN_END);
    vault.put("ended", "for a moment", { trailer: withEnd(described, START + 100) });
    now += 1000;
    vault.end("ended", now);
  }
  await vault.shard.close();
}

async function main([directory, version, kind]: string[]): Promise<void> {
  await (kind === "replica" ? writeGoldenReplica : writeGoldenStore)(directory, Number(version));
  // What only keeps blocks for later.
  for (const name of ["STORE.new", "shard-000/spare.new"])
    rmSync(path.join(directory, name), { force: true });
}

if (require.main === module) void main(process.argv.slice(2));
