/**
 * `-compat mkv`: what minikeyvalue's own test program asks of a server, asked of this one, and where the rules of its lists end.
 */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { call, closeConnections, content, inParallel } from "./client.ts";
import { removeFolder, runProgram, type Server, startServer, temporaryFolder, withServer } from "./server.ts";

const FLAGS = ["-compat", "mkv"];
let server: Server;

before(async () => {
  server = await startServer({ flags: FLAGS, sync: "os" });
});
after(async () => {
  await server.dispose();
  closeConnections();
});

const freshKey = (): string => `/swag-${randomBytes(10).toString("hex")}`;
const ask = (method: string, target: string, body?: string | Buffer) =>
  call(server.port, method, target, body === undefined ? {} : { body });

async function list(target: string): Promise<{ next: string; keys: string[] }> {
  const reply = await ask("GET", target);
  assert.equal(reply.status, 200, reply.text);
  assert.equal(reply.headers["content-type"], "application/json");
  return reply.json();
}

test("mkv: PUT writes once, GET answers the value, DELETE is 204 once, and then the key is free", async () => {
  const key = freshKey();
  assert.equal((await ask("PUT", key, "onyou")).status, 201);
  const found = await ask("GET", key);
  assert.deepEqual([found.status, found.text], [200, "onyou"]);
  const again = await ask("PUT", key, "other");
  assert.deepEqual([again.status, again.json().code], [403, "write_once"]);
  assert.equal((await ask("GET", key)).text, "onyou");
  const gone = await ask("DELETE", key);
  assert.deepEqual([gone.status, gone.text], [204, ""]);
  assert.equal((await ask("GET", key)).status, 404);
  assert.equal((await ask("DELETE", key)).status, 404);
  assert.equal((await ask("PUT", key, "third")).status, 201);
});

test("mkv: conditions do not make a PUT replace, and say nothing else of DELETE", async () => {
  const key = freshKey();
  const { headers } = await ask("PUT", key, "1");
  const etag = String(headers.etag);
  const replace = await call(server.port, "PUT", key, { body: "2", headers: { "If-Match": etag } });
  assert.equal(replace.status, 403, replace.text);
  const wrong = await call(server.port, "DELETE", key, { headers: { "If-Match": '"x"' } });
  assert.equal(wrong.status, 412, wrong.text);
  const right = await call(server.port, "DELETE", key, { headers: { "If-Match": etag } });
  assert.equal(right.status, 204, right.text);
});

test("mkv: bodies of any size, ranges, HEAD, and no empty ones", async () => {
  const key = freshKey();
  assert.equal((await ask("PUT", key, "")).status, 411);
  const large = content(3, 16 * 1024 * 1024);
  assert.equal((await ask("PUT", key, large)).status, 201);
  const found = await ask("GET", key);
  assert.equal(
    createHash("md5").update(found.body).digest("hex"),
    createHash("md5").update(large).digest("hex"),
  );
  // Refused before the body is taken.
  assert.equal((await ask("PUT", key, large)).status, 403);
  assert.equal((await ask("DELETE", key)).status, 204);
  await ask("PUT", key, "onyou");
  const part = await call(server.port, "GET", key, { headers: { Range: "bytes=2-5" } });
  assert.deepEqual([part.status, part.text], [206, "you"]);
  const head = await ask("HEAD", key);
  assert.deepEqual([head.status, head.headers["content-length"]], [200, "5"]);
  assert.equal(head.headers["content-md5"], createHash("md5").update("onyou").digest("hex"));
  const none = await ask("HEAD", freshKey());
  assert.deepEqual([none.status, none.headers["content-length"]], [404, "0"]);
  const known = await call(server.port, "HEAD", key, {
    headers: { "If-None-Match": String(head.headers.etag) },
  });
  assert.deepEqual([known.status, known.headers["content-md5"]], [304, undefined]);
  assert.equal((await ask("UNLINK", key)).status, 405);
});

