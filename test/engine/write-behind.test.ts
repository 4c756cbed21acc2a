import assert from "node:assert/strict";
import { test } from "node:test";
import { WriteBehind } from "../../src/engine/open/write-behind.ts";
import { type FileIo, nodeIo } from "../../src/engine/slabs/io.ts";
import { Harness, inDirectory } from "./harness.ts";

const MIB = 1024 * 1024;

/** A disk whose syncs end when the test says so. */
class HeldDisk {
  private readonly ends: ((error?: Error) => void)[] = [];
  /** "file" for each sync begun, in order. */
  readonly begun: string[] = [];
  readonly open = new Map<number, string>();
  opens = true;
  private next = 10;
  readonly io: FileIo = {
    ...nodeIo,
    open: (file) => {
      if (!this.opens) throw new Error("EMFILE");
      this.open.set(++this.next, file);
      return this.next;
    },
    close: (fd) => assert.ok(this.open.delete(fd), `${fd} is closed twice`),
    fdatasyncAsync: (fd) => {
      this.begun.push(this.open.get(fd) ?? `closed ${fd}`);
      return new Promise((resolve, reject) => {
        this.ends.push((error) => (error === undefined ? resolve() : reject(error)));
      });
    },
  };

  /** Ends the oldest sync. */
  async end(error?: Error): Promise<void> {
    this.ends.shift()?.(error);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function create(): { disk: HeldDisk; behind: WriteBehind; failures: unknown[] } {
  const disk = new HeldDisk();
  const failures: unknown[] = [];
  return { disk, behind: new WriteBehind(disk.io, (error) => failures.push(error)), failures };
}

test("write-behind: a step is made from 1 MiB on, one at a time, and counts what was given before", async () => {
  const { disk, behind } = create();
  behind.advance("a", 0, MIB - 1);
  assert.deepEqual(disk.begun, []);
  behind.advance("a", 0, 3 * MIB);
  behind.advance("a", 0, 9 * MIB);
  assert.deepEqual(disk.begun, ["a"]);
  await disk.end();
  behind.advance("a", 0, 4 * MIB - 1);
  assert.equal(disk.begun.length, 1, "less than a step since the last step");
  behind.advance("a", 6 * MIB, 7 * MIB - 1);
  assert.equal(disk.begun.length, 1, "less than a step since the last sync");
  behind.advance("a", 6 * MIB, 7 * MIB);
  assert.equal(disk.begun.length, 2);
  await disk.end();
  await behind.leave();
  assert.equal(disk.open.size, 0);
});

test("write-behind: another file has an account of its own, and the last one is closed", async () => {
  const { disk, behind } = create();
  behind.advance("a", 0, 8 * MIB);
  await disk.end();
  behind.advance("b", 0, 2 * MIB);
  assert.deepEqual(disk.begun, ["a", "b"]);
  assert.deepEqual([...disk.open.values()], ["b"]);
  await disk.end();
  await behind.leave();
  assert.equal(disk.open.size, 0);
});

test("write-behind: a file is let go when its step is over, and never one that came after it", async () => {
  const { disk, behind } = create();
  behind.advance("a", 0, 2 * MIB);
  const left = behind.leave();
  behind.advance("b", 0, 2 * MIB);
  assert.deepEqual([...disk.open.values()], ["a"], "closed while it is synced");
  await disk.end();
  await left;
  assert.equal(disk.open.size, 0);
  void behind.leave();
  behind.advance("b", 0, 2 * MIB);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([...disk.open.values()], ["b"]);
  await disk.end();
  await behind.leave();
});

test("write-behind: a step that fails is told, a file that cannot be opened is not", async () => {
  const { disk, behind, failures } = create();
  disk.opens = false;
  behind.advance("a", 0, 2 * MIB);
  assert.deepEqual(disk.begun, []);
  disk.opens = true;
  behind.advance("a", 0, 2 * MIB);
  const error = new Error("EIO");
  await disk.end(error);
  assert.deepEqual(failures, [error]);
  await behind.leave();
  assert.equal(disk.open.size, 0);
});

test("a large value's chunk that cannot be synced in the background stops writes", () =>
  inDirectory(async (directory) => {
    let failing = false;
    const fdatasyncAsync = async (fd: number): Promise<void> => {
      if (failing) throw Object.assign(new Error("EIO: injected"), { code: "EIO" });
      await nodeIo.fdatasyncAsync(fd);
    };
    const vault = await Harness.open(directory, {
      io: { ...nodeIo, fdatasyncAsync },
      slabBytes: 16 * MIB,
      chunkBytes: MIB,
    });
    assert.equal(vault.put("key", "old").error, null);
    await vault.settle();
    failing = true;
    const value = Buffer.alloc(6 * MIB, "large");
    // What fits one record goes to the log with all else.
    assert.equal(vault.upload("large", value.subarray(0, MIB), {}, MIB).error, null);
    assert.equal(vault.figure("writesStopped"), 0, "no step");
    vault.abandon("large", value);
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(vault.figure("writesStopped"), 1);
    assert.equal(vault.put("key", "new").error, "write_stopped");
    assert.match(vault.warnings.join("\n"), /sync failed.*EIO/);
    const read = vault.read("key");
    assert.equal(read.state === "found" ? read.value.toString() : read.state, "old");
    await vault.crash();
  }));
