import assert from "node:assert/strict";
import { hostname } from "node:os";
import { test } from "node:test";
import { originProblem } from "../../../src/server/access/origins.ts";
import { byKey, withFront } from "../harness.ts";

const SETTINGS = { allowed: [], ownUrl: () => "http://localhost:3000", port: () => 3000, isOpen: true };

test("origins: a page's own node is its Host or the public URL, whatever the letters and the usual ports", () => {
  for (const [origin, host, allowed] of [
    ["http://127.0.0.1:3000", "127.0.0.1:3000", true],
    ["http://localhost:3000", "127.0.0.1:3000", true],
    ["http://LOCALHOST:3000", "localhost:3000", true],
    ["http://[::1]:3000", "[::1]:3000", true],
    ["http://kv", "kv", true],
    ["http://kv", "kv:80", true],
    ["https://kv.example", "kv.example", true],
    ["https://kv.example", "KV.example:443", true],
    ["http://kv.example:8080", "kv.example:8080", true],
    [`http://${hostname()}:3000`, `${hostname()}:3000`, true],
    ["http://nas.local:3000", "nas.local:3000", true],
    ["http://10.0.0.1:3000", "10.0.0.1:3000", true],
    ["null", "127.0.0.1:3000", false],
    ["", "", false],
    ["http://", "", false],
    ["http://evil.example", "127.0.0.1:3000", false],
    ["http://127.0.0.1", "127.0.0.1:3000", false],
    ["http://127.0.0.1:3001", "127.0.0.1:3000", false],
    ["http://127.0.0.1:3000.evil.example", "127.0.0.1:3000", false],
    ["http://127.0.0.1:30000", "127.0.0.1:3000", false],
    ["http://evil.example#127.0.0.1:3000", "127.0.0.1:3000", false],
    ["https://localhost:3000", "127.0.0.1:3000", false],
    ["http://kv", "kv:443", false],
    ["http://a.example, http://127.0.0.1:3000", "127.0.0.1:3000", false],
    [`http://${"a".repeat(10_000)}`, "a".repeat(10_000), false],
    // A name of a stranger's that was made to resolve to this node.
    ["http://evil.example:3000", "evil.example:3000", false],
    ["http://evil.example.:3000", "evil.example.:3000", false],
    ["http://127.0.0.1.evil.example:3000", "127.0.0.1.evil.example:3000", false],
    ["http://local.evil.example:3000", "local.evil.example:3000", false],
  ] as const)
    assert.equal(originProblem(SETTINGS, origin, host) === null, allowed, `${origin} at ${host}`);
  const keyed = { ...SETTINGS, isOpen: false };
  assert.equal(
    originProblem(keyed, "http://kv.example:3000", "kv.example:3000"),
    null,
    "a key is not the page's",
  );
  const onPort80 = { ...SETTINGS, port: () => 80 };
  assert.notEqual(originProblem(onPort80, "http://evil.example", "evil.example"), null);
  const named = { ...SETTINGS, ownUrl: () => "http://kv.example:3000" };
  assert.equal(originProblem(named, "http://kv.example:3000", "10.0.0.1:3000"), null);
});

const FOREIGN = { origin: "http://evil.example" };

test("origins: a page's write is refused with 403 and stores nothing, of any verb, type and size; reads go on without permission", async () => {
  await withFront({ cors: [] }, async ({ call, vault, connect, port }) => {
    vault.put("k", "old");
    for (const origin of ["http://evil.example", "null", "http://localhost", "file://"])
      for (const method of ["PUT", "POST", "DELETE", "PATCH", "PROPFIND"]) {
        const headers = { origin, "content-type": "text/plain" };
        const reply = await call(method, "/k", { headers, ...(method === "DELETE" ? {} : { body: "new" }) });
        assert.deepEqual([reply.status, reply.json().code], [403, "foreign_origin"], `${method} ${origin}`);
        assert.equal(reply.headers["access-control-allow-origin"], undefined);
      }
    const large = await call("PUT", "/large", { headers: FOREIGN, body: Buffer.alloc(3_000_000) });
    assert.equal(large.status, 403);
    assert.deepEqual([...vault.values.keys()], ["k"]);
    assert.equal((await call("GET", "/k", { headers: FOREIGN })).text, "old");
    assert.equal((await call("GET", "/k", { headers: FOREIGN })).headers.vary, undefined);
    assert.equal((await call("OPTIONS", "/k", { headers: FOREIGN })).status, 405);
    const own = { origin: `http://127.0.0.1:${port}` };
    assert.equal((await call("PUT", "/own", { headers: own, body: "x" })).status, 201);
    // Of two lines the second counts as well.
    const raw = await connect();
    raw.send(
      `PUT /two HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nOrigin: http://127.0.0.1:${port}\r\nOrigin: http://evil.example\r\nContent-Length: 1\r\n\r\nx`,
    );
    await raw.sees("403 Forbidden");
    assert.equal(vault.values.has("two"), false);
  });
});

const ALLOWED = "http://a.example";

