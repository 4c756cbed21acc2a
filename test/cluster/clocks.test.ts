/** Three real workers whose clocks are set, under way and over restarts: what is there can be read and written, and clocks that are off are named. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { waitUntil } from "../rest/server.ts";
import { callPatiently as call } from "./patience.ts";
import { type Cluster, startCluster, type Worker } from "./workers.ts";

const HOUR_MS = 3_600_000;
const RAW = { "Content-Type": "text/plain" };

describe("clocks: three workers", () => {
  let cluster: Cluster;
  let number = 0;

  before(async () => {
    cluster = await startCluster({ workers: 3, clocks: true });
  });
  after(() => cluster.dispose());

  const put = (worker: Worker, key: string, body: string) =>
    call(worker.port, "PUT", `/${key}`, { headers: RAW, body });

  /** What the node says of its clock. */
  const clockOf = async (worker: Worker): Promise<{ status: string; skewMs: number }> =>
    (await call(worker.port, "GET", "/health")).json().cluster.clock;

  const seen = (worker: Worker, status: string, least: number, most: number) =>
    waitUntil(`worker ${worker.number} sees its clock`, async () => {
      const clock = await clockOf(worker);
      return clock.status === status && clock.skewMs >= least && clock.skewMs <= most;
    });

  /** Every worker writes and reads a key that is there, a new one and one of its own, and deletes. */
  const works = async (keys: readonly string[]): Promise<void> => {
    for (const worker of cluster.workers) {
      const text = `text ${++number}`;
      for (const key of [...keys, `new-${number}`]) {
        const written = await put(worker, key, text);
        assert.ok([200, 201].includes(written.status), `PUT ${key}: ${written.text}`);
        for (const reader of cluster.workers)
          assert.equal((await call(reader.port, "GET", `/${key}`)).text, text, key);
      }
      const deleted = await call(worker.port, "DELETE", `/new-${number}`);
      assert.deepEqual(deleted.json(), { success: true, deleted: true });
      const created = await call(worker.port, "POST", `/new-${number}`, { headers: RAW, body: text });
      assert.equal(created.status, 201, created.text);
    }
  };

  test("clocks: one node an hour ahead, or minutes behind, serves all the same, and says that it is off", async () => {
    const [off] = cluster.workers;
    assert.equal((await put(cluster.workers[1], "one", "first")).status, 201);
    for (const offMs of [HOUR_MS, -120_000]) {
      off.setClock(offMs);
      await seen(off, "off", offMs - 2000, offMs + 2000);
      await works(["one"]);
      await waitUntil("it is logged", () => off.log().includes("the clock of this node is off"));
    }
    off.setClock(0);
    await seen(off, "right", -500, 500);
    await waitUntil("it is logged", () => off.log().includes("the clock of this node is right again"));
    await works(["one"]);
    await waitUntil("another node knows that it is right", async () => {
      const { cluster: facts } = (await call(cluster.workers[1].port, "GET", "/_stats")).json();
      const peer = facts.peers.find(({ url }: { url: string }) => url === off.url);
      return Math.abs(peer.clock?.skewMs ?? Infinity) < 500;
    });
  });

  test("clocks: all nodes eight hours ahead, and back, under way", async () => {
    for (const offMs of [8 * HOUR_MS, 0]) {
      for (const worker of cluster.workers) worker.setClock(offMs);
      for (const worker of cluster.workers) await seen(worker, "right", -500, 500);
      await works(["one", "ahead"]);
    }
  });

  test("clocks: all nodes eight hours ahead, and back over a restart of all", async () => {
    for (const worker of cluster.workers) worker.setClock(8 * HOUR_MS);
    for (const worker of cluster.workers) await seen(worker, "right", -500, 500);
    await works(["one", "restarted"]);
    for (const worker of cluster.workers) {
      await worker.kill("SIGTERM");
      worker.setClock(0);
    }
    for (const worker of cluster.workers) await worker.start();
    await cluster.ready();
    await works(["one", "ahead", "restarted"]);
  });
});
