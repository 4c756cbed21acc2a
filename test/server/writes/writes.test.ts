import assert from "node:assert/strict";
import { test } from "node:test";
import { readContentType } from "../../../src/server/writes/writes.ts";
import { ERRORS, type ErrorCode } from "../../../src/util/errors.ts";
import {
  CHUNK_BYTES,
  CONDITION_BYTES_MAX,
  CONTENT_TYPE_BYTES_MAX,
  KEY_BYTES_MAX,
} from "../../../src/util/limits.ts";
import { etagText } from "../fake-vault.ts";
import { sleep, until, withFront } from "../harness.ts";

const JSON_TYPE = { "content-type": "application/json" };

test("PUT, POST, DELETE: statuses, bodies and versions", async () => {
  await withFront({}, async ({ call }) => {
    const created = await call("PUT", "/k", { body: "one" });
    assert.equal(created.status, 201);
    assert.deepEqual(created.json(), { success: true, created: true });
    assert.equal(created.headers["content-type"], "application/json");
    assert.equal(created.headers.etag, etagText(1));
    const replaced = await call("PUT", "/k", { body: "two" });
    assert.deepEqual([replaced.status, replaced.json()], [200, { success: true, created: false }]);
    assert.equal(replaced.headers.etag, etagText(2));
    assert.equal((await call("GET", "/k")).text, "two");
    const exists = await call("POST", "/k", { body: "three" });
    assert.deepEqual([exists.status, exists.json().code], [409, "exists"]);
    assert.equal(exists.headers.etag, etagText(2), "what is there");
    const posted = await call("POST", "/new", { body: "n" });
    assert.deepEqual([posted.status, posted.json()], [201, { success: true, created: true }]);
    const deleted = await call("DELETE", "/k");
    assert.deepEqual([deleted.status, deleted.json()], [200, { success: true, deleted: true }]);
    assert.notEqual(deleted.headers.etag, undefined);
    const again = await call("DELETE", "/k");
    assert.deepEqual([again.status, again.json()], [200, { success: true, deleted: false }]);
    assert.equal((await call("GET", "/k")).status, 404);
  });
});

test("PUT: the body's kind and type", async () => {
  for (const [header, json, contentType] of [
    ["", false, "application/octet-stream"],
    ["text/plain", false, "text/plain"],
    ["text/html; charset=UTF-8", false, "text/html; charset=UTF-8"],
    ["application/x-www-form-urlencoded", false, "application/octet-stream"],
    ["application/x-www-form-urlencoded; charset=utf-8", false, "application/octet-stream"],
    ["application/json", true, "application/json"],
    ["application/json; charset=utf-8", true, "application/json"],
    ["Application/JSON ;x=y", true, "application/json"],
    ["application/jsonl", false, "application/jsonl"],
    ["application/json-patch+json", false, "application/json-patch+json"],
    ["application/vnd.api+json", false, "application/vnd.api+json"],
    ["x".repeat(CONTENT_TYPE_BYTES_MAX), false, "x".repeat(CONTENT_TYPE_BYTES_MAX)],
  ] as const) {
    const into = { json: false, contentType: "" };
    assert.equal(readContentType(header, into), null, header);
    assert.deepEqual(into, { json, contentType }, header);
  }
  for (const header of ["x".repeat(CONTENT_TYPE_BYTES_MAX + 1), "text/é", "text/\u0001"]) {
    assert.notEqual(readContentType(header, { json: false, contentType: "" }), null);
  }
  await withFront({}, async ({ call, vault }) => {
    await call("PUT", "/raw", { body: "x", headers: { "content-type": "text/plain" } });
    await call("PUT", "/json", { body: '{"value": 12345678901234567890}', headers: JSON_TYPE });
    await call("PUT", "/none", { body: "x" });
    assert.equal(vault.values.get("raw")?.contentType, "text/plain");
    assert.equal(vault.values.get("json")?.json, true);
    assert.equal(vault.values.get("none")?.contentType, "application/octet-stream");
    const long = await call("PUT", "/k", { body: "x", headers: { "content-type": "x".repeat(256) } });
    assert.deepEqual([long.status, long.json().code], [400, "bad_request"]);
  });
});

