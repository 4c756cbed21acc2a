/** `POST /_batch` against real nodes: each operation as if it had been sent alone. */
import assert from "node:assert/strict";
import net from "node:net";
import { after, before, describe, test } from "node:test";
import { startCluster } from "../cluster/workers.ts";
import { Random, randomSeed } from "../random.ts";
import { call, content } from "./client.ts";
import { hasProc, watchMemory } from "./process-memory.ts";
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
  const { op, key, value, base64, type, ttl, ifMatch, ifNoneMatch, idempotencyKey } = operation;
  const headers: Record<string, string> = {};
  if (ifMatch !== undefined) headers["If-Match"] = ifMatch;
  if (ifNoneMatch !== undefined) headers["If-None-Match"] = ifNoneMatch;
  if (idempotencyKey !== undefined) headers["Idempotency-Key"] = idempotencyKey;
  const query = new URLSearchParams(ttl === undefined ? {} : { ttl: String(ttl) });
  let body: string | Uint8Array | undefined = op === "patch" ? undefined : "";
  if (op === "patch" && value !== undefined) {
    headers["Content-Type"] = type ?? "application/json";
    body = JSON.stringify(value);
  } else if (value !== undefined) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify({ value });
  } else if (base64 !== undefined) {
    headers["Content-Type"] = type ?? "application/octet-stream";
    if (op === "patch") query.set("append", "");
    body = Buffer.from(base64, "base64");
  }
  const options = op === "get" || op === "delete" || body === undefined ? { headers } : { headers, body };
  const reply = await call(port, op.toUpperCase(), `/_kv/${encodeURIComponent(key)}?${query}`, options);
  const etag = reply.headers.etag === undefined ? {} : { etag: "a version" };
  if (reply.status === 304) return { status: 304, ...etag };
  const replayed = reply.headers["idempotency-replayed"] === undefined ? {} : { replayed: true };
  if (op !== "get" || reply.status !== 200)
    return { status: reply.status, ...etag, ...reply.json(), ...replayed };
  const left = reply.headers["x-ttl"] === undefined ? {} : { ttl: "some time" };
  return reply.headers["content-type"] === "application/json"
    ? { status: 200, ...etag, value: reply.json().value, ...left }
    : {
        ...{ status: 200, ...etag, type: reply.headers["content-type"] },
        ...{ base64: reply.body.toString("base64"), ...left },
      };
}

const MERGE = "application/merge-patch+json";
const STEPS = "application/json-patch+json";

/** A change in place of any form, that often does not fit. */
function randomPatch(random: Random): Document {
  const n = random.below(100);
  const changes: Document[] = [
    { value: { increment: n } },
    { value: { increment: n, initial: 5, max: 90 } },
    { value: { increment: 1, initial: 0 }, ttl: "1h" },
    { value: { append: [n] } },
    { value: { append: "é" }, type: "application/json; charset=utf-8" },
    { value: { append: n, increment: n } },
    { value: { n, text: null, more: { n } }, type: MERGE },
    { value: n, type: MERGE },
    { value: [n], type: MERGE },
    { value: "text", type: MERGE },
    { value: [{ op: "test", path: "/n", value: n % 2 }], type: STEPS },
    { value: [{ op: "replace", path: "/n", value: n % 2 }], type: STEPS },
    { value: [{ op: "add", path: "/more", value: [n] }], type: STEPS },
    { value: [{ op: "no", path: "/n" }], type: STEPS },
    { base64: random.bytes(random.below(20)).toString("base64"), type: "application/octet-stream" },
    { base64: "" },
    { ttl: "2h" },
    { ttl: 7200 },
    { ttl: "none" },
    { ttl: "keep" },
    { ttl: "1h", value: { increment: n } },
  ];
  return changes[random.below(changes.length)];
}

