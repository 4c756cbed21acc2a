import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CHUNK_BYTES,
  CONDITION_BYTES_MAX,
  KEY_BYTES_MAX,
  REPLY_AT_ONCE_BYTES,
} from "../../../src/util/limits.ts";
import { etagText } from "../fake-vault.ts";
import { type Harness, sleep, until, withFront } from "../harness.ts";

const OTHER_ETAG = `"${"f".repeat(32)}"`;

function pattern(bytes: number): Buffer {
  return Buffer.from(Uint8Array.from({ length: bytes }, (_, index) => index % 251));
}

test("GET: a value comes back with its type and version", async () => {
  await withFront({}, async ({ vault, call }) => {
    vault.put("a/b", "hello", { contentType: "text/plain; charset=utf-8" });
    vault.put("j", '{"value":1}', { json: true, contentType: "application/json" });
    vault.put("empty", "");
    const raw = await call("GET", "/a/b");
    assert.equal(raw.status, 200);
    assert.equal(raw.text, "hello");
    assert.equal(raw.headers["content-type"], "text/plain; charset=utf-8");
    assert.equal(raw.headers.etag, etagText(1));
    assert.equal(raw.headers["content-length"], "5");
    const json = await call("GET", "/j");
    assert.equal(json.text, '{"value":1}');
    assert.equal(json.headers["content-type"], "application/json");
    assert.equal(json.headers.etag, etagText(2));
    const empty = await call("GET", "/empty");
    assert.equal(empty.status, 200);
    assert.equal(empty.headers["content-length"], "0");
    assert.equal((await call("GET", "/_kv/a/b")).text, "hello");
    assert.equal((await call("GET", "/a%2Fb?x=1&consistency=one")).text, "hello");
  });
});

test("GET: the same answer again after another type, and for more types than are remembered", async () => {
  await withFront({}, async ({ vault, call }) => {
    for (let index = 0; index < 300; index++)
      vault.put(`t${index}`, `v${index}`, { contentType: `x/t${index}` });
    for (const round of [1, 2]) {
      for (let index = 0; index < 300; index += round) {
        const reply = await call("GET", `/t${index}`);
        assert.equal(reply.headers["content-type"], `x/t${index}`);
        assert.equal(reply.headers.etag, etagText(index + 1));
        assert.equal(reply.text, `v${index}`);
      }
    }
  });
});

test("GET: a stored type that could add headers is not sent", async () => {
  await withFront({}, async ({ vault, call }) => {
    vault.put("k", "v", { contentType: "text/plain\r\nSet-Cookie: x=1" });
    for (const [method, headers] of [
      ["GET", {}],
      ["HEAD", {}],
      ["GET", { range: "bytes=0-0" }],
    ] as const) {
      const reply = await call(method, "/k", { headers });
      assert.equal(reply.headers["content-type"], "application/octet-stream");
      assert.equal(reply.headers["set-cookie"], undefined);
    }
  });
});

test("GET, HEAD: absent is 404, damaged is 500, and HEAD has no body", async () => {
  await withFront({}, async ({ vault, call }) => {
    vault.put("bad", "v", { damaged: true });
    vault.put("late", "v", { brokenAt: 0 });
    for (const [path, status, code] of [
      ["/nope", 404, "not_found"],
      ["/bad", 500, "corrupt"],
    ] as const) {
      const get = await call("GET", path);
      assert.equal(get.status, status);
      assert.equal(get.headers["content-type"], "application/json");
      assert.deepEqual([get.json().success, get.json().code], [false, code]);
      assert.equal(typeof get.json().error, "string");
      const head = await call("HEAD", path);
      assert.equal(head.status, status);
      assert.equal(head.body.length, 0);
      assert.equal(head.headers["content-length"], String(get.body.length));
    }
    const late = await call("GET", "/late");
    assert.equal(late.status, 500, "damage that shows when the record is read");
    assert.equal(late.json().code, "corrupt");
  });
});