test("PUT: empty raw bodies are values, empty or bad JSON is refused", async () => {
  await withFront({}, async ({ call, connect }) => {
    assert.equal((await call("PUT", "/e", { body: "" })).status, 201);
    assert.equal((await call("GET", "/e")).headers["content-length"], "0");
    const chunked = await connect();
    chunked.send("PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    await chunked.sees("201 Created");
    for (const [body, code] of [
      ["", "bad_json"],
      ["{", "bad_json"],
      ["{}", "no_value"],
    ] as const) {
      const reply = await call("PUT", "/j", { body, headers: JSON_TYPE });
      assert.deepEqual([reply.status, reply.json().code], [400, code]);
    }
    assert.equal((await call("GET", "/j")).status, 404);
  });
});

test("PUT, POST, DELETE: conditions reach the vault", async () => {
  await withFront({}, async ({ call }) => {
    assert.equal((await call("PUT", "/k", { body: "x", headers: { "if-match": "*" } })).status, 412);
    assert.equal((await call("PUT", "/k", { body: "x", headers: { "if-none-match": "*" } })).status, 201);
    const refused = await call("PUT", "/k", { body: "x", headers: { "if-none-match": "*" } });
    assert.deepEqual([refused.status, refused.json().code], [412, "precondition_failed"]);
    assert.equal((await call("PUT", "/k", { body: "y", headers: { "if-match": etagText(1) } })).status, 200);
    assert.equal((await call("DELETE", "/k", { headers: { "if-match": etagText(1) } })).status, 412);
    assert.equal((await call("DELETE", "/k", { headers: { "if-match": etagText(2) } })).status, 200);
    assert.equal((await call("POST", "/k", { body: "z", headers: { "if-match": "*" } })).status, 412);
    const long = { "if-match": "x".repeat(CONDITION_BYTES_MAX + 1) };
    assert.equal((await call("DELETE", "/k", { headers: long })).status, 400);
    assert.equal((await call("PUT", "/k", { body: "x", headers: long })).status, 400);
  });
});

test("writes: what the path and the query rule out", async () => {
  await withFront({}, async ({ call, vault }) => {
    for (const method of ["PUT", "POST", "DELETE"]) {
      for (const [path, status, code] of [
        ["/", 400, "bad_key"],
        ["/%FF", 400, "bad_key"],
        [`/${"k".repeat(KEY_BYTES_MAX + 1)}`, 414, "key_too_long"],
        ["/_admin/x", 404, "not_found"],
        ["/health", 405, "method_not_allowed"],
        ["/_stats", 405, "method_not_allowed"],
        ["/k?consistency=two", 400, "bad_request"],
        ["/k?ttl=soon", 400, "bad_request"],
      ] as const) {
        const reply = await call(method, path, method === "DELETE" ? {} : { body: "x" });
        assert.deepEqual([reply.status, reply.json().code], [status, code], `${method} ${path}`);
        assert.equal(reply.headers.allow, status === 405 ? "GET, HEAD" : undefined);
      }
    }
    assert.equal(vault.values.size, 0);
    assert.equal((await call("PUT", "/_kv/health?consistency=quorum", { body: "x" })).status, 201);
    assert.equal(vault.values.has("health"), true);
  });
});

test("writes: every result of the vault has its status and headers", async () => {
  await withFront({}, async ({ call, vault }) => {
    for (const code of Object.keys(ERRORS) as ErrorCode[]) {
      vault.nextFailure = { error: code };
      const reply = await call("PUT", "/k", { body: "x" });
      const kind = ERRORS[code];
      assert.equal(reply.status, kind.status, code);
      assert.deepEqual(reply.json(), { success: false, error: kind.message, code });
      assert.equal(reply.headers["content-type"], "application/json");
      const retry = kind.retryable && (kind.status === 429 || kind.status === 503);
      assert.equal(reply.headers["retry-after"], retry ? "1" : undefined, code);
      assert.equal(reply.headers["www-authenticate"] !== undefined, kind.status === 401);
    }
    vault.nextFailure = { error: "bad_json", detail: 'byte 7: "é" is not JSON' };
    const detailed = await call("PUT", "/k", { body: "x" });
    assert.equal(detailed.json().error, 'byte 7: "é" is not JSON');
    assert.equal(vault.values.size, 0);
  });
});

test("writes: a full queue is 503 with Retry-After", async () => {
  await withFront({}, async ({ call, vault }) => {
    vault.full = true;
    for (const [method, body] of [
      ["PUT", "x"],
      ["PUT", "x".repeat(CHUNK_BYTES + 1)],
      ["DELETE", undefined],
    ] as const) {
      const reply = await call(method, "/k", body === undefined ? {} : { body });
      assert.deepEqual([reply.status, reply.json().code], [503, "overloaded"]);
      assert.equal(reply.headers["retry-after"], "1");
    }
  });
});

test("writes: framing. Lengths that are missing, wrong, or doubled", async () => {
  await withFront({}, async ({ call, connect, vault }) => {
    vault.put("k", "old");
    for (const method of ["PUT", "POST"]) {
      const missing = await connect();
      missing.send(`${method} /k HTTP/1.1\r\nHost: x\r\n\r\n`);
      await missing.sees('"length_required"');
      assert.match(missing.text, /^HTTP\/1\.1 411 Length Required\r\n/);
    }
    for (const [head, status] of [
      ["PUT /k HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\nx", 400],
      ["PUT /k HTTP/1.1\r\nHost: x\r\nContent-Length: 1x\r\n\r\nx", 400],
      ["PUT /k HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\nx", 400],
      ["PUT /k HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\nx", 400],
      ["DELETE /k HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400],
      [
        "PUT /k HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        400,
      ],
      ["DELETE /k HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400],
      ["PUT /k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 400],
      ["PUT /k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n1\r\nx\r\n0\r\n\r\n", 400],
      ["PUT /k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n", 400],
      ["PUT /k HTTP/1.0\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", 505],
      [`PUT /k HTTP/1.1\r\nHost: x\r\nX: ${"y".repeat(20_000)}\r\nContent-Length: 1\r\n\r\nx`, 431],
    ] as const) {
      const client = await connect();
      client.send(head);
      await client.sees(`HTTP/1.1 ${status} `);
      await client.isClosed();
    }
    await sleep(20);
    assert.equal(Buffer.from(vault.values.get("k")?.bytes ?? []).toString(), "old", "nothing was executed");
    const stats = (await call("GET", "/_stats")).json();
    assert.equal(stats.queues.requestsInFlight, 0);
  });
});

test("writes: a part of a value is refused, not stored as the whole", async () => {
  await withFront({}, async ({ call, vault }) => {
    const reply = await call("PUT", "/k", { body: "tail", headers: { "content-range": "bytes 4-7/8" } });
    assert.deepEqual([reply.status, reply.json().code], [400, "bad_request"]);
    assert.equal(vault.values.size, 0);
  });
});

test("writes: Expect: 100-continue and chunked bodies in many pieces", async () => {
  await withFront({}, async ({ connect, vault }) => {
    const polite = await connect();
    polite.send("PUT /polite HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    await polite.sees("HTTP/1.1 100 Continue\r\n\r\n");
    polite.send("hello");
    await polite.sees("201 Created");
    const chunked = await connect();
    chunked.send("PUT /chunked HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n");
    for (const piece of ["5\r\nhel", "lo\r\n1\r\n", " \r\n", "5\r\nworld\r\n", "0\r\n", "\r\n"]) {
      chunked.send(piece);
      await sleep(5);
    }
    await chunked.sees("201 Created");
    assert.equal(Buffer.from(vault.values.get("chunked")?.bytes ?? []).toString(), "hello world");
    chunked.send("DELETE /chunked HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody");
    await chunked.sees('"deleted":true');
  });
});

test("writes: a request pipelined behind a write closes the connection and is not executed", async () => {
  await withFront({}, async ({ connect, vault }) => {
    const client = await connect();
    client.send(
      "PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1PUT /b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n2",
    );
    await client.isClosed();
    await sleep(20);
    assert.equal(vault.values.has("b"), false);
  });
});

test("writes: keys of requests whose bodies come interleaved are not mixed up", async () => {
  await withFront({}, async ({ connect, call, vault }) => {
    const clients = await Promise.all(Array.from({ length: 20 }, () => connect()));
    for (const [index, client] of clients.entries()) {
      client.send(`PUT /key-${index} HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n`);
    }
    for (const piece of ["abc", "def", "ghi", "jkl"]) {
      for (const client of clients) client.send(piece);
      assert.equal((await call("GET", "/other")).status, 404);
      await sleep(2);
    }
    for (const client of clients) await client.sees("201 Created");
    assert.equal(vault.values.size, 20);
    for (let index = 0; index < 20; index++) {
      assert.equal(Buffer.from(vault.values.get(`key-${index}`)?.bytes ?? []).toString(), "abcdefghijkl");
    }
  });
});

test("writes: a vault that throws is a 500, and the next request works", async () => {
  await withFront({}, async ({ call, vault, log }) => {
    vault.submitThrows = true;
    for (const method of ["PUT", "DELETE"]) {
      const reply = await call(method, "/k", method === "PUT" ? { body: "x" } : {});
      assert.deepEqual([reply.status, reply.json().code], [500, "internal"]);
    }
    vault.submitThrows = false;
    vault.failUploadAt = { bytes: 1, failure: { error: "internal" }, throws: true };
    const upload = await call("PUT", "/k", { body: "x".repeat(CHUNK_BYTES + 1) });
    assert.deepEqual([upload.status, upload.json().code], [500, "internal"]);
    vault.failUploadAt = null;
    assert.equal((await call("PUT", "/k", { body: "x" })).status, 201);
    assert.equal(log.length, 3);
    assert.match(JSON.stringify(log), /submit is broken[\s\S]*upload is broken/);
  });
});

test("writes: a client that leaves while its write is in the batch changes nothing else", async () => {
  await withFront({}, async ({ call, connect, vault }) => {
    vault.held = true;
    const client = await connect();
    client.send("PUT /k HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    await sleep(30);
    client.socket.destroy();
    await sleep(30);
    vault.release();
    await until(() => vault.values.has("k"), "the write was executed");
    const stats = (await call("GET", "/_stats")).json();
    assert.equal(stats.requests.put.aborted, 1);
    assert.equal(stats.queues.requestsInFlight, 0);
  });
});

test("writes: an empty body whose head comes in pieces, cut at every byte, is a value like any other", async () => {
  await withFront({}, async ({ connect, vault, call }) => {
    const head = "PUT /empty HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    for (let cut = head.indexOf("\r\n") + 2; cut < head.length; cut++) {
      vault.values.clear();
      const client = await connect();
      client.send(head.slice(0, cut));
      // One thread reads all connections: this answer means that the first piece was read.
      assert.equal((await call("GET", "/health")).status, 200);
      client.send(head.slice(cut));
      await client.sees("201 Created");
      assert.equal(vault.values.get("empty")?.bytes.length, 0);
    }
  });
});