const plain = ({ ...result }: Document): Document => {
  if (result.etag !== undefined) result.etag = "a version";
  if (result.ttl !== undefined) result.ttl = "some time";
  return result;
};

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
        const op = ["get", "put", "post", "delete", "patch", "patch", "patch"][random.below(7)];
        const operation: Document = { op, key: `key ${random.below(8)}/ä` };
        if (op === "put" || op === "post") {
          if (random.below(2) === 0) operation.value = { n: random.below(100), text: "ö" };
          else
            Object.assign(operation, {
              base64: random.bytes(random.below(50)).toString("base64"),
              type: "image/png",
            });
        }
        if (op === "patch") Object.assign(operation, randomPatch(random));
        if (op !== "get" && random.below(3) === 0) operation.idempotencyKey = `once ${random.below(40)}`;
        if (random.below(4) === 0) operation[random.below(2) === 0 ? "ifMatch" : "ifNoneMatch"] = "*";
        else if (random.below(6) === 0 && etags.length > 0)
          Object.assign(operation, { ifMatch: etags[random.below(etags.length)], idempotencyKey: undefined });
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

  test("batch: changes in place: what each form makes, and its end of life", async () => {
    const counter = { op: "patch", key: "p/n", value: { increment: 2, initial: 38 } };
    const results = await batch(server.port, [
      { ...counter, ttl: "1h" },
      counter,
      { op: "put", key: "p/o", value: { a: 1, b: 2 } },
      { op: "patch", key: "p/o", value: { b: null }, type: MERGE },
      { op: "patch", key: "p/o", value: [{ op: "add", path: "/c", value: [] }], type: STEPS },
      { op: "put", key: "p/b", base64: "AAE=", type: "image/png" },
      { op: "patch", key: "p/b", base64: "Ag==" },
      { op: "get", key: "p/b" },
      { op: "patch", key: "p/b", ttl: 3600 },
      { op: "get", key: "p/b" },
      { op: "patch", key: "p/absent", value: { increment: 1 } },
      { op: "patch", key: "p/n", ttl: "none", ifMatch: '"another"' },
    ]);
    assert.deepEqual(
      results.map(({ status, value, bytes, base64 }) => [status, value ?? bytes ?? base64]),
      [
        ...[
          [201, 40],
          [200, 42],
          [201, undefined],
        ],
        ...[
          [200, { a: 1 }],
          [200, { a: 1, c: [] }],
        ],
        ...[
          [201, undefined],
          [200, 3],
          [200, "AAEC"],
          [200, undefined],
          [200, "AAEC"],
        ],
        ...[
          [404, undefined],
          [412, undefined],
        ],
      ],
    );
    for (const [key, ends] of [
      ["p/n", true],
      ["p/b", true],
      ["p/o", false],
    ] as const)
      assert.equal("x-ttl" in (await call(server.port, "GET", `/${key}`)).headers, ends, key);
    await batch(server.port, [{ op: "patch", key: "p/n", ttl: "none" }]);
    assert.equal((await call(server.port, "GET", "/p/n")).headers["x-ttl"], undefined);
  });

  test("batch: thousands of increments of a few keys, with others' in between, are all there", async () => {
    const operations = Array.from({ length: 1500 }, (_, index) => ({
      ...{ op: "patch", key: `sum/${index % 3}`, value: { increment: 1, initial: 0 } },
    }));
    const alone = Array.from({ length: 30 }, (_, index) =>
      call(server.port, "PATCH", `/sum/${index % 3}`, {
        headers: JSON_TYPE,
        body: '{"increment":1,"initial":0}',
      }),
    );
    const results = await batch(server.port, operations);
    for (const { status, text } of await Promise.all(alone)) assert.ok(status < 300, text);
    assert.ok(results.every(({ status }) => status < 300));
    for (let key = 0; key < 3; key++)
      assert.equal((await call(server.port, "GET", `/sum/${key}`)).json().value, 510);
  });

  test("batch: changed values that are too much for one answer are left out, and were changed", async () => {
    const text = "x".repeat(1_000_000);
    await call(server.port, "PUT", "/long", { headers: JSON_TYPE, body: JSON.stringify({ value: text }) });
    const results = await batch(
      server.port,
      Array.from({ length: 40 }, () => ({ op: "patch", key: "long", value: { append: "y" } })),
    );
    assert.ok(results.every(({ status, success }) => status === 200 && success));
    const told = results.filter(({ value }) => value !== undefined);
    assert.ok(told.length > 20 && told.length < 34, `${told.length} of them`);
    assert.equal((await call(server.port, "GET", "/long")).json().value, text + "y".repeat(40));
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
    const spread = { headers: JSON_TYPE, body: '{"value":{\n"n":\r\n1}}' };
    assert.equal((await call(server.port, "PUT", "/spread", spread)).status, 201);
    const body =
      '{"op":"put","key":"l","value":1}\n{"op":"get","key":"l"}\n{"op":"get","key":"absent"}\n{"op":"get","key":"spread"}\n';
    const reply = await call(server.port, "POST", "/_batch", { headers: LINES_TYPE, body });
    assert.equal(reply.headers["content-type"], "application/x-ndjson");
    const results = reply.text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      results.map(({ status }) => status),
      [201, 200, 404, 200],
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
      [{ ...JSON_TYPE, "Content-Encoding": "gzip" }, `{"operations":[${put}]}`, 415],
      // Said of the whole, it would be nothing that any operation heard of.
      [{ ...JSON_TYPE, "Idempotency-Key": "once" }, `{"operations":[${put}]}`, 400],
      [{ ...JSON_TYPE, "If-Match": '"x"' }, `{"operations":[${put}]}`, 400],
      [{ ...JSON_TYPE, "If-None-Match": "*" }, `{"operations":[${put}]}`, 400],
      [{ ...JSON_TYPE, "If-Unmodified-Since": new Date(0).toUTCString() }, `{"operations":[${put}]}`, 400],
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

  test("batch: values have the limit that they have alone", async () => {
    const own = await startServer({ flags: ["-max-value", "1000"] });
    try {
      const value = "x".repeat(1001);
      const base64 = Buffer.alloc(1001).toString("base64");
      for (const operation of [
        { op: "put", key: "k", value },
        { op: "post", key: "k", base64 },
        { op: "put", key: "k", base64: Buffer.alloc(1000).toString("base64") },
        { op: "patch", key: "k", base64: "AAAA" },
      ]) {
        const single = await alone(own.port, operation);
        const [result] = await batch(own.port, [operation]);
        assert.deepEqual(
          [result.status, result.code],
          [single.status === 201 ? 200 : single.status, single.code],
        );
      }
      assert.equal((await call(own.port, "GET", "/k")).body.length, 1000);
    } finally {
      await own.dispose();
    }
  });

  test("batch: what the results of all batches take is bounded, whether anybody reads them or not", {
    skip: !hasProc,
  }, async () => {
    const silent: net.Socket[] = [];
    const own = await startServer();
    try {
      await call(own.port, "PUT", "/large", { body: content(5, 1_000_000) });
      const operations = Array.from({ length: 300 }, () => ({ op: "get", key: "large" }));
      const body = JSON.stringify({ operations });
      const memory = watchMemory(own.pid);
      const head = `POST /_batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`;
      for (let number = 0; number < 20; number++) {
        const socket = net.connect({ host: "127.0.0.1", port: own.port });
        silent.push(socket);
        socket.on("error", () => {});
        socket.pause();
        socket.write(head + body);
      }
      const reading = Array.from({ length: 8 }, () => batch(own.port, operations));
      const codes = (await Promise.all(reading)).flat().map(({ status, code }) => code ?? status);
      assert.ok(codes.every((code) => [200, "overloaded", "too_large"].includes(code)));
      assert.ok(codes.includes(200) && codes.includes("overloaded"));
      await waitUntil("there is memory again", async () => {
        const results = await batch(own.port, operations.slice(0, 20));
        return results.every(({ status }) => status === 200);
      });
      const bytes = memory.stop().own - memory.start.own;
      assert.ok(bytes < 1.2e9, `${bytes} bytes more`);
    } finally {
      for (const socket of silent) socket.destroy();
      await own.dispose();
    }
  });

  test("batch: a patch that nobody could carry out is one result among others, and the node lives", async () => {
    const { port } = server;
    const value = [];
    for (let depth = 1; depth < 20_000; depth = depth * 2 + 1)
      value.push({ op: "copy", from: "", path: "/a".repeat(depth + 1) });
    const results = await batch(port, [
      { op: "put", key: "deep", value: { a: {} } },
      { op: "patch", key: "deep", type: STEPS, value },
      { op: "patch", key: "deep", type: MERGE, value: { b: 1 } },
    ]);
    assert.deepEqual(
      results.map(({ status }) => status),
      [201, 409, 200],
    );
    assert.equal((await call(port, "GET", "/deep")).text, '{"value":{"a":{},"b":1}}');
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
    // Batches of all nodes at once change the same few values: each is counted once, whoever asks again.
    const perNode = 60;
    await Promise.all(
      cluster.workers.map(async ({ port }, node) => {
        let rest = Array.from({ length: perNode }, (_, i) => ({
          ...{ op: "patch", key: `n${i % 4}`, value: { increment: 1, initial: 0 } },
          idempotencyKey: `${node} ${i}`,
        }));
        while (rest.length > 0) {
          const results = await batch(port, rest);
          for (const { status } of results) assert.ok(status < 300 || status === 503, String(status));
          rest = rest.filter((_, i) => results[i].status === 503);
        }
      }),
    );
    for (let i = 0; i < 4; i++) {
      let reply = await call(b.port, "GET", `/n${i}`);
      while (reply.status === 503) reply = await call(b.port, "GET", `/n${i}`);
      assert.equal(reply.json().value, (3 * perNode) / 4);
    }
  } finally {
    await cluster.dispose();
  }
});
