/**
 * Headers that are kept with a value: over the whole program, for values of all sizes and all ways to write and to read them.
 */
import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import path from "node:path";
import { Readable } from "node:stream";
import { test } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";
import { call } from "./client.ts";
import { REPOSITORY, removeFolder, runProgram, temporaryFolder, withServer } from "./server.ts";

const KEPT: Record<string, string> = {
  "content-encoding": "gzip",
  "content-language": "de, en",
  "content-disposition": 'attachment; filename="a b.txt"',
  "cache-control": "public, max-age=600",
  "x-meta-owner": "Ada, Countess of Lovelace",
  "x-meta-9~": "odd; name",
};
const TYPE = { "content-type": "text/plain" };
const SIZES = { small: 100, medium: 300_000, large: 3 * 1024 * 1024 };

function bodyOf(bytes: number): Buffer {
  return Buffer.from(Array.from({ length: bytes }, (_, i) => (i * 2654435761) >>> 24));
}

/** What of these headers an answer has. */
function keptIn(headers: Record<string, unknown>): Record<string, unknown> {
  const names = [...Object.keys(KEPT), ...Object.keys(headers).filter((name) => name.startsWith("x-meta-"))];
  return Object.fromEntries(names.filter((name) => name in headers).map((name) => [name, headers[name]]));
}

test("metadata: comes back by every way to read, of values of all sizes, on every way to write, and over a restart", () =>
  withServer({}, async (server) => {
    const written: [string, Buffer][] = [];
    for (const [name, bytes] of Object.entries(SIZES))
      for (const method of ["PUT", "POST"])
        for (const isChunked of [false, true]) {
          const key = `/${name}/${method}/${isChunked}`;
          const body = bodyOf(bytes);
          const sent = isChunked ? Readable.from([body.subarray(0, 7), body.subarray(7)]) : body;
          const reply = await call(server.port, method, key, { headers: { ...KEPT, ...TYPE }, body: sent });
          assert.equal(reply.status, 201, key);
          written.push([key, body]);
        }
    const check = async () => {
      for (const [key, body] of written) {
        const { port } = server;
        const whole = await call(port, "GET", key);
        assert.equal(whole.status, 200, key);
        assert.ok(whole.body.equals(body), key);
        assert.deepEqual(keptIn(whole.headers), KEPT, key);
        assert.equal(whole.headers["content-type"], "text/plain");
        assert.equal(whole.headers["access-control-expose-headers"], "x-meta-owner, x-meta-9~");
        const head = await call(port, "HEAD", key);
        assert.deepEqual(keptIn(head.headers), KEPT, `HEAD ${key}`);
        assert.equal(head.headers["content-length"], String(body.length));
        const part = await call(port, "GET", key, { headers: { range: "bytes=10-19" } });
        assert.equal(part.status, 206);
        assert.ok(part.body.equals(body.subarray(10, 20)));
        assert.deepEqual(keptIn(part.headers), KEPT, `range of ${key}`);
        const same = await call(port, "GET", key, {
          headers: { "if-none-match": String(whole.headers.etag) },
        });
        assert.equal(same.status, 304);
        assert.deepEqual(keptIn(same.headers), { "cache-control": KEPT["cache-control"] });
      }
    };
    await check();
    await server.kill("SIGKILL");
    await server.restart();
    await check();
    const [[key]] = written;
    await call(server.port, "PUT", key, { headers: TYPE, body: "bare" });
    assert.deepEqual(keptIn((await call(server.port, "GET", key)).headers), { "cache-control": "no-cache" });
    await call(server.port, "DELETE", key);
    assert.equal((await call(server.port, "GET", key)).headers["cache-control"], "no-cache");
  }));

