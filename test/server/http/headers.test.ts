/** Headers of requests and answers: conditions alike for all verbs and sizes, what keeps values inert, what is refused, and what no header may cost. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { KeyRing } from "../../../src/auth/keys.ts";
import { RequestVerifier } from "../../../src/auth/signature.ts";
import { nodeUrl } from "../../../src/config/values.ts";
import { isModifiedSince, readTags } from "../../../src/rules/conditions.ts";
import { queryProblem } from "../../../src/rules/query.ts";
import { parseRange } from "../../../src/rules/range.ts";
import { originProblem } from "../../../src/server/access/origins.ts";
import { createKeyScratch, parseTarget } from "../../../src/server/http/target.ts";
import { isInertType } from "../../../src/server/reads/value-head.ts";
import { readContentType } from "../../../src/server/writes/writes.ts";
import { CONDITION_BYTES_MAX } from "../../../src/util/limits.ts";
import { ValueScanner } from "../../../src/value/scanner.ts";
import { etagText } from "../fake-vault.ts";
import { byKey, type Harness, sleep, withFront } from "../harness.ts";

const LARGE_BYTES = 2 * 1024 * 1024;
const ETAG = etagText(1);
const OTHER = etagText(99);

/** Header lines, and whether they let a write of a key at version ETAG go on; "bad": 400. */
const CONDITIONS: readonly (readonly [lines: string[], holds: boolean | "bad"])[] = [
  [[`If-Match: ${ETAG}`], true],
  [[`If-Match: ${ETAG.slice(1, -1)}`], true],
  [[`If-Match: W/${ETAG}`], false],
  [[`If-Match: ${OTHER}`], false],
  [[`If-Match: ${OTHER}, ${ETAG}`], true],
  [[`If-Match: ${OTHER}`, `If-Match: ${ETAG}`], true],
  [[`if-match: ${OTHER}`, "X: y", `IF-MATCH: ${ETAG}`], true],
  [["If-Match: *"], true],
  [[`If-Match: ${OTHER}, *`], true],
  [["If-Match: nonsense"], false],
  [["If-Match: @9999999999"], false],
  [[`If-Match: ${ETAG.slice(0, -1)}`], "bad"],
  [[`If-Match: ${ETAG}x`], "bad"],
  [[`If-Match: x${ETAG}`], "bad"],
  [[`If-Match: ${ETAG} ${OTHER}`], "bad"],
  [[`If-Match: ${"x".repeat(CONDITION_BYTES_MAX + 1)}`], "bad"],
  [
    [`If-Match: ${"x".repeat(CONDITION_BYTES_MAX / 2)}`, `If-Match: ${"x".repeat(CONDITION_BYTES_MAX / 2)}`],
    "bad",
  ],
  [["If-None-Match: *"], false],
  [[`If-None-Match: ${OTHER}, *`], false],
  [[`If-None-Match: ${ETAG}`], false],
  [[`If-None-Match: W/${ETAG}`], false],
  [[`If-None-Match: ${ETAG.slice(1, -1)}`], false],
  [[`If-None-Match: ${OTHER}`], true],
  [[`If-None-Match: ${OTHER}`, `If-None-Match: ${ETAG}`], false],
  [["If-None-Match: nonsense"], true],
  [['If-None-Match: "'], "bad"],
  [[`If-Match: ${ETAG}`, `If-None-Match: ${OTHER}`], true],
  [[`If-Match: ${ETAG}`, `If-None-Match: ${ETAG}`], false],
  // The version of the test's vault is of 1970; a date before that cannot be written.
  [["If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT"], true],
  [["If-Unmodified-Since: yesterday"], true],
  [[`If-Match: ${OTHER}`, "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT"], false],
];

/** Sends a request of raw lines over a connection of its own; answers the status. */
async function statusOf(harness: Harness, method: string, lines: string[], body?: number): Promise<number> {
  const client = await harness.connect();
  const length = body === undefined ? [] : [`Content-Length: ${body}`];
  client.send(`${[`${method} /k HTTP/1.1`, "Host: x", ...lines, ...length].join("\r\n")}\r\n\r\n`);
  if (body !== undefined) client.send(Buffer.alloc(body));
  await client.sees("\r\n\r\n");
  client.socket.destroy();
  return Number(client.text.slice(9, 12));
}

