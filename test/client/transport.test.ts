/** What the client sends again, and to whom: against a network that does as it is told. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { eventsOf } from "../../src/client/events.ts";
import * as client from "../../src/client/index.ts";
import { Nodes } from "../../src/client/transport/nodes.ts";
import { pathOf, queryOf } from "../../src/client/transport/paths.ts";
import { Random, randomSeed } from "../random.ts";
import { waitUntil } from "../rest/server.ts";
import { stopwatch } from "../stopwatch.ts";

interface Sent {
  url: string;
  method: string;
  once: string | null;
}

/** One answer of the network: a status with a code, or what becomes of the request without one. */
type Reply = [status: number, code?: string] | "refused" | "lost" | "silent";

/** Gives its answers in order, the last one for ever; `features` are what `GET /` says. */
function network(replies: Reply[], features: string[] = []) {
  const sent: Sent[] = [];
  const fetch = async (url: string, options: RequestInit): Promise<Response> => {
    const { pathname } = new URL(url);
    if (pathname === "/") return Response.json({ features });
    if (pathname === "/health/live") return Response.json({});
    const headers = new Headers(options.headers);
    sent.push({ url, method: options.method ?? "GET", once: headers.get("idempotency-key") });
    const reply = replies.length > 1 ? (replies.shift() as Reply) : replies[0];
    if (reply === "refused")
      throw new TypeError("fetch failed", {
        cause: Object.assign(new Error("no"), { code: "ECONNREFUSED" }),
      });
    if (reply === "lost") throw new TypeError("fetch failed", { cause: new Error("other side closed") });
    if (reply === "silent")
      return new Promise((_resolve, reject) => {
        options.signal?.addEventListener("abort", () => reject(options.signal?.reason));
      });
    const [status, code] = reply;
    const error = "so it is";
    const body = code === undefined ? { success: true, created: true } : { success: false, error, code };
    return Response.json(body, { status, headers: { etag: '"e"' } });
  };
  return { fetch, sent };
}

function storeOf(replies: Reply[], more: Partial<client.ClientOptions> = {}, features: string[] = []) {
  const { fetch, sent } = network(replies, features);
  return { store: new client.MinivaultClient({ url: "http://a", fetch, ...more }), sent };
}

const KNOWN = ["idempotency-key"];

test("client: a read is sent again whatever has become of it; a write only where nothing was done", async () => {
  const passing: Reply[] = [
    "refused",
    "lost",
    [503, "no_quorum"],
    [503, "unavailable"],
    [502, "x"],
    [500, "internal"],
    [504, "timeout"],
  ];
  for (const reply of passing) {
    const { store, sent } = storeOf([reply, [200]]);
    await store.get("k");
    assert.equal(sent.length, 2, String(reply));
  }
  const done: Reply[] = [
    "refused",
    [503, "no_quorum"],
    [503, "overloaded"],
    [503, "stopping"],
    [429, "too_many_requests"],
  ];
  for (const reply of done)
    for (const once of [true, false]) {
      const { store, sent } = storeOf([reply, [201]], { once });
      assert.equal((await store.put("k", 1)).created, true);
      assert.equal(sent.length, 2, String(reply));
      assert.equal(sent[0].once, sent[1].once);
      assert.equal(sent[0].once !== null, once);
    }
});

test("client: a write whose answer was lost is sent again under its key where the node knows keys, and nowhere else", async () => {
  const unclear: Reply[] = [
    "lost",
    [503, "unknown_outcome"],
    [500, "internal"],
    [504, "timeout"],
    [502, "x"],
  ];
  for (const reply of unclear) {
    const known = storeOf([reply, [201]], {}, KNOWN);
    assert.equal((await known.store.put("k", 1)).created, true);
    assert.equal(known.sent.length, 2, String(reply));
    assert.ok(known.sent[0].once !== null && known.sent[0].once === known.sent[1].once);
    for (const { store, sent } of [
      storeOf([reply, [201]]),
      storeOf([reply, [201]], { once: false }, KNOWN),
    ]) {
      await assert.rejects(store.increment("k"), client.MinivaultError);
      assert.equal(sent.length, 1, String(reply));
    }
  }
  const { store } = storeOf(["lost"], { once: false }, KNOWN);
  await assert.rejects(store.delete("k"), client.UnknownOutcomeError);
});

