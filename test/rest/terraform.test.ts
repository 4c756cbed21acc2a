/** `/_raw/<key>`: values as they came, and the requests of Terraform's http backend as its documentation has them. */
import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Cluster, startCluster } from "../cluster/workers.ts";
import { call, content } from "./client.ts";
import { type Server, startServer, temporaryFolder, waitUntil, withServer } from "./server.ts";

const JSON_TYPE = { "Content-Type": "application/json" };

/** What Terraform sends with LOCK. */
function lockOf(id: string): string {
  return JSON.stringify({
    ID: id,
    Operation: "OperationTypeApply",
    Info: "",
    Who: "ada@box",
    Version: "1.9.8",
  });
}

describe("raw: one node", () => {
  let server: Server;
  before(async () => {
    server = await startServer();
  });
  after(() => server.dispose());
  /** Patient: a node that has too much to do says so. */
  const ask = async (method: string, url: string, body?: string | Uint8Array, headers = {}) => {
    for (;;) {
      const reply = await call(server.port, method, url, {
        headers,
        ...(body === undefined ? {} : { body }),
      });
      if (reply.status !== 503) return reply;
      await sleep(50);
    }
  };

  test("raw: what was sent is what comes back, with its type, also where it is JSON", async () => {
    const bodies = [
      '{"value":1}',
      ' {"version": 4, "serial": 12345678901234567890}\n',
      "no JSON at all",
      "",
      "null",
    ];
    for (const body of bodies)
      for (const type of ["application/json", "application/json; charset=utf-8", "text/html", "image/png"]) {
        assert.equal((await ask("PUT", "/_raw/r/1", body, { "Content-Type": type })).status < 300, true);
        const back = await ask("GET", "/_raw/r/1");
        assert.deepEqual([back.status, back.text, back.headers["content-type"]], [200, body, type]);
        const head = await ask("HEAD", "/_raw/r/1");
        assert.deepEqual(
          [head.status, head.headers["content-length"], head.headers.etag],
          [200, String(Buffer.byteLength(body)), back.headers.etag],
        );
        // By its own name it is the same.
        assert.equal((await ask("GET", "/r/1")).text, body);
      }
    // POST replaces; curl's default is no form.
    const form = { "Content-Type": "application/x-www-form-urlencoded" };
    assert.deepEqual((await ask("POST", "/_raw/r/1", "a=b", form)).json(), { success: true, created: false });
    assert.equal((await ask("GET", "/_raw/r/1")).headers["content-type"], "application/octet-stream");
    assert.deepEqual((await ask("DELETE", "/_raw/r/1")).json(), { success: true, deleted: true });
    assert.equal((await ask("GET", "/_raw/r/1")).status, 404);
    assert.equal((await ask("POST", "/_raw/r/1", "new")).status, 201);
  });

  test("raw: a JSON value of ours comes without its envelope, whole and in parts, small and large", async () => {
    const large = JSON.stringify(content(1, 3_000_000).toString("base64"));
    for (const text of ["1", '"ä"', '{"a": 1.0}', large]) {
      await ask("PUT", "/r/2", `{"value": ${text}}`, JSON_TYPE);
      const back = await ask("GET", "/_raw/r/2");
      assert.ok(back.text === text, `${text.slice(0, 20)}: ${back.text.slice(0, 40)}`);
      const { length } = Buffer.from(text);
      assert.deepEqual(
        [back.headers["content-type"], back.headers["content-length"]],
        ["application/json", String(length)],
      );
      assert.equal((await ask("HEAD", "/_raw/r/2")).headers["content-length"], String(length));
      const last = await ask("GET", "/_raw/r/2", undefined, { Range: "bytes=-1" });
      assert.deepEqual([last.status, last.text], [206, text.slice(-1)]);
      assert.equal(last.headers["content-range"], `bytes ${length - 1}-${length - 1}/${length}`);
      const middle = await ask("GET", "/_raw/r/2", undefined, { Range: `bytes=${length >> 1}-` });
      assert.ok(middle.body.equals(Buffer.from(text).subarray(length >> 1)));
      assert.equal((await ask("GET", "/_raw/r/2", undefined, { Range: `bytes=${length}-` })).status, 416);
    }
    const { headers } = await ask("GET", "/_raw/r/2");
    const again = await ask("GET", "/_raw/r/2", undefined, { "If-None-Match": String(headers.etag) });
    assert.equal(again.status, 304);
  });

  test("raw: conditions, ends, kept headers and large bodies are as elsewhere", async () => {
    const body = content(2, 5_000_000);
    const more = { "Content-Type": "application/json", "Content-Encoding": "gzip", "X-Meta-Of": "me" };
    assert.equal((await ask("PUT", "/_raw/r/3?ttl=1h", body, more)).status, 201);
    const { headers, body: back } = await ask("GET", "/_raw/r/3");
    assert.ok(back.equals(body) && Number(headers["x-ttl"]) > 3000);
    assert.deepEqual([headers["content-encoding"], headers["x-meta-of"]], ["gzip", "me"]);
    assert.equal((await ask("PUT", "/_raw/r/3", body, { "If-None-Match": "*" })).status, 412);
    assert.equal((await ask("PUT", "/_raw/r/3", "x", { "If-Match": String(headers.etag) })).status, 200);
    for (const query of ["list", "watch", "changes", "wait=1s", "consistency=some"])
      assert.deepEqual((await ask("GET", `/_raw/r/3?${query}`)).json().code, "bad_request", query);
    assert.equal((await ask("GET", "/_raw/r/3?consistency=one")).text, "x");
    const patch = await ask("PATCH", "/_raw/r/3", "{}", JSON_TYPE);
    assert.deepEqual(
      [patch.status, patch.headers.allow],
      [405, "GET, HEAD, PUT, POST, DELETE, LOCK, UNLOCK"],
    );
    assert.equal((await ask("LOCK", "/r/3", lockOf("a"))).status, 405);
    assert.equal((await ask("GET", `/_raw/${"k".repeat(1025)}`)).status, 414);
    assert.equal((await ask("PUT", `/_raw/${"k".repeat(1024)}`, "long")).status, 201);
  });

  test("raw: an export keeps the form of a value, and an import brings it back", async () => {
    await ask("PUT", "/_raw/e/raw", '{"value":1}', JSON_TYPE);
    await ask("PUT", "/e/ours", '{"value":{"value":1}}', JSON_TYPE);
    const archive = await ask("GET", "/_export?prefix=e/");
    for (const key of ["e/raw", "e/ours"]) await ask("DELETE", `/${key}`);
    assert.equal((await ask("PUT", "/_import?mode=create", archive.body)).json().stored, 2);
    assert.equal((await ask("GET", "/e/raw")).text, '{"value":1}');
    assert.equal((await ask("GET", "/e/ours")).text, '{"value":{"value":1}}');
  });

  test("terraform: state, lock, update under the lock, conflict, unlock", async () => {
    const url = "/_raw/tf/state";
    const state = '{"version":4,"terraform_version":"1.9.8","serial":1,"outputs":{}}';
    assert.equal((await ask("GET", url)).status, 404);
    assert.equal((await ask("LOCK", url, lockOf("a"), JSON_TYPE)).status, 200);
    const conflict = await ask("LOCK", url, lockOf("b"), JSON_TYPE);
    assert.deepEqual([conflict.status, conflict.text], [423, lockOf("a")]);
    // An answer that was lost: the same lock again.
    assert.equal((await ask("LOCK", url, lockOf("a"), JSON_TYPE)).status, 200);
    assert.equal((await ask("POST", `${url}?ID=a`, state, JSON_TYPE)).status, 201);
    for (const [method, query] of [
      ["POST", "?ID=b"],
      ["POST", ""],
      ["PUT", "?ID=b"],
      ["DELETE", ""],
    ]) {
      const body = method === "DELETE" ? undefined : "{}";
      const refused = await ask(method, url + query, body, JSON_TYPE);
      assert.deepEqual([refused.status, refused.text], [423, lockOf("a")], method + query);
    }
    const large = await ask("POST", `${url}?ID=b`, content(3, 3_000_000), JSON_TYPE);
    assert.equal(large.status, 423);
    assert.equal((await ask("GET", url)).text, state);
    const wrong = await ask("UNLOCK", url, lockOf("b"), JSON_TYPE);
    assert.deepEqual([wrong.status, wrong.text], [423, lockOf("a")]);
    assert.equal((await ask("UNLOCK", url, lockOf("a"), JSON_TYPE)).status, 200);
    assert.equal((await ask("UNLOCK", url, lockOf("a"), JSON_TYPE)).status, 200);
    // Who believes to hold it, and does not any more, writes nothing.
    assert.equal((await ask("POST", `${url}?ID=a`, "{}", JSON_TYPE)).json().code, "precondition_failed");
    assert.equal((await ask("GET", url)).text, state);
    assert.equal((await ask("LOCK", url, lockOf("b"), JSON_TYPE)).status, 200);
    // terraform force-unlock sends no lock.
    assert.equal((await ask("UNLOCK", url)).status, 200);
    assert.equal((await ask("DELETE", url)).json().deleted, true);
  });

  test("terraform: of a hundred that lock at once one has it; what is no lock is refused; a lock may end", async () => {
    const url = "/_raw/tf/many";
    const all = Array.from({ length: 100 }, (_, i) => ask("LOCK", url, lockOf(`id ${i}`), JSON_TYPE));
    const replies = await Promise.all(all);
    const won = replies.findIndex(({ status }) => status === 200);
    for (const [i, { status, text }] of replies.entries())
      if (i !== won) assert.deepEqual([status, text], [423, lockOf(`id ${won}`)]);
    for (const body of ["", "{}", "no JSON", '{"ID":""}', '{"ID":7}', "null"])
      assert.equal((await ask("LOCK", url, body, JSON_TYPE)).status, 400, body);
    assert.equal((await ask("UNLOCK", url, "no JSON", JSON_TYPE)).status, 400);
    assert.equal((await ask("LOCK", url, "x".repeat(70_000), JSON_TYPE)).status, 413);
    assert.equal((await ask("UNLOCK", `${url}?ID=id%20${won}`)).status, 200);
    assert.equal((await ask("LOCK", `${url}?ttl=50ms`, lockOf("short"), JSON_TYPE)).status, 200);
    await waitUntil(
      "the lock ends",
      async () => (await ask("LOCK", url, lockOf("next"), JSON_TYPE)).status === 200,
    );
    assert.equal((await ask("LOCK", `/_raw/${"k".repeat(1020)}`, lockOf("a"), JSON_TYPE)).status, 414);
    // Whatever else stands where the lock would be: nobody writes past it.
    await ask("PUT", "/tf/odd.tflock", "what is this");
    assert.equal((await ask("POST", "/_raw/tf/odd?ID=a", "{}")).json().code, "locked");
    assert.equal((await ask("LOCK", "/_raw/tf/odd", lockOf("a"))).json().code, "locked");
  });
});

