/** `PATCH /key` against real nodes: atomic, whoever else writes, on one node and over three. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startCluster } from "../cluster/workers.ts";
import { call } from "./client.ts";
import { type Server, startServer } from "./server.ts";

const JSON_TYPE = { "Content-Type": "application/json" };
const MERGE = { "Content-Type": "application/merge-patch+json" };
const OPERATIONS = { "Content-Type": "application/json-patch+json" };
const BYTES = { "Content-Type": "application/octet-stream" };

const patch = (port: number, path: string, body: string, headers: Record<string, string> = JSON_TYPE) =>
  call(port, "PATCH", path, { headers, body });
const put = (port: number, path: string, value: string) =>
  call(port, "PUT", path, { headers: JSON_TYPE, body: `{"value":${value}}` });

describe("patch: one node", () => {
  let server: Server;
  before(async () => {
    server = await startServer();
  });
  after(() => server.dispose());

  test("patch: each form, its answer, and what is there afterwards", async () => {
    const { port } = server;
    const counter = await patch(port, "/c", '{"increment":12345678901234567890,"initial":0.5}');
    assert.deepEqual(
      [counter.status, counter.text],
      [201, '{"success":true,"created":true,"value":12345678901234567890.5}'],
    );
    const again = await patch(port, "/c", '{"increment":0.5}');
    assert.deepEqual(
      [again.status, again.text],
      [200, '{"success":true,"created":false,"value":12345678901234567891}'],
    );
    const read = await call(port, "GET", "/c");
    assert.deepEqual([read.text, read.headers.etag], ['{"value":12345678901234567891}', again.headers.etag]);
    assert.ok((again.headers.etag as string) > (counter.headers.etag as string));
    await put(port, "/d", '{"a": 1.0, "b":[ ]}');
    assert.match(
      (await patch(port, "/d", '{"a":null,"c":"x"}', MERGE)).text,
      /"value":\{"b":\[ \],"c":"x"\}\}$/,
    );
    assert.match(
      (await patch(port, "/d", '[{"op":"add","path":"/b/-","value":7}]', OPERATIONS)).text,
      /"value":\{"b":\[7\],"c":"x"\}\}$/,
    );
    await call(port, "PUT", "/raw", { headers: { "Content-Type": "image/png" }, body: "abc" });
    assert.equal(
      (await patch(port, "/raw?append", "def", BYTES)).text,
      '{"success":true,"created":false,"bytes":6}',
    );
    // As with PUT: what curl sends where nobody chose a type is bytes.
    const form = { "Content-Type": "application/x-www-form-urlencoded" };
    assert.equal((await patch(port, "/raw?append=1", "g", form)).status, 200);
    assert.equal((await patch(port, "/raw?append=true", "h", {})).status, 200);
    const raw = await call(port, "GET", "/raw");
    assert.deepEqual([raw.text, raw.headers["content-type"]], ["abcdefgh", "image/png"]);
  });

  test("patch: refusals change nothing", async () => {
    const { port } = server;
    await put(port, "/n", '{"a":1}');
    const before = await call(port, "GET", "/n");
    const wrong: [string, string, Record<string, string>, number, string][] = [
      ["/absent", '{"increment":1}', JSON_TYPE, 404, "not_found"],
      ["/absent", "{}", MERGE, 404, "not_found"],
      ["/absent?append", "x", BYTES, 404, "not_found"],
      ["/n", '{"increment":1}', JSON_TYPE, 409, "patch_conflict"],
      ["/n", '[{"op":"remove","path":"/b"}]', OPERATIONS, 409, "patch_conflict"],
      ["/n?append", "x", BYTES, 409, "patch_conflict"],
      ["/n", "{", MERGE, 400, "bad_request"],
      ["/n", "{}", JSON_TYPE, 400, "bad_request"],
      ["/n", "{}", { "Content-Type": "text/plain" }, 400, "bad_request"],
      ["/n", "x", BYTES, 400, "bad_request"],
      ["/n?append=false", "x", BYTES, 400, "bad_request"],
      ["/n?append=some", "x", BYTES, 400, "bad_request"],
      ["/n?append&append", "x", BYTES, 400, "bad_request"],
      ["/n?append=0", '{"a":1}', MERGE, 200, ""],
      ["/n", "{}", { ...MERGE, "If-Match": '"0"' }, 412, "precondition_failed"],
      ["/n", "{}", { ...MERGE, "If-Match": "" }, 412, "precondition_failed"],
      ["/n?ttl=60", "", { "If-Match": "" }, 412, "precondition_failed"],
      ["/n", "{}", { ...MERGE, "Content-Encoding": "gzip" }, 415, "unsupported_encoding"],
      ["/n", '{"a":1}', { ...MERGE, "Content-Encoding": "identity" }, 200, ""],
      ["/n", "{}", { ...MERGE, "If-None-Match": "*" }, 412, "precondition_failed"],
      ["/n", `{"b":"${"x".repeat(1_048_000)}"}`, MERGE, 200, ""],
      ["/n", `{"c":"${"x".repeat(1_000_000)}"}`, MERGE, 413, "too_large"],
      ["/n", " ".repeat(1_100_000), MERGE, 413, "too_large"],
      ["/n", '{"b":null}', { ...MERGE, "If-Match": "*" }, 200, ""],
    ];
    for (const [path, body, headers, status, code] of wrong) {
      const reply = await patch(port, path, body, headers);
      assert.equal(reply.status, status, `${path} ${body.slice(0, 60)}: ${reply.text.slice(0, 200)}`);
      assert.equal(reply.json().code ?? "", code);
    }
    assert.equal((await call(port, "GET", "/n")).text, before.text);
    assert.equal((await call(port, "GET", "/absent")).status, 404);
    assert.equal((await call(port, "PATCH", "/_stats", { headers: MERGE, body: "{}" })).status, 405);
    await call(port, "PUT", "/large", { headers: BYTES, body: Buffer.alloc(2_000_000) });
    assert.equal((await patch(port, "/large?append", "x", BYTES)).status, 413);
    const other = await patch(port, "/large?append", "x", { ...BYTES, "If-Match": '"0"' });
    assert.equal(other.status, 412, "what it demands comes first");
  });

  test("patch: many clients at one counter, beside deletes and writes of it: none is lost", async () => {
    const { port } = server;
    const sums = await Promise.all(
      Array.from({ length: 16 }, async () => {
        for (let i = 0; i < 50; i++)
          assert.ok((await patch(port, "/hot", '{"increment":1,"initial":0}')).status < 300);
      }),
    );
    assert.equal(sums.length, 16);
    assert.equal((await call(port, "GET", "/hot")).text, '{"value":800}');
    // What somebody else writes is what the next change begins with.
    await put(port, "/hot", "5");
    assert.match((await patch(port, "/hot", '{"increment":1}')).text, /"value":6\}$/);
    await call(port, "DELETE", "/hot");
    assert.equal((await patch(port, "/hot", '{"increment":1}')).status, 404);
  });
});

test("patch: three nodes count together, and every increment that was acknowledged is in the sum", async () => {
  const cluster = await startCluster({ workers: 3 });
  try {
    let acknowledged = 0;
    let unknown = 0;
    await Promise.all(
      [0, 1, 2, 0, 1, 2].map(async (worker) => {
        for (let i = 0; i < 30; i++) {
          const { status } = await patch(cluster.workers[worker].port, "/sum", '{"increment":1,"initial":0}');
          if (status < 300) acknowledged++;
          // Nobody knows whether it happened; or, where too many others came first, that it did not.
          else if (status === 503) unknown++;
          else assert.fail(`status ${status}`);
        }
      }),
    );
    const sum = (await call(cluster.workers[2].port, "GET", "/sum")).json().value;
    assert.ok(
      sum >= acknowledged && sum <= acknowledged + unknown,
      `${sum}, of ${acknowledged} and ${unknown}`,
    );
    assert.ok(acknowledged >= 100, `${acknowledged} acknowledged`);
  } finally {
    await cluster.dispose();
  }
});
