/** The HTTP section of the contract, line by line, from outside: the real program, plain HTTP clients and curl. */
import assert from "node:assert/strict";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import { ERRORS, type ErrorCode } from "../../src/util/errors.ts";
import { CHUNK_BYTES, KEY_BYTES_MAX, VALUE_BYTES_DEFAULT } from "../../src/util/limits.ts";
import {
  call,
  closeConnections,
  content,
  contentHash,
  contentStream,
  curl,
  digest,
  exchange,
  hasCurl,
  inParallel,
  type Reply,
  sha256,
  WITHOUT_CURL,
} from "./client.ts";
import { removeFolder, type Server, startServer, temporaryFolder, withServer } from "./server.ts";

const JSON_TYPE = { "Content-Type": "application/json" };
const ETAG = /^"[0-9a-f]{32}"$/;
const curlOnly = hasCurl ? {} : { skip: WITHOUT_CURL };

let server: Server;
let port = 0;
let folder = "";

before(async () => {
  server = await startServer();
  port = server.port;
  folder = temporaryFolder();
});
after(async () => {
  closeConnections();
  await server?.dispose();
  removeFolder(folder);
});

/** An error's status, type and body are those of the table. */
function assertError(reply: Reply, code: ErrorCode): void {
  assert.equal(reply.status, ERRORS[code].status, reply.text);
  assert.equal(reply.headers["content-type"], "application/json");
  const body = reply.json();
  assert.deepEqual(Object.keys(body).sort(), ["code", "error", "success"]);
  assert.equal(body.success, false);
  assert.equal(body.code, code);
  assert.equal(typeof body.error, "string");
  assert.ok(body.error.length > 0);
}

/** Status and body of one raw answer. */
function parseRaw(text: string): { status: number; head: string; body: string } {
  const end = text.indexOf("\r\n\r\n");
  return {
    status: Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1] ?? 0),
    head: text.slice(0, end),
    body: text.slice(end + 4),
  };
}

const put = (key: string, body: string | Uint8Array, headers: Record<string, string> = {}) =>
  call(port, "PUT", key, { body, headers });
const get = (key: string, headers: Record<string, string> = {}) => call(port, "GET", key, { headers });
const remove = (key: string, headers: Record<string, string> = {}) => call(port, "DELETE", key, { headers });

describe("verbs", () => {
  test("PUT: 201 for a new key, 200 for a replaced one, with success and a new ETag", async () => {
    const first = await put("/verbs/put", "one");
    assert.equal(first.status, 201);
    assert.equal(first.json().success, true);
    assert.match(first.headers.etag as string, ETAG);
    const second = await put("/verbs/put", "two");
    assert.equal(second.status, 200);
    assert.equal(second.json().success, true);
    assert.match(second.headers.etag as string, ETAG);
    assert.notEqual(second.headers.etag, first.headers.etag);
    const read = await get("/verbs/put");
    assert.equal(read.text, "two");
    assert.equal(read.headers.etag, second.headers.etag);
  });

  test("POST: 201 for a new key, 409 for one that exists, which keeps its value", async () => {
    const first = await call(port, "POST", "/verbs/post", { body: "one" });
    assert.equal(first.status, 201);
    assert.equal(first.json().success, true);
    assert.match(first.headers.etag as string, ETAG);
    assertError(await call(port, "POST", "/verbs/post", { body: "two" }), "exists");
    assert.equal((await get("/verbs/post")).text, "one");
  });

  test("POST: a key that was deleted can be created again", async () => {
    await put("/verbs/again", "one");
    await remove("/verbs/again");
    assert.equal((await call(port, "POST", "/verbs/again", { body: "two" })).status, 201);
    assert.equal((await get("/verbs/again")).text, "two");
  });

  test("GET and HEAD: 404 for a key that is absent; HEAD sends no body", async () => {
    assertError(await get("/verbs/absent"), "not_found");
    const head = await call(port, "HEAD", "/verbs/absent");
    assert.equal(head.status, 404);
    assert.equal(head.body.length, 0);
  });

  test("HEAD: the headers of GET, for both kinds of value and every size class", async () => {
    const values: [string, Buffer, Record<string, string>][] = [
      ["/head/empty", Buffer.alloc(0), {}],
      ["/head/small", content(1, 100), { "Content-Type": "image/png" }],
      ["/head/medium", content(2, 200_000), {}],
      ["/head/large", content(3, CHUNK_BYTES * 3 + 17), { "Content-Type": "video/mp4" }],
      ["/head/json", Buffer.from('{"value":[1,2,3]}'), JSON_TYPE],
    ];
    for (const [key, body, headers] of values) {
      await put(key, body, headers);
      const read = await get(key);
      const head = await call(port, "HEAD", key);
      assert.equal(head.status, 200);
      assert.equal(head.body.length, 0);
      for (const name of ["content-length", "content-type", "etag"])
        assert.equal(head.headers[name], read.headers[name], `${key} ${name}`);
      assert.equal(head.headers["content-length"], String(read.body.length));
    }
  });

  test("DELETE: says whether there was something, and the key is gone", async () => {
    await put("/verbs/delete", "one");
    const first = await remove("/verbs/delete");
    assert.equal(first.status, 200);
    assert.equal(first.text, '{"success":true,"deleted":true}');
    assert.match(first.headers.etag as string, ETAG);
    assertError(await get("/verbs/delete"), "not_found");
    const second = await remove("/verbs/delete");
    assert.equal(second.status, 200);
    assert.equal(second.text, '{"success":true,"deleted":false}');
  });

  test("other methods: 405 with Allow, on keys and on the documents about the node", async () => {
    for (const method of ["OPTIONS", "PROPFIND"]) {
      const reply = await call(port, method, "/verbs/x", { body: "" });
      assertError(reply, "method_not_allowed");
      assert.deepEqual((reply.headers.allow as string).split(/, */).sort(), [
        "DELETE",
        "GET",
        "HEAD",
        "PATCH",
        "POST",
        "PUT",
      ]);
    }
    for (const target of ["/health", "/_stats"]) {
      for (const method of ["PUT", "POST", "DELETE", "PATCH"]) {
        const reply = await call(port, method, target, { body: "x" });
        assertError(reply, "method_not_allowed");
        assert.deepEqual((reply.headers.allow as string).split(/, */).sort(), ["GET", "HEAD"]);
      }
    }
  });

  test("fetch: a value goes in and comes back", async () => {
    const url = `${server.url}/fetch/${encodeURIComponent("clé ✓")}`;
    const written = await fetch(url, {
      method: "PUT",
      body: JSON.stringify({ value: { a: [1, null] } }),
      headers: JSON_TYPE,
    });
    assert.equal(written.status, 201);
    assert.deepEqual(await written.json().then((body) => (body as { success: boolean }).success), true);
    const read = await fetch(url);
    assert.deepEqual(await read.json(), { value: { a: [1, null] } });
    assert.equal(read.headers.get("etag"), written.headers.get("etag"));
    assert.deepEqual(await (await fetch(url, { method: "DELETE" })).json(), { success: true, deleted: true });
    assert.equal((await fetch(url)).status, 404);
  });
});

