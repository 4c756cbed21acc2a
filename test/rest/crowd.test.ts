/** Many clients that do nothing, or nothing useful: memory stays bounded, and others are served meanwhile. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { CHUNK_BYTES } from "../../src/util/limits.ts";
import { stopwatch } from "../stopwatch.ts";
import { call, closeConnections, content, inParallel } from "./client.ts";
import { filesMax, hasProc, memoryLine, processMemory, watchMemory } from "./process-memory.ts";
import { RawConnection } from "./raw.ts";
import { type Server, startServer, waitUntil } from "./server.ts";

const MIB = 1024 * 1024;
const IDLE_CONNECTIONS = 10_000;
/** Files that a process needs beside its connections. */
const OTHER_FILES = 700;
/** What a connection that does nothing may cost. */
const BYTES_PER_IDLE_CONNECTION_MAX = 4096;
/** For so long at least the memory is watched while answers are held. */
const HELD_MS = 2000;
/** So many answers others get meanwhile; how fast is the machine's business. */
const OTHERS_MIN = 100;
/** So many rounds of others' requests end before slow clients are closed, which takes ten seconds and more. */
const ROUNDS_MIN = 4;
const OTHERS_MS_MAX = 60_000;

let server: Server;
let port: number;

before(async () => {
  server = await startServer();
  port = server.port;
});

after(async () => {
  closeConnections();
  await server.dispose();
});

interface Others {
  /** Waits for so many answers from now on. */
  more(answers: number): Promise<void>;
  stop(): Promise<{ answers: number; slowestMs: number }>;
}

/** Writes and reads a key until stopped; answers how many times, and the slowest. */
function serveOthers(): Others {
  let running = true;
  let answers = 0;
  let slowestMs = 0;
  const loop = (async () => {
    while (running) {
      const body = `round ${answers}`;
      for (const [method, options] of [
        ["PUT", { body }],
        ["GET", {}],
      ] as const) {
        const watch = stopwatch();
        const reply = await call(port, method, "/other", options);
        slowestMs = Math.max(slowestMs, watch.stop());
        assert.ok(reply.status < 300, reply.text);
        if (method === "GET") assert.equal(reply.text, body);
        answers++;
      }
      await sleep(1);
    }
  })();
  loop.catch(() => {});
  return {
    async more(count) {
      const before = answers;
      await Promise.race([
        loop,
        waitUntil("others are served", () => answers >= before + count, OTHERS_MS_MAX),
      ]);
    },
    async stop() {
      running = false;
      await loop;
      return { answers, slowestMs };
    },
  };
}

const linuxOnly = hasProc ? {} : { skip: "needs /proc" };

test(
  "100 clients that never read a value of 5 MiB: memory bounded, others served, all let go of",
  linuxOnly,
  async (t) => {
    const value = content(1, 5 * CHUNK_BYTES);
    assert.equal((await call(port, "PUT", "/five", { body: value })).status, 201);
    assert.ok((await call(port, "GET", "/five")).body.equals(value));
    const watched = watchMemory(server.pid);
    const others = serveOthers();
    const clients = await Promise.all(Array.from({ length: 100 }, () => RawConnection.open(port)));
    for (const client of clients) {
      client.socket.pause();
      client.send("GET /five HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    let held = 0;
    await waitUntil("most of the clients hold their answer", async () => {
      held = (await call(port, "GET", "/_stats")).json().queues.requestsInFlight;
      return held >= 50;
    });
    await Promise.all([sleep(HELD_MS), others.more(OTHERS_MIN)]);
    const peak = watched.stop();
    const { answers, slowestMs } = await others.stop();
    t.diagnostic(
      `${held} answers held; ${answers} others meanwhile, the slowest in ${slowestMs.toFixed(1)} ms; ` +
        `MiB: ${memoryLine(watched.start, peak)}`,
    );
    assert.ok(peak.own - watched.start.own < 48 * MIB, memoryLine(watched.start, peak));
    const late = clients.pop() as RawConnection;
    for (const client of clients) client.abort();
    late.socket.resume();
    const [answer] = await late.answers();
    assert.ok(answer.body.equals(value), "the one that reads after all gets every byte");
    late.destroy();
    await waitUntil("the values are let go of", async () => {
      return (await call(port, "GET", "/_stats")).json().queues.requestsInFlight === 0;
    });
  },
);

// At once: both wait for the timer of idle connections.
describe("connections that are waited for", { concurrency: 2 }, () => {
  const tooFewFiles = hasProc && filesMax() < IDLE_CONNECTIONS + OTHER_FILES;
  test(
    "10,000 idle connections: memory bounded, others served, closed by a timer",
    tooFewFiles ? { skip: `the limit of open files is ${filesMax()}` } : linuxOnly,
    async (t) => {
      const watched = watchMemory(server.pid);
      const others = serveOthers();
      const clients: RawConnection[] = [];
      const begun = performance.now();
      // Several addresses: one has fewer than 30,000 ports, and other tests use them too.
      await inParallel(IDLE_CONNECTIONS, 200, async (number) => {
        clients.push(await RawConnection.open(port, `127.0.0.${2 + (number % 4)}`));
      });
      const openMs = performance.now() - begun;
      const open = clients.filter((client) => !client.closed).length;
      const bytesEach = (processMemory(server.pid).own - watched.start.own) / open;
      // The last ones turn out to be alive.
      for (const client of clients.slice(-50)) {
        client.send("GET /other HTTP/1.1\r\nHost: x\r\n\r\n");
        assert.match(String((await client.answers())[0].status), /200|404/);
      }
      await waitUntil(
        "the idle connections are closed",
        () => clients.every((client) => client.closed),
        40_000,
      );
      const peak = watched.stop();
      const { answers, slowestMs } = await others.stop();
      t.diagnostic(
        `${open} of ${clients.length} connections open at once, made in ${Math.round(openMs)} ms, ${Math.round(bytesEach)} bytes each; ` +
          `${answers} answers to others, the slowest in ${slowestMs.toFixed(1)} ms; MiB: ${memoryLine(watched.start, peak)}`,
      );
      assert.ok(peak.own - watched.start.own < 32 * MIB + IDLE_CONNECTIONS * BYTES_PER_IDLE_CONNECTION_MAX);
      assert.ok(answers >= OTHERS_MIN, `${answers} answers to others`);
      assert.ok(openMs > 8000 || open === IDLE_CONNECTIONS, `${open} open`);
    },
  );

  test("slow clients: headers that trickle end by a timer, a body that trickles too; others are served meanwhile", async () => {
    const slow = await RawConnection.open(port);
    const silent = await RawConnection.open(port);
    const halfway = await RawConnection.open(port);
    halfway.send("GET /health HTTP/1.1\r\nHos");
    const body = await RawConnection.open(port);
    body.send("PUT /slow-body HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx");
    slow.send("PUT /slow HTTP/1.1\r\n");
    const begun = performance.now();
    let rounds = 0;
    for (; performance.now() - begun < 60_000; rounds++) {
      if (slow.closed && silent.closed && halfway.closed && body.closed) break;
      slow.send(`X-${rounds}: y\r\n`);
      body.send("x");
      assert.equal((await call(port, "GET", "/health")).status, 200);
      await sleep(500);
    }
    assert.deepEqual(
      [slow, silent, halfway, body].map((client) => client.closed),
      [true, true, true, true],
      "trickling headers, silence, half a head, a trickling body: closed",
    );
    assert.ok(rounds >= ROUNDS_MIN, `others were answered ${rounds} times`);
    assert.equal((await call(port, "GET", "/slow-body")).status, 404);
  });
});
