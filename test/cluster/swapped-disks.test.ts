/**
 * Disks that are exchanged under workers that have no master, with real processes: an empty one serves for a while in place of one that was
 * not mounted, which then comes back.
 */
import assert from "node:assert/strict";
import { renameSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { freePort } from "../../native-bench/processes.ts";
import { call } from "../rest/client.ts";
import { launch, type Program, removeFolder, temporaryFolder, waitUntil } from "../rest/server.ts";

const RAW = { "Content-Type": "text/plain" };
const REJOIN_MS_MAX = 120_000;

test("swapped disks: without a master, a disk that comes back after another has served does not vote before it is whole", async () => {
  const folder = temporaryFolder();
  const ports = [await freePort(), await freePort(), await freePort()];
  const urls = ports.map((port) => `http://127.0.0.1:${port}`);
  const running = new Map<number, Program>();
  const logs = ["", "", ""];
  const data = (index: number) => path.join(folder, `w${index}`);
  const start = async (index: number): Promise<void> => {
    const others = urls.filter((url) => url !== urls[index]).join();
    const words = ["-port", String(ports[index]), "-host", "127.0.0.1", "-public-url", urls[index]];
    running.set(index, await launch([...words, "-data", data(index), "-volumes", others]));
  };
  const stop = async (index: number): Promise<void> => {
    const program = running.get(index);
    if (program === undefined) return;
    program.child.kill("SIGTERM");
    await program.ended;
    logs[index] += program.output();
    running.delete(index);
  };
  const log = (index: number) => logs[index] + (running.get(index)?.output() ?? "");
  const votes = (index: number) => async () => {
    const health = await call(ports[index], "GET", "/health").catch(() => null);
    return health !== null && JSON.parse(health.text).cluster?.voting === true;
  };
  const put = async (value: string) =>
    (await call(ports[0], "PUT", "/k", { headers: RAW, body: value }).catch(() => null))?.status ?? 0;
  try {
    await Promise.all([0, 1, 2].map(start));
    for (const index of [0, 1, 2]) await waitUntil("it votes", votes(index), REJOIN_MS_MAX);
    assert.equal(await put("old"), 201);
    await stop(2);
    renameSync(data(2), `${data(2)}.unmounted`);
    await start(2);
    await waitUntil("the empty disk votes", votes(2), REJOIN_MS_MAX);
    // Acknowledged by the first, and the third with its other disk.
    await stop(1);
    await waitUntil("a majority serves", async () => (await put("new")) === 200);
    await start(1);
    await waitUntil("all vote", votes(1), REJOIN_MS_MAX);
    await stop(2);
    renameSync(data(2), `${data(2)}.other`);
    renameSync(`${data(2)}.unmounted`, data(2));
    await start(2);
    await waitUntil("it is told", () => log(2).includes("another data directory has served under its URL"));
    assert.equal(await votes(2)(), false);
    await waitUntil("it has synchronised", votes(2), REJOIN_MS_MAX);
    assert.equal((await call(ports[2], "GET", "/k?consistency=one")).text, "new");
    for (const port of ports) assert.equal((await call(port, "GET", "/k")).text, "new");
  } finally {
    for (const { child, ended } of running.values()) {
      child.kill("SIGKILL");
      await ended;
    }
    removeFolder(folder);
  }
});
