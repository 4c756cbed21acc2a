/** Reads that wait for the disk: the same answers as others, later, and nothing leaks when the client does not wait. */
import assert from "node:assert/strict";
import net from "node:net";
import { test } from "node:test";
import { VaultError } from "../../../src/util/errors.ts";
import { CHUNK_BYTES } from "../../../src/util/limits.ts";
import { etagText } from "../fake-vault.ts";
import { until, withFront } from "../harness.ts";

test("cold: GET and HEAD answer as they would at once, however often the disk must be asked", async () => {
  await withFront({}, async ({ vault, call }) => {
    vault.put("k", "hello", { contentType: "text/plain" });
    for (const cold of [1, 3, 100]) {
      vault.coldAnswers = cold;
      const reply = await call("GET", "/k");
      assert.equal(reply.status, 200);
      assert.equal(reply.text, "hello");
      assert.equal(reply.headers.etag, etagText(1));
      assert.equal(reply.headers["content-type"], "text/plain");
      vault.coldAnswers = cold;
      const head = await call("HEAD", "/k");
      assert.equal(head.status, 200);
      assert.equal(head.headers["content-length"], "5");
      vault.coldAnswers = 0;
    }
  });
});

test("cold: absent and damaged keys, conditions and ranges", async () => {
  await withFront({}, async ({ vault, call }) => {
    vault.put("k", "0123456789");
    vault.put("broken", "x", { damaged: true });
    const cold = (method: string, path: string, headers: Record<string, string> = {}) => {
      vault.coldAnswers = 1;
      return call(method, path, { headers });
    };
    assert.equal((await cold("GET", "/none")).status, 404);
    assert.equal((await cold("HEAD", "/none")).status, 404);
    assert.equal((await cold("GET", "/broken")).status, 500);
    assert.equal((await cold("GET", "/k", { "If-None-Match": etagText(1) })).status, 304);
    assert.equal((await cold("HEAD", "/k", { "If-Match": etagText(9) })).status, 412);
    const part = await cold("GET", "/k", { Range: "bytes=2-4" });
    assert.equal(part.status, 206);
    assert.equal(part.text, "234");
    assert.equal((await cold("GET", "/k", { Range: "bytes=20-" })).status, 416);
  });
});

test("cold: a large value whose pieces come one by one from the disk", async () => {
  await withFront({}, async ({ vault, call }) => {
    const bytes = 3 * CHUNK_BYTES + 77;
    vault.put("large", "", { virtualBytes: bytes, contentType: "x/large" });
    vault.coldAnswers = 1;
    vault.coldPieces = 3;
    const reply = await call("GET", "/large");
    assert.equal(reply.status, 200);
    assert.equal(reply.headers["content-type"], "x/large");
    assert.equal(reply.body.length, bytes);
    assert.ok(reply.body.every((byte, index) => byte === index % 251));
    assert.equal(vault.coldPieces, 0);
    assert.equal(vault.readersOpen, 0);
  });
});

test("cold: other requests are answered meanwhile, and a client that leaves leaves nothing behind", async () => {
  await withFront({}, async ({ vault, call, port }) => {
    vault.put("k", "cold");
    vault.put("large", "", { virtualBytes: 2 * CHUNK_BYTES });
    vault.put("hot", "hot");
    vault.held = true;
    for (const [path, what] of [
      ["/k", "coldAnswers"],
      ["/large", "coldPieces"],
    ] as const) {
      vault[what] = 1;
      const socket = net.connect(port, "127.0.0.1");
      socket.on("error", () => {});
      socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
      await until(() => vault.warming.length > 0, "the read has begun");
      assert.equal((await call("GET", "/hot")).text, "hot");
      const inFlight = async () =>
        JSON.parse((await call("GET", "/_stats")).text).queues.requestsInFlight as number;
      assert.equal(await inFlight(), 1);
      socket.destroy();
      await until(async () => (await inFlight()) === 0, "the front has noticed that the client left");
      vault.release();
      vault.held = true;
      assert.equal(vault.readersOpen, 0);
    }
    vault.held = false;
    assert.equal((await call("GET", "/k")).text, "cold");
  });
});

test("cold: what is thrown when the disk has been asked is that request's answer, and the next one is served", async () => {
  await withFront({}, async ({ vault, call }) => {
    vault.put("k", "hello");
    for (const [error, status, pattern] of [
      [new VaultError("overloaded", "no descriptor is free"), 503, /no descriptor is free/],
      [Object.assign(new Error("open"), { code: "EMFILE" }), 503, /"code":"overloaded"/],
      [new VaultError("corrupt"), 500, /"code":"corrupt"/],
      [new Error("a bug"), 500, /"code":"internal"/],
    ] as const) {
      vault.findError = error;
      const batch = '{"operations":[{"op":"get","key":"k"}]}';
      const json = { "Content-Type": "application/json" };
      for (const ask of [
        () => call("GET", "/k"),
        () => call("HEAD", "/k"),
        () => call("POST", "/_batch", { headers: json, body: batch }),
      ]) {
        vault.coldAnswers = 1;
        const { warm } = vault;
        vault.warm = (done) => {
          vault.findThrows = true;
          warm.call(vault, done);
        };
        const reply = await ask();
        vault.findThrows = false;
        vault.warm = warm;
        assert.ok(reply.status === status || reply.status === 200, `${reply.status}`);
        if (reply.text !== "") assert.match(reply.text, pattern);
        assert.equal((await call("GET", "/k")).text, "hello");
      }
    }
  });
});
