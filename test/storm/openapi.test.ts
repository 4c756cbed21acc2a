/** Requests made from the document of the API, many of them, to a node and to nodes of a cluster. */
import { after, test } from "node:test";
import { startCluster } from "../cluster/workers.ts";
import { fuzzApi } from "../fuzz/api-fuzz.ts";
import { closeConnections } from "../rest/client.ts";
import { removeFolder, temporaryFolder, withServer } from "../rest/server.ts";

const folder = temporaryFolder();
after(() => {
  closeConnections();
  removeFolder(folder);
});

test("a worker: 60,000 requests", (t) =>
  withServer({ sync: "os" }, async ({ port }) => {
    await fuzzApi(t, { port, folder }, 60_000);
  }));

test("a node of three, of which one is killed in between: 20,000 requests", async (t) => {
  const cluster = await startCluster({ workers: 3 });
  try {
    const [{ port }, , other] = cluster.workers;
    await cluster.ready();
    await fuzzApi(t, { port, folder }, 10_000);
    await other.kill();
    await fuzzApi(t, { port, folder }, 10_000);
  } finally {
    await cluster.dispose();
  }
});
