/**
 * `-sync os` in a cluster, with real processes: what a replica acknowledged last may be gone when the machine goes down under it, and then it
 * does not vote before it has made up for it. The boot ids of the machines are files.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { call } from "../rest/client.ts";
import { waitUntil } from "../rest/server.ts";
import { type Cluster, copyAtOneMoment, startCluster, type Worker } from "./workers.ts";

const RAW = { "Content-Type": "text/plain" };
const MAY_LACK = "may lack what it acknowledged last";

describe("power off: three workers with -sync os", () => {
  let cluster: Cluster;
  const votes = (worker: Worker) => async () => {
    const health = await call(worker.port, "GET", "/health").catch(() => null);
    return health !== null && JSON.parse(health.text).cluster?.voting === true;
  };
  const doubts = (worker: Worker): number => worker.log().split(MAY_LACK).length - 1;
  before(async () => {
    cluster = await startCluster({ workers: 3, flags: ["-sync", "os"] });
    for (const worker of cluster.workers) await waitUntil("it votes", votes(worker));
  });
  after(() => cluster.dispose());

  test("power off: after a crash of the process it votes at once, and after a stop in order, whatever the boot", async () => {
    const [, , c] = cluster.workers;
    await c.kill("SIGKILL");
    await c.start();
    await waitUntil("it votes", votes(c));
    await c.kill("SIGTERM");
    c.reboot();
    await c.start();
    await waitUntil("it votes", votes(c));
    assert.equal(doubts(c), 0);
  });

  test("power off: after one of the machine it takes over what it may lack, then votes", async () => {
    const [a, b, c] = cluster.workers;
    const copy = `${c.data}.copy`;
    await copyAtOneMoment(c, copy);
    // Acknowledged by the third and one other; the first never has it.
    await a.kill("SIGKILL");
    const put = async () =>
      (await call(b.port, "PUT", "/last", { headers: RAW, body: "acknowledged" })).status;
    await waitUntil("a majority serves", async () => (await put()) < 300);
    await c.kill("SIGKILL");
    // What the disk had of it: what is said to the others of its log may be as short.
    const run = fs.readFileSync(path.join(c.data, "RUN"));
    fs.rmSync(c.data, { recursive: true });
    fs.renameSync(copy, c.data);
    fs.writeFileSync(path.join(c.data, "RUN"), run);
    c.reboot();
    await a.start();
    await c.start();
    await waitUntil("it knows that it may lack something", async () => doubts(c) > 0 || oldCopy(c));
    assert.equal(await votes(c)(), false);
    await waitUntil("it has synchronised", votes(c), 120_000);
    const read = await call(c.port, "GET", "/last?consistency=one");
    assert.equal(read.text, "acknowledged");
    // Settled: it starts again without that.
    await c.kill("SIGKILL");
    const before = doubts(c);
    await c.start();
    await waitUntil("it votes", votes(c));
    assert.equal(doubts(c), before);
  });
});

/** Others may have been told of a longer log, too. */
function oldCopy(worker: Worker): boolean {
  return worker.log().includes("is not the newest of this node");
}
