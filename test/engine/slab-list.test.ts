/** The list of slabs: what a note says of the open slab, and an older copy of it that shows by that alone. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { verifyDirectory } from "../../src/engine/check/verify.ts";
import { readSlabList } from "../../src/engine/list/copies.ts";
import { Harness, inDirectory } from "./harness.ts";

/** What `verify` names, in a line each. */
async function verified(directory: string): Promise<string[]> {
  const lines: string[] = [];
  await verifyDirectory(directory, {
    damage: ({ file, text }) => lines.push(`${file}: ${text}`),
    note: () => {},
    progress: () => {},
  });
  return lines;
}

test("slab list: a commit is noted, and an open slab older than the note is damage", () =>
  inDirectory(async (directory) => {
    let now = Date.UTC(2026, 0, 1);
    const clock = { now: () => (now += 150) };
    const vault = await Harness.open(directory, clock);
    const list = () => readSlabList(path.join(directory, "shard-000"), { shard: 0, storeId: vault.store.id });
    const slab = path.join(directory, "shard-000/0000000001.slab");
    vault.put("key", "old");
    const { appender } = vault.shard.log;
    assert.deepEqual(list().note, appender.end);
    const older = fs.readFileSync(slab);
    vault.put("key", "new");
    assert.deepEqual(list().note, appender.end);
    await vault.crash();
    fs.writeFileSync(slab, older);
    const again = await Harness.open(directory, clock);
    assert.match(
      again.warnings.join(),
      /slab 1 of shard 0 is damaged: it had records up to byte \d+ at least/,
    );
    assert.equal(again.read("key").state, "damaged");
    assert.equal(again.read("never").state, "damaged");
    await again.shard.close();
  }));

for (const [what, exchange] of [
  ["exchanged for an older copy", (slab, older) => fs.writeFileSync(slab, older)],
  ["removed, and an older copy put back later", (slab) => fs.rmSync(slab)],
] as [string, (slab: string, older: Buffer) => void][])
  test(`slab list: an open slab that is ${what} is noticed by every later start, and deleted keys stay away`, () =>
    inDirectory(async (directory) => {
      let now = Date.UTC(2026, 0, 1);
      const clock = { now: () => (now += 150) };
      const vault = await Harness.open(directory, clock);
      const slab = path.join(directory, "shard-000/0000000001.slab");
      vault.put("deleted", "value");
      const older = fs.readFileSync(slab);
      vault.remove("deleted");
      await vault.crash();
      exchange(slab, older);
      for (let start = 0; start < 4; start++) {
        assert.match(
          (await verified(directory)).join("; "),
          /0000000001\.slab: (it had|the file is missing)/,
        );
        const again = await Harness.open(directory, clock);
        assert.equal(again.read("deleted").state, "damaged", `start ${start}`);
        // The note is of another slab from now on.
        assert.equal(again.put(`new ${start}`, "new").error, null);
        await (start % 2 === 0 ? again.crash() : again.shard.close());
        fs.writeFileSync(slab, older);
      }
    }));

test("slab list: what only the index snapshot tells of a slab, verify and every later start tell, too", () =>
  inDirectory(async (directory) => {
    const options = { snapshotEntriesMin: 1 };
    const shard = path.join(directory, "shard-000");
    let vault = await Harness.open(directory, options);
    vault.put("deleted", "value");
    await vault.shard.close();
    vault = await Harness.open(directory, options);
    const copies = new Map<string, Buffer>();
    for (const name of ["slabs.list", "slabs.copy", "0000000001.slab"])
      copies.set(path.join(shard, name), fs.readFileSync(path.join(shard, name)));
    vault.remove("deleted");
    await vault.shard.close();
    // As in a copy that was made file by file: list and slab from before, the snapshot from after.
    for (const [file, bytes] of copies) fs.writeFileSync(file, bytes);
    for (let start = 0; start < 3; start++) {
      assert.match(
        (await verified(directory)).join("; "),
        /0000000001\.slab: it (had|has)/,
        `start ${start}`,
      );
      vault = await Harness.open(directory, options);
      assert.equal(vault.read("deleted").state, "damaged", `start ${start}`);
      await (start === 0 ? vault.crash() : vault.shard.close());
    }
  }));

test("slab list: a copy that has grown without bound is one that cannot be read", () =>
  inDirectory(async (directory) => {
    const vault = await Harness.open(directory);
    vault.put("key", "value");
    await vault.crash();
    fs.truncateSync(path.join(directory, "shard-000/slabs.list"), 2 ** 40);
    assert.match((await verified(directory)).join(), /^$/);
    const again = await Harness.open(directory);
    assert.match(again.warnings.join(), /slabs\.list of shard 0, a list of its slabs, is written anew/);
    assert.equal(again.read("key").state, "found");
    await again.shard.close();
    fs.truncateSync(path.join(directory, "STORE"), 2 ** 40);
    assert.match((await verified(directory)).join(), /STORE is damaged: it has 1099511627776 bytes/);
  }));