test("raw: with minikeyvalue's statuses it is as it is elsewhere", () =>
  withServer({ flags: ["-compat", "mkv"] }, async ({ port }) => {
    const put = (body: string) => call(port, "PUT", "/_raw/k", { body });
    assert.deepEqual(
      [(await put("1")).status, (await put("2")).status, (await put("")).status],
      [201, 200, 200],
    );
    assert.deepEqual((await call(port, "DELETE", "/_raw/k")).json(), { success: true, deleted: true });
  }));

test("raw: tokens are asked for the key behind it; the audit says what was done", async () => {
  const folder = temporaryFolder();
  const tokens = path.join(folder, "tokens");
  const audit = path.join(folder, "audit");
  const line = (name: string, allow: string[]) =>
    JSON.stringify({ name, sha256: hash("sha256", `mv1.${name}.secret`), prefix: ["tf/"], allow });
  writeFileSync(tokens, `${line("ci", ["read", "write", "delete"])}\n${line("blind", ["write"])}\n`, {
    mode: 0o600,
  });
  await withServer({ flags: ["-tokens", tokens, "-audit", audit] }, async ({ port }) => {
    const ask = (who: string, method: string, url: string, body?: string) =>
      call(port, method, url, {
        headers: { Authorization: `Basic ${Buffer.from(`any:mv1.${who}.secret`).toString("base64")}` },
        ...(body === undefined ? {} : { body }),
      });
    assert.equal((await ask("ci", "LOCK", "/_raw/tf/a", lockOf("1"))).status, 200);
    assert.equal((await ask("ci", "POST", "/_raw/tf/a?ID=1", "{}")).status, 201);
    for (const url of ["/_raw/other", "/%5Fraw/other", "/_raw/%74g/a", "/_raw//tf/a", "/_raw"])
      for (const method of ["GET", "POST", "LOCK", "UNLOCK", "DELETE"])
        assert.equal((await ask("ci", method, url, method === "GET" ? undefined : "x")).status, 403, url);
    // Who may not read is not told who holds it.
    const refused = await ask("blind", "POST", "/_raw/tf/a", "{}");
    assert.deepEqual([refused.status, refused.json().code], [423, "locked"]);
    assert.equal((await ask("blind", "LOCK", "/_raw/tf/a", lockOf("2"))).json().code, "locked");
    assert.equal((await ask("ci", "GET", "/_raw/tf/a")).text, "{}");
    // Written behind the answers, in their order: the POST is the last that was done.
    const done = () =>
      readFileSync(audit, "utf8")
        .split("\n")
        .filter((text) => text !== "")
        .map((text) => JSON.parse(text))
        .filter(({ path: at, status }) => at.startsWith("/_raw/tf/") && status < 300)
        .map(({ token, method, status }) => [token, method, status]);
    await waitUntil("the audit has both", () => done().length >= 2);
    assert.deepEqual(done(), [
      ["ci", "LOCK", 200],
      ["ci", "POST", 201],
    ]);
  });
});

