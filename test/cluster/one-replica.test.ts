/** `?consistency=one` with one node of three left: it answers for what it has, and for what it does not have. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "../rest/client.ts";
import { waitUntil } from "../rest/server.ts";
import { startCluster } from "./workers.ts";

const TEXT = { "Content-Type": "text/plain" };

test("consistency=one: the last of three nodes answers 200 for what it has, 404 for what is deleted or never was", async (t) => {
  const cluster = await startCluster({ workers: 3 });
  t.after(() => cluster.dispose());
  const [last, ...others] = cluster.workers;
  const status = async (key: string, query = "") => (await call(last.port, "GET", `/${key}${query}`)).status;
  for (const key of ["there", "deleted"])
    assert.equal((await call(last.port, "PUT", `/${key}`, { headers: TEXT, body: "v" })).status, 201);
  assert.equal((await call(last.port, "DELETE", "/deleted")).status, 200);
  for (const other of others) await other.kill();
  await waitUntil("it knows that it is alone", async () => (await status("there")) === 503);
  for (const [key, expected] of [
    ["there", 200],
    ["deleted", 404],
    ["never", 404],
  ] as const) {
    assert.equal(await status(key, "?consistency=one"), expected, key);
    assert.equal(await status(key), 503, `${key}, of a majority`);
  }
});
