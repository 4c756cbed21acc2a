import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { readSlabList } from "../../src/engine/list/copies.ts";
import { SlabList } from "../../src/engine/list/slab-list.ts";
import { slotOfSequence } from "../../src/engine/slabs/figures.ts";
import { slabName } from "../../src/engine/slabs/files.ts";
import { type FileIo, nodeIo } from "../../src/engine/slabs/io.ts";
import { SlabTable } from "../../src/engine/slabs/table.ts";
import { createShardMemory } from "../../src/engine/state/memory.ts";
import { loadHash } from "../../src/util/hash.ts";
import { inDirectory } from "./harness.ts";

const MIB = 1024 * 1024;
const NOWHERE = { sequence: 0, endUnit: 0, last: 0 };
const SLAB_BYTES = 3 * MIB + 4096;

/** A table with slab 1, whose file is `SLAB_BYTES` long. */
async function create(directory: string, io: FileIo): Promise<{ table: SlabTable; held: Int32Array }> {
  await loadHash();
  mkdirSync(directory, { recursive: true });
  writeFileSync(path.join(directory, slabName(1)), Buffer.alloc(SLAB_BYTES, "x"));
  const memory = createShardMemory(1);
  const slots = new Int32Array(memory.slots);
  const figures = new Float64Array(memory.figures);
  const identity = { shard: 0, storeId: new Uint8Array(16) };
  const list = new SlabList(io, directory, identity, readSlabList(directory, identity), assert.ifError);
  const table = new SlabTable(io, directory, list, SLAB_BYTES, slots, memory.held, figures);
  table.add(1);
  return { table, held: new Int32Array(memory.held[0]) };
}

test("slab table: a dropped slab is freed in steps of 1 MiB, once nobody holds it", () =>
  inDirectory(async (directory) => {
    const calls: string[] = [];
    const { table, held } = await create(directory, {
      ...nodeIo,
      close(fd) {
        calls.push("close");
        nodeIo.close(fd);
      },
      ftruncateAsync(fd, bytes) {
        calls.push(`${bytes / MIB}`);
        return nodeIo.ftruncateAsync(fd, bytes);
      },
    });
    held[slotOfSequence(1)] = 1;
    table.drop(1, NOWHERE);
    table.reclaim();
    assert.ok(table.waiting, "a front has it mapped");
    calls.length = 0;
    held[slotOfSequence(1)] = 0;
    table.reclaim();
    assert.ok(table.waiting, "its blocks are on their way");
    await table.close();
    assert.ok(!table.waiting);
    const rest = 4096 / MIB;
    assert.deepEqual(calls, [`${2 + rest}`, `${1 + rest}`, `${rest}`, "0", "close"]);
  }));

test("slab table: a dropped slab whose blocks cannot be freed is closed all the same", () =>
  inDirectory(async (directory) => {
    let closed = 0;
    const { table } = await create(directory, {
      ...nodeIo,
      close(fd) {
        closed++;
        nodeIo.close(fd);
      },
      ftruncateAsync: async () => {
        throw new Error("EIO");
      },
    });
    table.drop(1, NOWHERE);
    closed = 0;
    table.reclaim();
    await table.close();
    assert.equal(closed, 1);
    assert.ok(!table.waiting);
  }));
