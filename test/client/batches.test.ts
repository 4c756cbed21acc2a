/** What of a batch the client sends again, and how: against nodes that answer as they are told. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import * as client from "../../src/client/index.ts";

interface Sent {
  op: string;
  key: string;
  idempotencyKey?: string;
  [member: string]: unknown;
}

type Result = Partial<client.OperationResult> & { status: number };

/** What a node answers: a result for each operation, an error, or nothing. */
type Reply = ((operation: Sent) => Result) | { status: number; code: string } | "lost" | "cut" | "refused";

const DONE: Reply = () => ({ status: 200 });
const KNOWN = ["idempotency-key"];

function refuse(code: string, status = 503): Reply {
  return () => ({ status, code, error: "so it is" });
}

/** Gives its answers in order, the last one for ever; `sent` has each batch that came. */
function nodes(
  replies: Reply[],
  { features = KNOWN, ...options }: Partial<client.ClientOptions> & { features?: string[] } = {},
) {
  const sent: Sent[][] = [];
  const hosts: string[] = [];
  const asked = { count: 0 };
  const fetch = async (url: string, { body }: RequestInit): Promise<Response> => {
    const { pathname, host } = new URL(url);
    if (pathname === "/") {
      asked.count++;
      return Response.json({ features });
    }
    if (pathname !== "/_batch") return Response.json({});
    const { operations } = JSON.parse(body as string) as { operations: Sent[] };
    const reply = replies.length > 1 ? (replies.shift() as Reply) : replies[0];
    if (reply === "refused")
      throw new TypeError("fetch failed", {
        cause: Object.assign(new Error("no"), { code: "ECONNREFUSED" }),
      });
    sent.push(operations);
    hosts.push(host);
    if (reply === "lost") throw new TypeError("fetch failed", { cause: new Error("other side closed") });
    if (typeof reply === "object")
      return Response.json({ success: false, error: "so it is", code: reply.code }, { status: reply.status });
    if (reply === "cut")
      return new Response(new ReadableStream({ pull: (to) => to.error(new TypeError("terminated")) }));
    return Response.json({ success: true, results: operations.map(reply) });
  };
  const store = new client.MinivaultClient({ url: "http://a", fetch, ...options });
  return { store, sent, hosts, asked };
}

function keysOf(operations: readonly Sent[]): (string | null)[] {
  return operations.map(({ idempotencyKey = null }) => idempotencyKey);
}

/** Each has one or none, and no two the same. */
function haveKeys(operations: readonly Sent[]): boolean[] {
  const keys = keysOf(operations).filter((key) => key !== null);
  assert.equal(new Set(keys).size, keys.length);
  return operations.map(({ idempotencyKey }) => idempotencyKey !== undefined);
}

const FREE: client.Operation[] = [
  { op: "put", key: "a", value: 1 },
  { op: "get", key: "b" },
  { op: "increment", key: "c" },
  { op: "increment", key: "c", by: 2 },
  { op: "delete", key: "d" },
];
/** Pairs whose order counts. */
const ORDERED: [client.Operation, client.Operation][] = [
  [
    { op: "get", key: "o" },
    { op: "put", key: "o", value: 1 },
  ],
  [
    { op: "put", key: "o", value: 1 },
    { op: "put", key: "o", value: 2 },
  ],
  [
    { op: "increment", key: "o" },
    { op: "delete", key: "o" },
  ],
  [
    { op: "append", key: "o", value: 1 },
    { op: "append", key: "o", value: 2 },
  ],
];

test("client: batch: each write has a key of its own, but where order counts, or none is wanted", async () => {
  const { store, sent } = nodes([DONE]);
  await store.batch(FREE);
  assert.deepEqual(haveKeys(sent[0]), [true, false, true, true, true]);
  await store.batch([
    { op: "put", key: "a", value: 1, once: false },
    { op: "post", key: "b", value: 1, once: "my own" },
    { op: "touch", key: "c", ttl: 5 },
  ]);
  assert.deepEqual(haveKeys(sent[1]), [false, true, true]);
  assert.equal(sent[1][1].idempotencyKey, "my own");
  assert.ok(sent.flat().every((operation) => !("once" in operation)));
  await store.batch(FREE, { once: false });
  assert.deepEqual(haveKeys(sent[2]), [false, false, false, false, false]);
  for (const pair of ORDERED) {
    await store.batch([...pair, { op: "put", key: "z", value: 1 }]);
    assert.deepEqual(haveKeys(sent[sent.length - 1]), [false, false, true]);
  }
  const without = nodes([DONE], { once: false });
  await without.store.batch(FREE);
  await without.store.batch([{ ...FREE[0], once: true } as client.Operation]);
  await without.store.batch(FREE, { once: true });
  assert.deepEqual(without.sent.map(haveKeys), [
    [false, false, false, false, false],
    [true],
    [true, false, true, true, true],
  ]);
});