test("GET, HEAD: bad keys, long keys, reserved paths, bad queries", async () => {
  await withFront({}, async ({ vault, call }) => {
    vault.put("k", "v");
    for (const [path, status, code] of [
      ["/", 200, undefined],
      ["/?x=1", 200, undefined],
      ["/%zz", 400, "bad_key"],
      ["/%C0%AF", 400, "bad_key"],
      [`/${"k".repeat(KEY_BYTES_MAX + 1)}`, 414, "key_too_long"],
      [`/${"%6B".repeat(KEY_BYTES_MAX + 1)}`, 414, "key_too_long"],
      ["/_nothing", 404, "not_found"],
      ["/_kv", 404, "not_found"],
      ["/k?consistency=all", 400, "bad_request"],
      ["/k?ttl=1", 400, "bad_request"],
      ["/?list&limit=0", 400, "bad_request"],
      ["/k?list&limit=x", 400, "bad_request"],
    ] as const) {
      const get = await call("GET", path);
      assert.deepEqual([get.status, get.json().code], [status, code], path);
      const head = await call("HEAD", path);
      // A list has no head.
      assert.deepEqual([head.status, head.body.length], [path.includes("?list") ? 405 : status, 0], path);
    }
    assert.match((await call("GET", "/_nothing")).json().error, /reserved.*_kv/);
    const longest = "%6B".repeat(KEY_BYTES_MAX);
    assert.equal((await call("GET", `/${longest}`)).status, 404, "the longest key fits uWS' header limit");
  });
});

test("GET: raw bytes that are not UTF-8 are a bad key", async () => {
  await withFront({}, async ({ connect }) => {
    const client = await connect();
    client.send(Buffer.from("GET /a\xe9b HTTP/1.1\r\nHost: x\r\n\r\n", "latin1"));
    await client.sees('"bad_key"');
    assert.match(client.text, /^HTTP\/1\.1 400 Bad Request\r\n/);
  });
});

test("HEAD: what GET would send, without the body, on a connection that stays usable", async () => {
  await withFront({}, async ({ vault, call, connect }) => {
    vault.put("k", "hello", { contentType: "text/plain" });
    vault.put("huge", "", { virtualBytes: 6 * 2 ** 30 });
    const head = await call("HEAD", "/k", { headers: { range: "bytes=0-1" } });
    assert.equal(head.status, 200, "Range means nothing to HEAD");
    assert.equal(head.headers["content-length"], "5");
    assert.equal(head.headers["content-type"], "text/plain");
    assert.equal(head.headers["accept-ranges"], "bytes");
    assert.equal(head.headers.etag, etagText(1));
    assert.equal((await call("HEAD", "/huge")).headers["content-length"], String(6 * 2 ** 30));
    const client = await connect();
    client.send("HEAD /k HTTP/1.1\r\nHost: x\r\n\r\nGET /k HTTP/1.1\r\nHost: x\r\n\r\n");
    await client.sees("hello");
  });
});

const CONDITIONS: ReadonlyArray<[headers: (etag: string) => Record<string, string>, status: number]> = [
  [(etag) => ({ "if-none-match": etag }), 304],
  [(etag) => ({ "if-none-match": `W/${etag}` }), 304],
  [(etag) => ({ "if-none-match": `${OTHER_ETAG}, ${etag}` }), 304],
  [() => ({ "if-none-match": "*" }), 304],
  [() => ({ "if-none-match": OTHER_ETAG }), 200],
  [(etag) => ({ "if-match": etag }), 200],
  [() => ({ "if-match": "*" }), 200],
  [() => ({ "if-match": OTHER_ETAG }), 412],
  [(etag) => ({ "if-match": `W/${etag}` }), 412],
  [(etag) => ({ "if-match": OTHER_ETAG, "if-none-match": etag }), 412],
  [(etag) => ({ "if-match": etag, "if-none-match": etag }), 304],
  [() => ({ "if-match": "x".repeat(CONDITION_BYTES_MAX + 1) }), 400],
  [() => ({ "if-none-match": "x".repeat(CONDITION_BYTES_MAX + 1) }), 400],
];

test("GET, HEAD: conditions, in order, for small and large values", async () => {
  await withFront({}, async ({ vault, call }) => {
    vault.put("small", "hello");
    vault.put("large", pattern(REPLY_AT_ONCE_BYTES + 1));
    for (const [path, version, bytes] of [
      ["/small", 1, 5],
      ["/large", 2, REPLY_AT_ONCE_BYTES + 1],
    ] as const) {
      for (const [build, status] of CONDITIONS) {
        const headers = build(etagText(version));
        for (const method of ["GET", "HEAD"]) {
          const reply = await call(method, path, { headers });
          const what = `${method} ${path} ${JSON.stringify(headers).slice(0, 80)}`;
          assert.equal(reply.status, status, what);
          if (status !== 400) assert.equal(reply.headers.etag, etagText(version), what);
          if (status === 304) {
            assert.equal(reply.body.length, 0, what);
            assert.equal(reply.headers["content-length"], undefined, what);
          }
          if (status === 200) assert.equal(reply.body.length, method === "GET" ? bytes : 0, what);
          if (status === 412 && method === "GET") assert.equal(reply.json().code, "precondition_failed");
        }
      }
    }
    const absent = await call("GET", "/absent", { headers: { "if-match": "*" } });
    assert.equal(
      absent.status,
      404,
      "RFC 9110, section 13.2.1: no condition where the answer would not be 2xx",
    );
  });
});

