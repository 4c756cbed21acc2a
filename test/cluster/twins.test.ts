/**
 * Two processes of one identity, with real processes: a copy of a running worker's directory is started under its URL. Whoever was there
 * first is fenced: it says so, and serves nobody any more.
 */
import assert from "node:assert/strict";
import { cpSync, existsSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { freePort } from "../../native-bench/processes.ts";
import { call } from "../rest/client.ts";
import { launch, untilLogged, waitUntil } from "../rest/server.ts";
import { copyAtOneMoment, startCluster, type Worker } from "./workers.ts";

const RAW = { "Content-Type": "text/plain" };
const HEARTBEAT_MS = 1000;

test("twins: the earlier process of a node is fenced as soon as the others know the later one, and serves nobody", async (t) => {
  const cluster = await startCluster({ workers: 3 });
  const [a, b, c] = cluster.workers;
  const statusOf = async (worker: Worker, method: string): Promise<number> =>
    (await call(worker.port, method, "/k", method === "PUT" ? { headers: RAW, body: "x" } : { headers: RAW }))
      .status;
  const healthOf = async (port: number) => {
    const reply = await call(port, "GET", "/health").catch(() => null);
    return reply === null ? null : { status: reply.status, ...JSON.parse(reply.text) };
  };
  const fencedMs = (log: string): number => {
    const line = log.split("\n").find((text) => text.includes("fenced: another process serves as this node"));
    return line === undefined ? Number.NaN : Date.parse(JSON.parse(line).time);
  };
  try {
    assert.equal(await statusOf(c, "PUT"), 201);
    const data = `${c.data}.twin`;
    await copyAtOneMoment(c, data);
    const port = await freePort();
    const twin = await launch([
      ...["-port", String(port), "-host", "127.0.0.1", "-data", data, "-public-url", c.url],
      ...["-master", `http://127.0.0.1:${cluster.masterPort}`],
    ]);
    try {
      await waitUntil("the earlier one is fenced", () => !Number.isNaN(fencedMs(c.log())), 60_000);
      // The later one was heard of when it asked the others; the earlier one's next pulse told it.
      await untilLogged(twin, /listening on/);
      const listening = twin
        .output()
        .split("\n")
        .find((line) => line.includes("listening on"));
      const tookMs = fencedMs(c.log()) - Date.parse(JSON.parse(String(listening)).time);
      t.diagnostic(`fenced ${tookMs} ms after the later one listened (a heartbeat is ${HEARTBEAT_MS} ms)`);
      // It has stopped: for clients, for other nodes, and in what it says of itself.
      const health = await healthOf(c.port);
      assert.equal(health?.status === 200, false, JSON.stringify(health));
      assert.match(JSON.stringify(health), /another process serves as this node/);
      for (const method of ["PUT", "GET", "DELETE"])
        assert.ok((await statusOf(c, method)) >= 500, `${method} at the fenced one`);
      assert.equal((await call(c.port, "GET", "/k?consistency=one")).status >= 500, true);
      // The two others are a majority, and go on.
      for (const worker of [a, b])
        await waitUntil("the others serve", async () => (await statusOf(worker, "PUT")) < 300);
      assert.equal((await call(b.port, "GET", "/k")).text, "x");
      // A fenced process stays fenced while it lives, whatever becomes of the later one.
      twin.child.kill("SIGKILL");
      await twin.ended;
      assert.ok((await statusOf(c, "PUT")) >= 500);
    } finally {
      twin.child.kill("SIGKILL");
      await twin.ended;
    }
  } finally {
    await cluster.dispose();
  }
});

test("twins: an empty worker that was given the URL of another one waits while that one answers there, and fences nobody", async () => {
  const cluster = await startCluster({ workers: 3 });
  const [, , c] = cluster.workers;
  const healthOf = async (port: number) => {
    const { status, text } = await call(port, "GET", "/health");
    return { code: status, ...JSON.parse(text) };
  };
  try {
    assert.equal((await call(c.port, "PUT", "/k", { headers: RAW, body: "x" })).status, 201);
    const port = await freePort();
    const stranger = await launch([
      ...["-port", String(port), "-host", "127.0.0.1", "-data", `${c.data}.stranger`, "-public-url", c.url],
      ...["-master", `http://127.0.0.1:${cluster.masterPort}`],
    ]);
    try {
      await untilLogged(stranger, /another worker answers under/);
      const waiting = await healthOf(port);
      assert.deepEqual(
        [waiting.code, waiting.status, waiting.reason.includes(`another worker answers under ${c.url}`)],
        [503, "joining", true],
        JSON.stringify(waiting),
      );
      assert.doesNotMatch(stranger.output(), /registered with the master/);
      assert.equal((await call(c.port, "GET", "/k")).text, "x");
      assert.doesNotMatch(c.log(), /fenced/);
      // Its disk may be lost, and the machine be a new one: then it comes in its place.
      await c.kill();
      await untilLogged(stranger, /registered with the master/);
    } finally {
      stranger.child.kill("SIGKILL");
      await stranger.ended;
    }
  } finally {
    await cluster.dispose();
  }
});

test("twins: a copy of a member's directory under another URL is not taken in, serves no client, and draws no version", async () => {
  const cluster = await startCluster({ workers: 3 });
  const healthOf = async (port: number) => {
    const reply = await call(port, "GET", "/health").catch(() => null);
    return reply === null ? null : JSON.parse(reply.text);
  };
  try {
    const d = await cluster.add();
    // A copy from before it was a member draws the versions that the member would.
    await waitUntil("it has its name", () => existsSync(path.join(d.data, "CLUSTER")));
    await d.kill("SIGTERM");
    cpSync(d.data, `${d.data}.twin`, { recursive: true });
    await d.start();
    await waitUntil("it has joined", async () => (await healthOf(d.port))?.cluster?.voting === true);
    const port = await freePort();
    const start = () =>
      launch([
        ...["-port", String(port), "-host", "127.0.0.1", "-data", `${d.data}.twin`],
        ...["-public-url", `http://127.0.0.1:${port}`, "-master", `http://127.0.0.1:${cluster.masterPort}`],
      ]);
    let twin = await start();
    try {
      const isRefused = async (): Promise<void> => {
        await waitUntil("it is refused", async () =>
          (await healthOf(port))?.reason?.includes(`is a copy of that of ${d.url}`),
        );
        await waitUntil(
          "it knows the layout",
          async () => JSON.parse((await call(port, "GET", "/_peer/layout")).text).layout !== null,
        );
        for (const method of ["PUT", "GET", "DELETE"]) {
          const reply = await call(port, method, "/k", method === "PUT" ? { headers: RAW, body: "x" } : {});
          assert.equal(reply.status, 503, `${method}: ${reply.text}`);
        }
        assert.equal((await call(port, "GET", "/?list")).status, 503);
      };
      await isRefused();
      // Also while the member is away: it may come back.
      await d.kill();
      const stateOf = async () =>
        JSON.parse((await call(cluster.masterPort, "GET", "/nodes")).text).nodes.find(
          ({ url }: { url: string }) => url === d.url,
        )?.state;
      await waitUntil("the member is down", async () => (await stateOf()) === "down", 60_000);
      twin.child.kill("SIGKILL");
      await twin.ended;
      twin = await start();
      await isRefused();
    } finally {
      twin.child.kill("SIGKILL");
      await twin.ended;
    }
  } finally {
    await cluster.dispose();
  }
});
