/**
 * More clients than a process may have files: those that are there are served, others are closed at once, values can be written all the while, and
 * once clients have gone others come in. No turn of the event loop is spent on asking in vain.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import net from "node:net";
import path from "node:path";
import { test } from "node:test";
import { CHUNK_BYTES } from "../../src/util/limits.ts";
import { content } from "./client.ts";
import { RawConnection } from "./raw.ts";
import {
  commandLine,
  launch,
  printedPort,
  removeFolder,
  temporaryFolder,
  waitUntil,
  withServer,
} from "./server.ts";

const needsLinux = { skip: process.platform === "linux" ? false : "the limit is read from /proc" };
const FILES_MAX = 100;
const CLIENTS = 300;
const wrapper = ["sh", "-c", `ulimit -n ${FILES_MAX}; exec "$@"`, "sh"];

/** Connects many clients; answers those that were not closed, once the others were. */
async function crowd(port: number): Promise<net.Socket[]> {
  const sockets = new Set<net.Socket>();
  let settled = 0;
  for (let client = 0; client < CLIENTS; client++) {
    const socket = net.connect(port, "127.0.0.1");
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => {
      sockets.delete(socket);
      settled++;
    });
  }
  await waitUntil("those that are too many are closed", () => settled >= CLIENTS - FILES_MAX);
  return [...sockets];
}

for (const fronts of [1, 2])
  test(
    `descriptors: ${CLIENTS} clients of a node that may open ${FILES_MAX} files, ${fronts} front threads`,
    needsLinux,
    () =>
      withServer({ wrapper, flags: ["-threads", "1", "-fronts", String(fronts)] }, async (server) => {
        const first = await RawConnection.open(server.port);
        // Connected is not yet taken: a front that is late would find the others there already.
        first.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
        assert.equal((await first.answers(1))[0].status, 200);
        const held = await crowd(server.port);
        assert.ok(held.length > 0);
        const value = content(1, CHUNK_BYTES * 3);
        const head = `PUT /large HTTP/1.1\r\nHost: x\r\nContent-Length: ${value.length}\r\n\r\n`;
        first.send(Buffer.concat([Buffer.from(head), value]));
        assert.equal((await first.answers(2))[1].status, 201, "there is a descriptor for a file");
        first.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
        const health = (await first.answers(3))[2];
        assert.equal(health.status, 503);
        assert.match(
          JSON.parse(health.body.toString()).reason,
          /^so many connections are open that new ones are closed/,
        );
        assert.match(
          server.log(),
          /so many connections are open that new ones are closed, to keep descriptors/,
        );
        for (const socket of held) socket.destroy();
        await waitUntil("others come in", async () =>
          fetch(`${server.url}/large`).then(
            async (reply) => reply.status === 200 && Buffer.from(await reply.arrayBuffer()).equals(value),
            () => false,
          ),
        );
        first.socket.destroy();
      }),
  );

test("descriptors: a master, too, closes those that are too many", needsLinux, async () => {
  const folder = temporaryFolder();
  try {
    const words = [...commandLine({}, folder), "-mode", "master"];
    const program = await launch(words, { wrapper });
    await waitUntil("it listens", () => printedPort(program.output()) !== null);
    const port = printedPort(program.output()) as number;
    const held = await crowd(port);
    for (const socket of held) socket.destroy();
    await waitUntil("others come in", async () =>
      fetch(`http://127.0.0.1:${port}/health`).then(
        (reply) => reply.ok,
        () => false,
      ),
    );
    program.child.kill("SIGTERM");
    assert.equal((await program.ended).status, 0);
  } finally {
    removeFolder(folder);
  }
});

const hasPrlimit = spawnSync("prlimit", ["--version"]).status === 0;
/** What Node.js itself needs to start, and how much more a start is given each time. */
const FILES_MIN = 24;
const FILES_STEP = 4;

test(
  "descriptors: a node that has none left says so of itself, and why it makes no backup",
  {
    skip: hasPrlimit ? false : "this needs prlimit",
  },
  () =>
    withServer({ flags: ["-threads", "1"] }, async (server) => {
      const connection = await RawConnection.open(server.port);
      let asked = 0;
      const ask = async (head: string): Promise<{ status: number; text: string }> => {
        connection.send(`${head} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n`);
        const { status, body } = (await connection.answers(++asked))[asked - 1];
        return { status, text: body.toString() };
      };
      execFileSync("prlimit", ["--pid", String(server.pid), "--nofile=3:"]);
      assert.equal((await ask("PUT /small")).status, 201, "its file is open");
      assert.equal(JSON.parse((await ask("GET /health")).text).status, "healthy", "nothing is amiss yet");
      assert.equal(JSON.parse((await ask("GET /_stats")).text).keys, 1);
      assert.match((await ask("GET /_metrics")).text, /^process_resident_memory_bytes \d+$/m);
      const copy = encodeURIComponent(path.join(server.data, "../copy"));
      // Nothing was there to be read, so nobody has mapped the file yet.
      for (const what of ["GET /small", "GET /?list", `POST /_admin/backup?directory=${copy}`]) {
        const refused = await ask(what);
        assert.equal(refused.status, 503, `${what}: ${refused.text}`);
        assert.match(refused.text, /\(ulimit -n\)/, what);
      }
      assert.equal(server.log().match(/the catalog of keys: .*\(ulimit -n\)/g)?.length, 1, server.log());
      execFileSync("prlimit", ["--pid", String(server.pid), `--nofile=${FILES_MAX}:`]);
      assert.equal((await ask("GET /small")).status, 200);
      assert.equal((await ask("GET /?list")).status, 200);
      connection.socket.destroy();
    }),
);

test("descriptors: a start that finds too few is refused with a sentence that names the limit, and harms nothing", {
  skip: needsLinux.skip,
}, async () => {
  const folder = temporaryFolder();
  const start = async (files: number): Promise<string> => {
    const words = commandLine({ flags: ["-threads", "1"] }, folder);
    const program = await launch(words, { wrapper: ["sh", "-c", `ulimit -n ${files}; exec "$@"`, "sh"] });
    const { child, output } = program;
    await waitUntil(
      "it serves, or has ended",
      () => child.exitCode !== null || printedPort(output()) !== null,
    );
    child.kill("SIGTERM");
    await program.ended;
    return output();
  };
  try {
    let refusals = 0;
    for (let files = FILES_MIN, output = ""; printedPort(output) === null; files += FILES_STEP) {
      output = await start(files);
      if (printedPort(output) !== null) continue;
      assert.match(output, /"fatal".*\(ulimit -n\)/, `with ${files} files`);
      refusals++;
    }
    assert.ok(refusals > 0);
  } finally {
    removeFolder(folder);
  }
});