test("GET: ranges of a value in one record, in one piece and in several", async () => {
  await withFront({}, async ({ vault, call }) => {
    const sizes = { tiny: 10, middle: REPLY_AT_ONCE_BYTES * 3, big: CHUNK_BYTES * 2 + 100 };
    for (const [name, bytes] of Object.entries(sizes)) {
      const value = pattern(bytes);
      const { version } = vault.put(name, value, { contentType: "x/y" });
      for (const [start, end] of [
        [0, 1],
        [1, 5],
        [0, bytes],
        [bytes - 1, bytes],
        [5, bytes],
        [Math.floor(bytes / 2), Math.floor(bytes / 2) + 4],
        [Math.max(0, CHUNK_BYTES - 3), CHUNK_BYTES + 3],
        [2, bytes - 2],
      ]) {
        if (end > bytes) continue;
        const reply = await call("GET", `/${name}`, { headers: { range: `bytes=${start}-${end - 1}` } });
        assert.equal(reply.status, 206);
        assert.equal(reply.headers["content-range"], `bytes ${start}-${end - 1}/${bytes}`);
        assert.equal(reply.headers["content-length"], String(end - start));
        assert.equal(reply.headers["content-type"], "x/y");
        assert.equal(reply.headers["accept-ranges"], "bytes");
        assert.equal(reply.headers.etag, etagText(version));
        assert.ok(reply.body.equals(value.subarray(start, end)), `${name} ${start}-${end}`);
      }
      const suffix = await call("GET", `/${name}`, { headers: { range: "bytes=-3" } });
      assert.ok(suffix.body.equals(value.subarray(bytes - 3)));
    }
  });
});

test("GET: ranges that cannot be sent, that are ignored, and If-Range", async () => {
  await withFront({}, async ({ vault, call }) => {
    vault.put("k", "0123456789");
    vault.put("empty", "");
    const outside = await call("GET", "/k", { headers: { range: "bytes=10-" } });
    assert.equal(outside.status, 416);
    assert.equal(outside.headers["content-range"], "bytes */10");
    assert.equal(outside.headers.etag, etagText(1));
    assert.equal(outside.json().code, "range_not_satisfiable");
    assert.equal((await call("GET", "/empty", { headers: { range: "bytes=0-" } })).status, 416);
    for (const range of ["bytes=0-1,3-4", "bytes=a-", "items=0-1", "bytes=3-2"]) {
      const reply = await call("GET", "/k", { headers: { range } });
      assert.deepEqual([reply.status, reply.text], [200, "0123456789"], range);
      assert.equal(reply.headers["content-range"], undefined);
    }
    for (const [ifRange, status] of [
      [etagText(1), 206],
      [OTHER_ETAG, 200],
      [`W/${etagText(1)}`, 200],
      ["Wed, 21 Oct 2015 07:28:00 GMT", 200],
    ] as const) {
      const reply = await call("GET", "/k", { headers: { range: "bytes=0-1", "if-range": ifRange } });
      assert.equal(reply.status, status, ifRange);
    }
    const both = await call("GET", "/k", { headers: { range: "bytes=0-1", "if-none-match": etagText(1) } });
    assert.equal(both.status, 304, "the condition comes before the range");
  });
});

test("GET: values of every size around the borders arrive whole", async () => {
  await withFront({}, async ({ vault, call }) => {
    for (const border of [REPLY_AT_ONCE_BYTES, CHUNK_BYTES, CHUNK_BYTES * 3]) {
      for (const bytes of [border - 1, border, border + 1]) {
        const value = pattern(bytes);
        vault.put("v", value);
        const reply = await call("GET", "/v");
        assert.equal(reply.status, 200);
        assert.ok(reply.body.equals(value), `${bytes}`);
      }
    }
  });
});

test("GET: a value above 4 GiB announces its length and can be read at its end", async () => {
  await withFront({}, async ({ vault, call }) => {
    const bytes = 5 * 2 ** 30;
    vault.put("huge", "", { virtualBytes: bytes });
    const reply = await call("GET", "/huge", { headers: { range: `bytes=${bytes - 4}-` } });
    assert.equal(reply.status, 206);
    assert.equal(reply.headers["content-range"], `bytes ${bytes - 4}-${bytes - 1}/${bytes}`);
    assert.deepEqual(
      [...reply.body],
      [4, 3, 2, 1].map((back) => (bytes - back) % 251),
    );
  });
});

