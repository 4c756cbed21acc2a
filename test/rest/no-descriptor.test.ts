/**
 * A node that has no descriptor left when a data file has to be mapped, by each way that leads there: that request is a 503, and the node goes on.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { after, test } from "node:test";
import { call, closeConnections, content } from "./client.ts";
import { RawConnection } from "./raw.ts";
import { type Server, withServer } from "./server.ts";

after(closeConnections);
const needsPrlimit = {
  skip: spawnSync("prlimit", ["--version"]).status === 0 ? false : "this needs prlimit",
};
const FILES_MAX = 200;
const LARGE = content(1, 3_000_000);

const merge = "Content-Type: application/merge-patch+json\r\n";
const bytes = "Content-Type: application/octet-stream\r\n";

/** Requests that need a record which no thread has mapped: target, headers, body. */
const READS: [string, string, string][] = [
  ["GET /small", "", ""],
  ["GET /small", "Range: bytes=1-2\r\n", ""],
  ["GET /large", "", ""],
  ["GET /small?wait=1s", "", ""],
  ["GET /_raw/small", "", ""],
  ["GET /_unstorage/small", "", ""],
  ["LOCK /_raw/lock", "", '{"ID":"other"}'],
  ["PATCH /object", merge, '{"more":1}'],
  ["PATCH /small?append", bytes, "more"],
];
async function put({ port }: Server, key: string, body: string | Buffer): Promise<void> {
  assert.equal((await call(port, "PUT", `/${key}`, { body })).status, 201);
}

/** Starts the node anew, asks while it has no descriptor left, and gives them back. */
async function askWithout(
  server: Server,
  requests: readonly [string, string, string | Buffer][],
): Promise<{ what: string; status: number; text: string }[]> {
  await server.stop();
  closeConnections();
  await server.restart();
  const connection = await RawConnection.open(server.port);
  let asked = 0;
  const ask = async (what: string, headers: string, body: string | Buffer) => {
    const head = `${what} HTTP/1.1\r\nHost: x\r\n${headers}Content-Length: ${body.length}\r\n\r\n`;
    connection.send(Buffer.concat([Buffer.from(head), Buffer.from(body)]));
    const answer = (await connection.answers(++asked))[asked - 1];
    return { what, status: answer.status, text: answer.body.toString() };
  };
  await ask("GET /health/live", "", "");
  execFileSync("prlimit", ["--pid", String(server.pid), "--nofile=3:"]);
  const answers = [];
  for (const request of requests) answers.push(await ask(...request));
  execFileSync("prlimit", ["--pid", String(server.pid), `--nofile=${FILES_MAX}:`]);
  connection.socket.destroy();
  return answers;
}

test(
  "no descriptor: a read that needs a data file which is not mapped yet is 503, wherever it is noticed",
  needsPrlimit,
  () =>
    withServer({ flags: ["-threads", "1"] }, async (server) => {
      await put(server, "small", "small");
      await put(server, "large", LARGE);
      await put(server, "object", '{"value":{}}');
      assert.equal((await call(server.port, "LOCK", "/_raw/lock", { body: '{"ID":"own"}' })).status, 200);
      const batch: [string, string, string] = [
        "POST /_batch",
        "Content-Type: application/json\r\n",
        '{"operations":[{"op":"get","key":"small"},{"op":"get","key":"large"}]}',
      ];
      const answers = await askWithout(server, [batch, ...READS]);
      for (const { what, status, text } of answers) {
        // Each operation of a batch has a status of its own.
        assert.equal(status, what === "POST /_batch" ? 200 : 503, `${what}: ${text}`);
        assert.match(text, /\(ulimit -n\)/, what);
        assert.doesNotMatch(text, /"status":200/, what);
      }
      assert.equal((await call(server.port, "GET", "/small")).text, "small");
    }),
);