test("conditions: the same lines mean the same to every verb, and to values of all sizes", async () => {
  for (const [lines, holds] of CONDITIONS) {
    const isNoneMatch = lines.some((line) => /^if-none-match/i.test(line));
    for (const storedBytes of [10, LARGE_BYTES]) {
      for (const [method, bodyBytes, success] of [
        ["PUT", 10, 200],
        ["PUT", LARGE_BYTES, 200],
        ["DELETE", undefined, 200],
        ["POST", 10, 409],
        ["GET", undefined, 200],
        ["HEAD", undefined, 200],
      ] as const)
        await withFront({}, async (harness) => {
          const size = storedBytes === LARGE_BYTES ? { virtualBytes: storedBytes } : {};
          harness.vault.put("k", "0123456789", size);
          const isRead = method === "GET" || method === "HEAD";
          // No line above fails both.
          const refused = isRead && isNoneMatch ? 304 : 412;
          const expected = holds === "bad" ? 400 : holds ? success : refused;
          const context = `${method} of ${bodyBytes} over ${storedBytes}: ${lines.join(" | ")}`;
          assert.equal(await statusOf(harness, method, lines, bodyBytes), expected, context);
        });
    }
  }
});

test("conditions: dates go by RFC 9110's order, in all three forms", async () => {
  await withFront({}, async ({ vault, call }) => {
    vault.put("k", "0123456789");
    const date = "Thu, 01 Jan 1970 00:00:00 GMT";
    for (const [headers, status] of [
      [{ "if-modified-since": date }, 304],
      [{ "if-modified-since": "Thursday, 01-Jan-70 00:00:00 GMT" }, 304],
      [{ "if-modified-since": "Thu Jan  1 00:00:00 1970" }, 304],
      [{ "if-modified-since": "Fri, 01 Jan 2100 00:00:00 GMT" }, 304],
      [{ "if-modified-since": "today" }, 200],
      [{ "if-modified-since": date, "if-none-match": OTHER }, 200],
      [{ "if-modified-since": "today", "if-none-match": ETAG }, 304],
      [{ "if-unmodified-since": date, "if-modified-since": date }, 304],
      [{ "if-match": OTHER, "if-modified-since": date }, 412],
      [{ range: "bytes=0-1", "if-range": date }, 206],
      [{ range: "bytes=0-1", "if-range": "Thu, 01 Jan 1970 00:00:01 GMT" }, 200],
      [{ range: "bytes=0-1", "if-range": ETAG }, 206],
      [{ range: "bytes=0-1", "if-range": OTHER }, 200],
      [{ range: "bytes=0-1", "if-range": `W/${ETAG}` }, 200],
      [{ range: "bytes=0-1", "if-modified-since": date }, 304],
    ] as const) {
      const reply = await call("GET", "/k", { headers });
      const context = JSON.stringify(headers);
      assert.equal(reply.status, status, context);
      if (status >= 400) continue;
      assert.equal(reply.headers["last-modified"], date, context);
      assert.equal(reply.headers.etag, ETAG, context);
      assert.equal(reply.headers["cache-control"], "no-cache", context);
    }
    // A write does not ask whether it would be news.
    const put = { headers: { "if-modified-since": date }, body: "x" };
    assert.equal((await call("PUT", "/k", put)).status, 200);
  });
});

test("values: nosniff, no-cache and the date are with each; a sandbox where a browser might run it", async () => {
  const inert = [
    ...[
      "application/json",
      "application/octet-stream",
      "text/plain",
      "text/plain; charset=utf-8",
      "image/png",
    ],
    ...["IMAGE/JPEG", "video/mp4", "audio/ogg", "font/woff2", "text/csv;header=present"],
  ];
  const active = [
    ...[
      "text/html",
      "text/HTML; charset=utf-8",
      "image/svg+xml",
      "application/xhtml+xml",
      "text/xml",
      "application/pdf",
    ],
    ...[
      "application/xml",
      "text/css",
      "text/javascript",
      "multipart/form-data; boundary=x",
      "x",
      "application/x-unknown",
    ],
    ...[
      "text/plain, text/html",
      "text/plain;x, text/html",
      "text/plainx",
      "text/plain/html",
      "image/svg+xml;image/png",
      "",
    ],
  ];
  await withFront({}, async ({ vault, call }) => {
    for (const [types, sandbox] of [
      [inert, undefined],
      [active, "sandbox"],
    ] as const)
      for (const contentType of types) {
        assert.equal(isInertType(contentType), sandbox === undefined, contentType);
        if (contentType === "") continue;
        vault.put("k", "<script>", { contentType });
        vault.put("large", "", { contentType, virtualBytes: LARGE_BYTES });
        for (const [method, path, headers] of [
          ["GET", "/k", {}],
          ["HEAD", "/k", {}],
          ["GET", "/k", { range: "bytes=0-1" }],
          ["GET", "/large", {}],
          ["GET", "/large", { range: "bytes=0-1" }],
        ] as const) {
          const reply = await call(method, path, { headers });
          const context = `${method} ${path} ${contentType}`;
          assert.equal(reply.headers["x-content-type-options"], "nosniff", context);
          assert.equal(reply.headers["content-security-policy"], sandbox, context);
          assert.equal(reply.headers["cache-control"], "no-cache", context);
          assert.equal(reply.headers["content-type"], contentType, context);
          assert.ok(reply.headers["last-modified"] !== undefined, context);
        }
      }
    for (const [method, path] of [
      ["GET", "/absent"],
      ["HEAD", "/absent"],
      ["GET", "/%zz"],
      ["PATCH", "/k"],
    ] as const)
      assert.equal((await call(method, path)).headers["cache-control"], "no-cache", `${method} ${path}`);
  });
});