describe("raw: a cluster of three", () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await startCluster({ workers: 3 });
  });
  after(() => cluster.dispose());

  test("raw: large and small, and a lock, at any node, also with one killed", async () => {
    const { workers } = cluster;
    /** Patient: a replica may be slow, and the node says so. */
    const ask = async (
      worker: number,
      method: string,
      url: string,
      body?: string | Uint8Array,
      headers = {},
    ) => {
      for (;;) {
        const { port } = workers[worker];
        const reply = await call(port, method, url, { headers, ...(body === undefined ? {} : { body }) });
        if (reply.status !== 503) return reply;
        await sleep(50);
        await sleep(50);
      }
    };
    const large = JSON.stringify(content(4, 3_000_000).toString("base64"));
    await ask(0, "PUT", "/big", `{"value":${large}}`, JSON_TYPE);
    await ask(0, "PUT", "/_raw/small", '{"value":1}', JSON_TYPE);
    await ask(0, "LOCK", "/_raw/small", lockOf("a"), JSON_TYPE);
    for (const worker of [0, 1, 2]) {
      const whole = await ask(worker, "GET", "/_raw/big");
      assert.ok(whole.text === large, `worker ${worker}: ${whole.status}, ${whole.body.length} bytes`);
      const part = await ask(worker, "GET", "/_raw/big", undefined, { Range: "bytes=-1000" });
      assert.ok(part.text === large.slice(-1000));
      assert.equal((await ask(worker, "HEAD", "/_raw/big")).headers["content-length"], String(large.length));
      assert.equal((await ask(worker, "GET", "/_raw/small")).text, '{"value":1}');
      const conflict = await ask(worker, "LOCK", "/_raw/small", lockOf("b"), JSON_TYPE);
      assert.deepEqual([conflict.status, conflict.text], [423, lockOf("a")]);
    }
    await workers[0].kill();
    for (const worker of [1, 2]) {
      assert.equal((await ask(worker, "POST", "/_raw/small", "2")).text, lockOf("a"));
      assert.equal((await ask(worker, "POST", "/_raw/small?ID=a", `${worker}`)).status, 200);
      assert.equal((await ask(3 - worker, "GET", "/_raw/small")).text, `${worker}`);
      assert.ok((await ask(worker, "GET", "/_raw/big")).text === large);
    }
    assert.equal((await ask(1, "UNLOCK", "/_raw/small", lockOf("a"), JSON_TYPE)).status, 200);
    assert.equal((await ask(2, "LOCK", "/_raw/small", lockOf("b"), JSON_TYPE)).status, 200);
  });
});
