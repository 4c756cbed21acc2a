/** Ten thousand clients that follow changes while there are none: what they cost of memory, and that each is alive. */
import assert from "node:assert/strict";
import net from "node:net";
import { after, test } from "node:test";
import { call, closeConnections, inParallel } from "../rest/client.ts";
import { filesMax, hasProc, memoryLine, processMemory, watchMemory } from "../rest/process-memory.ts";
import { type Server, startServer, waitUntil } from "../rest/server.ts";

const MIB = 1024 * 1024;
const WATCHERS = 10_000;
/**
 * About 25 MiB are in use; the rest is what V8 keeps of two threads for what comes and goes, as each is told every
 * five seconds that nothing has happened.
 */
const ADDED_BYTES_MAX = 128 * MIB;
/** Files that a process needs beside its connections. */
const OTHER_FILES = 700;
/** How often each is told that nothing has happened, before it counts as idle. */
const PROGRESS_MIN = 2;

after(closeConnections);

/** A client of `?watch` that costs little: it counts what it is told. */
class Follower {
  progress = 0;
  puts = 0;
  closed = false;
  private readonly socket: net.Socket;
  private rest = "";

  constructor(port: number, prefix: string, host: string) {
    this.socket = net.connect({ port, host: "127.0.0.1", localAddress: host });
    this.socket.setEncoding("latin1");
    this.socket.on("data", (text: string) => this.take(text));
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.closed = true;
    });
    this.socket.write(`GET /${prefix}?watch HTTP/1.1\r\nHost: x\r\n\r\n`);
  }

  private take(text: string): void {
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop() as string;
    for (const line of lines) {
      if (line.startsWith("event: progress")) this.progress++;
      else if (line.startsWith("event: put")) this.puts++;
    }
  }

  close(): void {
    this.socket.destroy();
  }
}

async function watchersOf({ port }: Server): Promise<number> {
  return (await call(port, "GET", "/_stats")).json().queues.watchers;
}

const tooFewFiles = hasProc && filesMax() < WATCHERS + OTHER_FILES;
const skipped = hasProc ? `the limit of open files is ${filesMax()}` : "needs /proc";

for (const [what, prefixOf] of [
  ["all keys", () => ""],
  ["a prefix of its own each", (number: number) => `own/${number}/`],
] as const)
  test(
    `watchers: 10,000 idle ones, of ${what}, take 128 MiB at most, and each is told`,
    !hasProc || tooFewFiles ? { skip: skipped } : {},
    async (t) => {
      const server = await startServer();
      const followers: Follower[] = [];
      try {
        const { port, pid } = server;
        await inParallel(100, 10, async (number) => {
          assert.equal((await call(port, "PUT", `/warm/${number}`, { body: "x" })).status, 201);
        });
        const watched = watchMemory(pid, 100);
        await inParallel(WATCHERS, 200, async (number) => {
          // Several addresses: one has fewer than 30,000 ports, and others use them, too.
          const follower = new Follower(port, prefixOf(number), `127.0.0.${2 + (number % 4)}`);
          followers.push(follower);
          await waitUntil(
            "one more is told that nothing happens",
            () => follower.progress > 0 || follower.closed,
          );
        });
        assert.equal(await watchersOf(server), WATCHERS);
        await waitUntil("each is told again", () =>
          followers.every(({ progress, closed }) => closed || progress >= PROGRESS_MIN),
        );
        const addedBytes = processMemory(pid).own - watched.start.own;
        const peak = watched.stop();
        t.diagnostic(
          `${Math.round(addedBytes / WATCHERS)} bytes each; MiB: ${memoryLine(watched.start, peak)}`,
        );
        assert.deepEqual(
          followers.filter(({ closed }) => closed),
          [],
        );
        assert.ok(peak.own - watched.start.own <= ADDED_BYTES_MAX, memoryLine(watched.start, peak));
        const told = followers[WATCHERS - 1];
        assert.equal((await call(port, "PUT", `/${prefixOf(WATCHERS - 1)}k`, { body: "x" })).status, 201);
        await waitUntil("the last one is told of a change", () => told.puts > 0);
        for (const follower of followers) follower.close();
        await waitUntil("they are let go of", async () => (await watchersOf(server)) === 0);
      } finally {
        for (const follower of followers) follower.close();
        await server.dispose();
      }
    },
  );