test("writes: a Content-Encoding is kept with a raw value of any size, from any of several lines, and 415 with JSON; identity is none", async () => {
  await withFront({}, async (harness) => {
    for (const [lines, kept] of [
      [["Content-Encoding: gzip"], "gzip"],
      [["Content-Encoding: identity"], undefined],
      [["Content-Encoding: Identity, identity"], undefined],
      [["Content-Encoding: identity", "Content-Encoding: br"], "identity, br"],
      [["Content-Encoding: identity,gzip"], "identity,gzip"],
      [["Content-Encoding: xidentity"], "xidentity"],
      [["Content-Encoding: identityx"], "identityx"],
    ] as const)
      for (const type of ["application/json", "text/html"])
        for (const bytes of [11, LARGE_BYTES]) {
          if (type === "application/json" && (bytes > 11 || kept === undefined)) continue;
          const status = type === "application/json" ? 415 : 201;
          harness.vault.values.clear();
          const sent = await statusOf(harness, "PUT", [`Content-Type: ${type}`, ...lines], bytes);
          assert.equal(sent, status, `${type} ${lines.join(" | ")} ${bytes}`);
          assert.equal(harness.vault.values.size, status === 201 ? 1 : 0);
          if (status === 201)
            assert.equal((await harness.call("GET", "/k")).headers["content-encoding"], kept);
        }
    const json = { "content-encoding": "gzip", "content-type": "application/json" };
    const refused = await harness.call("PUT", "/k", { headers: json, body: "x" });
    assert.equal(refused.json().code, "unsupported_encoding");
    assert.equal(refused.headers["accept-encoding"], "identity");
    harness.vault.keepsFields = false;
    const early = await harness.call("PUT", "/k", { headers: { "x-meta-a": "b" }, body: "x" });
    assert.deepEqual([early.status, early.json().code], [501, "upgrade_first"]);
    const plain = await harness.call("PUT", "/k", { headers: { "cache-control": "no-cache" }, body: "x" });
    assert.equal(plain.status, 200);
  });
});

test("DELETE: takes effect once its body is whole; what is refused for its framing, or breaks off, does nothing", async () => {
  await withFront({}, async ({ vault, connect }) => {
    const chunked = "DELETE /k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (const request of [
      `${chunked}zz\r\n`,
      `${chunked}3\r\nab`,
      "DELETE /k HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
      "DELETE /k HTTP/1.1\r\nHost: x\r\nContent-Length: 0000000000000000000000\r\n\r\n",
      "DELETE /k HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
    ]) {
      vault.put("k", "v");
      const client = await connect();
      client.send(request);
      client.socket.end();
      await client.isClosed();
      assert.ok(vault.values.has("k"), `${request}: ${client.text}`);
      assert.ok(!client.text.includes("200 OK"), request);
    }
    // One digit more than the parser takes: refused, so nothing is stored, either.
    vault.values.clear();
    for (const zeros of [18, 19]) {
      const client = await connect();
      client.send(`PUT /zeros HTTP/1.1\r\nHost: x\r\nContent-Length: ${"0".repeat(zeros)}\r\n\r\n`);
      await client.sees("\r\n\r\n");
      assert.equal(vault.values.has("zeros"), client.text.includes("201 Created"), client.text);
      vault.values.clear();
    }
    vault.put("k", "v");
    const inPieces = await connect();
    inPieces.send("DELETE /k HTTP/1.1\r\nHo");
    await sleep(50);
    inPieces.send("st: x\r\n\r\n");
    await inPieces.sees('"deleted":true');
    for (const request of [
      "DELETE /k HTTP/1.1\r\nHost: x\r\n\r\n",
      "DELETE /k HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
      "DELETE /k HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
      `${chunked}3\r\nabc\r\n0\r\n\r\n`,
    ]) {
      vault.put("k", "v");
      const client = await connect();
      client.send(request);
      await client.sees('"deleted":true');
      assert.ok(!vault.values.has("k"), request);
    }
  });
});