test("client: batch: one whose answer was lost is sent again as it was, where that is safe", async () => {
  const unclear: Reply[] = [
    "lost",
    "cut",
    { status: 503, code: "unknown_outcome" },
    { status: 502, code: "x" },
  ];
  for (const reply of unclear) {
    const { store, sent } = nodes([reply, DONE]);
    await store.batch(FREE);
    assert.equal(sent.length, 2);
    assert.deepEqual(sent[0], sent[1]);
    const refused: [client.Operation[], object][] = [
      ...ORDERED.map((pair): [client.Operation[], object] => [pair, {}]),
      // A key of the caller's own makes no order of them.
      [ORDERED[1].map((one, index) => ({ ...one, once: `own ${index}` }) as client.Operation), {}],
      [FREE, { once: false }],
      [[{ op: "put", key: "a", value: 1, once: false }, ...FREE.slice(1)], {}],
      [FREE, { features: [] }],
    ];
    for (const [operations, options] of refused) {
      const one = nodes([reply, DONE], options);
      await assert.rejects(one.store.batch(operations), client.MinivaultError);
      assert.equal(one.sent.length, 1);
    }
  }
  // Nothing but reads, and what was never sent, comes again in any case.
  const reads = nodes(["lost", DONE], { features: [] });
  await reads.store.batch([
    { op: "get", key: "a" },
    { op: "get", key: "a" },
  ]);
  assert.equal(reads.sent.length, 2);
  const unsent = nodes(["refused", { status: 503, code: "overloaded" }, DONE], { once: false });
  await unsent.store.batch(ORDERED[1]);
  assert.equal(unsent.sent.length, 2);
});

test("client: batch: single operations that could not be done come again, at another node", async () => {
  const only =
    (key: string, code: string, status = 503): Reply =>
    (operation) =>
      operation.key === key ? { status, code, error: "so it is" } : { status: 200 };
  for (const [key, code] of [
    ["a", "no_quorum"],
    ["a", "unknown_outcome"],
    ["c", "internal"],
    ["b", "unavailable"],
  ]) {
    const { store, sent, hosts } = nodes([only(key, code), DONE], { url: ["http://a", "http://b"] });
    const results = await store.batch(FREE);
    assert.deepEqual(
      results.map(({ status }) => status),
      [200, 200, 200, 200, 200],
    );
    assert.deepEqual(
      sent[1],
      sent[0].filter((operation) => operation.key === key),
    );
    assert.deepEqual(hosts, ["a", "b"]);
  }
  // What lasts, what nobody may repeat, and what others of the batch stand behind.
  const kept: [client.Operation[], Reply, object][] = [
    [FREE, only("a", "precondition_failed", 412), {}],
    [FREE, only("b", "corrupt", 500), {}],
    [FREE, only("a", "unknown_outcome"), { once: false }],
    [FREE, only("a", "unknown_outcome"), { features: [] }],
    ...ORDERED.map((pair): [client.Operation[], Reply, object] => [pair, only("o", "no_quorum"), {}]),
    [FREE, only("a", "no_quorum"), { retries: 0 }],
  ];
  for (const [operations, reply, options] of kept) {
    const { store, sent } = nodes([reply, DONE], options);
    const results = await store.batch(operations);
    assert.ok(results.some(({ status }) => status >= 400));
    assert.equal(sent.length, 1);
  }
  const undone = nodes([only("a", "no_quorum"), DONE], { once: false });
  assert.ok((await undone.store.batch(FREE)).every(({ status }) => status === 200));
  assert.deepEqual(
    undone.sent.map(({ length }) => length),
    [5, 1],
  );
});