test("client: what the server remembers nothing of goes without a key", async () => {
  const large = storeOf([[201]], {}, KNOWN);
  await large.store.put("k", new Uint8Array(2_000_000));
  await large.store.put("k", new ReadableStream({ start: (controller) => controller.close() }));
  await large.store.put("k", 1, { once: "my own" });
  await large.store.put("k", 1, { once: false });
  assert.deepEqual(
    large.sent.map(({ once }) => once),
    [null, null, "my own", null],
  );
  const old = storeOf([[501, "upgrade_first"], [201]], {}, KNOWN);
  await old.store.put("k", 1);
  await old.store.put("k", 2);
  assert.deepEqual(
    old.sent.map(({ once }) => once === null),
    [false, true, true],
  );
  const full = storeOf([[503, "unremembered"], [200], [200]], {}, KNOWN);
  await full.store.put("k", 1);
  await full.store.put("k", 2);
  assert.deepEqual(
    full.sent.map(({ once }) => once === null),
    [false, true, false],
    "a key that has had too many takes this one without",
  );
  for (const code of ["unremembered", "upgrade_first"]) {
    const own = storeOf([[503, code], [201]], { retries: 0 }, KNOWN);
    await assert.rejects(own.store.put("k", 1, { once: "my own" }), client.MinivaultError);
    assert.deepEqual(
      own.sent.map(({ once }) => once),
      ["my own"],
      "who has chosen a key wants it",
    );
  }
});

test("client: what may have been done is never told to be undone, and never done without its key", async () => {
  for (const reply of ["refused", [503, "no_quorum"], [503, "unremembered"], [403, "forbidden"]] as Reply[]) {
    const { store, sent } = storeOf(["lost", reply], { retries: 2 }, KNOWN);
    await assert.rejects(
      store.increment("k"),
      (error: client.MinivaultError) => error instanceof client.UnknownOutcomeError,
      String(reply),
    );
    assert.equal(new Set(sent.map(({ once }) => once)).size, 1);
    // A read changes nothing.
    const read = storeOf(["lost", reply], { retries: 2 }, KNOWN);
    await assert.rejects(
      read.store.get("k"),
      (error) => error instanceof client.MinivaultError && !(error instanceof client.UnknownOutcomeError),
    );
  }
  // Judged by what is there, it has had no effect.
  const { store } = storeOf(["lost", [412, "precondition_failed"]], {}, KNOWN);
  await assert.rejects(store.put("k", 1, { ifMatch: '"e"' }), client.PreconditionFailedError);
});

test("client: a write that is older than nodes remember is not sent again", async (t) => {
  t.mock.timers.enable({ apis: ["Date"] });
  const { fetch, sent } = network(["lost", [200]], KNOWN);
  const late: typeof fetch = (url, options) => {
    t.mock.timers.setTime(Date.now() + 6 * 60_000);
    return fetch(url, options);
  };
  const store = new client.MinivaultClient({ url: "http://a", fetch: late });
  await assert.rejects(store.increment("k"), client.UnknownOutcomeError);
  assert.equal(sent.length, 1);
});

test("client: a stream is sent once", async () => {
  const { store, sent } = storeOf([[503, "no_quorum"], [201]], {}, KNOWN);
  const stream = new ReadableStream({ start: (controller) => controller.close() });
  await assert.rejects(store.put("k", stream), client.UnavailableError);
  assert.equal(sent.length, 1);
});

/** A global that is another one for the time of a test. */
function withGlobal(t: TestContext, name: "navigator" | "Request", value: unknown): void {
  const before = Object.getOwnPropertyDescriptor(globalThis, name);
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  t.after(() => {
    if (before === undefined) Reflect.deleteProperty(globalThis, name);
    else Object.defineProperty(globalThis, name, before);
  });
}

/** Takes a stream for words, as browsers that cannot send one do. */
class WordyRequest extends Request {
  constructor(url: string, { method, body }: { method: string; body: unknown }) {
    super(url, { method, body: String(body) });
  }
}

