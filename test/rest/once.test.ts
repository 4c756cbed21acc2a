/** `Idempotency-Key` against real nodes: each write takes effect once, whoever is asked again, on one node and over three. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Cluster, startCluster } from "../cluster/workers.ts";
import { call, type Reply } from "./client.ts";
import { type Server, startServer } from "./server.ts";

const JSON_TYPE = { "Content-Type": "application/json" };
const BYTES = { "Content-Type": "application/octet-stream" };
const BASE64_LARGE = 1024 * 1024 + 1;

interface Target {
  /** Where clients may ask, in turn. */
  ports(): number[];
  /** Ends a node as kill -9 does and starts it again. */
  restart(): Promise<void>;
}

/** What an answer says of the write, whoever gives it. */
function said({ status, text, headers }: Reply) {
  return { status, text, etag: headers.etag };
}

function oncePasses(target: () => Target): void {
  let turn = 0;
  const next = (): number => {
    const ports = target().ports();
    return ports[turn++ % ports.length];
  };
  /** Asks until somebody can answer: whoever is busy, or has no majority, says so. */
  const patiently = async (ask: () => Promise<Reply>): Promise<Reply & { tries: number }> => {
    for (let tries = 1; ; tries++) {
      const reply = await ask();
      if (reply.status !== 503 || reply.text.includes("unremembered")) return { ...reply, tries };
    }
  };
  const send = (method: string, path: string, key: string, body?: string, headers: object = JSON_TYPE) =>
    patiently(() =>
      call(next(), method, path, {
        headers: { ...headers, "Idempotency-Key": key },
        ...(body === undefined ? {} : { body }),
      }),
    );
  const plain = (method: string, path: string, body?: string | Uint8Array, headers: object = JSON_TYPE) =>
    patiently(() =>
      call(next(), method, path, { headers: { ...headers }, ...(body === undefined ? {} : { body }) }),
    );
  /**
   * An answer that comes again. What fewer than a majority of those who answer have is written again, under a higher version: then that is
   * told.
   */
  const same = (again: Reply, first: Reply, what?: string): void => {
    const [later, earlier] = [again, first].map(({ headers }) => String(headers.etag));
    const etag = target().ports().length > 1 && later > earlier ? first.headers.etag : again.headers.etag;
    assert.deepEqual({ ...said(again), etag }, said(first), what);
  };
  /** Sends a write, and twice again, each to another node: all three say the same. */
  const thrice = async (
    method: string,
    path: string,
    key: string,
    body?: string,
    headers: object = JSON_TYPE,
  ) => {
    const first = await send(method, path, key, body, headers);
    assert.ok(first.status < 300, first.text);
    if (first.tries === 1) assert.equal(first.headers["idempotency-replayed"], undefined);
    for (let again = 0; again < 2; again++) {
      const reply = await send(method, path, key, body, headers);
      same(reply, first, `${method} ${path}`);
      assert.equal(reply.headers["idempotency-replayed"], "true");
    }
    return first;
  };
  const read = (path: string) => plain("GET", path);

  test("idempotency keys: each kind of write is done once, and answered as the first time", async () => {
    assert.equal((await thrice("PUT", "/a", "put-1", '{"value":1}')).status, 201);
    assert.equal((await thrice("PUT", "/a", "put-2", '{"value":2}')).status, 200);
    assert.equal((await thrice("POST", "/b", "post-1", '{"value":"b"}')).status, 201);
    const counter = await thrice("PATCH", "/c", "incr-1", '{"increment":5,"initial":1}');
    assert.deepEqual([counter.status, counter.json().value], [201, 6]);
    assert.equal((await thrice("PATCH", "/c", "incr-2", '{"increment":5}')).json().value, 11);
    const deleted = await thrice("DELETE", "/b", "delete-1");
    assert.equal(deleted.text, '{"success":true,"deleted":true}');
    assert.equal((await thrice("DELETE", "/b", "delete-2")).text, '{"success":true,"deleted":false}');
    await thrice("PUT", "/raw", "raw-1", "abc", BYTES);
    assert.equal((await thrice("PATCH", "/raw?append", "append-1", "def", BYTES)).json().bytes, 6);
    assert.equal((await read("/raw")).text, "abcdef");
    await thrice("PATCH", "/a?ttl=1h", "touch-1");
    assert.ok(Number((await read("/a")).headers["x-ttl"]) > 3000);
    const values = await Promise.all(["/a", "/c"].map(async (path) => (await read(path)).text));
    assert.deepEqual(values, ['{"value":2}', '{"value":11}']);
    assert.equal((await read("/b")).status, 404);
  });

  test("idempotency keys: others may have written since, or deleted; what came first is still known", async () => {
    const first = await send("PATCH", "/between", "first", '{"increment":1,"initial":0}');
    await plain("PUT", "/between", '{"value":100}');
    same(await send("PATCH", "/between", "first", '{"increment":1,"initial":0}'), first);
    await plain("PUT", "/between", Buffer.alloc(BASE64_LARGE + 5, 1), BYTES);
    same(await send("PATCH", "/between", "first", '{"increment":1,"initial":0}'), first);
    await plain("DELETE", "/between");
    same(await send("PATCH", "/between", "first", '{"increment":1,"initial":0}'), first);
    assert.equal((await read("/between")).status, 404);
    await plain("POST", "/between", '{"value":7}');
    same(await send("PATCH", "/between", "first", '{"increment":1,"initial":0}'), first);
    assert.equal((await read("/between")).text, '{"value":7}');
    const create = await send("POST", "/between2", "only", '{"value":1}');
    await plain("DELETE", "/between2");
    same(await send("POST", "/between2", "only", '{"value":1}'), create);
    assert.equal((await read("/between2")).status, 404, "a create that comes again creates nothing");
  });

  test("idempotency keys: a value that has ended in between does not come back", async () => {
    const first = await send("PUT", "/ended?ttl=300ms", "lease", '{"value":1}');
    while ((await read("/ended")).status !== 404);
    same(await send("PUT", "/ended?ttl=300ms", "lease", '{"value":1}'), first);
    assert.equal((await read("/ended")).status, 404);
    assert.equal((await send("PUT", "/ended?ttl=300ms", "lease 2", '{"value":1}')).status, 201);
  });

  test("idempotency keys: another request under one is refused; refusals are judged anew", async () => {
    await send("PUT", "/r", "k", '{"value":1}');
    const other: [string, string, string | undefined, object][] = [
      ["PUT", "/r", '{"value":2}', JSON_TYPE],
      ["PUT", "/r?ttl=60", '{"value":1}', JSON_TYPE],
      ["PUT", "/r", '{"value":1}', BYTES],
      ["PUT", "/r", '{"value":1}', { ...JSON_TYPE, "X-Meta-A": "b" }],
      ["PUT", "/r", '{"value":1}', { ...JSON_TYPE, "If-Match": "*" }],
      ["POST", "/r", '{"value":1}', JSON_TYPE],
      ["PATCH", "/r", '{"increment":1}', JSON_TYPE],
      ["PATCH", "/r?ttl=60", undefined, {}],
      ["DELETE", "/r", undefined, {}],
    ];
    for (const [method, path, body, headers] of other) {
      const reply = await send(method, path, "k", body, headers);
      assert.deepEqual([reply.status, reply.json().code], [422, "key_reused"], `${method} ${path}`);
    }
    assert.equal((await read("/r")).text, '{"value":1}');
    assert.equal((await send("PUT", "/other", "k", '{"value":2}')).status, 201, "keys are of one key each");
    assert.equal((await send("POST", "/r", "refused", '{"value":1}')).status, 409);
    assert.equal((await send("PATCH", "/none", "refused", '{"increment":1}')).status, 404);
    await plain("DELETE", "/r");
    assert.equal((await send("POST", "/r", "refused", '{"value":1}')).status, 201);
    assert.equal((await send("PATCH", "/none", "refused", '{"increment":1,"initial":1}')).status, 201);
    const conditional = { ...JSON_TYPE, "If-None-Match": "*" };
    const created = await send("PUT", "/lock", "mine", '{"value":1}', conditional);
    assert.equal(created.status, 201);
    assert.equal(
      (await send("PUT", "/lock", "mine", '{"value":1}', conditional)).status,
      201,
      "known before judged",
    );
    assert.equal((await send("PUT", "/lock", "theirs", '{"value":1}', conditional)).status, 412);
  });

  test("idempotency keys: a patch that would not fit any more is still known", async () => {
    const first = await send("PATCH", "/bounded", "b", '{"increment":9,"initial":0,"max":9}');
    assert.equal(first.json().value, 9);
    same(await send("PATCH", "/bounded", "b", '{"increment":9,"initial":0,"max":9}'), first);
    const long = JSON.stringify("x".repeat(500));
    const merged = await send("PATCH", "/bounded", "long", long, {
      "Content-Type": "application/merge-patch+json",
    });
    const again = await send("PATCH", "/bounded", "long", long, {
      "Content-Type": "application/merge-patch+json",
    });
    same(again, merged, "what is too long to be remembered is still there");
    await plain("PUT", "/bounded", '{"value":0}');
    const later = await send("PATCH", "/bounded", "long", long, {
      "Content-Type": "application/merge-patch+json",
    });
    same({ ...later, text: merged.text }, merged);
    assert.deepEqual(later.json(), { success: true, created: false }, "now only that it was done");
  });

  test("idempotency keys: tries that are under way at once are one", async () => {
    const ports = target().ports();
    for (let round = 0; round < 8; round++) {
      const body = '{"increment":1,"initial":0}';
      const replies = await Promise.all(
        Array.from({ length: 6 }, (_, index) =>
          patiently(() =>
            call(ports[index % ports.length], "PATCH", "/race", {
              headers: { ...JSON_TYPE, "Idempotency-Key": `race ${round}` },
              body,
            }),
          ),
        ),
      );
      for (const { status, text } of replies) assert.ok(status < 300, text);
      assert.deepEqual(new Set(replies.map((reply) => reply.json().value)), new Set([round + 1]));
      assert.equal((await read("/race")).text, `{"value":${round + 1}}`);
    }
  });

  test("idempotency keys: in a batch each operation has its own", async () => {
    const batch = async (operations: object[]) => {
      const body = JSON.stringify({ operations });
      for (;;) {
        const { results } = (await plain("POST", "/_batch", body)).json();
        if (results.every(({ status }: { status: number }) => status !== 503)) return results;
      }
    };
    const without = (results: { replayed?: boolean }[]) => results.map(({ replayed, ...rest }) => rest);
    const operations = [
      { op: "put", key: "m/1", value: 1, idempotencyKey: "x" },
      { op: "post", key: "m/2", value: 2, idempotencyKey: "x" },
      { op: "delete", key: "m/1", idempotencyKey: "y" },
      { op: "put", key: "m/1", value: 3, idempotencyKey: "x" },
      { op: "patch", key: "m/n", value: { increment: 2, initial: 0 }, idempotencyKey: "x" },
      { op: "patch", key: "m/n", value: { increment: 2, initial: 0 }, idempotencyKey: "y" },
      { op: "patch", key: "m/n", value: { increment: 3, initial: 0 }, idempotencyKey: "y" },
      { op: "patch", key: "m/n", ttl: "1h", idempotencyKey: "z" },
    ];
    const first = await batch(operations);
    assert.deepEqual(
      first.map(({ status, code }: { status: number; code?: string }) => code ?? status),
      [201, 201, 200, "key_reused", 201, 200, "key_reused", 200],
    );
    const again = await batch(operations);
    assert.deepEqual(without(again), without(first));
    assert.deepEqual(
      again.map(({ replayed }: { replayed?: boolean }) => replayed),
      [true, true, true, undefined, true, true, undefined, true],
    );
    const [alone] = await batch([{ op: "get", key: "m/1", idempotencyKey: "x" }]);
    const [empty] = await batch([{ op: "put", key: "m/1", value: 1, idempotencyKey: "" }]);
    assert.deepEqual([alone.status, empty.status], [400, 400]);
    assert.equal((await read("/m/n")).json().value, 4);
    // Alone it is the same request.
    const same = await send("PATCH", "/m/n", "y", '{"increment":2,"initial":0}');
    assert.deepEqual([same.status, same.headers["idempotency-replayed"]], [200, "true"]);
    assert.equal((await read("/m/1")).status, 404);
  });

  test("idempotency keys: one that cannot be is refused in a sentence, and so is a large upload", async () => {
    for (const key of ["", "x".repeat(65), "schl\u00fcssel", "\u{1f600}"].map((text) =>
      Buffer.from(text, "utf8").toString("latin1"),
    ))
      for (const [method, path, body] of [
        ["PUT", "/bad", '{"value":1}'],
        ["POST", "/bad", '{"value":1}'],
        ["PATCH", "/bad", '{"increment":1,"initial":0}'],
        ["PATCH", "/bad?ttl=60", undefined],
        ["DELETE", "/bad", undefined],
      ] as const) {
        const reply = await send(method, path, key, body);
        assert.equal(reply.status, 400, `${method} ${reply.text}`);
        assert.match(reply.json().error, /^Idempotency-Key (is empty|has)/);
      }
    assert.equal((await send("PUT", "/bad", "x".repeat(64), '{"value":1}')).status, 201);
    const large = await send("PUT", "/large", "k", "x".repeat(BASE64_LARGE), BYTES);
    assert.deepEqual([large.status, large.json().code], [400, "bad_request"]);
    assert.match(large.json().error, /^an Idempotency-Key goes with bodies of at most/);
    assert.equal((await read("/large")).status, 404);
    assert.equal((await send("PUT", "/large", "k", "x".repeat(BASE64_LARGE - 1), BYTES)).status, 201);
  });

  test("idempotency keys: a key that has had too many takes no more, and forgets none", async () => {
    const body = '{"increment":1,"initial":0}';
    let taken = 0;
    let refused: Reply | null = null;
    while (refused === null) {
      const replies = await Promise.all(
        Array.from({ length: 20 }, (_, index) => send("PATCH", "/full", `n${taken + index}`, body)),
      );
      refused = replies.find(({ status }) => status >= 300) ?? null;
      taken += replies.filter(({ status }) => status < 300).length;
      assert.ok(taken < 1000);
    }
    assert.deepEqual([refused.status, refused.json().code], [503, "unremembered"], refused.text);
    assert.match(refused.json().error, /too many writes with an Idempotency-Key/);
    assert.ok(taken >= 150, `${taken}`);
    assert.equal((await read("/full")).text, `{"value":${taken}}`);
    assert.equal((await send("PATCH", "/full", "n0", body)).headers["idempotency-replayed"], "true");
    const put = await plain("PUT", "/full", '{"value":0}');
    assert.equal(put.status, 200, "who has no key may write");
  });

  test("idempotency keys: they are known after kill -9", async () => {
    const first = await send("PATCH", "/killed", "k", '{"increment":1,"initial":0}');
    const gone = await send("DELETE", "/gone", "k");
    await target().restart();
    same(await send("PATCH", "/killed", "k", '{"increment":1,"initial":0}'), first);
    same(await send("DELETE", "/gone", "k"), gone);
    assert.equal((await read("/killed")).text, '{"value":1}');
  });
}

describe("idempotency keys: one node", () => {
  let server: Server;
  before(async () => {
    server = await startServer();
  });
  after(() => server.dispose());
  oncePasses(() => ({
    ports: () => [server.port],
    restart: async () => {
      await server.kill("SIGKILL");
      await server.restart();
    },
  }));
});

describe("idempotency keys: three nodes", () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await startCluster({ workers: 3 });
  });
  after(() => cluster.dispose());
  oncePasses(() => ({
    ports: () => cluster.workers.map(({ port }) => port),
    restart: async () => {
      const [first] = cluster.workers;
      await first.kill();
      await first.start();
      await cluster.ready();
    },
  }));
});
