/** Lists under chaos, the short form. */
import { after, before, test } from "node:test";
import { randomSeed } from "../random.ts";
import { closeConnections } from "../rest/client.ts";
import { listChaos } from "./list-chaos.ts";
import { type Cluster, startCluster } from "./workers.ts";

let cluster: Cluster;

before(async () => {
  cluster = await startCluster({ workers: 3 });
});
after(async () => {
  await cluster.dispose();
  closeConnections();
});

test("cluster lists: keys that stay are in every list once, while nodes fail", async (t) => {
  const result = await listChaos(cluster, { seed: randomSeed(t), ms: 4000 });
  t.diagnostic(JSON.stringify(result));
});