test("origins: -cors lets its origins write and read, preflights included, with a key as well", async () => {
  const auth = byKey("secret");
  await withFront({ cors: [ALLOWED, "capacitor://localhost"], auth }, async ({ call, vault }) => {
    vault.put("k", "value");
    vault.put("big", "", { virtualBytes: 3_000_000 });
    const asks = { origin: ALLOWED, "access-control-request-method": "PUT" };
    const preflight = await call("OPTIONS", "/k", { headers: asks });
    assert.equal(preflight.status, 204);
    assert.equal(preflight.headers["access-control-allow-origin"], ALLOWED);
    for (const method of ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "LOCK", "UNLOCK"])
      assert.match(String(preflight.headers["access-control-allow-methods"]), new RegExp(`\\b${method}\\b`));
    for (const name of ["authorization", "content-type", "if-match", "if-none-match", "range", "if-range"])
      assert.match(
        String(preflight.headers["access-control-allow-headers"]),
        new RegExp(`\\b${name}\\b`, "i"),
      );
    // Whatever else a page has, such as X-Meta-…; authorization has to stand there by its name.
    assert.match(String(preflight.headers["access-control-allow-headers"]), /, \*$/);
    assert.match(String(preflight.headers.vary), /Origin/);
    const network = { ...asks, "access-control-request-private-network": "true" };
    const asked = await call("OPTIONS", "/k", { headers: network });
    assert.equal(asked.headers["access-control-allow-private-network"], "true");
    const stranger = { ...asks, origin: "http://b.example" };
    assert.equal((await call("OPTIONS", "/k", { headers: stranger })).status, 403);

    const authorization = "Bearer secret";
    for (const [method, path, status, body] of [
      ["GET", "/k", 200],
      ["HEAD", "/k", 200],
      ["GET", "/big", 200],
      ["GET", "/absent", 404],
      ["GET", "/_stats", 200],
      ["PUT", "/new", 201, "x"],
      ["POST", "/new", 409, "x"],
      ["PUT", "/large", 201, Buffer.alloc(3_000_000)],
      ["DELETE", "/new", 200],
    ] as const) {
      const headers = { origin: ALLOWED, authorization };
      const reply = await call(method, path, { headers, ...(body === undefined ? {} : { body }) });
      assert.equal(reply.status, status, `${method} ${path}`);
      assert.equal(reply.headers["access-control-allow-origin"], ALLOWED, `${method} ${path}`);
      for (const name of ["ETag", "Content-Encoding", "Content-Disposition", "X-TTL"])
        assert.match(String(reply.headers["access-control-expose-headers"]), new RegExp(`\\b${name}\\b`));
      assert.match(String(reply.headers.vary), /\bOrigin\b/);
    }
    // So that a page can read why it was refused.
    const locked = await call("GET", "/k", { headers: { origin: ALLOWED } });
    assert.deepEqual([locked.status, locked.headers["access-control-allow-origin"]], [401, ALLOWED]);
    const other = await call("GET", "/k", { headers: { ...FOREIGN, authorization } });
    assert.deepEqual(
      [other.status, other.headers["access-control-allow-origin"], other.headers.vary],
      [200, undefined, "Authorization, Origin"],
    );
    const plain = await call("GET", "/k", { headers: { authorization } });
    assert.equal(plain.headers.vary, "Authorization, Origin");
    const app = { origin: "capacitor://localhost", authorization };
    assert.equal((await call("PUT", "/app", { headers: app, body: "x" })).status, 201);
    const refused = await call("PUT", "/no", { headers: { ...FOREIGN, authorization }, body: "x" });
    assert.deepEqual([refused.status, refused.json().code], [403, "foreign_origin"]);
  });
});

test("origins: -cors * lets every page in, without Vary", async () => {
  await withFront({ cors: ["*"] }, async ({ call }) => {
    for (const origin of ["http://evil.example", "null"]) {
      const reply = await call("PUT", "/k", { headers: { origin }, body: "x" });
      assert.ok(reply.status < 300);
      assert.deepEqual([reply.headers["access-control-allow-origin"], reply.headers.vary], ["*", undefined]);
    }
  });
});

test("origins: no page reaches the routes between nodes", async () => {
  const handler = {
    hear: () => assert.fail("a page's name"),
    hello: () => assert.fail("a page's hello"),
    ownLife: () => null,
    frame: () => assert.fail("a page's frame"),
    openSink: () => assert.fail("a page's value"),
    openSource: () => assert.fail("a page's read"),
    readLayout: () => assert.fail("a page's look"),
    takeLayout: () => assert.fail("a page's layout"),
  };
  await withFront({ cors: ["*"], peers: { handler, ring: null, audience: () => null } }, async ({ call }) => {
    for (const [method, path] of [
      ["POST", "/_peer/batch"],
      ["POST", "/_peer/layout"],
      ["GET", "/_peer/layout"],
      ["PUT", "/_peer/value?head=AA"],
    ] as const) {
      const body = method === "GET" ? {} : { body: "{}" };
      const headers = { ...FOREIGN, "content-type": "text/plain" };
      assert.equal((await call(method, path, { headers, ...body })).status, 403, `${method} ${path}`);
    }
  });
});