test("mkv: lists in their form, whole or in pages by limit, start and next", async () => {
  const prefix = freshKey();
  assert.deepEqual(await list(`${prefix}/DOES_NOT_EXIST?list`), { next: "", keys: [] });
  const keys = Array.from({ length: 12 }, (_, i) => `${prefix}${i}`).sort();
  for (const key of keys) await ask("PUT", key, "0");
  assert.deepEqual(await list(`${prefix}?list`), { next: "", keys });
  assert.deepEqual(await list(`${prefix}?list&limit=0`), { next: "", keys });
  assert.deepEqual(await list(`${prefix}?list&limit=-1`), { next: "", keys });
  const first = await list(`${prefix}?list&limit=10`);
  assert.deepEqual(first, { next: keys[10], keys: keys.slice(0, 10) });
  const start = encodeURIComponent(first.next);
  assert.deepEqual(await list(`${prefix}?list&limit=10&start=${start}`), { next: "", keys: keys.slice(10) });
  assert.deepEqual(await list(`${prefix}?list&limit=12`), { next: "", keys });
  assert.deepEqual(await list(`${prefix}?list&start=`), { next: "", keys });
  // Behind the slash of every key, and before it.
  assert.deepEqual(await list(`${prefix}?list&start=zz`), { next: "", keys: [] });
  assert.deepEqual(await list(`${prefix}?list&start=!`), { next: "", keys });
  assert.deepEqual(await list(`${prefix}?list&start=/a`), { next: "", keys });
  assert.deepEqual(await list(`${prefix}?unlinked`), { next: "", keys: [] });
  for (const limit of ["x", "1x", "1.5", "%20"])
    assert.equal((await ask("GET", `${prefix}?list&limit=${limit}`)).status, 400, limit);
  const gone = new Set([keys[0], keys[11]]);
  for (const key of gone) await ask("DELETE", key);
  assert.deepEqual((await list(`${prefix}?list&limit=10`)).keys, keys.slice(1, 11));
  assert.equal((await list(`${prefix}?list&limit=10`)).next, "");
  // With another parameter first it is the own form, as a stream is.
  const own = await ask("GET", `${prefix}?limit=2&list`);
  assert.equal(own.json().keys[0].key, keys[1].slice(1));
  const lines = await call(server.port, "GET", `${prefix}?list`, {
    headers: { Accept: "application/x-ndjson" },
  });
  assert.match(lines.text, /"complete":true/);
  assert.equal((await ask("HEAD", `${prefix}?list`)).status, 405);
});

test("mkv: keys with any text, more of them than a page, come as JSON reads them", async () => {
  await withServer({ flags: FLAGS, sync: "os" }, async ({ port }) => {
    const keys = Array.from({ length: 4500 }, (_, i) => `k/${i % 9 === 0 ? '"\\\n\u00fc\u{1f600}' : ""}${i}`);
    await inParallel(keys.length, 32, async (i) => {
      const reply = await call(port, "PUT", `/_kv/${encodeURIComponent(keys[i])}`, { body: "v" });
      assert.equal(reply.status, 201, reply.text);
    });
    const sorted = keys
      .map((key) => Buffer.from(`/${key}`))
      .sort(Buffer.compare)
      .map(String);
    const all = (await call(port, "GET", "/?list")).json();
    assert.deepEqual(all, { next: "", keys: sorted });
    const part = (await call(port, "GET", "/k?list&limit=4321")).json();
    assert.deepEqual(part, { next: sorted[4321], keys: sorted.slice(0, 4321) });
    assert.equal((await call(port, "GET", "/_kv/?list&limit=1")).json().keys[0], sorted[0]);
  });
});

test("mkv: a token sees the keys that it covers, and needs `list`", async () => {
  const folder = temporaryFolder();
  const file = path.join(folder, "tokens");
  const make = async (...words: string[]): Promise<{ token: string; line: string }> =>
    JSON.parse((await runProgram(["token", ...words, "-json"])).output);
  const all = await make("all", "-prefix", "", "-allow", "read,list,write,delete");
  const some = await make("some", "-prefix", "a/", "-allow", "list");
  const blind = await make("blind", "-prefix", "a/", "-allow", "read,write");
  writeFileSync(file, `${[all, some, blind].map(({ line }) => line).join("\n")}\n`, { mode: 0o600 });
  await withServer({ flags: [...FLAGS, "-tokens", file] }, async ({ port }) => {
    const as = ({ token }: { token: string }) => ({ headers: { Authorization: `Bearer ${token}` } });
    for (const key of ["a/1", "a/2", "b"]) await call(port, "PUT", `/${key}`, { body: "v", ...as(all) });
    assert.deepEqual((await call(port, "GET", "/?list", as(all))).json().keys, ["/a/1", "/a/2", "/b"]);
    assert.deepEqual((await call(port, "GET", "/?list", as(some))).json().keys, ["/a/1", "/a/2"]);
    assert.equal((await call(port, "GET", "/a/?list", as(blind))).status, 403);
    assert.equal((await call(port, "GET", "/?list")).status, 401);
  });
  removeFolder(folder);
});
