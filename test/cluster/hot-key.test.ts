/** One key that clients of all nodes write at once: every write has its answer, and conditions hold. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { call } from "../rest/client.ts";
import { type Cluster, startCluster } from "./workers.ts";

const RAW = { "Content-Type": "text/plain" };
const CLIENTS = 12;
const WRITES = 25;

describe("hot key: three workers", () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await startCluster({ workers: 3 });
  });
  after(() => cluster.dispose());

  const everywhere = (run: (port: number, client: number) => Promise<void>): Promise<unknown> =>
    Promise.all(
      Array.from({ length: CLIENTS }, (_, client) => run(cluster.workers[client % 3].port, client)),
    );

  test("hot key: plain PUTs of all nodes are all done, each with a version of its own", async () => {
    const versions = new Set<string>();
    await everywhere(async (port, client) => {
      let last = "";
      for (let number = 0; number < WRITES; number++) {
        const answer = await call(port, "PUT", "/hot", { headers: RAW, body: `${client} ${number}` });
        assert.ok(answer.status === 200 || answer.status === 201, answer.text);
        const version = String(answer.headers.etag);
        assert.ok(version > last, "the versions that one client gets rise");
        last = version;
        versions.add(version);
      }
    });
    assert.equal(versions.size, CLIENTS * WRITES);
  });

  test("hot key: as many increments take effect as were acknowledged", async () => {
    await call(cluster.workers[0].port, "PUT", "/counter", { headers: RAW, body: "0" });
    let acknowledged = 0;
    await everywhere(async (port) => {
      for (let number = 0; number < WRITES; number++) {
        const read = await call(port, "GET", "/counter");
        assert.equal(read.status, 200);
        const headers = { ...RAW, "If-Match": String(read.headers.etag) };
        const body = String(Number(read.text) + 1);
        const { status, text } = await call(port, "PUT", "/counter", { headers, body });
        assert.ok(status === 200 || status === 412, text);
        if (status === 200) acknowledged++;
      }
    });
    assert.ok(acknowledged > 0);
    assert.equal((await call(cluster.workers[1].port, "GET", "/counter")).text, String(acknowledged));
  });

  test("hot key: of creates at all nodes at once one is done, round after round", async () => {
    for (let round = 0; round < 10; round++) {
      const statuses: number[] = [];
      await everywhere(async (port) => {
        statuses.push((await call(port, "POST", `/once-${round}`, { headers: RAW, body: "x" })).status);
      });
      assert.deepEqual(statuses.sort(), [201, ...Array.from({ length: CLIENTS - 1 }, () => 409)]);
    }
  });
});