describe("kinds of value", () => {
  test("raw: every byte and the content type come back, for sizes around every limit", async () => {
    const sizes = [
      0,
      1,
      2,
      100,
      65_535,
      65_536,
      65_537,
      CHUNK_BYTES - 1,
      CHUNK_BYTES,
      CHUNK_BYTES + 1,
      2 * CHUNK_BYTES,
      5 * CHUNK_BYTES + 3,
    ];
    for (const [index, size] of sizes.entries()) {
      const value = content(100 + index, size);
      const written = await put(`/raw/${size}`, value, { "Content-Type": "application/x-test; a=b" });
      assert.equal(written.status, 201);
      const read = await get(`/raw/${size}`);
      assert.equal(read.status, 200);
      assert.ok(read.body.equals(value), `${size} bytes`);
      assert.equal(read.headers["content-type"], "application/x-test; a=b");
      assert.equal(read.headers["content-length"], String(size));
      assert.equal(read.headers.etag, written.headers.etag);
    }
  });

  test("raw: no type, and curl's form default, become application/octet-stream", async () => {
    await put("/raw/no-type", "x");
    assert.equal((await get("/raw/no-type")).headers["content-type"], "application/octet-stream");
    await put("/raw/form", "a=b", { "Content-Type": "application/x-www-form-urlencoded" });
    const read = await get("/raw/form");
    assert.equal(read.headers["content-type"], "application/octet-stream");
    assert.equal(read.text, "a=b");
  });

  test("raw: types that only look like JSON are stored as they are", async () => {
    for (const type of [
      "text/plain",
      "application/jsonl",
      "application/vnd.api+json",
      "text/json",
      "application/json-patch+json",
    ]) {
      await put("/raw/type", '{"a": 1', { "Content-Type": type });
      const read = await get("/raw/type");
      assert.equal(read.text, '{"a": 1');
      assert.equal(read.headers["content-type"], type);
    }
  });

  test("JSON: the value's text is kept byte for byte", async () => {
    const texts = [
      "12345678901234567890",
      "-0",
      "-0.0e-0",
      "1E400",
      `1${"0".repeat(400)}`,
      "0.1000000000000000055511151231257827",
      '{"z":1,"a":2,"10":3,"2":4}',
      '{"a":1,"a":2}',
      '"\\u00e9\\/\\b\\f\\n\\r\\t\\"\\\\"',
      '"é ✓ 🜁 \u2028"',
      '"\\ud83d\\ude00"',
      '"\\u0000"',
      "null",
      "true",
      "false",
      '""',
      "[]",
      "{}",
      "[ 1 ,\t2 ,\n3 ]",
      '{ "deep" : { "er" : [ { } , [ ] ] } }',
      '{"value":{"value":1}}',
    ];
    for (const text of texts) {
      const written = await put("/json/text", `{"value":${text}}`, JSON_TYPE);
      assert.ok(written.status === 201 || written.status === 200, `${text}: ${written.text}`);
      const read = await get("/json/text");
      assert.equal(read.headers["content-type"], "application/json");
      assert.equal(read.headers.etag, written.headers.etag);
      assert.match(read.text, /^\{"value": ?/);
      assert.equal(read.text.replace(/^\{"value": ?/, "").replace(/\}$/, ""), text);
    }
  });

  test("JSON: white space around the value and an escaped member name are understood", async () => {
    for (const body of ['{"value":1}', ' {\n\t"value" :\r\n 1 } \n', '{"\\u0076alue":1}']) {
      const written = await put("/json/space", body, JSON_TYPE);
      assert.ok(written.status < 300, `${body}: ${written.text}`);
      assert.deepEqual((await get("/json/space")).json(), { value: 1 });
    }
  });

  test("JSON: the type may have parameters and any case", async () => {
    for (const type of [
      "application/json; charset=utf-8",
      "APPLICATION/JSON",
      "application/json;x=y",
      "Application/Json ; a=b",
    ]) {
      assert.ok((await put("/json/type", '{"value":1}', { "Content-Type": type })).status < 300, type);
      const read = await get("/json/type");
      assert.match(read.headers["content-type"] as string, /^application\/json/);
      assert.deepEqual(read.json(), { value: 1 });
      assertError(await put("/json/type", "no", { "Content-Type": type }), "bad_json");
    }
  });

  test("JSON: 400 bad_json for everything that RFC 8259 or the contract does not allow; the old value stays", async () => {
    await put("/json/bad", '{"value":"old"}', JSON_TYPE);
    const bodies: (string | Buffer)[] = [
      "",
      " ",
      "1",
      "null",
      "[]",
      '"value"',
      "{",
      '{"value":}',
      '{"value":1',
      '{"value":1}}',
      '{"value":1} x',
      '{"value":1,}',
      '{"value":1,"other":2}',
      '{"other":2,"value":1}',
      '{"value":1,"value":2}',
      '{"value":1,"\\u0076alue":2}',
      "{value:1}",
      "{'value':1}",
      '{"value":01}',
      '{"value":+1}',
      '{"value":.5}',
      '{"value":1.}',
      '{"value":0x10}',
      '{"value":NaN}',
      '{"value":Infinity}',
      '{"value":undefined}',
      '{"value":"a\nb"}',
      '{"value":"\\x"}',
      '{"value":"\\u12g4"}',
      '{"value":[1,]}',
      '{"value":{"a":1,}}',
      '{"value":tru}',
      '{"value":1}// no',
      '\ufeff{"value":1}',
      Buffer.from([...Buffer.from('{"value":"'), 0xff, ...Buffer.from('"}')]),
      Buffer.from([...Buffer.from('{"value":"'), 0xed, 0xa0, 0x80, ...Buffer.from('"}')]),
      Buffer.from([...Buffer.from('{"value":"'), 0xc0, 0x80, ...Buffer.from('"}')]),
    ];
    for (const body of bodies) {
      const reply = await put("/json/bad", body, JSON_TYPE);
      assert.equal(reply.status, 400, `accepted: ${body.toString()}`);
      assertError(reply, reply.json().code === "no_value" ? "no_value" : "bad_json");
    }
    assert.deepEqual((await get("/json/bad")).json(), { value: "old" });
  });

  test("JSON: 400 no_value for an object without the member", async () => {
    assertError(await put("/json/none", "{}", JSON_TYPE), "no_value");
    assertError(await get("/json/none"), "not_found");
  });

  test("JSON: a document above the chunk size streams in and out, and is checked to its end", async () => {
    const text = JSON.stringify(
      Array.from({ length: 60_000 }, (_, index) => ({ index, name: `name ${index} é` })),
    );
    assert.ok(text.length > 2 * CHUNK_BYTES);
    const written = await put("/json/large", `{"value":${text}}`, JSON_TYPE);
    assert.equal(written.status, 201, written.text);
    const read = await get("/json/large");
    assert.equal(read.text, `{"value":${text}}`);
    assert.equal(read.headers.etag, written.headers.etag);
    assertError(await put("/json/large", `{"value":${text.slice(0, -1)},}}`, JSON_TYPE), "bad_json");
    assertError(await put("/json/large", `{"value":${text}`, JSON_TYPE), "bad_json");
    assert.equal(sha256((await get("/json/large")).body), sha256(`{"value":${text}}`));
  });

  test("a value may change its kind", async () => {
    await put("/kind", '{"value":1}', JSON_TYPE);
    await put("/kind", '{"value":1}', { "Content-Type": "text/plain" });
    assert.equal((await get("/kind")).headers["content-type"], "text/plain");
    await put("/kind", '{"value": 2}', JSON_TYPE);
    assert.deepEqual((await get("/kind")).json(), { value: 2 });
  });
});

describe("keys", () => {
  test("percent-encoding is taken off once, and slashes, spaces and unicode are allowed", async () => {
    const names: [string, string][] = [
      ["/keys/a%20b", "/keys/a%20b"],
      ["/keys/%61", "/keys/a"],
      ["/keys%2Fslash", "/keys/slash"],
      ["/keys/%C3%A9", "/keys/%c3%a9"],
      ["/keys/%2541", "/keys/%2541"],
      ["/keys//double//", "/keys//double//"],
      ["/keys/../up", "/keys/../up"],
      ["/keys/%00", "/keys/%00"],
      ["/keys/+", "/keys/%2B"],
      ["/keys/%3F%23", "/keys/%3F%23"],
    ];
    for (const [index, [written, read]] of names.entries()) {
      assert.equal((await put(written, `value ${index}`)).status, 201, written);
      assert.equal((await get(read)).text, `value ${index}`, read);
    }
    assertError(await get("/keys/A"), "not_found");
  });

  test("the query is not part of the key", async () => {
    await put("/keys/query?x=1", "one");
    assert.equal((await get("/keys/query")).text, "one");
    assert.equal((await get("/keys/query?anything=else&y")).text, "one");
    assert.equal((await get("/keys/query?consistency=one")).text, "one");
    assert.equal((await get("/keys/query?consistency=quorum")).text, "one");
    assertError(await get("/keys/query?consistency=most"), "bad_request");
  });

  test("1 to 1024 bytes are allowed, counted after decoding; 1025 are 414", async () => {
    assert.equal((await put("/k", "one")).status, 201);
    assert.equal((await get("/k")).text, "one");
    const longest = "x".repeat(KEY_BYTES_MAX);
    assert.equal((await put(`/${longest}`, "long")).status, 201);
    assert.equal((await get(`/${longest}`)).text, "long");
    const encoded = "%C3%A9".repeat(KEY_BYTES_MAX / 2);
    assert.equal((await put(`/${encoded}`, "encoded")).status, 201);
    assert.equal((await get(`/_kv/${encoded}`)).text, "encoded");
    for (const method of ["GET", "PUT", "POST", "DELETE"]) {
      assertError(await call(port, method, `/${longest}y`, { body: "x" }), "key_too_long");
      assertError(await call(port, method, `/${encoded}z`, { body: "x" }), "key_too_long");
    }
    assert.equal((await call(port, "HEAD", `/${longest}y`)).status, 414);
  });

  test("400 bad_key for an empty key, bad percent-encoding and bad UTF-8", async () => {
    for (const bad of ["/%", "/%4", "/%zz", "/a%g0", "/%ff", "/%C3", "/%ED%A0%80", "/%C0%80", "/_kv/"]) {
      for (const method of ["GET", "PUT", "POST", "DELETE"]) {
        assertError(await call(port, method, bad, { body: "x" }), "bad_key");
      }
      assert.equal((await call(port, "HEAD", bad)).status, 400, bad);
    }
    // Reading it tells who is there.
    for (const root of ["/", "/?x=1"])
      for (const method of ["PUT", "POST", "DELETE"])
        assertError(await call(port, method, root, { body: "x" }), "bad_key");
  });

  test("reserved paths are not keys; /_kv/ reaches every key", async () => {
    for (const reserved of [
      "/_keys",
      "/_batch/x",
      "/_watch",
      "/_ui/x",
      "/_admin",
      "/_other/x",
      "/%5Fkeys",
      "/_stats/x",
      "/_",
    ]) {
      assertError(await get(reserved), "not_found");
      assertError(await put(reserved, "x"), "not_found");
      assertError(await call(port, "POST", reserved, { body: "x" }), "not_found");
      assertError(await remove(reserved), "not_found");
    }
    for (const key of ["health", "_stats", "_keys", "_kv/x", "_kv", "plain"]) {
      assert.equal((await put(`/_kv/${key}`, `key ${key}`)).status, 201);
      assert.equal((await get(`/_kv/${key}`)).text, `key ${key}`);
      assert.deepEqual((await remove(`/_kv/${key}`)).json(), { success: true, deleted: true });
    }
    await put("/_kv/same", "one");
    assert.equal((await get("/same")).text, "one");
    assertError(await put("/health/x", "below"), "not_found");
    assert.equal((await put("/_kv/health/x", "below")).status, 201);
    assert.equal((await get("/_kv/health/x")).text, "below");
    assert.deepEqual((await get("/health/live")).json(), { status: "alive" });
    assert.equal((await get("/health")).json().status, "healthy");
  });

  test("parameters of other requests are refused, not ignored", async () => {
    for (const query of ["list", "watch", "changes", "wait=1s"])
      assertError(await put(`/keys/later?${query}`, "x"), "bad_request");
    for (const query of ["ttl=5", "expires=4000000000"])
      assertError(await get(`/keys/later?${query}`), "bad_request");
    assertError(await get("/keys/later"), "not_found");
  });
});

describe("Range", () => {
  const small = content(7, 1000);
  const large = content(8, 3 * CHUNK_BYTES + 100);
  let smallTag = "";

  before(async () => {
    smallTag = (await put("/range/small", small, { "Content-Type": "text/plain" })).headers.etag as string;
    await put("/range/large", large);
    await put("/range/json", '{"value":[1,2,3]}', JSON_TYPE);
    await put("/range/empty", "");
  });

  test("206 with the part and Content-Range, for every form and across chunks", async () => {
    const wanted: [string, Buffer, string, number, number][] = [
      ["/range/small", small, "bytes=0-0", 0, 1],
      ["/range/small", small, "bytes=10-19", 10, 20],
      ["/range/small", small, "bytes=990-", 990, 1000],
      ["/range/small", small, "bytes=990-5000", 990, 1000],
      ["/range/small", small, "bytes=-5", 995, 1000],
      ["/range/small", small, "bytes=-5000", 0, 1000],
      [
        "/range/large",
        large,
        `bytes=${CHUNK_BYTES - 5}-${CHUNK_BYTES + 4}`,
        CHUNK_BYTES - 5,
        CHUNK_BYTES + 5,
      ],
      ["/range/large", large, `bytes=${3 * CHUNK_BYTES}-`, 3 * CHUNK_BYTES, large.length],
      ["/range/large", large, `bytes=1-${2 * CHUNK_BYTES + 1}`, 1, 2 * CHUNK_BYTES + 2],
      ["/range/large", large, "bytes=-1", large.length - 1, large.length],
    ];
    for (const [key, value, range, start, end] of wanted) {
      const reply = await get(key, { Range: range });
      assert.equal(reply.status, 206, range);
      assert.equal(reply.headers["content-range"], `bytes ${start}-${end - 1}/${value.length}`);
      assert.equal(reply.headers["content-length"], String(end - start));
      assert.match(reply.headers.etag as string, ETAG);
      assert.ok(reply.body.equals(value.subarray(start, end)), range);
    }
  });

  test("a JSON answer is ranged as the text that GET sends", async () => {
    const whole = (await get("/range/json")).body;
    const reply = await get("/range/json", { Range: "bytes=2-6" });
    assert.equal(reply.status, 206);
    assert.ok(reply.body.equals(whole.subarray(2, 7)));
  });

  test("416 with the size, for a range outside of the value", async () => {
    for (const [key, range, size] of [
      ["/range/small", "bytes=1000-", 1000],
      ["/range/small", "bytes=5000-6000", 1000],
      ["/range/small", "bytes=-0", 1000],
      ["/range/empty", "bytes=0-", 0],
      ["/range/large", `bytes=${large.length}-`, large.length],
    ] as const) {
      const reply = await get(key, { Range: range });
      assertError(reply, "range_not_satisfiable");
      assert.equal(reply.headers["content-range"], `bytes */${size}`);
    }
  });

  test("the whole value for a range that is not understood, and for several", async () => {
    for (const range of ["bytes=5-2", "bytes=a-b", "lines=1-2", "bytes", "bytes=0-1,5-6", "bytes=-"]) {
      const reply = await get("/range/small", { Range: range });
      assert.equal(reply.status, 200, range);
      assert.ok(reply.body.equals(small));
    }
  });

  test("If-Range: the part for the same version, the whole value for another", async () => {
    assert.equal((await get("/range/small", { Range: "bytes=0-1", "If-Range": smallTag })).status, 206);
    assert.equal((await get("/range/small", { Range: "bytes=0-1", "If-Range": '"other"' })).status, 200);
  });

  test("curl -r and curl -C -: a download is resumed", curlOnly, async () => {
    const part = await curl(["-r", "10-19", `${server.url}/range/small`]);
    assert.equal(part.status, 206);
    assert.ok(part.stdout.equals(small.subarray(10, 20)));
    const file = path.join(folder, "resumed");
    fs.writeFileSync(file, large.subarray(0, CHUNK_BYTES + 11));
    const rest = await curl(["-C", "-", "-o", file, `${server.url}/range/large`]);
    assert.equal(rest.status, 206);
    assert.ok(fs.readFileSync(file).equals(large));
  });
});

describe("conditions", () => {
  const other = '"00000000000000000000000000000000"';

  test("GET and HEAD: If-None-Match answers 304 with the ETag and no body", async () => {
    const tag = (await put("/if/read", "value")).headers.etag as string;
    for (const method of ["GET", "HEAD"]) {
      for (const condition of [tag, "*", `${other}, ${tag}`, `W/${tag}`]) {
        const reply = await call(port, method, "/if/read", { headers: { "If-None-Match": condition } });
        assert.equal(reply.status, 304, `${method} ${condition}`);
        assert.equal(reply.headers.etag, tag);
        assert.equal(reply.body.length, 0);
      }
      const reply = await call(port, method, "/if/read", { headers: { "If-None-Match": other } });
      assert.equal(reply.status, 200);
    }
    assertError(await get("/if/absent", { "If-None-Match": "*" }), "not_found");
  });

  test("GET and HEAD: If-Match answers 412 for another version", async () => {
    const tag = (await put("/if/match", "value")).headers.etag as string;
    for (const condition of [tag, "*", `${other},${tag}`]) {
      assert.equal((await get("/if/match", { "If-Match": condition })).text, "value");
    }
    for (const condition of [other, `W/${tag}`, "nonsense"]) {
      assertError(await get("/if/match", { "If-Match": condition }), "precondition_failed");
      assert.equal(
        (await call(port, "HEAD", "/if/match", { headers: { "If-Match": condition } })).status,
        412,
      );
    }
  });

  test("PUT: If-Match replaces the named version only, If-None-Match: * creates only", async () => {
    assertError(await put("/if/put", "x", { "If-Match": "*" }), "precondition_failed");
    assertError(await put("/if/put", "x", { "If-Match": other }), "precondition_failed");
    // A list of nothing: who sends it had no version in hand.
    assertError(await put("/if/put", "x", { "If-Match": "" }), "precondition_failed");
    const first = await put("/if/put", "one", { "If-None-Match": "*" });
    assert.equal(first.status, 201);
    assertError(await put("/if/put", "x", { "If-None-Match": "*" }), "precondition_failed");
    const tag = first.headers.etag as string;
    assertError(await put("/if/put", "x", { "If-None-Match": tag }), "precondition_failed");
    assertError(await put("/if/put", "x", { "If-Match": other }), "precondition_failed");
    const second = await put("/if/put", "two", { "If-Match": tag });
    assert.equal(second.status, 200);
    assertError(await put("/if/put", "three", { "If-Match": tag }), "precondition_failed");
    assert.equal((await put("/if/put", "four", { "If-None-Match": tag })).status, 200);
    assert.equal((await get("/if/put")).text, "four");
  });

  test("PUT: conditions of a value above the chunk size are judged too", async () => {
    const value = content(9, 2 * CHUNK_BYTES);
    assertError(await put("/if/large", value, { "If-Match": "*" }), "precondition_failed");
    const first = await put("/if/large", value, { "If-None-Match": "*" });
    assert.equal(first.status, 201);
    assertError(await put("/if/large", value, { "If-None-Match": "*" }), "precondition_failed");
    assert.equal((await put("/if/large", value, { "If-Match": first.headers.etag as string })).status, 200);
    assertError(await call(port, "POST", "/if/large", { body: value }), "exists");
  });

  test("a write that is refused by what is there says which version that is, whatever its size", async () => {
    const tag = (await put("/if/told", "value")).headers.etag;
    const large = content(11, 2 * CHUNK_BYTES);
    for (const body of [() => "x", () => large, () => Readable.from([large])])
      for (const [method, headers, status] of [
        ["PUT", { "If-Match": other }, 412],
        ["PUT", { "If-None-Match": "*" }, 412],
        ["POST", {}, 409],
        ["DELETE", { "If-Match": other }, 412],
        ["PATCH", { "If-Match": other, "Content-Type": "application/merge-patch+json" }, 412],
      ] as const) {
        const isWhole = method === "PUT" || method === "POST";
        const options = isWhole ? { body: body() } : method === "PATCH" ? { body: "{}" } : {};
        const reply = await call(port, method, "/if/told", { headers, ...options });
        assert.deepEqual([reply.status, reply.headers.etag], [status, tag], method);
      }
    const none = await put("/if/none", "x", { "If-Match": "*" });
    assert.deepEqual([none.status, none.headers.etag], [412, undefined]);
    await call(port, "PUT", "/if/told?ttl=1ms", { body: "x" });
    while ((await get("/if/told")).status !== 404);
    const gone = await put("/if/told", "x", { "If-Match": "*" });
    assert.deepEqual([gone.status, gone.headers.etag], [412, undefined]);
  });

  test("POST: conditions hold beside the rule that the key must be new", async () => {
    assertError(
      await call(port, "POST", "/if/post", { body: "x", headers: { "If-Match": "*" } }),
      "precondition_failed",
    );
    assert.equal(
      (await call(port, "POST", "/if/post", { body: "x", headers: { "If-None-Match": "*" } })).status,
      201,
    );
    const again = await call(port, "POST", "/if/post", { body: "y", headers: { "If-None-Match": "*" } });
    assert.ok(again.status === 412 || again.status === 409);
    assert.equal((await get("/if/post")).text, "x");
  });

  test("DELETE: 412 for another version, and nothing is deleted", async () => {
    const tag = (await put("/if/delete", "value")).headers.etag as string;
    assertError(await remove("/if/delete", { "If-Match": other }), "precondition_failed");
    assertError(await remove("/if/delete", { "If-None-Match": "*" }), "precondition_failed");
    assertError(await remove("/if/none", { "If-Match": "*" }), "precondition_failed");
    assert.equal((await get("/if/delete")).text, "value");
    assert.deepEqual((await remove("/if/delete", { "If-Match": tag })).json(), {
      success: true,
      deleted: true,
    });
    assertError(await remove("/if/delete", { "If-Match": tag }), "precondition_failed");
  });
});

describe("concurrency", () => {
  const CLIENTS = 100;

  test("POST: of 100 at once exactly one creates the key, ten times over", async () => {
    for (let round = 0; round < 10; round++) {
      const replies = await Promise.all(
        Array.from({ length: CLIENTS }, (_, client) =>
          call(port, "POST", `/race/post-${round}`, { body: `client ${client}` }),
        ),
      );
      const winners = replies.flatMap((reply, client) => (reply.status === 201 ? [client] : []));
      assert.equal(winners.length, 1, `round ${round}`);
      for (const reply of replies) if (reply.status !== 201) assertError(reply, "exists");
      const read = await get(`/race/post-${round}`);
      assert.equal(read.text, `client ${winners[0]}`);
      assert.equal(read.headers.etag, replies[winners[0]].headers.etag);
    }
  });

  test("POST: of 20 multi-chunk bodies at once exactly one creates the key", async () => {
    const replies = await Promise.all(
      Array.from({ length: 20 }, (_, client) =>
        call(port, "POST", "/race/large", { body: content(client, 2 * CHUNK_BYTES + client) }),
      ),
    );
    const winners = replies.flatMap((reply, client) => (reply.status === 201 ? [client] : []));
    assert.equal(winners.length, 1);
    for (const reply of replies) if (reply.status !== 201) assertError(reply, "exists");
    assert.ok((await get("/race/large")).body.equals(content(winners[0], 2 * CHUNK_BYTES + winners[0])));
  });

  test("PUT: of 100 with If-Match of one version exactly one replaces it", async () => {
    let tag = (await put("/race/match", "first")).headers.etag as string;
    for (let round = 0; round < 5; round++) {
      const replies = await Promise.all(
        Array.from({ length: CLIENTS }, (_, client) =>
          put("/race/match", `${round} ${client}`, { "If-Match": tag }),
        ),
      );
      const winners = replies.filter((reply) => reply.status === 200);
      assert.equal(winners.length, 1);
      for (const reply of replies) if (reply.status !== 200) assertError(reply, "precondition_failed");
      tag = winners[0].headers.etag as string;
    }
  });

  test("DELETE: of 100 at once exactly one says deleted", async () => {
    await put("/race/delete", "value");
    const replies = await Promise.all(Array.from({ length: CLIENTS }, () => remove("/race/delete")));
    assert.equal(replies.filter((reply) => reply.json().deleted === true).length, 1);
  });

  test("read your write: every client sees what it was just answered", async () => {
    await inParallel(1000, 50, async (index) => {
      const written = await put(`/ryw/${index % 200}-${index}`, `value ${index}`);
      const read = await get(`/ryw/${index % 200}-${index}`);
      assert.equal(read.text, `value ${index}`);
      assert.equal(read.headers.etag, written.headers.etag);
    });
  });
});

describe("limits of a request", () => {
  test("411 without Content-Length and Transfer-Encoding", async () => {
    for (const method of ["PUT", "POST"]) {
      const { status, body } = parseRaw(
        await exchange(port, `${method} /length HTTP/1.1\r\nHost: x\r\n\r\n`),
      );
      assert.equal(status, 411);
      assert.equal(JSON.parse(body).code, "length_required");
    }
  });

  test("413 for a declared length above the limit, before any of the body", async () => {
    const bytes = VALUE_BYTES_DEFAULT + 1;
    const { status, body } = parseRaw(
      await exchange(port, `PUT /large HTTP/1.1\r\nHost: x\r\nContent-Length: ${bytes}\r\n\r\n`),
    );
    assert.equal(status, 413);
    assert.equal(JSON.parse(body).code, "too_large");
    assertError(await get("/large"), "not_found");
  });

  test("413 by -max-value: declared and chunked bodies, and nothing is stored", async () => {
    await withServer({ flags: ["-max-value", "2MiB"] }, async (limited) => {
      const most = content(1, 2 * CHUNK_BYTES);
      assert.equal((await call(limited.port, "PUT", "/most", { body: most })).status, 201);
      assertError(
        await call(limited.port, "PUT", "/declared", { body: content(1, most.length + 1), agent: false }),
        "too_large",
      );
      const chunked = await call(limited.port, "PUT", "/chunked", {
        body: contentStream(1, most.length + 1),
        agent: false,
      });
      assertError(chunked, "too_large");
      for (const key of ["/declared", "/chunked"])
        assertError(await call(limited.port, "GET", key), "not_found");
      assert.ok((await call(limited.port, "GET", "/most")).body.equals(most));
    });
  });

  test("chunked bodies: small, empty and multi-chunk values arrive whole", async () => {
    for (const size of [0, 1, 1000, CHUNK_BYTES, CHUNK_BYTES + 1, 7 * CHUNK_BYTES + 5]) {
      const reply = await call(port, "PUT", `/chunked/${size}`, { body: contentStream(size, size) });
      assert.equal(reply.status, 201, reply.text);
      assert.equal((await digest(port, "GET", `/chunked/${size}`)).sha256, contentHash(size, size));
    }
    const json = await call(port, "PUT", "/chunked/json", {
      body: Readable.from(['{"val', 'ue":', "[1,2]}"]),
      headers: JSON_TYPE,
    });
    assert.equal(json.status, 201, json.text);
    assert.deepEqual((await get("/chunked/json")).json(), { value: [1, 2] });
  });

  test("a connection whose upload was paused is read from again (it stayed deaf until its timer closed it)", async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    try {
      for (let round = 0; round < 10; round++) {
        // Of one that is closed meanwhile this fails.
        const reply = await call(port, "PUT", "/paused", { body: content(round, 6 * CHUNK_BYTES), agent });
        assert.ok(reply.status < 300, reply.text);
      }
    } finally {
      agent.destroy();
    }
  });

  test("a refused request leaves the connection or closes it, and the next one is answered", async () => {
    for (let round = 0; round < 20; round++) {
      assertError(await put("/refused", "{", JSON_TYPE), "bad_json");
      assertError(await call(port, "POST", "/_reserved", { body: content(1, 100_000) }), "not_found");
      assert.equal((await put("/refused", "fine")).status < 300, true);
    }
  });
});

