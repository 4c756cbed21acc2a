/** `Idempotency-Key` at the edge: what is refused before anything is asked of a vault, and what goes on to it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { NAME_BYTES, onceOf, REQUEST_BYTES } from "../../../src/format/fields/recent.ts";
import type { WriteHead } from "../../../src/shards/arena/write.ts";
import { withFront } from "../harness.ts";

const JSON_TYPE = { "content-type": "application/json" };

test("Idempotency-Key: where the format has no place for it the write is refused, and not done", async () => {
  await withFront({}, async ({ call, vault }) => {
    vault.remembers = false;
    const headers = { ...JSON_TYPE, "idempotency-key": "k" };
    for (const [method, path, body] of [
      ["PUT", "/a", '{"value":1}'],
      ["POST", "/a", '{"value":1}'],
      ["PATCH", "/a", '{"increment":1,"initial":0}'],
      ["PATCH", "/a?ttl=60", undefined],
      ["DELETE", "/a", undefined],
    ] as const) {
      const reply = await call(method, path, { headers, ...(body === undefined ? {} : { body }) });
      assert.deepEqual([reply.status, reply.json().code], [501, "upgrade_first"], `${method} ${path}`);
      assert.match(reply.json().error, /^an Idempotency-Key cannot be remembered before/);
    }
    const operations = [{ op: "put", key: "a", value: 1, idempotencyKey: "k" }];
    const batch = await call("POST", "/_batch", { headers: JSON_TYPE, body: JSON.stringify({ operations }) });
    assert.deepEqual(batch.json().results[0].code, "upgrade_first");
    assert.equal((await call("GET", "/a")).status, 404);
    assert.deepEqual((await call("GET", "/")).json().features, []);
    vault.remembers = true;
    assert.deepEqual((await call("GET", "/")).json().features, ["idempotency-key"]);
  });
});

test("Idempotency-Key: what a write is known by are its key and all that it asks for, and nothing else", async () => {
  await withFront({}, async ({ call, vault }) => {
    const known: string[] = [];
    const submit = vault.submit.bind(vault);
    vault.submit = (head: WriteHead, body, done) => {
      const once = onceOf(head.trailer);
      known.push(once === null ? "" : Buffer.from(once).toString("hex"));
      return submit({ ...head, trailer: new Uint8Array(0) }, body, done);
    };
    const put = (path: string, key: string, body: string, headers: Record<string, string> = {}) =>
      call("PUT", path, { headers: { ...JSON_TYPE, "idempotency-key": key, ...headers }, body });
    await put("/a", "k", '{"value":1}');
    await put("/a", "k", '{"value":1}', { accept: "text/plain", "user-agent": "other" });
    await put("/b", "k", '{"value":1}');
    await put("/a", "l", '{"value":1}');
    await put("/a", "k", '{"value":2}');
    await put("/a", "k", '{"value":1}', { "if-match": '"x"' });
    await put("/a", "k", '{"value":1}', { "cache-control": "max-age=5" });
    await put("/a?ttl=5", "k", '{"value":1}');
    await call("PUT", "/a", { headers: JSON_TYPE, body: '{"value":1}' });
    assert.ok(known[0].length === 2 * (NAME_BYTES + REQUEST_BYTES));
    assert.deepEqual(
      [known[1], known[2]],
      [known[0], known[0]],
      "who asks, and of which key, is no part of it",
    );
    const [first, ...others] = [known[0], ...known.slice(3, 8)];
    assert.equal(new Set([first, ...others]).size, 6);
    assert.equal(known[8], "");
    for (const index of [4, 5, 6, 7])
      assert.equal(known[index].slice(0, 2 * NAME_BYTES), first.slice(0, 2 * NAME_BYTES), "the same key");
  });
});
