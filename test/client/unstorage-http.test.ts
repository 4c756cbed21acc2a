/** unstorage's own http driver, from its package, on `/_unstorage/`. */
import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { createStorage, prefixStorage } from "unstorage";
import httpDriver from "unstorage/drivers/http";
import { call } from "../rest/client.ts";
import { temporaryFolder, withServer } from "../rest/server.ts";
import { holdStorageRules } from "./storage-rules.ts";

test("unstorage: its http driver, as it is", () =>
  withServer({}, ({ url }) => holdStorageRules(httpDriver({ base: `${url}/_unstorage` }))));

test("unstorage: what is written by it and by others is one store", () =>
  withServer({}, async ({ url, port }) => {
    const storage = createStorage({ driver: httpDriver({ base: `${url}/_unstorage` }) });
    await storage.setItem("a:b", { n: 1 });
    const back = await call(port, "GET", "/a/b");
    assert.deepEqual([back.text, back.headers["content-type"]], ['{"n":1}', "text/plain; charset=utf-8"]);
    const json = { "Content-Type": "application/json" };
    await call(port, "PUT", "/a/c", { headers: json, body: '{"value": {"n": 2}}' });
    assert.deepEqual(await storage.getItem("a:c"), { n: 2 });
    assert.equal(String(Buffer.from((await storage.getItemRaw<Uint8Array>("a:c")) ?? [])), '{"n": 2}');
    // What no key of unstorage leads to is not listed, and not cleared.
    const hidden = ["x:y", "a//b", "a/", "/a", "a/./b", "back\\slash"];
    for (const key of hidden) await call(port, "PUT", `/_kv/${encodeURIComponent(key)}`, { body: "x" });
    assert.deepEqual((await storage.getKeys()).sort(), ["a:b", "a:c"]);
    await storage.clear();
    const left = (await call(port, "GET", "/?list")).json().keys.map(({ key }: { key: string }) => key);
    assert.deepEqual(left.sort(), hidden.sort());
  }));

test("unstorage: requests that its driver does not send", () =>
  withServer({}, async ({ port }) => {
    const ask = (method: string, at: string, headers = {}) =>
      call(port, method, `/_unstorage${at}`, { headers, ...(method === "PUT" ? { body: "x" } : {}) });
    for (const at of ["/a/b", "/a:b", "//a//b", "/a%3Ab", "/a%5Cb", "/%61/b"])
      assert.equal((await ask("PUT", at)).status < 300, true, at);
    assert.deepEqual((await ask("GET", "/:")).json(), ["a/b"]);
    assert.deepEqual((await ask("GET", "/a/")).json(), ["a/b"]);
    assert.deepEqual((await ask("GET", "/a/b:")).json(), []);
    for (const at of ["/..", "/a/../b", "/a/%2E", "/%zz", "/%5C"])
      assert.equal((await ask("GET", at)).status, 400, at);
    for (const method of ["HEAD", "PUT"]) assert.equal((await ask(method, "/a/:")).status, 400, method);
    for (const ttl of ["-1", "soon", "1e9", "99999999999", "5m"])
      assert.equal((await ask("PUT", "/t", { "x-ttl": ttl })).status, 400, ttl);
    assert.equal((await ask("PUT", "/t", { "x-ttl": "0" })).status, 201);
    const post = await ask("POST", "/a/b");
    assert.deepEqual([post.status, post.headers.allow], [405, "GET, HEAD, PUT, DELETE"]);
    assert.equal((await ask("PATCH", "/a/:")).headers.allow, "GET, DELETE");
    assert.deepEqual((await ask("DELETE", "/:")).json(), { success: true, deleted: 2 });
    assert.equal((await ask("GET", `/${"k".repeat(1025)}`)).status, 414);
  }));

test("unstorage: tokens are asked for the key behind it, for lists and removals, too", async () => {
  const tokens = path.join(temporaryFolder(), "tokens");
  const line = (name: string, allow: string[]) =>
    JSON.stringify({ name, sha256: hash("sha256", `mv1.${name}.secret`), prefix: ["app/"], allow });
  const all = ["read", "list", "write", "delete"];
  writeFileSync(tokens, `${line("app", all)}\n${line("reader", ["read"])}\n`, { mode: 0o600 });
  await withServer({ flags: ["-tokens", tokens] }, async ({ url }) => {
    const driverOf = (token: string) =>
      httpDriver({ base: `${url}/_unstorage`, headers: { authorization: `Bearer ${token}` } });
    const storageOf = (token: string) => prefixStorage(createStorage({ driver: driverOf(token) }), "app");
    const app = storageOf("mv1.app.secret");
    await app.setItem("x", 1);
    const other = createStorage({ driver: driverOf("mv1.app.secret") });
    await assert.rejects(other.setItem("x", 1), /403/);
    assert.deepEqual(await other.getKeys(), ["app:x"]);
    await assert.rejects(other.clear(), /403/);
    assert.deepEqual(await app.getKeys(), ["x"]);
    const reader = storageOf("mv1.reader.secret");
    assert.equal(await reader.getItem("x"), 1);
    await assert.rejects(reader.getKeys(), /403/);
    await assert.rejects(reader.setItem("y", 1), /403/);
    await assert.rejects(reader.removeItem("x"), /403/);
    await assert.rejects(async () => driverOf("mv1.reader.secret").clear?.("app", {}), /403/);
    await driverOf("mv1.app.secret").clear?.("app", {});
    assert.deepEqual(await app.getKeys(), []);
  });
});