describe("documents about the node", () => {
  test("/health: 200 with status, role, nodes, keys and bytes; HEAD too", async () => {
    const reply = await get("/health");
    assert.equal(reply.status, 200);
    assert.equal(reply.headers["content-type"], "application/json");
    const { status, role, nodes, keys, bytes } = reply.json();
    assert.deepEqual({ status, role, nodes }, { status: "healthy", role: "worker", nodes: 1 });
    assert.equal(typeof keys, "number");
    assert.equal(typeof bytes, "number");
    const head = await call(port, "HEAD", "/health");
    assert.equal(head.status, 200);
    assert.equal(head.body.length, 0);
  });

  test("/health and /_stats: keys and bytes follow what is stored", async () => {
    const before = (await get("/_stats")).json();
    await put("/counted/1", content(1, 5000));
    await put("/counted/2", content(1, 3 * CHUNK_BYTES));
    const after = (await get("/_stats")).json();
    assert.equal(after.keys, before.keys + 2);
    assert.ok(after.liveBytes >= before.liveBytes + 5000 + 3 * CHUNK_BYTES);
    assert.ok(after.storedBytes >= after.liveBytes);
    assert.equal((await get("/health")).json().keys, after.keys);
    await remove("/counted/1");
    await remove("/counted/2");
    const end = (await get("/_stats")).json();
    assert.equal(end.keys, before.keys);
    assert.ok(end.liveBytes <= before.liveBytes + 1024);
  });

  test("/_stats: everything that the contract names is there, as numbers", async () => {
    const stats = (await get("/_stats")).json();
    for (const name of ["keys", "liveBytes", "storedBytes", "slabs", "indexBytes"])
      assert.equal(typeof stats[name], "number", name);
    for (const name of ["queues", "requests", "latencyMicroseconds"])
      assert.equal(typeof stats[name], "object", name);
    assert.ok(stats.requests.put["2xx"] > 0);
    assert.ok(stats.requests.get["4xx"] > 0);
    assert.ok(stats.latencyMicroseconds.write.count > 0);
    assert.ok(stats.latencyMicroseconds.write.p99 >= stats.latencyMicroseconds.write.p50);
    assert.equal(stats.damagedRecords, 0);
  });
});

