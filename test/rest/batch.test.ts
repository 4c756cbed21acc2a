/** `POST /_batch` against real nodes: each operation as if it had been sent alone. */
import assert from "node:assert/strict";
import net from "node:net";
import { after, before, describe, test } from "node:test";
import { startCluster } from "../cluster/workers.ts";
import { Random, randomSeed } from "../random.ts";
import { call, content } from "./client.ts";
import { type Server, startServer, waitUntil } from "./server.ts";

const JSON_TYPE = { "Content-Type": "application/json" };
const LINES_TYPE = { "Content-Type": "application/x-ndjson" };

// biome-ignore lint/suspicious/noExplicitAny: documents of any form
type Document = any;

async function batch(port: number, operations: Document[], headers = {}): Promise<Document[]> {
  const body = JSON.stringify({ operations });
  const reply = await call(port, "POST", "/_batch", { headers: { ...JSON_TYPE, ...headers }, body });
  assert.equal(reply.status, 200, reply.text);
  const document = reply.json();
  assert.equal(document.success, true);
  assert.equal(document.results.length, operations.length);
  return document.results;
}

/** The same operation, as a request of its own; the answer in the form of a batch's result. */
async function alone(port: number, operation: Document): Promise<Document> {
  const { op, key, value, base64, type, ifMatch, ifNoneMatch } = operation;
  const headers: Record<string, string> = {};
  if (ifMatch !== undefined) headers["If-Match"] = ifMatch;
  if (ifNoneMatch !== undefined) headers["If-None-Match"] = ifNoneMatch;
  let body: string | Uint8Array = "";
  if (value !== undefined) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify({ value });
  } else if (base64 !== undefined) {
    headers["Content-Type"] = type;
    body = Buffer.from(base64, "base64");
  }
  const options = op === "get" || op === "delete" ? { headers } : { headers, body };
  const reply = await call(port, op.toUpperCase(), `/_kv/${encodeURIComponent(key)}`, options);
  const etag = reply.headers.etag === undefined ? {} : { etag: "a version" };
  if (reply.status === 304) return { status: 304, ...etag };
  if (op !== "get" || reply.status !== 200) return { status: reply.status, ...etag, ...reply.json() };
  return reply.headers["content-type"] === "application/json"
    ? { status: 200, ...etag, value: reply.json().value }
    : { status: 200, ...etag, type: reply.headers["content-type"], base64: reply.body.toString("base64") };
}

const plain = (result: Document): Document =>
  result.etag === undefined ? result : { ...result, etag: "a version" };

