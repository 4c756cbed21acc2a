/**
 * Disks that are not what they were, under real processes: a directory put back from an old copy, one that was away while another served
 * under its URL, and copies of one empty directory. Nothing that was acknowledged may be gone, or come back.
 */
import assert from "node:assert/strict";
import { cpSync, existsSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { readClusterFile } from "../../src/cluster/layout/cluster-file.ts";
import { loadHash } from "../../src/util/hash.ts";
import { call } from "../rest/client.ts";
import { waitUntil } from "../rest/server.ts";
import { type Cluster, copyAtOneMoment, startCluster, type Worker } from "./workers.ts";

before(loadHash);

const RAW = { "Content-Type": "text/plain" };

// biome-ignore lint/suspicious/noExplicitAny: documents of any form
type Document = any;

const healthOf = async (worker: Worker): Promise<Document> =>
  JSON.parse((await call(worker.port, "GET", "/health")).text);
const votes = (worker: Worker) => async () =>
  (await healthOf(worker).catch(() => null))?.cluster?.voting === true;
const put = async (worker: Worker, path: string, body: string) =>
  (await call(worker.port, "PUT", path, { headers: RAW, body })).status;

describe("old disks: three workers", () => {
  let cluster: Cluster;
  let workers: readonly Worker[];
  before(async () => {
    cluster = await startCluster({ workers: 3 });
    workers = cluster.workers;
    for (const worker of workers) await waitUntil("it votes", votes(worker));
  });
  after(() => cluster.dispose());

  /** Writes what only the second and third worker acknowledge. */
  async function writeWithoutFirst(body: string): Promise<void> {
    const [, b] = workers;
    await waitUntil("a majority serves", async () => (await put(b, "/what-was-lost", body)) < 300);
  }

  test("old disks: a whole cluster that starts again serves as soon as its nodes have met", async () => {
    await Promise.all(workers.map((worker) => worker.kill("SIGKILL")));
    await Promise.all(workers.map((worker) => worker.start()));
    for (const worker of workers) await waitUntil("it votes", votes(worker), 20_000);
  });

  test("old disks: a directory put back from an old copy does not vote before it has synchronised", async () => {
    const [a, b, c] = workers;
    assert.equal((await put(b, "/what-was-lost", "old")) < 300, true);
    await c.kill("SIGTERM");
    cpSync(c.data, `${c.data}.copy`, { recursive: true });
    await c.start();
    await waitUntil("it votes", votes(c));
    await a.kill("SIGKILL");
    await writeWithoutFirst("new");
    // Whatever the restored one is told, it is told by the second, which knows its later start.
    await c.kill("SIGKILL");
    rmSync(c.data, { recursive: true });
    renameSync(`${c.data}.copy`, c.data);
    await c.start();
    await waitUntil("it is told", async () => c.log().includes("is not the newest of this node"));
    assert.equal(await votes(c)(), false);
    await a.start();
    await waitUntil("it has synchronised", votes(c), 90_000);
    for (const worker of workers)
      assert.equal((await call(worker.port, "GET", "/what-was-lost?consistency=quorum")).text, "new");
    // From now on it is the newest: it starts again without that.
    await c.kill("SIGTERM");
    const before = c.log().split("is not the newest of this node").length;
    await c.start();
    await waitUntil("it votes at once", votes(c), 20_000);
    assert.equal(c.log().split("is not the newest of this node").length, before);
  });

  test("old disks: a copy of the running directory, put back after a crash, does not vote with its log too short", async () => {
    const [a, b, c] = workers;
    await waitUntil("all vote", async () =>
      (await Promise.all(workers.map((w) => votes(w)()))).every(Boolean),
    );
    await copyAtOneMoment(c, `${c.data}.copy`);
    for (let number = 0; number < 50; number++) assert.ok((await put(c, `/short-${number}`, "x")) < 300);
    // Both others have been told how far its log was answered, or they have the writes alone.
    await waitUntil("the last mark is told", async () => {
      const { peers } = JSON.parse((await call(c.port, "GET", "/_stats")).text).cluster;
      return peers.every((peer: Document) => peer.marksTold === true);
    });
    await c.kill("SIGKILL");
    // Without the first it cannot synchronise, however late this looks.
    await a.kill("SIGKILL");
    rmSync(c.data, { recursive: true });
    renameSync(`${c.data}.copy`, c.data);
    const before = c.log().split("is not the newest of this node").length;
    await c.start();
    await waitUntil(
      "it is told",
      async () => c.log().split("is not the newest of this node").length > before,
    );
    assert.equal(await votes(c)(), false);
    await a.start();
    await waitUntil("it has synchronised", votes(c), 90_000);
    assert.equal((await call(b.port, "GET", "/short-49")).text, "x");
  });

  test("old disks: a disk that comes back after an empty one has served under its URL does not vote", async () => {
    const [a, , c] = workers;
    await c.kill("SIGTERM");
    renameSync(c.data, `${c.data}.away`);
    await c.start();
    await waitUntil("the empty one votes", votes(c), 90_000);
    assert.ok((await put(c, "/swapped", "meanwhile")) < 300);
    await c.kill("SIGTERM");
    await a.kill("SIGKILL");
    rmSync(c.data, { recursive: true });
    renameSync(`${c.data}.away`, c.data);
    await c.start();
    await waitUntil("it is told", async () =>
      c.log().includes("another data directory has served under its URL"),
    );
    assert.equal(await votes(c)(), false);
    await a.start();
    await waitUntil("it has synchronised", votes(c), 90_000);
    assert.equal((await call(c.port, "GET", "/swapped?consistency=one")).text, "meanwhile");
  });
});

test("old disks: a directory as it was before its node was a member of anything does not vote as a new one would", async () => {
  const cluster = await startCluster({ workers: 0 });
  try {
    /** Starts a worker that nobody takes in yet, and keeps a copy of what it then has. */
    const fresh = async (): Promise<Worker> => {
      const worker = await cluster.add();
      await waitUntil("it has its name", () => existsSync(path.join(worker.data, "CLUSTER")));
      await worker.kill("SIGTERM");
      cpSync(worker.data, `${worker.data}.fresh`, { recursive: true });
      return worker;
    };
    const putBack = async (worker: Worker): Promise<void> => {
      await worker.kill("SIGKILL");
      rmSync(worker.data, { recursive: true });
      renameSync(`${worker.data}.fresh`, worker.data);
      await worker.start();
    };
    await cluster.killMaster();
    const workers = [await fresh(), await fresh(), await fresh()];
    const later = await fresh();
    await cluster.startMaster();
    for (const worker of workers) await worker.start();
    for (const worker of workers) await waitUntil("it votes", votes(worker));
    for (let number = 0; number < 20; number++)
      await waitUntil("it is written", async () => (await put(workers[0], `/early-${number}`, "x")) < 300);

    // One that was there at the birth.
    const [first] = workers;
    await putBack(first);
    await waitUntil("it is told", () => /is not the newest of|counts on data/.test(first.log()));
    assert.equal(await votes(first)(), false);
    await waitUntil("it has synchronised", votes(first), 90_000);

    // One that came later.
    await later.start();
    await waitUntil("it has joined", async () => {
      const facts = JSON.parse((await call(later.port, "GET", "/_stats")).text).cluster;
      return facts.voting && !facts.moving && facts.epoch > 1;
    });
    await putBack(later);
    await waitUntil("it is told", () => /is not the newest of|counts on data/.test(later.log()));
    assert.equal(await votes(later)(), false);
    for (let number = 0; number < 20; number++)
      assert.equal((await call(first.port, "GET", `/early-${number}`)).text, "x");
  } finally {
    await cluster.dispose();
  }
});

test("old disks: a directory that knew the layout before its worker was taken in synchronises, and votes again", async () => {
  const cluster = await startCluster({ workers: 3 });
  try {
    const worker = await cluster.add();
    await waitUntil("it knows the layout", () => readClusterFile(worker.data)?.layout != null);
    await worker.kill("SIGTERM");
    assert.equal(
      readClusterFile(worker.data)?.layout?.nodes.some(({ url }) => url === worker.url),
      false,
    );
    const copy = `${worker.data}.copy`;
    cpSync(worker.data, copy, { recursive: true });
    // So the others and the master know of later starts than the copy will have.
    for (let starts = 0; starts < 3; starts++) {
      await worker.start();
      await waitUntil("it votes", votes(worker), 90_000);
      await waitUntil("its move is over", async () => {
        const facts = JSON.parse((await call(worker.port, "GET", "/_stats")).text).cluster;
        return !facts.moving && facts.epoch > 1;
      });
      await worker.kill("SIGKILL");
    }
    rmSync(worker.data, { recursive: true });
    renameSync(copy, worker.data);
    await worker.start();
    await waitUntil("it has synchronised", votes(worker), 90_000);
    assert.ok((await put(worker, "/again", "x")) < 300);
  } finally {
    await cluster.dispose();
  }
});
