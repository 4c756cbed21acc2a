/**
 * Values that end, over the whole program: what a request says of their lives, what answers say, and that nobody sees one again.
 */
import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { call } from "./client.ts";
import { REPOSITORY, removeFolder, temporaryFolder, withServer } from "./server.ts";

const LARGE = Buffer.alloc(3 * 1024 * 1024, "large ");
const JSON_TYPE = { "content-type": "application/json" };

/** Seconds left by an answer; NaN: it does not say. */
const ttlOf = (headers: Record<string, unknown>): number => Number(headers["x-ttl"] ?? Number.NaN);

/** Asks again until it is gone; answers how often it was still there. */
async function untilGone(port: number, key: string): Promise<number> {
  for (let seen = 0; ; seen++) {
    const { status } = await call(port, "GET", key);
    if (status === 404) return seen;
    assert.equal(status, 200);
    await sleep(20);
  }
}

test("ends: lives of every form, for values of all sizes, with every way to read", () =>
  withServer({}, async ({ port }) => {
    const moment = Math.ceil(Date.now() / 1000) + 3600;
    const forms: [query: string, atMost: number][] = [
      ["ttl=90", 90],
      ["ttl=90s", 90],
      ["ttl=5m", 300],
      ["ttl=12h", 43_200],
      ["ttl=30d", 2_592_000],
      ["ttl=600000ms", 600],
      [`expires=${moment}`, 3601],
      [`expires=${new Date(moment * 1000).toISOString()}`, 3601],
    ];
    for (const [query, atMost] of forms)
      for (const [size, body] of [
        ["small", "x"],
        ["large", LARGE],
      ] as const) {
        const key = `/${size}/${query}`;
        const written = await call(port, "PUT", `${key}?${query}`, { body });
        assert.equal(written.status, 201, key);
        for (const [method, headers] of [
          ["GET", {}],
          ["HEAD", {}],
          ["GET", { range: "bytes=0-0" }],
          ["GET", { "if-none-match": String(written.headers.etag) }],
        ] as const) {
          const read = await call(port, method, key, { headers });
          const left = ttlOf(read.headers);
          assert.ok(left > atMost - 60 && left <= atMost, `${method} ${key}: ${left}`);
          assert.match(String(read.headers["x-ttl"]), /^\d+\.\d{3}$/);
          assert.equal(read.headers["cache-control"], "no-cache");
        }
      }
    assert.ok(Number.isNaN(ttlOf((await call(port, "GET", "/none")).headers)));
    await call(port, "PUT", "/none", { body: "for ever" });
    assert.ok(Number.isNaN(ttlOf((await call(port, "GET", "/none")).headers)));
  }));

test("ends: a PUT, a touch, a patch and a batch say what becomes of a life", () =>
  withServer({}, async ({ port }) => {
    const left = async (key: string) => ttlOf((await call(port, "HEAD", key)).headers);
    const ask = async (method: string, key: string, body?: string, headers = {}) =>
      (await call(port, method, key, body === undefined ? { headers } : { body, headers })).status;
    assert.equal(await ask("POST", "/a?ttl=1h", "one"), 201);
    assert.equal(await ask("PUT", "/a?ttl=keep", "two"), 200);
    assert.ok((await left("/a")) > 3000);
    assert.equal(await ask("PUT", "/a", "three"), 200);
    assert.ok(Number.isNaN(await left("/a")), "a PUT without one takes it away");
    assert.equal(await ask("PUT", "/new?ttl=keep", "x"), 201);
    assert.ok(Number.isNaN(await left("/new")));
    const { headers } = await call(port, "GET", "/a");
    assert.equal(await ask("PATCH", "/a?ttl=100", undefined, { "if-match": '"0"' }), 412);
    assert.equal(await ask("PATCH", "/a?ttl=100", undefined, { "if-match": String(headers.etag) }), 200);
    const touched = await call(port, "GET", "/a");
    assert.notEqual(touched.headers.etag, headers.etag);
    assert.equal(touched.text, "three");
    assert.ok((await left("/a")) > 50);
    assert.equal(await ask("PATCH", "/a?ttl=none"), 200);
    assert.ok(Number.isNaN(await left("/a")));
    assert.equal(await ask("PATCH", "/absent?ttl=5"), 404);
    // A value that is changed in place keeps its end, and a counter begins with one.
    assert.equal(await ask("PATCH", "/n?ttl=200", '{"increment":1,"initial":0}', JSON_TYPE), 201);
    for (let i = 0; i < 3; i++)
      assert.equal(await ask("PATCH", "/n?ttl=9000", '{"increment":1,"initial":0}', JSON_TYPE), 200);
    const counted = await call(port, "GET", "/n");
    assert.equal(counted.json().value, 4);
    assert.ok((await left("/n")) <= 200);
    const batch = await call(port, "POST", "/_batch", {
      headers: JSON_TYPE,
      body: JSON.stringify({
        operations: [
          { op: "put", key: "b1", value: 1, ttl: 90 },
          { op: "post", key: "b2", value: 2, ttl: "5m" },
          { op: "put", key: "b1", value: 3, ttl: "keep" },
          { op: "put", key: "b3", value: 3, ttl: "soon" },
          { op: "get", key: "b1", ttl: 5 },
          { op: "delete", key: "b1", ttl: "5" },
        ],
      }),
    });
    assert.deepEqual(
      batch.json().results.map((result: { status: number }) => result.status),
      [201, 201, 200, 400, 400, 400],
    );
    assert.ok((await left("/b1")) > 30 && (await left("/b2")) > 200);
    const list = (await call(port, "GET", "/b?list")).json().keys;
    assert.deepEqual(
      list.map(({ key, ttl }: { key: string; ttl?: number }) => [key, ttl !== undefined && ttl > 30]),
      [
        ["b1", true],
        ["b2", true],
      ],
    );
    assert.equal("ttl" in (await call(port, "GET", "/new?list")).json().keys[0], false);
  }));

