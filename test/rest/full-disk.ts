/**
 * A full disk, on a small real file system: 507 for what needs room, while reads, deletes and compaction go on; writes resume by themselves, and
 * neither kill -9 nor a restart needs room that is not there.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import type { TestContext } from "node:test";
import { type DiskKind, type SmallDisk, smallDisk } from "../small-disk.ts";
import { call, content, inParallel } from "./client.ts";
import { type Server, startServer, waitUntil } from "./server.ts";

const MIB = 1024 * 1024;
const VALUE_BYTES = 800_000;
const LARGE_BYTES = 9_500_000;
const DELETE_ALL = 4000;
const SAMPLE = 5;
/** What the blocks ahead in an open slab hold, above what is kept for deletes. */
const BLOCKS_AHEAD_VALUES = 4;

async function onSmallDisk(
  t: TestContext,
  kind: DiskKind,
  bytes: number,
  body: (server: Server, disk: SmallDisk) => Promise<void>,
  inodes?: number,
): Promise<void> {
  const disk = await smallDisk(bytes, kind, inodes);
  if (typeof disk === "string") {
    t.skip(disk);
    return;
  }
  try {
    const server = await startServer({ data: `${disk.path}/data`, flags: ["-threads", "1"] });
    try {
      await body(server, disk);
    } finally {
      await server.dispose();
    }
  } finally {
    await disk.remove();
  }
}

const value = (number: number): Buffer => content(number, VALUE_BYTES);

/** Writes new keys until the server says that the disk is full. */
async function writeUntilFull(server: Server, stored: Map<string, Buffer>, body = value): Promise<void> {
  for (let number = stored.size; ; number++) {
    const reply = await call(server.port, "PUT", `/v${number}`, { body: body(number) });
    if (reply.status === 201) {
      stored.set(`/v${number}`, body(number));
      continue;
    }
    assert.equal(reply.status, 507, reply.text);
    assert.equal(reply.json().code, "disk_full");
    assert.match(reply.json().error, /disk is full/);
    return;
  }
}

/** @param oneIn looks at a part of the keys only */
async function assertStored(server: Server, stored: ReadonlyMap<string, Buffer>, oneIn = 1): Promise<void> {
  const keys = [...stored.keys()].filter((_, index) => index % oneIn === 0);
  await inParallel(keys.length, 4, async (index) => {
    const reply = await call(server.port, "GET", keys[index]);
    assert.equal(reply.status, 200, `${keys[index]}: ${reply.text.slice(0, 200)}`);
    assert.ok(reply.body.equals(stored.get(keys[index]) as Buffer), keys[index]);
  });
}

async function remove(server: Server, key: string, stored: Map<string, Buffer>): Promise<void> {
  const reply = await call(server.port, "DELETE", key);
  assert.equal(reply.status, 200, `DELETE ${key}: ${reply.text}`);
  assert.equal(reply.json().deleted, true, key);
  stored.delete(key);
}

/** Repeats a write until the disk has room for it again. */
async function writeOnceResumed(
  server: Server,
  key: string,
  body: Buffer,
  stored: Map<string, Buffer>,
  timeoutMs?: number,
): Promise<void> {
  const resumes = async () => (await call(server.port, "PUT", key, { body })).status < 300;
  await waitUntil("writes resume", resumes, timeoutMs);
  stored.set(key, body);
}

/** 507, reads and deletes go on, compaction makes room, writes resume without a restart. */
export async function fullByItself(t: TestContext, kind: DiskKind): Promise<void> {
  await onSmallDisk(t, kind, 230 * MIB, async (server, disk) => {
    const stored = new Map<string, Buffer>();
    await writeUntilFull(server, stored);
    const full = stored.size;
    // Others take what is left, to the last block.
    disk.fill();
    assert.equal((await call(server.port, "PUT", "/more", { body: value(1) })).status, 507);
    assert.equal((await call(server.port, "PUT", "/large", { body: content(2, 5 * MIB) })).status, 507);
    const health = (await call(server.port, "GET", "/health")).json();
    assert.deepEqual([health.status, health.diskFull], ["degraded", true]);
    await assertStored(server, stored, SAMPLE);
    // Killed while it is full, it starts again, says what it said, and still has its reserve.
    await server.kill("SIGKILL");
    await server.restart();
    const restartMs = Math.round(server.startMs);
    await assertStored(server, stored, SAMPLE);
    await writeUntilFull(server, stored);
    assert.ok(
      stored.size <= full + BLOCKS_AHEAD_VALUES,
      `${stored.size - full} values found room on a full disk`,
    );
    // Two of three keys go, spread over all slabs, so that only copying what is left makes room.
    const gone = [...stored.keys()].filter((_, index) => index % 3 > 0);
    for (const key of gone) await remove(server, key, stored);
    assert.equal((await call(server.port, "GET", gone[0])).status, 404);
    await writeOnceResumed(server, "/again", value(3), stored, 60_000);
    const { compactedBytes } = (await call(server.port, "GET", "/_stats")).json();
    assert.ok(compactedBytes > 0, "compaction has copied what was left");
    await assertStored(server, stored, SAMPLE);
    for (const key of gone) assert.equal((await call(server.port, "GET", key)).status, 404, key);
    await server.kill("SIGKILL");
    await server.restart();
    await assertStored(server, stored);
    for (const key of gone) assert.equal((await call(server.port, "GET", key)).status, 404, key);
    t.diagnostic(
      `full after ${full} values of ${VALUE_BYTES} bytes; restart while full ${restartMs} ms; ${gone.length} deleted, ${Math.round(compactedBytes / MIB)} MiB compacted`,
    );
  });
}

