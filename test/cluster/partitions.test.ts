/**
 * A cluster of real processes that is born with more partitions than the fewest: what is written is read and listed through each node, also
 * when a fourth node has taken its part over.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { call, closeConnections } from "../rest/client.ts";
import { patiently } from "./patience.ts";
import { type Cluster, startCluster, type Worker } from "./workers.ts";

const PARTITIONS = 4096;
const KEYS = 100;
const MOVED_MS_MAX = 180_000;

interface Layout {
  epoch: number;
  partitions: number;
  nodes: { url: string }[];
  previous: Layout | null;
}

async function layoutOf({ masterPort }: Cluster): Promise<Layout> {
  const reply = await call(masterPort, "GET", "/layout");
  return (reply.json() as { layout: Layout }).layout;
}

async function put({ port }: Worker, key: string, value: string): Promise<void> {
  const { status, text } = await patiently(port, "PUT", `/${key}`, value);
  assert.ok(status === 200 || status === 201, text);
}

/** All of it is read through a node, and listed, and nothing else. */
async function check({ port }: Worker, values: ReadonlyMap<string, string>): Promise<void> {
  await Promise.all(
    [...values].map(async ([key, value]) => {
      const reply = await patiently(port, "GET", `/${key}`);
      assert.deepEqual([reply.status, reply.text], [200, value], key);
    }),
  );
  const reply = await patiently(port, "GET", "/_kv/k?list&limit=1000");
  const { keys } = reply.json() as { keys: { key: string }[] };
  assert.deepEqual(
    keys.map(({ key }) => key),
    [...values.keys()].sort(),
  );
}

test(`cluster: born with ${PARTITIONS} partitions it writes, reads, lists and moves`, async () => {
  const cluster = await startCluster({ workers: 3, partitions: PARTITIONS, direct: true });
  try {
    await cluster.ready();
    const { workers } = cluster;
    assert.equal((await layoutOf(cluster)).partitions, PARTITIONS);
    const health = (await call(workers[0].port, "GET", "/health")).json() as {
      cluster?: { partitions?: number };
    };
    assert.equal(health.cluster?.partitions, PARTITIONS);
    const values = new Map<string, string>();
    for (let index = 0; index < KEYS; index++) {
      const key = `k${index}`;
      await put(workers[index % 3], key, `first ${index}`);
      values.set(key, `first ${index}`);
    }
    assert.equal((await patiently(workers[1].port, "DELETE", "/k0")).status, 200);
    values.delete("k0");
    await check(workers[2], values);

    const fourth = await cluster.add();
    for (let index = 1; index < KEYS; index += 7) {
      await put(workers[index % 3], `k${index}`, `second ${index}`);
      values.set(`k${index}`, `second ${index}`);
    }
    const deadline = performance.now() + MOVED_MS_MAX;
    for (let layout = await layoutOf(cluster); ; layout = await layoutOf(cluster)) {
      if (layout.nodes.length === 4 && layout.previous === null) break;
      assert.ok(performance.now() < deadline, `it does not end: ${fourth.log()}`);
      await sleep(100);
    }
    await cluster.ready();
    for (const worker of [workers[0], fourth]) await check(worker, values);
    const listed = (await call(cluster.masterPort, "GET", "/nodes")).json() as {
      partitions: number;
      nodes: { url: string; copies: number }[];
    };
    assert.equal(listed.partitions, PARTITIONS);
    assert.equal(
      listed.nodes.reduce((sum, { copies }) => sum + copies, 0),
      3 * PARTITIONS,
    );
  } finally {
    closeConnections();
    await cluster.dispose();
  }
});