test("ends: what is wrong is a 400, and nothing is stored", () =>
  withServer({}, async ({ port }) => {
    await call(port, "PUT", "/there", { body: "x" });
    for (const [method, query] of [
      ...["ttl=", "ttl=0", "ttl=-5", "ttl=soon", "ttl=11y", "ttl=none", "ttl=5&ttl=6"].map((q) => ["PUT", q]),
      ...["expires=", "expires=5", "expires=tomorrow", "ttl=5&expires=1900000000"].map((q) => ["POST", q]),
      ...["ttl=keep", "ttl=", "expires=1", "ttl=none&expires=1900000000"].map((q) => ["PATCH", q]),
      ...["ttl=5", "expires=1900000000"].flatMap((q) => [
        ["GET", q],
        ["DELETE", q],
        ["HEAD", q],
      ]),
    ] as [string, string][]) {
      const key = method === "PATCH" || method === "GET" ? "/there" : "/bad";
      const body = method === "PUT" || method === "POST" ? { body: "x" } : {};
      const { status, text } = await call(port, method, `${key}?${query}`, body);
      assert.equal(status, 400, `${method} ?${query}`);
      if (method !== "HEAD") assert.equal(JSON.parse(text).code, "bad_request");
    }
    assert.equal((await call(port, "GET", "/bad")).status, 404);
    assert.equal((await call(port, "GET", "/there")).text, "x");
    // A change that begins no value gives none an end, in whatever form it comes.
    await call(port, "PUT", "/json", { body: '{"value":1}', headers: JSON_TYPE });
    for (const [path, type, body] of [
      ["/json?ttl=5", "application/json", '{"increment":1}'],
      ["/json?ttl=5", "application/json", '{"append":1}'],
      ["/json?ttl=5", "application/merge-patch+json", '{"a":1}'],
      ["/json?expires=1900000000", "application/json-patch+json", '[{"op":"replace","path":"","value":2}]'],
      ["/there?append&ttl=5", "application/octet-stream", "y"],
    ]) {
      const refused = await call(port, "PATCH", path, { body, headers: { "Content-Type": type } });
      assert.deepEqual([refused.status, refused.json().code], [400, "bad_request"], body);
      assert.match(refused.text, /PATCH with a ttl alone/);
    }
    const operation = { op: "patch", key: "json", value: { increment: 1 }, ttl: 5 };
    const batch = JSON.stringify({ operations: [operation] });
    const [result] = (await call(port, "POST", "/_batch", { body: batch, headers: JSON_TYPE })).json()
      .results;
    assert.deepEqual([result.status, result.code], [400, "bad_request"]);
    assert.equal((await call(port, "GET", "/json")).text, '{"value":1}');
    assert.equal((await call(port, "GET", "/there")).text, "x");
    const body = '{"increment":1,"initial":0,"max":0}';
    const beyond = await call(port, "PATCH", "/bad?ttl=5", { body, headers: JSON_TYPE });
    assert.equal(beyond.json().code, "patch_conflict");
  }));

