/** `minivault lock`: one holder at a time, tokens that rise, and a command that does not outlive its lease. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import http from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { call } from "../rest/client.ts";
import { PROGRAM, removeFolder, type Server, startServer, temporaryFolder } from "../rest/server.ts";

let server: Server;
let folder: string;
const children = new Set<ChildProcess>();
before(async () => {
  server = await startServer();
  folder = temporaryFolder();
});
after(async () => {
  for (const child of children) child.kill("SIGKILL");
  await server.dispose();
  removeFolder(folder);
});

interface Ended {
  status: number | null;
  out: string;
  err: string;
}

function lock(words: string[], url = server.url): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(process.execPath, [PROGRAM, "lock", ...words], {
    env: { ...process.env, MINIVAULT_URL: url },
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.add(child);
  const ended: Ended = { status: null, out: "", err: "" };
  child.stdout?.on("data", (text) => {
    ended.out += text;
  });
  child.stderr?.on("data", (text) => {
    ended.err += text;
  });
  return {
    child,
    ended: new Promise((resolve) =>
      child.once("close", (status) => {
        children.delete(child);
        resolve({ ...ended, status });
      }),
    ),
  };
}

async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) await sleep(20);
}

const NODE = process.execPath;
const TOKEN = "process.stdout.write(process.env.MINIVAULT_LOCK_TOKEN)";
const keyStatus = async (key: string): Promise<number> => (await call(server.port, "GET", `/${key}`)).status;

test("lock: the command's status and words are its own, and its token rises", async () => {
  const tokens: string[] = [];
  for (let i = 0; i < 3; i++) {
    const { status, out, err } = await lock(["a", "--", NODE, "-e", TOKEN]).ended;
    assert.deepEqual([status, err], [0, ""]);
    assert.match(out, /^[0-9a-f]{32}$/);
    tokens.push(out);
    assert.equal(await keyStatus("a"), 404, "it is given back");
  }
  assert.deepEqual(tokens, [...tokens].sort());
  assert.equal((await lock(["a", "-ttl", "5", "--", NODE, "-e", "process.exit(7)"]).ended).status, 7);
  const helped = await lock(["a", "--", NODE, "--help"]).ended;
  assert.match(helped.out, /Usage: node/);
  assert.equal((await lock(["a", "--", path.join(folder, "nothing")]).ended).status, 1);
  // Longer than any timer.
  const long = await lock(["a", "-ttl", "90d", "--", NODE, "-e", `setTimeout(() => ${TOKEN}, 100)`]).ended;
  assert.deepEqual([long.status, long.err], [0, ""]);
  for (const words of [["a"], ["a", "-ttl", "soon", "--", NODE], ["a", "-ttl", "10ms", "--", NODE]])
    assert.equal((await lock(words).ended).status, 2);
});

test("lock: of two one runs, the other is told who, or waits", async () => {
  const file = path.join(folder, "holds");
  const hold = `require("fs").writeFileSync(${JSON.stringify(file)}, ""); setInterval(() => {}, 1000)`;
  const first = lock(["b", "-ttl", "2", "--", NODE, "-e", hold]);
  await until(() => existsSync(file));
  // Longer than the lease: it is renewed meanwhile.
  const begunMs = Date.now();
  while (Date.now() - begunMs < 4000) {
    assert.equal(await keyStatus("b"), 200);
    await sleep(100);
  }
  const refused = await lock(["b", "--", NODE, "-e", TOKEN]).ended;
  assert.equal(refused.status, 1);
  assert.match(refused.err, new RegExp(`b is held by process ${first.child.pid} of `));
  const waiting = lock(["b", "-wait", "10m", "--", NODE, "-e", TOKEN]);
  first.child.kill("SIGTERM");
  assert.equal((await first.ended).status, 128 + 15);
  const second = await waiting.ended;
  assert.equal(second.status, 0);
  assert.match(second.out, /^[0-9a-f]{32}$/);
});

test("lock: it outlives a holder that is killed by its time, and who loses it has its command ended", async () => {
  const file = path.join(folder, "pid");
  const hold = `require("fs").writeFileSync(${JSON.stringify(file)}, String(process.pid)); setInterval(() => {}, 1000)`;
  const killed = lock(["c", "-ttl", "1", "--", NODE, "-e", hold]);
  await until(() => existsSync(file) && readFileSync(file, "utf8") !== "");
  killed.child.kill("SIGKILL");
  process.kill(Number(readFileSync(file, "utf8")), "SIGKILL");
  await killed.ended;
  const next = await lock(["c", "-wait", "10m", "--", NODE, "-e", TOKEN]).ended;
  assert.equal(next.status, 0, next.err);
  // Also one that does not want to end.
  for (const trap of ["", "process.on('SIGTERM', () => {});"]) {
    const ready = path.join(folder, `ready-${trap.length}`);
    const text = `${trap} require("fs").writeFileSync(${JSON.stringify(ready)}, ""); setInterval(() => {}, 1000)`;
    const lost = lock(["d", "-ttl", "1", "--", NODE, "-e", text]);
    await until(() => existsSync(ready));
    await call(server.port, "PUT", "/d", { body: "somebody else's" });
    const { status, err } = await lost.ended;
    assert.equal(status, 1);
    assert.match(err, /the lock is lost/);
    assert.equal((await call(server.port, "GET", "/d")).text, "somebody else's");
    await call(server.port, "DELETE", "/d");
  }
});

test("lock: a node that hangs: the command does not outlive its lease, and the next node renews it", async () => {
  let hangs = false;
  const proxy = http.createServer((request, response) => {
    if (hangs || request.method === "PATCH") return;
    const target = { port: server.port, path: request.url, method: request.method, headers: request.headers };
    request.pipe(
      http.request({ ...target, host: "127.0.0.1" }, (answer) => {
        response.writeHead(answer.statusCode as number, answer.headers);
        answer.pipe(response);
      }),
    );
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  try {
    const etagOf = async (): Promise<string> => String((await call(server.port, "GET", "/e")).headers.etag);
    const hold = ["--", NODE, "-e", "setInterval(() => {}, 1000)"];
    const held = lock(["e", "-ttl", "6", ...hold], `${url},${server.url}`);
    await until(async () => (await keyStatus("e")) === 200);
    const first = await etagOf();
    await until(async () => (await etagOf()) !== first);
    held.child.kill("SIGTERM");
    assert.equal((await held.ended).status, 128 + 15);

    const lost = lock(["e", "-ttl", "2", ...hold], url);
    await until(async () => (await keyStatus("e")) === 200);
    hangs = true;
    const sinceMs = performance.now();
    const { status, err } = await lost.ended;
    assert.deepEqual([status, /the lock is lost/.test(err)], [1, true], err);
    // A connection that is silent is given up much later.
    assert.ok(performance.now() - sinceMs < 45_000);
  } finally {
    proxy.closeAllConnections();
    proxy.close();
  }
});
