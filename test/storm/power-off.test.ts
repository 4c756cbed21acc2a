/** A power loss of all machines of a cluster with `-sync os`: each waits half a minute for somebody who knows better, and there is nobody. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { startCluster, type Worker } from "../cluster/workers.ts";
import { call } from "../rest/client.ts";
import { waitUntil } from "../rest/server.ts";

const votes = (worker: Worker) => async () => {
  const health = await call(worker.port, "GET", "/health").catch(() => null);
  return health !== null && JSON.parse(health.text).cluster?.voting === true;
};

test("power off: of all at once, they go on with what they have, and say so", async () => {
  const cluster = await startCluster({ workers: 3, flags: ["-sync", "os"] });
  const { workers } = cluster;
  try {
    const headers = { "Content-Type": "text/plain" };
    const put = await call(workers[1].port, "PUT", "/last", { headers, body: "acknowledged" });
    assert.equal(put.status, 201);
    for (const worker of workers) await waitUntil("it votes", votes(worker));
    await Promise.all(workers.map((worker) => worker.kill("SIGKILL")));
    for (const worker of workers) worker.reboot();
    await Promise.all(workers.map((worker) => worker.start()));
    for (const worker of workers) {
      await waitUntil("it votes", votes(worker), 180_000);
      assert.match(worker.log(), /may be lost|may lack/);
    }
    await waitUntil("all serve", async () => {
      const answers = await Promise.all(workers.map(({ port }) => call(port, "GET", "/last")));
      return answers.every(({ text }) => text === "acknowledged");
    });
  } finally {
    await cluster.dispose();
  }
});
