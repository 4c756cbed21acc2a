/** The comparison of the index that a start would build with the records: it says so when one lacks the other, and a disk that cannot be read is a finding. */
import assert from "node:assert/strict";
import { mkdirSync, rmSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { verifyDirectory } from "../../src/engine/check/verify.ts";
import { verifyIndex } from "../../src/engine/check/verify-index.ts";
import { readStoreFile, type StoreIdentity, shardDirectory } from "../../src/engine/directory/store-file.ts";
import { listSlabs } from "../../src/engine/slabs/files.ts";
import { Harness, temporaryDirectory } from "./harness.ts";

let directory: { path: string; remove(): void };
beforeEach(() => {
  directory = temporaryDirectory();
});
afterEach(() => directory.remove());

/** Three values in one open slab; answers its table. */
async function fill(): Promise<Int32Array> {
  const vault = await Harness.open(directory.path);
  vault.put("one", "first");
  vault.put("two", "2");
  vault.put("one", "second");
  vault.remove("two");
  const table = Int32Array.from(vault.shard.log.appender.openSlab().table);
  await vault.shard.close();
  return table;
}

async function check(table: Int32Array): Promise<{ lost: string[]; damage: string[]; keys: number }> {
  const store = readStoreFile(directory.path) as StoreIdentity;
  const found = { lost: [] as string[], damage: [] as string[], keys: 0 };
  const slabs = {
    sequences: listSlabs(shardDirectory(directory.path, 0)),
    tables: new Map([[1, table]]),
    isBad: () => false,
    isSound: true,
  };
  const { keys } = await verifyIndex(directory.path, store, 0, slabs, {
    lost: (_sequence, _unit, key) => found.lost.push(Buffer.from(key).toString()),
    damage: (text) => found.damage.push(text),
    turn: async () => {},
  });
  return { ...found, keys };
}

test("verify index: replaced and deleted values, and those that count, are where they should be", async () => {
  assert.deepEqual(await check(await fill()), { lost: [], damage: [], keys: 1 });
});

test("verify index: an entry without its record, and a record without its entry, are found", async () => {
  const table = await fill();
  const without = await check(table.slice(0, 9));
  assert.deepEqual(without.damage, ["2 entries for 1 records that count"]);
  // The index has the record under another hash than this.
  const other = table.slice();
  other[7] ^= 0x5a5a5a5a;
  const misplaced = await check(other);
  assert.deepEqual(misplaced.lost, ["one"]);
  assert.deepEqual(misplaced.damage, ["2 entries for 1 records that count"]);
});

test("verify: a slab that cannot be read is damage, and the rest is still checked", async () => {
  const vault = await Harness.open(directory.path);
  for (let i = 0; i < 200; i++) vault.put(`key ${i}`, Buffer.alloc(1000, i));
  await vault.settle();
  await vault.shard.close();
  const slab = path.join(directory.path, "shard-000/0000000002.slab");
  rmSync(slab);
  mkdirSync(slab);
  const damage: string[] = [];
  const notes: string[] = [];
  const summary = await verifyDirectory(directory.path, {
    damage: ({ file, text }) => damage.push(`${file}: ${text}`),
    note: (text) => notes.push(text),
    progress: () => {},
  });
  assert.ok(summary !== null && summary.slabs >= 3 && summary.keys === null);
  assert.match(damage.join("\n"), /0000000002\.slab: cannot be read: EISDIR/);
  assert.match(notes.join("\n"), /index of shard 0 is not checked/);
  assert.ok(damage.every((line) => line.includes("0000000002.slab")));
});
