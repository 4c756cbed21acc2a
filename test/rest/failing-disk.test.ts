/**
 * The real program on a disk that fails: strace makes the kernel's answers to fdatasync and pwrite errors for a while. What cannot be served says so, reads
 * go on, and a restart has everything that was acknowledged.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { after, type TestContext, test } from "node:test";
import { call, closeConnections, content, inParallel } from "./client.ts";
import { type Server, waitUntil, withServer } from "./server.ts";

const ATTACH_MS_MAX = 60_000;

after(closeConnections);

interface Injection {
  /** Ends it; the program goes on undisturbed. */
  end(): Promise<void>;
}

/** Lets system calls of the running server fail; answers a sentence where this machine does not allow it. */
async function inject(server: Server, systemCall: string, how: string): Promise<Injection | string> {
  const words = ["-f", "-o", "/dev/null", "-p", String(server.pid), "-e", `trace=${systemCall}`];
  let child: ChildProcess;
  let output = "";
  try {
    child = spawn("strace", [...words, "-e", `inject=${systemCall}:${how}`], {
      stdio: ["ignore", "ignore", "pipe"],
    });
  } catch (error) {
    return `strace does not start: ${(error as Error).message}`;
  }
  child.stderr?.on("data", (piece) => {
    output += piece;
  });
  let ended = false;
  const end = new Promise<void>((resolve) => {
    const done = (): void => {
      ended = true;
      resolve();
    };
    child.once("close", done);
    child.once("error", (error) => {
      output += error.message;
      done();
    });
  });
  await waitUntil("strace is attached", () => ended || / attached/.test(output), ATTACH_MS_MAX);
  if (ended) return `strace may not trace here: ${output.trim()}`;
  return {
    async end() {
      child.kill("SIGINT");
      await end;
    },
  };
}

/** Starts a server with some values and lets calls fail while `failing` runs; `afterwards` comes without failures. */
async function withFailures(
  t: TestContext,
  systemCall: string,
  how: string,
  failing: (server: Server, stored: Map<string, Buffer>) => Promise<void>,
  afterwards: (server: Server, stored: Map<string, Buffer>) => Promise<void>,
): Promise<void> {
  await withServer({ flags: ["-threads", "1"] }, async (server) => {
    const stored = new Map<string, Buffer>();
    for (let i = 0; i < 20; i++) {
      const size = i === 7 ? 3_000_000 : 100 * i;
      assert.equal((await call(server.port, "PUT", `/old${i}`, { body: content(i, size) })).status, 201);
      stored.set(`/old${i}`, content(i, size));
    }
    const injection = await inject(server, systemCall, how);
    if (typeof injection === "string") {
      t.skip(injection);
      return;
    }
    try {
      await failing(server, stored);
      await assertStored(server, stored);
    } finally {
      await injection.end();
    }
    await afterwards(server, stored);
    await assertStored(server, stored);
    await server.kill("SIGKILL");
    await server.restart();
    await assertStored(server, stored);
    assert.equal((await call(server.port, "PUT", "/new", { body: "new" })).status, 201);
    assert.equal((await call(server.port, "DELETE", "/new")).json().deleted, true);
    assert.equal((await call(server.port, "GET", "/health")).status, 200);
  });
}

async function assertStored(server: Server, stored: ReadonlyMap<string, Buffer>): Promise<void> {
  for (const [key, value] of stored) {
    const reply = await call(server.port, "GET", key);
    assert.equal(reply.status, 200, `${key}: ${reply.text.slice(0, 200)}`);
    assert.ok(reply.body.equals(value), key);
  }
}

async function assertStopped(server: Server): Promise<void> {
  for (const [method, key] of [
    ["PUT", "/old1"],
    ["POST", "/another"],
    ["DELETE", "/old2"],
  ]) {
    const body = method === "DELETE" ? {} : { body: "x" };
    const reply = await call(server.port, method, key, body);
    assert.deepEqual([reply.status, reply.json().code], [503, "write_stopped"], `${method} ${key}`);
    assert.match(reply.json().error, /sync/);
  }
  const large = await call(server.port, "PUT", "/large", { body: content(1, 4_000_000) });
  assert.deepEqual([large.status, large.json().code], [503, "write_stopped"]);
  const health = await call(server.port, "GET", "/health");
  assert.deepEqual([health.status, health.json().writesStopped], [503, true]);
}

for (const count of [1, 2, 5, 20])
  test(`failing disk: fdatasync ${count} fails once with EIO under load: writes stop visibly, reads go on, a restart has all that was acknowledged`, (t) =>
    withFailures(
      t,
      "fdatasync",
      `error=EIO:when=${count}`,
      async (server, stored) => {
        let stopped = 0;
        await inParallel(8, 8, async (lane) => {
          for (let number = 0; number < 500; number++) {
            const key = `/load${lane}-${number}`;
            const reply = await call(server.port, "PUT", key, { body: content(number, 300) });
            if (reply.status === 201) stored.set(key, content(number, 300));
            else {
              assert.deepEqual([reply.status, reply.json().code], [503, "write_stopped"], reply.text);
              stopped++;
              return;
            }
          }
        });
        assert.equal(stopped, 8, "every writer was stopped");
        await assertStopped(server);
      },
      assertStopped,
    ));

for (const [error, status, code] of [
  ["EIO", 500, "internal"],
  ["ENOSPC", 507, "disk_full"],
] as const)
  test(`failing disk: while pwrite fails with ${error}, writes answer ${status} and reads go on; afterwards writes resume`, (t) =>
    withFailures(
      t,
      "pwrite64",
      `error=${error}`,
      async (server) => {
        for (const [method, key] of [
          ["PUT", "/old1"],
          ["POST", "/another"],
          ["DELETE", "/old2"],
        ]) {
          const reply = await call(server.port, method, key, method === "DELETE" ? {} : { body: "x" });
          assert.deepEqual([reply.status, reply.json().code], [status, code], `${method} ${key}`);
        }
        const large = await call(server.port, "PUT", "/large", { body: content(1, 4_000_000) });
        assert.deepEqual([large.status, large.json().code], [status, code]);
        assert.equal((await call(server.port, "GET", "/another")).status, 404);
        if (error === "ENOSPC") {
          const health = await call(server.port, "GET", "/health");
          assert.deepEqual([health.status, health.json().diskFull], [200, true]);
        }
      },
      async (server, stored) => {
        const resumes = async () =>
          (await call(server.port, "PUT", "/later", { body: "later" })).status < 300;
        await waitUntil("writes resume", resumes);
        stored.set("/later", Buffer.from("later"));
        assert.equal((await call(server.port, "GET", "/large")).status, 404);
        const health = async () => (await call(server.port, "GET", "/health")).json().status === "healthy";
        await waitUntil("the node is healthy", health);
      },
    ));