test("metadata: a gzip body comes back as gzip; JSON keeps all but a Content-Encoding", () =>
  withServer({}, async ({ port }) => {
    const packed = gzipSync("hello ".repeat(1000));
    await call(port, "PUT", "/packed", { headers: { ...TYPE, "content-encoding": "gzip" }, body: packed });
    const unpacked = await call(port, "GET", "/packed");
    assert.equal(unpacked.headers["content-encoding"], "gzip");
    assert.equal(gunzipSync(unpacked.body).toString(), "hello ".repeat(1000));
    const json = { "content-type": "application/json" };
    const body = '{"value": [1]}';
    const refused = await call(port, "PUT", "/json", {
      headers: { ...json, "content-encoding": "br" },
      body,
    });
    assert.deepEqual([refused.status, refused.json().code], [415, "unsupported_encoding"]);
    assert.equal((await call(port, "GET", "/json")).status, 404);
    const { "content-encoding": _, ...others } = KEPT;
    for (const more of [{}, { "content-encoding": "identity" }]) {
      const headers = { ...json, ...others, ...more };
      assert.ok((await call(port, "PUT", "/json", { headers, body })).status < 300);
      const read = await call(port, "GET", "/json");
      assert.equal(read.text, '{"value":[1]}');
      assert.deepEqual(keptIn(read.headers), others);
    }
  }));

test("metadata: bounds, names and characters; what is refused is not stored", () =>
  withServer({}, async ({ port }) => {
    const put = async (headers: Record<string, string>) => {
      await call(port, "DELETE", "/k");
      const { status } = await call(port, "PUT", "/k", { headers: { ...TYPE, ...headers }, body: "x" });
      const read = await call(port, "GET", "/k");
      assert.equal(read.status, status === 201 ? 200 : 404, JSON.stringify(headers).slice(0, 60));
      return status === 201 ? keptIn(read.headers) : status;
    };
    const long = { "x-meta-a": "v".repeat(1023), "x-meta-b": "w".repeat(1023), "cache-control": "no-store" };
    assert.deepEqual(await put(long), long);
    assert.equal(await put({ ...long, "x-meta-c": "" }), 400);
    assert.deepEqual(await put({ "content-disposition": "d".repeat(1024) }), {
      "content-disposition": "d".repeat(1024),
      "cache-control": "no-cache",
    });
    assert.equal(await put({ "content-disposition": "d".repeat(1025) }), 400);
    assert.equal(await put({ "x-meta-": "nameless" }), 400);
    assert.equal(await put({ "x-meta-a": "\u00fc" }), 400);
    assert.equal(await put({ "content-encoding": "no list" }), 400);
    assert.deepEqual(await put({ "content-encoding": "identity", "cache-control": "No-Cache" }), {
      "cache-control": "no-cache",
    });
    assert.deepEqual(await put({ "x-metaphor": "not kept", "x-other": "nor this" }), {
      "cache-control": "no-cache",
    });
  }));

test("metadata: a directory of an older version answers upgrade_first, and keeps it once it is upgraded", async () => {
  const folder = temporaryFolder();
  try {
    const data = path.join(folder, "data");
    cpSync(path.join(REPOSITORY, "test/golden/v2"), data, { recursive: true });
    await withServer({ data }, async ({ port }) => {
      const early = await call(port, "PUT", "/k", { headers: { "x-meta-a": "b" }, body: "x" });
      assert.deepEqual([early.status, early.json().code], [501, "upgrade_first"]);
      assert.equal((await call(port, "GET", "/k")).status, 404);
      const plain = await call(port, "PUT", "/k", { headers: { "cache-control": "no-cache" }, body: "x" });
      assert.equal(plain.status, 201);
    });
    assert.equal((await runProgram(["upgrade", data])).status, 0);
    await withServer({ data }, async ({ port }) => {
      assert.equal((await call(port, "GET", "/k")).text, "x");
      assert.equal((await call(port, "PUT", "/k", { headers: { "x-meta-a": "b" }, body: "y" })).status, 200);
      assert.equal((await call(port, "GET", "/k")).headers["x-meta-a"], "b");
    });
  } finally {
    removeFolder(folder);
  }
});
