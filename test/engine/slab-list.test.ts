/** The list of slabs: what a note says of the open slab, and an older copy of it that shows by that alone. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { readSlabList } from "../../src/engine/list/slab-list.ts";
import { Harness, inDirectory } from "./harness.ts";

test("slab list: a commit is noted, and an open slab older than the note is damage", () =>
  inDirectory(async (directory) => {
    let now = Date.UTC(2026, 0, 1);
    const clock = { now: () => (now += 150) };
    const vault = await Harness.open(directory, clock);
    const list = () => readSlabList(path.join(directory, "shard-000"), { shard: 0, storeId: vault.store.id });
    const slab = path.join(directory, "shard-000/0000000001.slab");
    vault.put("key", "old");
    const { appender } = vault.shard;
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
