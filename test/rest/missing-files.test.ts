/** Files that go away under a running node, and slabs that are missing when it starts: seen from outside. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { SLAB_BYTES } from "../../src/util/limits.ts";
import { call, closeConnections, content } from "./client.ts";
import { type Server, untilLogged, waitUntil, withServer } from "./server.ts";

const VALUE_BYTES = 900_000;
/** Comes in as a stream, in several chunks. */
const LARGE_BYTES = 3_000_000;
/** More than two slabs. */
const KEYS = Math.ceil((SLAB_BYTES * 2.2) / VALUE_BYTES);

after(closeConnections);

async function fill(server: Server): Promise<void> {
  for (let number = 0; number < KEYS; number++) {
    const reply = await call(server.port, "PUT", `/k${number}`, { body: content(number, VALUE_BYTES) });
    assert.equal(reply.status, 201);
  }
}

/** Reads all keys: how many are right, and how many answer 500. Anything else fails. */
async function read(server: Server): Promise<{ right: number; damaged: number }> {
  const count = { right: 0, damaged: 0 };
  for (let number = 0; number < KEYS; number++) {
    const reply = await call(server.port, "GET", `/k${number}`);
    if (reply.status === 500) count.damaged++;
    else {
      assert.equal(reply.status, 200, `k${number}`);
      assert.ok(reply.body.equals(content(number, VALUE_BYTES)), `k${number}`);
      count.right++;
    }
  }
  return count;
}

const slab = (server: Server, number: number): string =>
  path.join(server.data, `shard-000/000000000${number}.slab`);

const health = async (server: Server) => (await call(server.port, "GET", "/health")).json();

for (const [what, leave] of [
  ["removed", (data: string) => fs.rmSync(data, { recursive: true })],
  ["renamed", (data: string) => fs.renameSync(data, `${data}-elsewhere`)],
  [
    "exchanged for another one",
    (data: string) => {
      fs.renameSync(data, `${data}-elsewhere`);
      fs.cpSync(`${data}-elsewhere`, data, { recursive: true });
    },
  ],
  ["emptied", (data: string) => fs.rmSync(path.join(data, "shard-000"), { recursive: true })],
  ["without its open slab", (data: string) => fs.rmSync(path.join(data, "shard-000/0000000001.slab"))],
] as const)
  test(`missing files: a data directory that is ${what} under a running node stops writes, and reads go on`, () =>
    withServer({ flags: ["-threads", "1"] }, async (server) => {
      assert.equal((await call(server.port, "PUT", "/kept", { body: "kept" })).status, 201);
      assert.equal((await call(server.port, "GET", "/kept")).text, "kept");
      try {
        leave(server.data);
        await waitUntil("it is noticed", async () => (await health(server)).directoryGone === true);
        const reply = await call(server.port, "PUT", "/late", { body: "late" });
        assert.deepEqual([reply.status, reply.json().code], [503, "write_stopped"]);
        const { error } = reply.json();
        assert.match(error, /^the data directory is gone: .* and restart$/);
        // An upload in pieces is judged elsewhere, and answered alike.
        const large = await call(server.port, "PUT", "/large", { body: content(1, LARGE_BYTES) });
        assert.deepEqual(
          [large.status, large.json().code, large.json().error],
          [503, "write_stopped", error],
        );
        assert.equal((await call(server.port, "GET", "/kept")).text, "kept");
        assert.equal((await call(server.port, "GET", "/late")).status, 404);
        const document = await health(server);
        assert.deepEqual([document.status, document.writesStopped], ["unhealthy", true]);
        assert.equal(document.reason, error);
        await untilLogged(server, /there is another \w+ in the place of|shard-000\S* is gone/);
        await waitUntil("the log has the sentence", () => server.log().includes(error));
        await server.kill("SIGKILL");
      } finally {
        fs.rmSync(`${server.data}-elsewhere`, { recursive: true, force: true });
      }
    }));

test("missing files: a slab that is gone at the start answers 500 and never 404, until a key is written again", () =>
  withServer({ flags: ["-threads", "1"] }, async (server) => {
    await fill(server);
    assert.equal((await call(server.port, "DELETE", "/k1")).status, 200);
    await server.stop();
    fs.rmSync(slab(server, 2));
    await server.restart();
    await untilLogged(server, /slab 2 of shard 0 is damaged: the file is missing/);
    const document = await health(server);
    assert.deepEqual([document.status, document.missingSlabs, document.inDoubt], ["degraded", 1, true]);
    assert.match(document.reason, /1 slab files are missing/);
    assert.equal((await call(server.port, "GET", "/never")).status, 500);
    assert.equal((await call(server.port, "GET", "/k2")).status, 500, "a newer one may have been lost");
    assert.equal((await call(server.port, "GET", "/k1")).status, 404, "deleted later");
    assert.equal((await call(server.port, "GET", `/k${KEYS - 1}`)).status, 200);
    assert.equal((await call(server.port, "PUT", "/k2", { body: "again" })).status, 200);
    assert.equal((await call(server.port, "DELETE", "/never")).status, 200);
    await server.restart();
    assert.equal((await call(server.port, "GET", "/k2")).text, "again");
    assert.equal((await call(server.port, "GET", "/never")).status, 404);
    assert.equal((await call(server.port, "GET", "/k3")).status, 500);
  }));

test("missing files: a slab that is removed under a running node is named, and read as long as it is mapped", () =>
  withServer({ flags: ["-threads", "1"] }, async (server) => {
    await fill(server);
    assert.equal((await call(server.port, "GET", "/k0")).status, 200);
    fs.rmSync(slab(server, 1));
    await waitUntil("it is noticed", async () => (await health(server)).missingSlabs === 1);
    await untilLogged(server, /slab 1 of shard 0: its file was removed while the node runs/);
    assert.deepEqual(await read(server), { right: KEYS, damaged: 0 });
    assert.equal((await call(server.port, "PUT", "/new", { body: "new" })).status, 201);
    await server.restart();
    const { right, damaged } = await read(server);
    assert.ok(right > 0 && damaged > 0);
    assert.equal((await call(server.port, "GET", "/new")).text, "new");
  }));