describe("authorization", () => {
  const KEY = "a-shared-key-of-tests";

  test("401 with WWW-Authenticate without the key or with another; /health stays open", async () => {
    await withServer({ env: { MINIVAULT_AUTH: KEY } }, async (guarded) => {
      const bearer = { Authorization: `Bearer ${KEY}` };
      for (const headers of [
        {},
        { Authorization: "Bearer wrong" },
        { Authorization: KEY },
        { Authorization: `Basic ${KEY}` },
      ]) {
        for (const [method, target] of [
          ["GET", "/a"],
          ["PUT", "/a"],
          ["POST", "/a"],
          ["DELETE", "/a"],
          ["GET", "/_stats"],
        ]) {
          const reply = await call(guarded.port, method, target, {
            headers: headers as Record<string, string>,
            body: "x",
          });
          assertError(reply, "unauthorized");
          assert.match(reply.headers["www-authenticate"] as string, /^Bearer/);
        }
      }
      assert.equal((await call(guarded.port, "GET", "/health")).status, 200);
      assert.equal((await call(guarded.port, "PUT", "/a", { body: "x", headers: bearer })).status, 201);
      assert.equal((await call(guarded.port, "GET", "/a", { headers: bearer })).text, "x");
      assert.equal((await call(guarded.port, "GET", "/_stats", { headers: bearer })).status, 200);
      assert.ok(!guarded.log().includes(KEY), "the key must not be logged");
    });
  });

  test("-auth-mode writes: reads are public, writes need the key", async () => {
    await withServer({ env: { MINIVAULT_AUTH: KEY }, flags: ["-auth-mode", "writes"] }, async (guarded) => {
      const bearer = { Authorization: `Bearer ${KEY}` };
      assertError(await call(guarded.port, "PUT", "/a", { body: "x" }), "unauthorized");
      assert.equal((await call(guarded.port, "PUT", "/a", { body: "x", headers: bearer })).status, 201);
      assert.equal((await call(guarded.port, "GET", "/a")).text, "x");
      assertError(await call(guarded.port, "DELETE", "/a"), "unauthorized");
    });
  });
});