describe("batch: one node", () => {
  let server: Server;
  before(async () => {
    server = await startServer();
  });
  after(() => server.dispose());

  test("batch: random operations have the results that they have alone, in their order", async (t) => {
    const random = new Random(randomSeed(t));
    const etags: string[] = [];
    for (let round = 0; round < 40; round++) {
      const operations: Document[] = [];
      for (let count = random.below(60); count > 0; count--) {
        const op = ["get", "put", "post", "delete"][random.below(4)];
        const operation: Document = { op, key: `key ${random.below(8)}/ä` };
        if (op === "put" || op === "post") {
          if (random.below(2) === 0) operation.value = { n: random.below(100), text: "ö" };
          else
            Object.assign(operation, {
              base64: random.bytes(random.below(50)).toString("base64"),
              type: "image/png",
            });
        }
        if (random.below(4) === 0) operation[random.below(2) === 0 ? "ifMatch" : "ifNoneMatch"] = "*";
        else if (random.below(6) === 0 && etags.length > 0)
          operation.ifMatch = etags[random.below(etags.length)];
        operations.push(operation);
      }
      // The other node's keys are the same, under another name.
      const twins = operations.map((one) => ({ ...one, key: `twin ${one.key}` }));
      const results = await batch(server.port, operations);
      for (const { etag } of results) if (etag !== undefined) etags.push(etag);
      for (const [index, twin] of twins.entries()) {
        // A version is of one key.
        if (twin.ifMatch !== undefined && twin.ifMatch !== "*") {
          const current = await call(server.port, "GET", `/_kv/${encodeURIComponent(twin.key)}`);
          const holds = results[index].status !== 412;
          twin.ifMatch = holds ? current.headers.etag : '"none"';
        }
        assert.deepEqual(plain(results[index]), await alone(server.port, twin), JSON.stringify(twin));
      }
    }
  });

  test("batch: ten thousand, over all shards, and what was stored is there", async () => {
    const operations = Array.from({ length: 10_000 }, (_, i) => ({ op: "put", key: `many/${i}`, value: i }));
    const results = await batch(server.port, operations);
    assert.ok(results.every(({ status }) => status === 201));
    const read = await batch(
      server.port,
      operations.map(({ key }) => ({ op: "get", key })),
    );
    assert.deepEqual(
      read.map(({ value }) => value),
      operations.map(({ value }) => value),
    );
    assert.deepEqual(
      read.map(({ etag }) => etag),
      results.map(({ etag }) => etag),
    );
  });

  test("batch: operations of one key are done in their order", async () => {
    const operations: Document[] = [];
    for (let i = 0; i < 2000; i++)
      operations.push({ op: "put", key: "one", value: i }, { op: "get", key: "one" });
    const results = await batch(server.port, operations);
    for (let i = 0; i < 2000; i++) assert.equal(results[2 * i + 1].value, i);
  });

  test("batch: values keep their own text, and a value that is no JSON is refused alone", async () => {
    const body =
      '{"operations":[{"op":"put","key":"t","value":12345678901234567890},{"op":"put","key":"u","value":[1}},{"op":"get","key":"t"}]}';
    const reply = await call(server.port, "POST", "/_batch", { headers: JSON_TYPE, body });
    assert.match(reply.text, /"status":200,"etag":"[0-9a-f]{32}","value":12345678901234567890\}\]\}\n$/);
    assert.equal(reply.json().results[1].code, "bad_json");
  });

  test("batch: lines in, lines out", async () => {
    const body = '{"op":"put","key":"l","value":1}\n{"op":"get","key":"l"}\n{"op":"get","key":"absent"}\n';
    const reply = await call(server.port, "POST", "/_batch", { headers: LINES_TYPE, body });
    assert.equal(reply.headers["content-type"], "application/x-ndjson");
    const results = reply.text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      results.map(({ status }) => status),
      [201, 200, 404],
    );
  });

  test("batch: a value that is too large for it is named, and can be had alone", async () => {
    const large = content(1, 3_000_000);
    await call(server.port, "PUT", "/large", { headers: { "Content-Type": "image/png" }, body: large });
    const [result] = await batch(server.port, [{ op: "get", key: "large" }]);
    assert.deepEqual([result.status, result.code], [413, "too_large"]);
    const one = content(2, 1_000_000).toString("base64");
    await batch(server.port, [{ op: "put", key: "million", base64: one, type: "image/png" }]);
    const results = await batch(
      server.port,
      Array.from({ length: 100 }, () => ({ op: "get", key: "million" })),
    );
    const whole = results.filter(({ status }) => status === 200);
    assert.ok(whole.length > 10 && whole.length < 40, `${whole.length} of them`);
    assert.ok(whole.every(({ base64 }) => base64 === one));
    assert.ok(results.every(({ status, code }) => status === 200 || code === "too_large"));
  });

  test("batch: what is malformed, or too large, or of another type, does nothing", async () => {
    const put = '{"op":"put","key":"nothing","value":1}';
    const wrong: [Record<string, string>, string, number][] = [
      [JSON_TYPE, `{"operations":[${put},]}`, 400],
      [JSON_TYPE, `{"operations":[${put}],"atomic":true}`, 400],
      [LINES_TYPE, `${put}\n{`, 400],
      [{ "Content-Type": "text/plain" }, `{"operations":[${put}]}`, 400],
      [JSON_TYPE, `{"operations":[${put}]}${" ".repeat(17_000_000)}`, 413],
    ];
    for (const [headers, body, status] of wrong) {
      const reply = await call(server.port, "POST", "/_batch", { headers, body });
      assert.equal(reply.status, status, reply.text);
      assert.equal(reply.json().success, false);
    }
    assert.equal((await call(server.port, "GET", "/nothing")).status, 404);
    for (const method of ["GET", "PUT", "DELETE"]) {
      const reply = await call(server.port, method, "/_batch", method === "PUT" ? { body: "x" } : {});
      assert.deepEqual([reply.status, reply.headers.allow], [405, "POST"]);
    }
  });

  test("batch: one that does not come whole does nothing, in any of its pieces", async () => {
    const body = '{"operations":[{"op":"put","key":"cut","value":1}]}';
    for (const length of [0, 1, 30, body.length - 1]) {
      const socket = net.connect(server.port, "127.0.0.1");
      const head = `POST /_batch HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`;
      socket.write(head + body.slice(0, length));
      await new Promise<void>((resolve) => socket.end(resolve));
      await new Promise((resolve) => socket.once("close", resolve).resume());
    }
    const stats = async () => (await call(server.port, "GET", "/_stats")).json().queues.requestsInFlight;
    await waitUntil("all of them are over", async () => (await stats()) === 0);
    assert.equal((await call(server.port, "GET", "/cut")).status, 404);
    // Byte by byte it comes whole.
    const socket = net.connect(server.port, "127.0.0.1");
    const answer = new Promise<string>((resolve) => socket.once("data", (bytes) => resolve(String(bytes))));
    socket.write(
      `POST /_batch HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`,
    );
    for (const byte of body) {
      await new Promise<void>((resolve) => socket.write(`1\r\n${byte}\r\n`, () => resolve()));
    }
    socket.write("0\r\n\r\n");
    assert.match(await answer, /^HTTP\/1.1 200 OK/);
    socket.destroy();
    assert.equal((await call(server.port, "GET", "/cut")).status, 200);
  });
});

test("batch: three nodes: written by one, read by another", async () => {
  const cluster = await startCluster({ workers: 3 });
  try {
    const [a, b] = cluster.workers;
    const operations = Array.from({ length: 500 }, (_, i) => ({ op: "post", key: `k${i}`, value: i }));
    const created = await batch(a.port, operations);
    // On a slow machine a replica may answer too late: then nobody knows, and says so.
    const isKnown = ({ status }: Document) => status !== 503;
    assert.ok(created.every((result) => !isKnown(result) || result.status === 201));
    assert.ok(created.some(isKnown));
    const again = await batch(b.port, operations);
    const read = await batch(
      b.port,
      operations.map(({ key }) => ({ op: "get", key })),
    );
    for (const [i, { status, value, etag }] of read.entries()) {
      if (!isKnown(created[i]) || status === 503) continue;
      assert.ok(again[i].status === 409 || !isKnown(again[i]), JSON.stringify(again[i]));
      assert.deepEqual([status, value, etag], [200, i, created[i].etag]);
    }
  } finally {
    await cluster.dispose();
  }
});
