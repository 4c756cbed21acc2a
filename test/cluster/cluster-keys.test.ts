/** The cluster's own key, and clocks that are off beside one, with real processes. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { removeFolder, temporaryFolder, waitUntil } from "../rest/server.ts";
import { callPatiently as call } from "./patience.ts";
import { type Cluster, startCluster } from "./workers.ts";

const OLD = "the-old-key-of-the-cluster";
const NEW = "the-new-key-of-the-cluster";
const CLIENT = "a-key-of-clients";
const HEADERS = { Authorization: `Bearer ${CLIENT}`, "Content-Type": "text/plain" };

/** Writes and reads at all nodes, all the while, until stopped; answers how many, and what went wrong. */
function load(cluster: Cluster): { stop: () => Promise<{ done: number; failures: string[] }> } {
  let over = false;
  let done = 0;
  const failures: string[] = [];
  const run = async (port: number, name: string): Promise<void> => {
    for (let count = 0; !over; count++) {
      const value = `${name} ${count}`;
      const put = await call(port, "PUT", `/${name}`, { headers: HEADERS, body: value });
      const got = await call(port, "GET", `/${name}`, { headers: HEADERS });
      done++;
      if (put.status >= 300 || got.text !== value)
        failures.push(`${put.status} ${put.text} ${got.status} ${got.text}`);
    }
  };
  const runs = cluster.workers.map(({ port }, index) => run(port, `key-${index}`));
  return {
    async stop() {
      over = true;
      await Promise.all(runs);
      return { done, failures };
    },
  };
}

describe("the cluster's own key", () => {
  test("is exchanged node by node without a pause, and clients' keys are none of it", async () => {
    const folder = temporaryFolder();
    const file = path.join(folder, "cluster-key");
    const write = (...keys: string[]) => fs.writeFileSync(file, `${keys.join("\n")}\n`, { mode: 0o600 });
    write(OLD);
    const env = { MINIVAULT_CLUSTER_KEY_FILE: file };
    const cluster = await startCluster({ workers: 3, key: CLIENT, env });
    try {
      const { workers, masterPort } = cluster;
      const told = (log: string) => log.split(`${file} (in force`).length - 1;
      const step = async (count: number, ...keys: string[]): Promise<void> => {
        write(...keys);
        for (const worker of workers) {
          worker.signal("SIGHUP");
          await waitUntil("a worker has the keys", () => told(worker.log()) === count);
        }
        cluster.signalMaster("SIGHUP");
        await waitUntil("the master has the keys", () => told(cluster.masterLog()) === count);
      };
      const running = load(cluster);
      await step(1, OLD, NEW);
      await step(2, NEW, OLD);
      await step(3, NEW);
      const { done, failures } = await running.stop();
      assert.deepEqual(failures, []);
      assert.ok(done > 0);
      // The master heard all of them under the new key.
      const silent = async () => {
        const { nodes } = (await call(masterPort, "GET", "/nodes", { headers: HEADERS })).json();
        return nodes.filter(({ state }: { state: string }) => state !== "up").length;
      };
      await waitUntil("all workers are up at the master", async () => (await silent()) === 0);
      for (const worker of workers) assert.doesNotMatch(worker.log(), /a request between nodes was refused/);
      // Another key of clients needs no restart any more, and what clients send moves no node.
      const report = JSON.stringify({ url: "http://10.9.9.9:1" });
      const heartbeat = await call(masterPort, "POST", "/heartbeat", { headers: HEADERS, body: report });
      assert.equal(heartbeat.status, 401);
      // A file that is wrong changes nothing.
      write("short");
      workers[0].signal("SIGHUP");
      await waitUntil("it says so", () => workers[0].log().includes("nothing has changed"));
      const put = await call(workers[0].port, "PUT", "/after", { headers: HEADERS, body: "x" });
      assert.equal(put.status, 201);
    } finally {
      await cluster.dispose();
      removeFolder(folder);
    }
  });

  test("a node whose clock is hours off speaks with the others all the same, also after a restart", async () => {
    const cluster = await startCluster({ workers: 3, key: CLIENT, clocks: true });
    try {
      const { workers } = cluster;
      for (const offMs of [3 * 3_600_000, -3 * 3_600_000]) {
        workers[1].setClock(offMs);
        await workers[1].kill("SIGTERM");
        await workers[1].start();
        await cluster.ready();
        const skewed = async () => {
          const health = (await call(workers[1].port, "GET", "/health")).json();
          return Math.abs(health.cluster?.clock?.skewMs ?? 0);
        };
        await waitUntil("it sees that its clock is off", async () => (await skewed()) > 3_000_000);
        for (const { port, number } of workers) {
          const name = `/at-${number}-${offMs}`;
          const put = await call(port, "PUT", name, { headers: HEADERS, body: "x" });
          assert.equal(put.status, 201, put.text);
          for (const other of workers)
            assert.equal((await call(other.port, "GET", name, { headers: HEADERS })).text, "x");
        }
        await waitUntil("all see each other", async () => {
          const healths = await Promise.all(workers.map(({ port }) => call(port, "GET", "/health")));
          return healths.every((health) => health.json().nodes === 3);
        });
      }
    } finally {
      await cluster.dispose();
    }
  });
});
