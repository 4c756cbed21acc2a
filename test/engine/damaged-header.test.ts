/** A slab whose header is damaged: its records are served, and the damage is named and counted, at a start, by the scrub and by verify. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { verifyDirectory } from "../../src/engine/check/verify.ts";
import { Harness, inDirectory } from "./harness.ts";

const slabOf = (directory: string, sequence: number): string =>
  path.join(directory, `shard-000/${String(sequence).padStart(10, "0")}.slab`);

function flip(file: string, at: number): void {
  const fd = fs.openSync(file, "r+");
  const byte = Buffer.alloc(1);
  fs.readSync(fd, byte, 0, 1, at);
  byte[0] ^= 4;
  fs.writeSync(fd, byte, 0, 1, at);
  fs.closeSync(fd);
}

async function filled(directory: string, snapshotEntriesMin: number): Promise<Harness> {
  const vault = await Harness.open(directory, { sync: "os", snapshotEntriesMin });
  if (vault.figure("keys") > 0) return vault;
  for (let i = 0; i < 300; i++) vault.put(`key ${i}`, Buffer.alloc(700, i));
  await vault.sealed();
  return vault;
}

function readsAll(vault: Harness): void {
  for (let i = 0; i < 300; i++) {
    const read = vault.read(`key ${i}`);
    assert.equal(read.state, "found", `key ${i}`);
  }
}

// With a full slab, and with the open one, whose records no table names; by the slabs, and by a snapshot.
for (const [what, entriesMin, isOpen] of [
  ["a full slab", 1e9, false],
  ["the open slab", 1e9, true],
  ["a full slab beside a snapshot", 1, false],
] as const)
  test(`damaged header: ${what} is named at the start, counted, and found by verify`, () =>
    inDirectory(async (directory) => {
      const before = await filled(directory, entriesMin);
      const sequence = isOpen ? before.shard.log.appender.sequence : 2;
      await before.shard.close();
      flip(slabOf(directory, sequence), 20);
      const kinds: string[] = [];
      const damage = ({ kind }: { kind: string }): void => void kinds.push(kind);
      await verifyDirectory(directory, { damage, note() {}, progress() {} });
      assert.ok(kinds.includes("header"), kinds.join());
      const vault = await filled(directory, entriesMin);
      assert.equal(vault.figure("brokenSlabs") + vault.figure("missingSlabs"), 1, vault.warnings.join("\n"));
      vault.shard.look();
      assert.equal(vault.figure("brokenSlabs") + vault.figure("missingSlabs"), 1, "and it stays counted");
      assert.ok(vault.warnings.some((text) => text.includes("its header is damaged")));
      readsAll(vault);
      await vault.shard.close();
    }));

test("damaged header: the scrub finds one that was damaged while it was in use", () =>
  inDirectory(async (directory) => {
    const vault = await filled(directory, 1e9);
    const file = slabOf(directory, 2);
    flip(file, 20);
    while (vault.shard.scrub.step() > 0);
    assert.equal(vault.figure("brokenSlabs"), 1);
    assert.equal(vault.figure("scrubDamaged"), 0, "no record is damaged");
    const named = vault.warnings.filter(
      (text) => text.startsWith(file) && text.includes("its header is damaged"),
    );
    assert.equal(named.length, 1, vault.warnings.join("\n"));
    readsAll(vault);
    await vault.shard.close();
  }));
