/**
 * The golden store: always the same operations with the same clock and identity, so that its files are the same to the byte.
 *   node --import tsx test/golden/store.ts DIR     writes it anew (a new format version gets a new folder; old ones stay)
 */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { hash32, loadHash } from "../../src/util/hash.ts";
import { Harness } from "../engine/harness.ts";

export const BIG = Buffer.alloc(20_000);
for (let i = 0; i < BIG.length; i++) BIG[i] = (Math.imul(i, 2654435761) >>> 13) & 0xff;

/** What the golden store holds: key → value as a GET sends it, null for a deleted key. */
export const CONTENT: Record<string, Buffer | null> = {
  greeting: Buffer.from('{"value":"hello"}'),
  "raw/ünï": Buffer.from([0, 1, 2, 255]),
  replaced: Buffer.from("second"),
  deleted: null,
  big: BIG,
  empty: Buffer.alloc(0),
};

const IDENTITY = {
  format: "minivault",
  version: 1,
  endian: "little",
  id: "000102030405060708090a0b0c0d0e0f",
  node: 0x11223344,
  shards: 1,
  slabBytes: 16_384,
  chunkBytes: 1024,
  hashSeed: 0x55667788,
  incarnation: 0,
};

/** Makes the golden store in an empty directory. */
export async function writeGoldenStore(directory: string): Promise<void> {
  await loadHash();
  mkdirSync(directory, { recursive: true });
  const line = JSON.stringify(IDENTITY);
  const sum = (hash32(Buffer.from(line), 0) >>> 0).toString(16).padStart(8, "0");
  writeFileSync(path.join(directory, "STORE"), `${line}\n${sum}\n`);
  let now = Date.UTC(2026, 0, 1);
  const vault = await Harness.open(directory, { now: () => ++now });
  vault.put("greeting", '{"value": "hello"}', { json: true });
  vault.put("raw/ünï", Buffer.from([0, 1, 2, 255]), { contentType: "image/png" });
  vault.put("replaced", "first", { contentType: "text/plain" });
  vault.put("replaced", "second", { contentType: "text/plain" });
  vault.put("deleted", "gone soon", { contentType: "text/plain" });
  vault.remove("deleted");
  vault.upload("big", BIG, { contentType: "application/zip" });
  vault.put("empty", "", { contentType: "text/plain" });
  await vault.shard.close();
}

if (require.main === module) void writeGoldenStore(process.argv[2]);
