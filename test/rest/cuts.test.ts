/**
 * Requests that arrive in two segments, cut at every byte: each gets the one answer that it gets whole, and the connection serves the next request.
 * The older uWebSockets.js (docs/api.md) answers 505 where the cut is behind the method or in the version at the end of the request line.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { call, closeConnections } from "./client.ts";
import { type RawAnswer, RawConnection } from "./raw.ts";
import { runProgram, type Server, startServer } from "./server.ts";

let server: Server;
let isOlderParser = false;

before(async () => {
  server = await startServer();
  isOlderParser = (await runProgram(["-version"])).output.includes("uws-pack");
  for (const key of ["there", "replaced"])
    assert.equal((await call(server.port, "PUT", `/${key}`, { body: "value" })).status, 201);
});

after(async () => {
  closeConnections();
  await server.dispose();
});

const HEADERS = "Host: x\r\nUser-Agent: curl/8\r\nAccept: */*\r\n";
const NEXT = "GET /there HTTP/1.1\r\nHost: x\r\n\r\n";

const REQUESTS: [what: string, request: string, status: number, body: string][] = [
  ["GET", `GET /there HTTP/1.1\r\n${HEADERS}\r\n`, 200, "value"],
  [
    "GET of an escaped key with a query",
    `GET /_kv/%74here?consistency=one HTTP/1.1\r\nHost: x\r\n\r\n`,
    200,
    "value",
  ],
  [
    "GET with a condition",
    `GET /there HTTP/1.1\r\nHost: x\r\nIf-Match: "0"\r\n\r\n`,
    412,
    "precondition_failed",
  ],
  ["GET of what is not there", "GET /absent HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not_found"],
  ["GET with a range", "GET /there HTTP/1.1\r\nHost: x\r\nRange: bytes=1-2\r\n\r\n", 206, "al"],
  ["PUT", `PUT /replaced HTTP/1.1\r\n${HEADERS}Content-Length: 5\r\n\r\nvalue`, 200, '"created":false'],
  [
    "PUT of JSON",
    'PUT /replaced HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"value":1}',
    200,
    '"created":false',
  ],
  [
    "PUT in chunks",
    "PUT /replaced HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nval\r\n2\r\nue\r\n0\r\n\r\n",
    200,
    '"created":false',
  ],
  ["POST", "POST /there HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", 409, "exists"],
  ["DELETE", "DELETE /absent HTTP/1.1\r\nHost: x\r\n\r\n", 200, '"deleted":false'],
];

/** Cuts at which the older parser takes the first part of the request line for a line of another version of HTTP. */
function cutsRefused(request: string): number[] {
  const method = request.indexOf(" ") + 1;
  const version = request.indexOf(" HTTP/1.1") + 1;
  return [method, ...Array.from({ length: "HTTP/1.1\r".length + 1 }, (_, index) => version + index)];
}

for (const [what, request, status, body] of REQUESTS)
  test(`cut at every byte: ${what}`, async () => {
    const cuts = Array.from({ length: request.length - 1 }, (_, index) => index + 1);
    const clients = await Promise.all(cuts.map(() => RawConnection.open(server.port)));
    // A connection that the server has not accepted yet would deliver both parts at once.
    for (const client of clients) client.send(NEXT);
    for (const client of clients) await client.answers();
    for (const [index, client] of clients.entries()) client.send(request.slice(0, cuts[index]));
    // One thread reads all connections, and what came first, first: an answer to this means that it has read all the first parts.
    assert.equal((await call(server.port, "GET", "/health")).status, 200);
    for (const [index, client] of clients.entries()) client.send(request.slice(cuts[index]));
    const refused: number[] = [];
    for (const [index, client] of clients.entries()) {
      const cut = JSON.stringify(request.slice(0, cuts[index]));
      const whole = (answers: RawAnswer[]) => answers.map((answer) => `${answer.status} ${answer.body}`);
      const [, first] = await client.answers(2).catch((error: Error) => {
        throw new Error(`cut after ${cut}: ${error.message}`);
      });
      if (first.status === 505 && isOlderParser) {
        refused.push(cuts[index]);
        await client.isClosed();
        assert.equal(client.parsed().answers.length, 2, cut);
        continue;
      }
      assert.equal(first.status, status, `cut after ${cut}`);
      assert.ok(first.body.includes(body), `cut after ${cut}: ${first.body}`);
      client.send(NEXT);
      assert.deepEqual(whole((await client.answers(3)).slice(2)), ["200 value"], cut);
      client.destroy();
    }
    // On a busy machine the system may hand both parts to the server as one, and what is not cut is not refused.
    const refusable = isOlderParser ? cutsRefused(request) : [];
    assert.deepEqual(
      refused.filter((cut) => !refusable.includes(cut)),
      [],
    );
    assert.equal((await call(server.port, "GET", "/there")).text, "value");
  });