test("ends: what has ended is absent for everybody, stays so over kill -9, and its bytes come back", () =>
  withServer({ flags: ["-threads", "2"] }, async (server) => {
    const { port } = server;
    for (const key of ["get", "head", "list", "post", "match", "patch", "delete", "touch", "batch"])
      await call(port, "PUT", `/end/${key}?ttl=300ms`, { body: '{"value":1}', headers: JSON_TYPE });
    await call(port, "PUT", "/end/large?ttl=300ms", { body: LARGE });
    await call(port, "PUT", "/end/kept", { body: "x" });
    // The last that was stored ends last.
    await untilGone(port, "/end/large");
    const status = async (method: string, key: string, body?: string, headers = {}) =>
      (await call(port, method, `/end/${key}`, body === undefined ? { headers } : { body, headers })).status;
    const list = await call(port, "GET", "/end/?list");
    assert.deepEqual(
      list.json().keys.map(({ key }: { key: string }) => key),
      ["end/kept"],
    );
    assert.equal((await call(port, "GET", "/end/?list&count")).json().count, 1);
    assert.equal(await status("HEAD", "head"), 404);
    assert.equal(await status("GET", "large"), 404);
    assert.equal(await status("PUT", "match", "x", { "if-match": "*" }), 412);
    assert.equal(await status("PATCH", "patch", '{"increment":1}', JSON_TYPE), 404);
    assert.equal(await status("PATCH", "touch?ttl=60"), 404);
    const deleted = await call(port, "DELETE", "/end/delete");
    assert.equal(deleted.json().deleted, false);
    const batch = await call(port, "POST", "/_batch", {
      headers: JSON_TYPE,
      body: JSON.stringify({ operations: [{ op: "get", key: "end/batch" }] }),
    });
    assert.equal(batch.json().results[0].status, 404);
    assert.equal(await status("POST", "post?ttl=1h", "again"), 201);
    await server.kill("SIGKILL");
    await server.restart();
    for (const key of ["get", "head", "list", "match", "patch", "delete", "touch", "batch", "large"])
      assert.equal((await call(server.port, "GET", `/end/${key}`)).status, 404, key);
    assert.equal((await call(server.port, "GET", "/end/post")).status, 200);
    // Nobody asks for these; they are marked all the same.
    for (let i = 0; i < 50; i++)
      await call(server.port, "PUT", `/quiet/${i}?ttl=50ms`, { body: LARGE.subarray(0, 10_000) });
    for (;;) {
      const { shards } = (await call(server.port, "GET", "/_stats")).json();
      const sum = (name: string) =>
        shards.reduce((total: number, shard: Record<string, number>) => total + shard[name], 0);
      if (sum("endingKeys") === 1 && sum("endedValues") >= 50) {
        assert.equal(sum("keys"), 2);
        assert.ok(sum("liveBytes") < 100_000);
        break;
      }
      await sleep(50);
    }
  }));

test("ends: what caches may do is bounded by what is left", () =>
  withServer({}, async ({ port }) => {
    for (const [sent, query, told] of [
      ["max-age=600", "ttl=1h", /^max-age=600$/],
      [
        "public, max-age=99999, s-maxage=88888",
        "ttl=100",
        /^public, max-age=(100|9\d|\d\d), s-maxage=\d{1,3}$/,
      ],
      ["public", "ttl=100", /^public, max-age=\d{1,3}$/],
      ["no-store", "ttl=100", /^no-store$/],
      ["max-age=10, stale-while-revalidate=9999", "ttl=100", /^max-age=10, stale-while-revalidate=0$/],
      ["max-age=99999", "ttl=none", /^max-age=99999$/],
    ] as const) {
      const key = encodeURIComponent(sent);
      const headers = { "cache-control": sent };
      const written = await call(port, "PUT", `/${key}?${query === "ttl=none" ? "" : query}`, {
        body: "x",
        headers,
      });
      assert.equal(written.status, 201);
      for (const conditions of [{}, { "if-none-match": String(written.headers.etag) }]) {
        const read = await call(port, "GET", `/${key}`, { headers: conditions });
        assert.match(String(read.headers["cache-control"]), told);
      }
    }
  }));

test("ends: an upload's life begins when it is whole, and an older directory says what to do", async () => {
  await withServer({}, async ({ port }) => {
    const { Readable } = await import("node:stream");
    let wholeMs = 0;
    const slow = Readable.from(
      (async function* () {
        yield LARGE.subarray(0, 2_000_000);
        await sleep(1500);
        wholeMs = performance.now();
        yield LARGE.subarray(2_000_000);
      })(),
    );
    assert.equal((await call(port, "PUT", "/slow?ttl=60", { body: slow })).status, 201);
    const left = ttlOf((await call(port, "HEAD", "/slow")).headers);
    const sinceMs = performance.now() - wholeMs;
    assert.ok(left >= 60 - sinceMs / 1000 - 0.05, `${left} s left, ${sinceMs} ms after its end`);
  });
  const data = temporaryFolder();
  try {
    cpSync(path.join(REPOSITORY, "test/golden/v3"), data, { recursive: true });
    await withServer({ data }, async ({ port }) => {
      for (const [method, key, body] of [
        ["PUT", "/x?ttl=5", "x"],
        ["POST", "/x?expires=1900000000", "x"],
        ["PUT", "/x?ttl=keep", "x"],
        ["PATCH", "/greeting?ttl=5", undefined],
      ] as const) {
        const { status, text } = await call(port, method, key, body === undefined ? {} : { body });
        assert.equal(status, 501, `${method} ${key}`);
        assert.equal(JSON.parse(text).code, "upgrade_first");
      }
      assert.equal((await call(port, "GET", "/x")).status, 404);
      assert.equal((await call(port, "PUT", "/x", { body: "x" })).status, 201);
    });
  } finally {
    removeFolder(data);
  }
});
