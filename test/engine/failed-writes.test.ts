/** What a failed write or sync leaves behind, case by case. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { readFigures } from "../../src/engine/figures/stats.ts";
import { UploadWriter } from "../../src/engine/shard/uploads.ts";
import { type FileIo, nodeIo } from "../../src/engine/slabs/io.ts";
import { Harness, inDirectory, SMALL_CHUNK_BYTES } from "./harness.ts";

const failure = (code: string): Error => Object.assign(new Error(`${code}: injected`), { code });

test("a write that failed and yet is in the file does not come back after a delete that found nothing", () =>
  inDirectory(async (directory) => {
    let failing = false;
    const io: FileIo = {
      ...nodeIo,
      pwrite(fd, bytes, offset, length, position) {
        // The record arrives, then the call fails; so does the attempt to take it back.
        if (!failing || length > 16) nodeIo.pwrite(fd, bytes, offset, length, position);
        if (failing) throw failure("EIO");
      },
    };
    const vault = await Harness.open(directory, { io });
    assert.equal(vault.put("other", "1").error, null);
    failing = true;
    assert.equal(vault.put("key", "value").error, "internal");
    failing = false;
    assert.equal(vault.read("key").state, "absent");
    const removed = vault.remove("key");
    assert.deepEqual([removed.error, removed.deleted], [null, false]);
    await vault.crash();
    const again = await Harness.open(directory);
    assert.equal(again.read("key").state, "absent");
    assert.equal(again.read("other").state, "found");
    await again.shard.close();
  }));

test("a write that failed and yet is in the file is taken back at once where the disk allows it", () =>
  inDirectory(async (directory) => {
    let failing = false;
    const io: FileIo = {
      ...nodeIo,
      pwrite(fd, bytes, offset, length, position) {
        nodeIo.pwrite(fd, bytes, offset, length, position);
        if (failing && length > 16) throw failure("ENOSPC");
      },
    };
    const vault = await Harness.open(directory, { io });
    failing = true;
    assert.equal(vault.put("key", "value").error, "disk_full");
    await vault.crash();
    const again = await Harness.open(directory);
    assert.equal(again.read("key").state, "absent");
    await again.shard.close();
  }));

test("a sync that fails while the next slab is opened stops the write that needed the slab", () =>
  inDirectory(async (directory) => {
    let failing = false;
    const sync = (): void => {
      if (!failing) return;
      failing = false;
      throw failure("EIO");
    };
    const vault = await Harness.open(directory, { io: { ...nodeIo, fdatasync: sync } });
    assert.equal(vault.put("key", "old").error, null);
    // A chunk lies unsynced in the open slab when that turns out to be too small.
    const upload = new UploadWriter(vault.shard.batch, vault.write("large", {}));
    upload.part(Buffer.alloc(2 * SMALL_CHUNK_BYTES, "part"));
    vault.shard.commit();
    failing = true;
    assert.equal(vault.put("key", Buffer.alloc(60_000)).error, "write_stopped");
    assert.equal(vault.figure("writesStopped"), 1);
    assert.equal(vault.put("key", "new").error, "write_stopped");
    assert.equal(upload.finish().error, "write_stopped");
    const read = vault.read("key");
    assert.equal(read.state === "found" ? read.value.toString() : read.state, "old");
    upload.end();
    await vault.crash();
  }));

for (const moment of ["creation", "unlink"] as const)
  test(`a directory sync that fails after the ${moment} of a slab stops writes`, () =>
    inDirectory(async (directory) => {
      let failing = false;
      let unlinks = 0;
      const io: FileIo = {
        ...nodeIo,
        unlink(path) {
          unlinks++;
          nodeIo.unlink(path);
        },
        syncDirectory(path) {
          if (failing && (moment === "creation" || unlinks > 0)) throw failure("EIO");
          nodeIo.syncDirectory(path);
        },
      };
      const vault = await Harness.open(directory, { io });
      if (moment === "creation") failing = true;
      let written = 0;
      for (let i = 0; i < 400 && vault.figure("writesStopped") === 0; i++) {
        if (vault.put(`key${i % 5}`, Buffer.alloc(4000, `${i} `)).error === null) written = i;
        if (i === 100) failing = true;
        await vault.settle();
      }
      assert.equal(vault.figure("writesStopped"), 1);
      assert.equal(vault.put("key", "x").error, "write_stopped");
      const read = vault.read(`key${written % 5}`);
      assert.ok(read.state === "found" && read.value.equals(Buffer.alloc(4000, `${written} `)));
      await vault.crash();
      const again = await Harness.open(directory);
      const later = again.read(`key${written % 5}`);
      assert.ok(later.state === "found" && later.value.equals(Buffer.alloc(4000, `${written} `)));
      await again.shard.close();
    }));

for (const code of ["EMFILE", "ENFILE"])
  for (const at of ["open", "syncDirectory"] as const)
    test(`no descriptor (${code} in ${at}) when the next slab is due: refused, told, not taken for damage, and over by itself`, () =>
      inDirectory(async (directory) => {
        let failing = false;
        const io: FileIo = {
          ...nodeIo,
          open(file, flags) {
            if (failing && at === "open") throw failure(code);
            return nodeIo.open(file, flags);
          },
          syncDirectory(folder) {
            if (failing && at === "syncDirectory") throw failure(code);
            nodeIo.syncDirectory(folder);
          },
        };
        const vault = await Harness.open(directory, { io });
        const value = "v".repeat(SMALL_CHUNK_BYTES / 2);
        assert.equal(vault.put("first", value).error, null);
        failing = true;
        let refused = 0;
        let stored = 0;
        while (refused < 20) {
          const { error } = vault.put(`key-${stored}`, value);
          if (error === null) stored++;
          else {
            assert.equal(error, "overloaded");
            refused++;
          }
          assert.ok(stored < 10_000, "a slab is never full");
        }
        const figures = readFigures(0, vault.memory);
        assert.deepEqual(
          [figures.outOfDescriptors, figures.writesStopped, figures.damagedRecords],
          [true, false, 0],
        );
        assert.equal(
          vault.warnings.filter((line) => line.includes("a write failed")).length,
          1,
          "one line for many",
        );
        failing = false;
        assert.equal(vault.put(`key-${stored}`, value).error, null);
        for (let i = 0; i <= stored; i++) assert.equal(vault.read(`key-${i}`).state, "found");
        await vault.crash();
        const again = await Harness.open(directory);
        for (let i = 0; i <= stored; i++) assert.equal(again.read(`key-${i}`).state, "found");
        assert.equal(readFigures(0, again.memory).damagedRecords, 0);
        await again.shard.close();
      }));