/** Large values in close succession fill it, so that no blocks are ahead of the last one; deletes succeed at once, and writes resume. */
export async function fullByUploads(t: TestContext, kind: DiskKind): Promise<void> {
  await onSmallDisk(t, kind, 230 * MIB, async (server, disk) => {
    const stored = new Map<string, Buffer>();
    await writeUntilFull(server, stored, (number) => content(number, LARGE_BYTES));
    disk.fill();
    const keys = [...stored.keys()];
    assert.ok(keys.length > 10, `full after ${keys.length}`);
    for (const key of keys.slice(0, -3)) await remove(server, key, stored);
    await assertStored(server, stored);
    await writeOnceResumed(server, "/again", content(1, LARGE_BYTES), stored, 60_000);
    await server.kill("SIGKILL");
    await server.restart();
    await assertStored(server, stored);
    assert.equal((await call(server.port, "GET", keys[0])).status, 404);
  });
}

/** Others fill the disk to the last block, and thousands of deletes succeed; writes resume when they give room back. */
export async function fullByOthers(t: TestContext, kind: DiskKind): Promise<void> {
  await onSmallDisk(t, kind, 64 * MIB, async (server, disk) => {
    const stored = new Map<string, Buffer>();
    await inParallel(DELETE_ALL, 32, async (index) => {
      const reply = await call(server.port, "PUT", `/k${index}`, { body: `value ${index}` });
      assert.equal(reply.status, 201, reply.text);
      stored.set(`/k${index}`, Buffer.from(`value ${index}`));
    });
    disk.fill();
    // Writers go on until they are refused, so that the reserve is all that is left.
    let refused = 0;
    await inParallel(8, 8, async (lane) => {
      for (let number = 0; refused < 8; number++) {
        const reply = await call(server.port, "PUT", `/l${lane}-${number}`, { body: content(number, 5000) });
        if (reply.status === 201) stored.set(`/l${lane}-${number}`, content(number, 5000));
        else {
          assert.equal(reply.status, 507, reply.text);
          refused++;
        }
      }
    });
    disk.fill();
    const keys = [...stored.keys()].slice(0, DELETE_ALL);
    // Beside deletes others still try to write, in the same batches.
    await inParallel(keys.length, 16, async (index) => {
      if (index % 20 === 0) {
        const reply = await call(server.port, "PUT", "/no", { body: content(1, 50_000) });
        assert.equal(reply.status, 507, reply.text);
      }
      await remove(server, keys[index], stored);
    });
    await assertStored(server, stored);
    await server.kill("SIGKILL");
    await server.restart();
    await assertStored(server, stored);
    for (const key of keys.slice(0, 200))
      assert.equal((await call(server.port, "GET", key)).status, 404, key);
    disk.release();
    await writeOnceResumed(server, "/yes", Buffer.from("yes"), stored);
    const health = async () => (await call(server.port, "GET", "/health")).json().status === "healthy";
    await waitUntil("the node is healthy again", health);
    await server.stop();
    disk.fill();
    await server.restart();
    await assertStored(server, stored);
  });
}

/** Blocks are there and no inodes: no next slab can be made. Reads, deletes and starts go on, and writes resume when there are some. */
export async function fullOfFiles(t: TestContext, kind: DiskKind): Promise<void> {
  await onSmallDisk(
    t,
    kind,
    400 * MIB,
    async (server, disk) => {
      const stored = new Map<string, Buffer>();
      const reply = await call(server.port, "PUT", "/v0", { body: value(0) });
      assert.equal(reply.status, 201, reply.text);
      stored.set("/v0", value(0));
      // The spare slab is made in the background.
      const hasSpare = () => fs.readdirSync(`${disk.path}/data/shard-000`).includes("spare.new");
      await waitUntil("there is a spare slab", async () => hasSpare());
      disk.fillInodes();
      await writeUntilFull(server, stored);
      const health = (await call(server.port, "GET", "/health")).json();
      assert.deepEqual([health.status, health.diskFull], ["degraded", true]);
      assert.match(health.reason, /inodes/);
      await assertStored(server, stored, SAMPLE);
      for (const stop of ["SIGTERM", "SIGKILL"] as const) {
        await remove(server, [...stored.keys()][0], stored);
        if (stop === "SIGTERM") await server.stop();
        else await server.kill(stop);
        disk.fillInodes();
        await server.restart();
        await assertStored(server, stored, SAMPLE);
      }
      disk.releaseInodes();
      await writeOnceResumed(server, "/again", value(3), stored);
      for (let number = 0; number < 100; number++) {
        const more = await call(server.port, "PUT", `/more${number}`, { body: value(number) });
        assert.equal(more.status, 201, more.text);
        stored.set(`/more${number}`, value(number));
      }
      await assertStored(server, stored, SAMPLE);
    },
    64,
  );
}