for (const [where, name, value] of [
  ["in a browser", "navigator", { userAgent: "Mozilla/5.0 (X11; Linux x86_64)" }],
  ["where requests know no streams", "Request", WordyRequest],
] as const)
  test(`client: a stream is collected ${where}, and sent again like any bytes`, async (t) => {
    withGlobal(t, name, value);
    const bodies: Buffer[] = [];
    const fetch = async (url: string, { body }: RequestInit): Promise<Response> => {
      if (url === "http://a/") return Response.json({ features: KNOWN });
      assert.ok(body instanceof Blob);
      bodies.push(Buffer.from(await body.arrayBuffer()));
      // The first time in vain; of a small one nobody knows whether it came.
      const code = body.size > 1000 ? "ECONNREFUSED" : "ECONNRESET";
      if (bodies.length % 2 === 1) throw Object.assign(new TypeError("fetch failed"), { code });
      return Response.json({ success: true, created: true }, { status: 201, headers: { etag: '"e"' } });
    };
    const store = new client.MinivaultClient({ url: "http://a", fetch });
    const bytes = Buffer.alloc(10_000_000, "some bytes that are not all the same ");
    const pieces = bytes.subarray(0, 9_000_000);
    let at = 0;
    const stream = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (at === pieces.length) return controller.close();
        controller.enqueue(pieces.subarray(at, at + 1_000_000));
        at += 1_000_000;
      },
    });
    await store.put("k", stream);
    await store.put("k", new Blob([bytes.subarray(0, 1000)]).stream());
    assert.deepEqual(
      bodies.map((body) => body.length),
      [9_000_000, 9_000_000, 1000, 1000],
    );
    for (const body of bodies) assert.ok(body.equals(bytes.subarray(0, body.length)));
    const broken = new ReadableStream({ start: (controller) => controller.error(new Error("it broke off")) });
    await assert.rejects(store.put("k", broken), /^Error: it broke off$/);
    const stop = new AbortController();
    let cancelled: unknown = null;
    const endless = new ReadableStream<Uint8Array>({
      pull() {
        stop.abort(new Error("no longer"));
        return new Promise(() => {});
      },
      cancel(reason) {
        cancelled = reason;
      },
    });
    await assert.rejects(store.put("k", endless, { signal: stop.signal }), /^Error: no longer$/);
    assert.equal(cancelled, stop.signal.reason);
    assert.equal(bodies.length, 4);
  });

test("client: retries end, and the last failure is told", async () => {
  const { store, sent } = storeOf([[503, "no_quorum"]], { retries: 2 });
  await assert.rejects(
    store.get("k"),
    (error: client.MinivaultError) => error.code === "no_quorum" && error.status === 503,
  );
  assert.equal(sent.length, 3);
  const none = storeOf(["refused"], { retries: 0 });
  await assert.rejects(none.store.get("k"), client.NetworkError);
  for (const code of ["corrupt", "write_stopped"]) {
    const lasting = storeOf([[code === "corrupt" ? 500 : 503, code]]);
    await assert.rejects(lasting.store.get("k"), client.MinivaultError);
    assert.equal(lasting.sent.length, 1, code);
  }
});

test("client: a node that says nothing is given up, and another one asked", async () => {
  const { store, sent } = storeOf(["silent", [200]], { url: ["http://a", "http://b"], attemptMs: 20 });
  await store.get("k");
  assert.deepEqual(
    sent.map(({ url }) => new URL(url).host),
    ["a", "b"],
  );
  const write = storeOf(["silent"], { url: ["http://a", "http://b"], attemptMs: 20 });
  await assert.rejects(write.store.put("k", 1), client.UnknownOutcomeError);
  assert.equal(write.sent.length, 1);
});

test("client: a lock is lost before its lease can be over, also where the node says nothing any more", async () => {
  const { store, sent } = storeOf([[201], "silent"]);
  const watch = stopwatch();
  const lock = await store.lock("k", { ttl: 9 });
  await waitUntil("it is lost", () => lock.signal.aborted);
  assert.ok(lock.signal.reason instanceof client.LockedError && !lock.isHeld);
  // An attempt that waits for its answer would end at 12 s.
  assert.ok(watch.stop() < 11_500);
  assert.ok(sent.filter(({ method }) => method === "PATCH").length > 1);
});