test("GET: a slow reader gets every byte, others are served, memory does not grow", async () => {
  await withFront({}, async ({ vault, call, connect }) => {
    const bytes = 192 * 1024 * 1024;
    vault.put("big", "", { virtualBytes: bytes });
    vault.put("small", "s");
    const client = await connect();
    let received = 0;
    let wrong = 0;
    let bodyStart = -1;
    client.socket.removeAllListeners("data");
    client.stallsAtFirst();
    client.socket.on("data", (piece) => {
      if (bodyStart < 0) bodyStart = piece.indexOf("\r\n\r\n") + 4;
      for (let index = bodyStart; index < piece.length; index += 997) {
        if (piece[index] !== (received + index - bodyStart) % 251) wrong++;
      }
      received += piece.length - bodyStart;
      bodyStart = 0;
    });
    client.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    await until(() => received > 0, "the answer begins");
    const before = process.memoryUsage().rss;
    for (let round = 0; round < 20; round++) {
      assert.equal((await call("GET", "/small")).text, "s");
      await sleep(5);
    }
    assert.ok(received < bytes / 2, "the reader really stalls");
    client.socket.resume();
    let grown = 0;
    await until(
      () => {
        grown = Math.max(grown, process.memoryUsage().rss - before);
        return received === bytes;
      },
      "all bytes arrive",
      () => `${received}`,
      30_000,
    );
    assert.equal(wrong, 0);
    assert.ok(grown < 64 * 1024 * 1024, `memory grew by ${grown}`);
    assert.equal(vault.readersOpen, 0);
  });
});

test("GET: a client that leaves in the middle releases the value", async () => {
  await withFront({}, async ({ vault, call, connect }) => {
    vault.put("big", "", { virtualBytes: 1024 * 1024 * 1024 });
    const client = await connect();
    client.stallsAtFirst();
    client.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    await client.sees("Content-Length: 1073741824");
    assert.equal(vault.readersOpen, 1);
    client.socket.destroy();
    await until(() => vault.readersOpen === 0, "the reader is closed");
    const stats = (await call("GET", "/_stats")).json();
    assert.equal(stats.requests.get.aborted, 1);
    assert.equal(stats.queues.requestsInFlight, 0);
  });
});

test("GET: a value damaged at its start is a 500, damaged later is a cut connection", async () => {
  await withFront({}, async ({ vault, call, connect, log }) => {
    vault.put("start", pattern(CHUNK_BYTES * 3), { brokenAt: 0 });
    vault.put("later", pattern(CHUNK_BYTES * 3), { brokenAt: CHUNK_BYTES * 2 });
    const reply = await call("GET", "/start");
    assert.deepEqual([reply.status, reply.json().code], [500, "corrupt"]);
    const client = await connect();
    client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    await client.isClosed();
    assert.ok(client.text.includes(`Content-Length: ${CHUNK_BYTES * 3}`));
    const body = client.received.subarray(client.received.indexOf("\r\n\r\n") + 4);
    assert.ok(body.length <= CHUNK_BYTES * 2, "less than announced");
    assert.ok(body.equals(pattern(CHUNK_BYTES * 3).subarray(0, body.length)), "and nothing wrong");
    assert.ok(log.some((line) => line.message.includes("broke off")));
    const good = await call("GET", "/later", { headers: { range: "bytes=5-9" } });
    assert.equal(good.status, 206, "the undamaged part can be read");
  });
});

test("GET: pipelined requests are answered in order; one behind a streaming answer closes the connection", async () => {
  await withFront({}, async ({ vault, connect }) => {
    vault.put("a", "AAAA");
    vault.put("b", "BBBB");
    vault.put("big", "", { virtualBytes: 64 * 1024 * 1024 });
    const client = await connect();
    client.send(
      "GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\nGET /c HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    await client.sees("not_found");
    assert.match(client.text, /AAAA[\s\S]*BBBB[\s\S]*404/);
    const second = await connect();
    second.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    await second.isClosed();
    assert.ok(!second.text.includes("AAAA"));
  });
});

test("GET: a request body is swallowed; a bug in the vault is a 500 and is logged", async () => {
  await withFront({}, async ({ vault, call, log }: Harness) => {
    vault.put("a", "AAAA");
    assert.equal((await call("GET", "/a", { body: "unasked" })).text, "AAAA");
    assert.equal((await call("GET", "/a")).text, "AAAA");
    vault.findThrows = true;
    const broken = await call("GET", "/a");
    assert.deepEqual([broken.status, broken.json().code], [500, "internal"]);
    const head = await call("HEAD", "/a");
    assert.deepEqual([head.status, head.body.length], [500, 0]);
    assert.match(JSON.stringify(log), /find is broken/);
    vault.findThrows = false;
    assert.equal((await call("GET", "/a")).text, "AAAA");
  });
});
