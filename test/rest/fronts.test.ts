/** -fronts: several threads answer clients on one port, over one store. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import http from "node:http";
import { after, test } from "node:test";
import { call, closeConnections, digest } from "./client.ts";
import { runProgram, startServer, waitUntil, withServer } from "./server.ts";

after(closeConnections);

/** Every request on a connection of its own, so that the kernel deals them out among the fronts. */
const alone = { agent: false as const };
const RAW = { "Content-Type": "text/plain" };

test("fronts: what one thread acknowledged is what all threads read, and conditions hold across them", async () => {
  await withServer({ flags: ["-fronts", "2"] }, async ({ port }) => {
    for (let number = 0; number < 60; number++) {
      const path = `/key-${number % 7}`;
      const put = await call(port, "PUT", path, { ...alone, headers: RAW, body: `value-${number}` });
      assert.ok(put.status === 201 || put.status === 200, put.text);
      const reads = await Promise.all(Array.from({ length: 4 }, () => call(port, "GET", path, alone)));
      for (const read of reads) {
        assert.equal(read.text, `value-${number}`);
        assert.equal(read.headers.etag, put.headers.etag);
      }
    }
    for (let number = 0; number < 20; number++) {
      const posts = Array.from({ length: 12 }, (_, client) =>
        call(port, "POST", `/race-${number}`, { ...alone, headers: RAW, body: String(client) }),
      );
      const statuses = (await Promise.all(posts)).map((reply) => reply.status);
      assert.equal(statuses.filter((status) => status === 201).length, 1, statuses.join());
      assert.equal(statuses.filter((status) => status === 409).length, 11, statuses.join());
    }
    const stats = (await call(port, "GET", "/_stats", alone)).json();
    assert.equal(stats.requestsByFront.length, 2);
    for (const requests of stats.requestsByFront) assert.ok(requests > 20, `${stats.requestsByFront}`);
    assert.equal(stats.requests.post["2xx"], 20);
    assert.equal(stats.keys, 27);
    // Whichever thread answers, they are those of all: 60 PUTs and 240 POSTs.
    const asked = await Promise.all(Array.from({ length: 16 }, () => call(port, "GET", "/_stats", alone)));
    const told = asked.map((reply) => reply.json());
    for (const { batches, batchedWrites, coldReads, queues } of told) {
      assert.deepEqual([batchedWrites, queues.writes, queues.bytes], [300, 0, 0]);
      assert.deepEqual([batches, coldReads], [told[0].batches, told[0].coldReads]);
    }
    const scrapes = Array.from({ length: 16 }, () => call(port, "GET", "/_metrics", alone));
    const starts = (await Promise.all(scrapes)).map(
      ({ text }) => /^process_start_time_seconds .*$/m.exec(text)?.[0],
    );
    assert.equal(new Set(starts).size, 1, starts.join());
  });
});

test("fronts: large values in both directions through every thread, and nothing lost by kill -9", async () => {
  const server = await startServer({ flags: ["-fronts", "3"] });
  try {
    const values = Array.from({ length: 9 }, (_, number) => randomBytes(2_500_000 + number));
    await Promise.all(
      values.map((body, number) =>
        call(server.port, "PUT", `/large-${number}`, { ...alone, headers: RAW, body }).then((reply) =>
          assert.equal(reply.status, 201, reply.text),
        ),
      ),
    );
    const check = async () => {
      for (const [number, value] of values.entries()) {
        const read = await digest(server.port, "GET", `/large-${number}`, alone);
        assert.equal(read.sha256, createHash("sha256").update(value).digest("hex"), `value ${number}`);
      }
    };
    await check();
    await server.kill("SIGKILL");
    await server.restart();
    await check();
  } finally {
    await server.dispose();
  }
});

test("fronts: a stop waits for what is under way in every thread", async () => {
  const server = await startServer({ flags: ["-fronts", "2"] });
  try {
    // Uploads that are half sent when the signal comes.
    const bytes = 400_000;
    const uploads = Array.from({ length: 8 }, (_, number) => {
      const request = http.request({
        host: "127.0.0.1",
        port: server.port,
        method: "PUT",
        path: `/slow-${number}`,
        headers: { ...RAW, "Content-Length": String(bytes) },
        agent: false,
      });
      request.write(Buffer.alloc(bytes / 2, number + 1));
      const status = new Promise<number>((resolve, reject) => {
        request.once("response", (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        });
        request.once("error", reject);
      });
      return { request, status, number };
    });
    await waitUntil("all are under way", async () => {
      const { queues } = (await call(server.port, "GET", "/_stats", alone)).json();
      return queues.requestsInFlight >= uploads.length;
    });
    const stopped = server.stop();
    await waitUntil("it has begun to stop", () => /finishing what is in flight/.test(server.log()));
    for (const { request, number } of uploads) request.end(Buffer.alloc(bytes / 2, number + 1));
    for (const { status } of uploads) assert.equal(await status, 201);
    assert.equal((await stopped).status, 0);
    await server.restart();
    for (const { number } of uploads)
      assert.ok(
        (await call(server.port, "GET", `/slow-${number}`, alone)).body.equals(
          Buffer.alloc(bytes, number + 1),
        ),
      );
  } finally {
    await server.dispose();
  }
});

test("fronts: in a cluster without a port of their own, or at a port that is taken, the start is refused in one line", async () => {
  await withServer({}, async ({ port }) => {
    const words = ["-fronts", "2", "-host", "127.0.0.1"];
    const taken = await runProgram([...words, "-port", String(port), "-data", "/tmp/minivault-never-made"]);
    assert.equal(taken.status, 1);
    assert.match(taken.output, /cannot listen on 127\.0\.0\.1:\d+: the port is taken/);
    const clustered = await runProgram([
      ...words,
      "-port",
      "0",
      "-master",
      "http://127.0.0.1:1",
      "-data",
      "/tmp/minivault-never-made",
    ]);
    assert.equal(clustered.status, 1);
    assert.match(clustered.output, /on a node of a cluster -fronts needs -front-port/);
  });
});