describe("curl, as a user types it", curlOnly, () => {
  const file = (name: string, bytes: Uint8Array) => {
    const written = path.join(folder, name);
    fs.writeFileSync(written, bytes);
    return written;
  };

  test("-T: a file of any size goes in and comes back the same", async () => {
    for (const size of [0, 1, 5000, CHUNK_BYTES, CHUNK_BYTES + 1, 20 * CHUNK_BYTES + 7]) {
      const value = content(size, size);
      const source = file(`upload-${size}`, value);
      const written = await curl(["-T", source, `${server.url}/curl/t-${size}`]);
      assert.equal(written.status, 201);
      assert.equal(JSON.parse(written.stdout.toString()).success, true);
      const target = path.join(folder, `download-${size}`);
      const read = await curl(["-o", target, `${server.url}/curl/t-${size}`]);
      assert.equal(read.status, 200);
      // Before curl 8 an empty answer makes no file.
      assert.ok((fs.existsSync(target) ? fs.readFileSync(target) : Buffer.alloc(0)).equals(value));
    }
  });

  test("-T: the answer to Expect: 100-continue comes at once", async () => {
    const source = file("expect", content(1, 3 * CHUNK_BYTES));
    const written = await curl([
      "-T",
      source,
      "-H",
      "Expect: 100-continue",
      "--expect100-timeout",
      "10",
      `${server.url}/curl/expect`,
    ]);
    assert.equal(written.status, 201);
    assert.ok(written.seconds < 5, `${written.seconds} s`);
  });

  test("-T -: standard input is sent chunked", async () => {
    for (const size of [0, 100, 4 * CHUNK_BYTES + 1]) {
      const value = content(size + 1, size);
      assert.equal((await curl(["-T", "-", `${server.url}/curl/stdin-${size}`], value)).status, 201);
      assert.ok((await curl([`${server.url}/curl/stdin-${size}`])).stdout.equals(value));
    }
  });

  test("--data-binary @file: the file's bytes, by PUT and POST, whatever they are", async () => {
    for (const size of [0, 300, CHUNK_BYTES + 5]) {
      const value = content(size + 2, size);
      const source = file(`data-${size}`, value);
      assert.equal(
        (await curl(["-X", "PUT", "--data-binary", `@${source}`, `${server.url}/curl/binary-${size}`]))
          .status,
        201,
      );
      assert.ok((await curl([`${server.url}/curl/binary-${size}`])).stdout.equals(value));
      assert.equal(
        (await curl(["--data-binary", `@${source}`, `${server.url}/curl/posted-${size}`])).status,
        201,
      );
      assert.ok((await curl([`${server.url}/curl/posted-${size}`])).stdout.equals(value));
    }
  });

  test("-X PUT -d '': an empty raw value; -X PUT alone: 411", async () => {
    assert.equal((await curl(["-X", "PUT", "-d", "", `${server.url}/curl/empty`])).status, 201);
    const read = await curl(["-i", `${server.url}/curl/empty`]);
    assert.match(read.stdout.toString(), /\r\nContent-Length: 0\r\n/i);
    assert.match(read.stdout.toString(), /\r\nContent-Type: application\/octet-stream\r\n/i);
    assert.equal((await curl(["-X", "PUT", `${server.url}/curl/none`])).status, 411);
  });

  test("JSON with -d and -H, GET, -I and -X DELETE", async () => {
    const url = `${server.url}/curl/json`;
    const words = [
      "-H",
      "Content-Type: application/json",
      "-d",
      '{"value": {"b": 12345678901234567890, "a": "é"}}',
    ];
    assert.equal((await curl(["-X", "PUT", ...words, url])).status, 201);
    const read = await curl([url]);
    assert.match(read.stdout.toString(), /^\{"value": ?\{"b": 12345678901234567890, "a": "é"\}\}$/);
    const head = await curl(["-I", url]);
    assert.equal(head.status, 200);
    assert.match(head.stdout.toString(), new RegExp(`\r\ncontent-length: ${read.stdout.length}\r\n`, "i"));
    assert.equal((await curl(["-X", "POST", ...words, url])).status, 409);
    assert.equal((await curl(["-X", "DELETE", url])).stdout.toString(), '{"success":true,"deleted":true}');
    assert.equal((await curl(["-f", "-o", "/dev/null", "-s", url])).exit, 22);
  });

  test("-T with --etag-compare: 304 for what the client has", async () => {
    await curl(["-T", file("etag", content(1, 100)), `${server.url}/curl/etag`]);
    const saved = path.join(folder, "tag");
    assert.equal((await curl(["--etag-save", saved, `${server.url}/curl/etag`])).status, 200);
    assert.equal((await curl(["--etag-compare", saved, `${server.url}/curl/etag`])).status, 304);
  });
});