test("client: a lock for months, and an attempt without an end, wait for what no timer can", async () => {
  const { store, sent } = storeOf([[201]], { attemptMs: Number.POSITIVE_INFINITY });
  const lock = await store.lock("k", { ttl: 90 * 86_400 });
  const overflows: Error[] = [];
  const warned = (warning: Error): void => void overflows.push(warning);
  process.on("warning", warned);
  await store.put("other", 1);
  await new Promise((resolve) => setImmediate(() => setTimeout(resolve, 20)));
  process.off("warning", warned);
  assert.deepEqual(overflows, []);
  assert.deepEqual(
    sent.map(({ method }) => method),
    ["POST", "PUT"],
  );
  assert.ok(lock.isHeld);
  await lock.release();
});

test("client: the nearest node that works is asked, one that failed later again", async () => {
  let nowMs = 0;
  const distances: Record<string, number> = { a: 30, b: 5, c: 20 };
  const waiting: (() => void)[] = [];
  const fetch = (url: string): Promise<Response> => {
    const { host } = new URL(url);
    return new Promise((resolve) => {
      waiting.push(() => resolve(Response.json({ host })));
    });
  };
  const nodes = new Nodes(["http://a/", "http://b", "http://c"], fetch, () => nowMs);
  const ask = () => nodes.choose(new Set()).url;
  // Nothing is measured yet: in the order given.
  assert.equal(ask(), "http://a");
  for (const [index, host] of ["a", "b", "c"].entries()) {
    nowMs = distances[host];
    waiting[index]();
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal(ask(), "http://b");
  const b = nodes.choose(new Set());
  assert.equal(nodes.choose(new Set([b])).url, "http://c");
  nodes.failed(b);
  assert.equal(ask(), "http://c");
  nowMs += 1000;
  assert.equal(ask(), "http://b");
  nodes.failed(b);
  nodes.failed(nodes.choose(new Set()));
  nodes.failed(nodes.choose(new Set()));
  // All are down: still the nearest.
  assert.equal(ask(), "http://b");
  for (const bad of ["", "localhost:3000", "ftp://a"])
    assert.throws(() => new Nodes([bad], fetch), TypeError);
  assert.throws(() => new Nodes([], fetch), TypeError);
});

test("client: what is asked at a path arrives as that key", () => {
  for (const key of [
    "a",
    "a/b",
    "a//b",
    "/a",
    "a/",
    ".",
    "..",
    "a/../b",
    "./a",
    "%2e%2e/a",
    "a?b",
    "a#b",
    "ä",
    "a\\b",
    " ",
  ]) {
    const { pathname, search } = new URL(
      `http://h${pathOf("_kv", key)}${queryOf({ list: true, ttl: "1 s" })}`,
    );
    assert.equal(decodeURIComponent(pathname), `/_kv/${key}`);
    assert.equal(search, "?list&ttl=1%20s");
  }
});

test("client: events are the same, however the stream is cut", async (t) => {
  const seed = randomSeed(t);
  const random = new Random(seed);
  const text =
    'retry: 1000\n\n:\n:\n\nevent: put\ndata: {"key":"ä🙂"}\n\nid: 7\nevent: progress\ndata: {}\r\n\r\ndata: a\ndata: b\n\nevent: reset\nid:\ndata: x\n\nevent: cut\ndata: never';
  const bytes = new TextEncoder().encode(text);
  for (let round = 0; round < 300; round++) {
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let at = 0; at < bytes.length; ) {
          const end = Math.min(bytes.length, at + 1 + random.below(30));
          controller.enqueue(bytes.subarray(at, end));
          at = end;
        }
        controller.close();
      },
    });
    const events = [];
    for await (const event of eventsOf(stream)) events.push(event);
    assert.deepEqual(
      events,
      [
        { event: "put", data: '{"key":"ä🙂"}', id: null },
        { event: "progress", data: "{}", id: "7" },
        { event: "message", data: "a\nb", id: "7" },
        { event: "reset", data: "x", id: "" },
      ],
      `seed ${seed}`,
    );
  }
});