test("client: batch: a key that cannot be remembered is left out, unless the write may have been done", async () => {
  const one: client.Operation[] = [{ op: "increment", key: "n" }];
  const full = nodes([refuse("unremembered"), DONE], { retries: 0 });
  assert.equal((await full.store.batch(one))[0].status, 200);
  await full.store.batch(one);
  assert.deepEqual(full.sent.flatMap(haveKeys), [true, false, true]);
  const old = nodes([refuse("upgrade_first", 501), DONE], { features: [] });
  await old.store.batch(one);
  await old.store.batch(one);
  assert.deepEqual(old.sent.flatMap(haveKeys), [true, false, false]);
  // Before keys were known they were a member that is refused.
  const older = nodes([refuse("bad_request", 400), DONE], { features: [] });
  await older.store.batch([...one, ...one]);
  await older.store.batch(one);
  assert.deepEqual(older.sent.flatMap(haveKeys), [true, true, false, false, false]);
  assert.equal(older.asked.count, 1);
  const bad = nodes([refuse("bad_request", 400), DONE]);
  assert.equal((await bad.store.batch(one))[0].status, 400);
  const own = nodes([refuse("unremembered")], { retries: 0 });
  assert.equal(
    (await own.store.batch([{ ...one[0], once: "mine" } as client.Operation]))[0].code,
    "unremembered",
  );
  assert.equal(own.sent.length, 1);
  for (const first of ["lost", refuse("unknown_outcome")] as const) {
    const unclear = nodes([first, refuse("unremembered")], { retries: 1 });
    const [result] = await unclear.store.batch(one);
    assert.deepEqual([result.status, result.code], [503, "unknown_outcome"]);
    assert.deepEqual(new Set(unclear.sent.flatMap(keysOf)).size, 1, "never without its key");
  }
  // What goes without is not sent again when that is lost.
  const gone = nodes([refuse("unremembered"), "lost", DONE]);
  const [result] = await gone.store.batch(one);
  assert.deepEqual([result.code, gone.sent.length], ["unknown_outcome", 2]);
});

test("client: batch: what may have been done is never told to be undone", async () => {
  const one: client.Operation[] = [{ op: "put", key: "a", value: 1 }];
  const codes: [Reply[], string | number | undefined][] = [
    [["lost", refuse("no_quorum")], "unknown_outcome"],
    [[refuse("unknown_outcome"), refuse("overloaded")], "unknown_outcome"],
    [[refuse("internal", 500), "refused"], "internal"],
    [[refuse("no_quorum"), "refused"], "no_quorum"],
    [[refuse("no_quorum"), "lost"], "unknown_outcome"],
    [["lost", refuse("forbidden", 403)], "unknown_outcome"],
    // Judged by what is there, it has had no effect.
    [["lost", refuse("precondition_failed", 412)], "precondition_failed"],
  ];
  for (const [replies, code] of codes) {
    const { store } = nodes(replies, { retries: 2 });
    assert.equal((await store.batch(one))[0].code, code);
  }
  const lost = nodes(["lost", "refused"], { retries: 2 });
  await assert.rejects(lost.store.batch(one), client.UnknownOutcomeError);
});

test("client: batch: what is older than nodes remember is not sent again", async (t: TestContext) => {
  t.mock.timers.enable({ apis: ["Date"] });
  for (const passedMs of [6 * 60_000, -1]) {
    const late: Reply = (operation) => {
      t.mock.timers.setTime(Date.now() + passedMs);
      return { status: 503, code: "unknown_outcome", error: operation.key };
    };
    t.mock.timers.setTime(1_000_000_000);
    const { store, sent } = nodes([late, DONE]);
    assert.equal((await store.batch([{ op: "put", key: "a", value: 1 }]))[0].code, "unknown_outcome");
    assert.equal(sent.length, 1);
  }
});

test("client: batch: an answer without a result for each operation is none", async () => {
  const answers = ["", "{}", '{"results":[]}', "<html>"];
  for (const text of answers) {
    const fetch = async (): Promise<Response> => new Response(text);
    const store = new client.MinivaultClient({ url: "http://a", fetch });
    await assert.rejects(
      store.batch([{ op: "get", key: "a" }]),
      (error: client.MinivaultError) => error.code === "bad_answer",
    );
  }
});