test("GET /: who is there, without a key, also for browsers", async () => {
  await withFront({ auth: byKey("secret") }, async ({ call }) => {
    for (const headers of [{}, { accept: "text/html" }]) {
      const reply = await call("GET", "/", { headers });
      assert.equal(reply.status, 200);
      const { name, version, role, health } = reply.json();
      assert.deepEqual([name, version, role, health], ["minivault", "1.2.3", "worker", "/health"]);
    }
    assert.deepEqual([(await call("HEAD", "/")).status, (await call("HEAD", "/")).text], [200, ""]);
    const headers = { authorization: "Bearer secret" };
    for (const method of ["PUT", "POST", "DELETE"]) {
      const reply = await call(method, "/", { headers, ...(method === "DELETE" ? {} : { body: "x" }) });
      assert.deepEqual([reply.status, reply.json().code], [400, "bad_key"], method);
    }
  });
});

/** As long as all headers together may be. */
const INPUT_CHARACTERS = 15_000;
/** What is quadratic takes hundreds of milliseconds; what is linear, some tens of microseconds once it is compiled. */
const PARSE_MS_MAX = 40;

test("headers: nothing that a client sends takes more than linear time to read", () => {
  const key = createKeyScratch();
  const settings = { allowed: [], ownUrl: () => "http://localhost:3000", port: () => 3000, isOpen: true };
  const verifier = new RequestVerifier(new KeyRing(["key"]), { audience: () => null });
  const type = () => ({ json: false, contentType: "" });
  const readers: Record<string, (text: string) => unknown> = {
    path: (text) => parseTarget(`/${text}`, key),
    query: (text) => queryProblem(text),
    range: (text) => parseRange(`bytes=${text}`, 100),
    "range after a number": (text) => parseRange(`bytes=1${text}x`, 100),
    tags: (text) => readTags(text, true),
    date: (text) => isModifiedSince(`Sun, ${text}`, 1, 1),
    "content type": (text) => readContentType(text, type()),
    "JSON content type": (text) => readContentType(`application/json${text}x`, type()),
    "inert type": (text) => isInertType(`text/plain${text}\n`),
    "inert subtype": (text) => isInertType(`audio/${text}\n`),
    origin: (text) => originProblem(settings, `http://${text}`, text),
    signature: (text) => verifier.check("GET", "/", text),
    url: (text) => {
      try {
        nodeUrl(`http://${text}`);
      } catch {
        // It is none.
      }
    },
    JSON: (text) => {
      const bytes = Buffer.from(`{"value":${text}`);
      const scanner = new ValueScanner();
      return scanner.feed(bytes, 0, bytes.length) && scanner.finish();
    },
  };
  const pieces = [
    ...["a", " ", "\t", ",", '"', "%", "&", "=", "a&", "a=b&", "%41", "é", "W/", " ,", '" ', "0", "-", "1 "],
    ...[
      '"a",',
      "*,",
      "a ",
      "/",
      ".",
      "+",
      "[",
      "[0,",
      ":",
      "://",
      ";",
      " ;",
      "{",
      '{"":',
      "\\",
      "\ud83d\ude00",
      "list",
    ],
  ];
  for (const [name, read] of Object.entries(readers))
    for (const piece of pieces) {
      const text = piece.repeat(Math.floor(INPUT_CHARACTERS / piece.length));
      let bestMs = Number.POSITIVE_INFINITY;
      for (let run = 0; run < 5; run++) {
        const startMs = performance.now();
        read(text);
        bestMs = Math.min(bestMs, performance.now() - startMs);
      }
      assert.ok(bestMs < PARSE_MS_MAX, `${name} of ${JSON.stringify(piece)}: ${bestMs} ms`);
    }
});
