import assert from "node:assert/strict";
import { after, test } from "node:test";
import { startCluster } from "../cluster/workers.ts";
import { call, closeConnections } from "./client.ts";
import { hasProc, memoryLine, processMemory } from "./process-memory.ts";
import { withServer } from "./server.ts";
import { crowdOfSlowUploads } from "./slow-uploads.ts";

const MIB = 1024 * 1024;

after(closeConnections);

test("slow uploads: 90 that stand still do not keep others out, hold bounded memory, and are stored whole in the end", async (t) => {
  await withServer({}, async ({ port, pid }) => {
    const start = hasProc ? processMemory(pid) : null;
    await crowdOfSlowUploads(port, 90, async () => {
      const { queues } = (await call(port, "GET", "/_stats")).json();
      assert.equal(queues.requestsInFlight, 90);
      assert.ok(queues.receivingBytes <= 64 * MIB, String(queues.receivingBytes));
      if (start !== null) {
        const now = processMemory(pid);
        t.diagnostic(`MiB: ${memoryLine(start, now)}`);
        assert.ok(now.own - start.own < 192 * MIB, memoryLine(start, now));
      }
    });
    const { queues } = (await call(port, "GET", "/_stats")).json();
    assert.deepEqual([queues.requestsInFlight, queues.receivingBytes], [0, 0]);
  });
});

test("slow uploads: 24 through one node of a cluster do not keep others out, and are stored whole in the end", async () => {
  const cluster = await startCluster({ workers: 3, regions: ["eu", "us", "asia"] });
  try {
    await crowdOfSlowUploads(cluster.workers[0].port, 24, () => {}, cluster.workers[1].port);
  } finally {
    await cluster.dispose();
  }
});
