/** Changes from outside: streams, pages, waits; resumed, slow, refused, with tokens. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import { after, before, test } from "node:test";
import { call, closeConnections, inParallel } from "./client.ts";
import { EventStream, type StreamEvent } from "./event-stream.ts";
import { removeFolder, type Server, startServer, temporaryFolder, waitUntil, withServer } from "./server.ts";

let server: Server;
let port = 0;

before(async () => {
  server = await startServer();
  port = server.port;
});
after(async () => {
  closeConnections();
  await server?.dispose();
});

async function put(to: number, key: string, body = "v", type = "text/plain"): Promise<string> {
  const reply = await call(to, "PUT", `/_kv/${encodeURIComponent(key)}`, {
    body,
    headers: { "Content-Type": type },
  });
  assert.ok(reply.status === 200 || reply.status === 201, reply.text);
  return String(reply.headers.etag).slice(1, -1);
}

async function remove(from: number, key: string): Promise<void> {
  assert.equal((await call(from, "DELETE", `/_kv/${encodeURIComponent(key)}`)).status, 200);
}

/** Events of keys, without places. */
function keyed(events: readonly StreamEvent[]): StreamEvent[] {
  return events.filter(({ event }) => event === "put" || event === "delete");
}

function has(event: string, key: string): (stream: EventStream) => StreamEvent | undefined {
  return ({ events }) => events.find((one) => one.event === event && one.data.key === key);
}

test("feed: a stream tells what is put and deleted below its prefix, from now on, and a place", async () => {
  await put(port, "stream/before");
  const stream = new EventStream(port, "/stream/?watch");
  await stream.begun();
  assert.equal(stream.status, 200);
  assert.equal(stream.headers["content-type"], "text/event-stream");
  const etag = await put(port, "stream/a", "hello");
  await put(port, "elsewhere", "hello");
  const told = await stream.until(has("put", "stream/a"));
  assert.deepEqual(told.data, { key: "stream/a", etag, bytes: 5, type: "text/plain" });
  await remove(port, "stream/a");
  const gone = await stream.until(has("delete", "stream/a"));
  assert.deepEqual(Object.keys(gone.data), ["key", "etag"]);
  assert.ok(gone.data.etag > etag);
  await put(port, "stream/\u00fc \u{1f600}\n");
  await stream.until(has("put", "stream/\u00fc \u{1f600}\n"));
  const place = await stream.until(({ events }) => events.at(-1)?.event === "progress" && events.at(-1)?.id);
  assert.deepEqual(
    keyed(stream.events).map(({ data }) => data.key),
    ["stream/a", "stream/a", "stream/\u00fc \u{1f600}\n"],
  );
  stream.close();
  // Whoever comes back gets what was missed, by the header or by the query.
  await put(port, "stream/missed");
  for (const [query, headers] of [
    ["", { "Last-Event-ID": place }],
    [`&since=${place}`, {}],
    ["&since=AAAA", { "Last-Event-ID": place }],
  ] as const) {
    const again = new EventStream(port, `/stream/?watch${query}`, { ...headers });
    await again.until(has("put", "stream/missed"));
    assert.deepEqual(
      keyed(again.events).map(({ data }) => data.key),
      ["stream/missed"],
    );
    again.close();
  }
});

test("feed: many of one prefix are each told of every change once, beside writes, also while some of them leave", async () => {
  const open = (count: number, query: string): EventStream[] =>
    Array.from({ length: count }, () => new EventStream(port, query));
  const leaving = open(20, "/many/?watch");
  const whole = [...open(80, "/many/?watch"), ...open(10, "/many/?watch&values")];
  const part = open(10, "/many/1?watch");
  const streams = [...leaving, ...whole, ...part];
  await Promise.all(streams.map((stream) => stream.begun()));
  const keys = Array.from({ length: 120 }, (_, number) => `many/${number}`);
  await inParallel(keys.length, 4, async (number) => {
    if (number >= 40) leaving.pop()?.close();
    await put(port, keys[number], `${number}`);
  });
  const toldTo = ({ events }: EventStream): string[] => keyed(events).map(({ data }) => data.key);
  for (const [told, expected] of [
    [whole, keys],
    [part, keys.filter((key) => key.startsWith("many/1"))],
  ] as const)
    for (const stream of told) {
      await stream.until(() => toldTo(stream).length >= expected.length);
      assert.deepEqual(toldTo(stream).sort(), [...expected].sort());
      await stream.until(({ events }) => events.at(-1)?.event === "progress");
    }
  for (const stream of streams) stream.close();
  await waitUntil(
    "all are let go of",
    async () => (await call(port, "GET", "/_stats")).json().queues.watchers === 0,
  );
});

test("feed: values come with it where that is asked for, JSON as JSON", async () => {
  const stream = new EventStream(port, "/_kv/values/?watch&values");
  await stream.begun();
  await put(port, "values/raw", "hello");
  await put(port, "values/json", '{"value": {"n": 12345678901234567890,\r\n "z": 1}}', "application/json");
  await put(port, "values/large", "x".repeat(70_000));
  const raw = await stream.until(has("put", "values/raw"));
  assert.equal(Buffer.from(raw.data.base64, "base64").toString(), "hello");
  const json = await stream.until(has("put", "values/json"));
  assert.deepEqual(json.data.value, { n: 12345678901234567000, z: 1 });
  const large = await stream.until(has("put", "values/large"));
  assert.deepEqual([large.data.bytes, large.data.base64], [70_000, undefined]);
  stream.close();
});

test("feed: what comes right behind live is told once", async () => {
  for (let round = 0; round < 20; round++) {
    const prefix = `once/${round}/`;
    const stream = new EventStream(port, `/${prefix}?watch&initial`);
    await stream.until(({ events }) => events.some(({ event }) => event === "live"));
    await put(port, `${prefix}a`);
    await stream.until(has("put", `${prefix}a`));
    await put(port, `${prefix}b`);
    await stream.until(has("put", `${prefix}b`));
    assert.deepEqual(
      keyed(stream.events).map(({ data }) => data.key),
      [`${prefix}a`, `${prefix}b`],
    );
    stream.close();
  }
});

test("feed: with initial all keys come first, then live, then changes", async () => {
  const keys = Array.from({ length: 450 }, (_, i) => `initial/${String(i).padStart(4, "0")}`);
  await inParallel(keys.length, 20, async (i) => void (await put(port, keys[i])));
  const stream = new EventStream(port, "/initial/?watch&initial");
  await stream.until(({ events }) => events.some(({ event }) => event === "live"));
  const live = stream.events.findIndex(({ event }) => event === "live");
  assert.deepEqual(
    keyed(stream.events.slice(0, live)).map(({ data }) => data.key),
    keys,
  );
  await put(port, "initial/new");
  await stream.until(has("put", "initial/new"));
  const { lastId } = stream;
  stream.close();
  // It is not listed again for who comes back.
  const again = new EventStream(port, "/initial/?watch&initial", { "Last-Event-ID": lastId });
  await put(port, "initial/newer");
  await again.until(has("put", "initial/newer"));
  assert.ok(keyed(again.events).length <= 2, JSON.stringify(again.events));
  again.close();
});

test("feed: a place of another store is 410, or where the list comes first, a reset", async () => {
  await withServer({}, async ({ port: other }) => {
    const foreign = new EventStream(other, "/?watch");
    await foreign.begun();
    const place = foreign.lastId;
    foreign.close();
    const refused = await call(port, "GET", `/?changes&since=${place}`);
    assert.deepEqual([refused.status, refused.json().code], [410, "place_too_old"]);
    const stream = new EventStream(port, "/?watch", { "Last-Event-ID": place });
    await stream.finished();
    assert.equal(stream.status, 410);
    await put(port, "reset/1");
    const listed = new EventStream(port, "/reset/?watch&initial", { "Last-Event-ID": place });
    await listed.until(({ events }) => events.some(({ event }) => event === "live"));
    assert.deepEqual(
      listed.events.map(({ event, id }) => [event, id === ""]),
      [
        ["reset", true],
        ["put", true],
        ["live", false],
      ],
    );
    listed.close();
  });
});

test("feed: a page ends with its limit, or with the change that passes a mebibyte, wherever it is read from", async () => {
  const value = "v".repeat(60_000);
  const { place: start } = (await call(port, "GET", "/limit/?changes")).json();
  const written = Array.from({ length: 40 }, (_, i) => `limit/${i}`);
  for (const key of written) await put(port, key, value);
  for (const [asked, most] of [
    ["limit=1", 1],
    ["limit=7", 7],
    // 18 of them with the facts of each pass it.
    ["values", 18],
  ] as const) {
    const told = new Set<string>();
    let place = start;
    for (let more = true; more; ) {
      const page = (await call(port, "GET", `/limit/?changes&${asked}&since=${place}`)).json();
      assert.ok(page.changes.length <= most, `${asked}: ${page.changes.length}`);
      for (const { key } of page.changes) told.add(key);
      ({ place, more } = page);
    }
    assert.deepEqual([...told].sort(), [...written].sort(), asked);
  }
});

test("feed: pages go on where the last one ended, and wait for what comes first", async () => {
  const start = (await call(port, "GET", "/page/?changes")).json();
  assert.deepEqual([start.changes, start.more], [[], false]);
  for (let i = 0; i < 25; i++) await put(port, `page/${i}`);
  const keys: string[] = [];
  let { place } = start;
  for (let more = true; more; ) {
    const page = (await call(port, "GET", `/page/?changes&limit=10&since=${place}`)).json();
    assert.ok(page.changes.length <= 10);
    keys.push(...page.changes.map(({ key }: { key: string }) => key));
    ({ place, more } = page);
  }
  assert.deepEqual(
    [...new Set(keys)],
    Array.from({ length: 25 }, (_, i) => `page/${i}`),
  );
  const waiting = call(port, "GET", `/page/?changes&wait=60s&since=${place}`, { agent: false });
  await put(port, "page/late");
  const { changes } = (await waiting).json();
  assert.deepEqual(
    changes.map(({ event, key }: { event: string; key: string }) => [event, key]),
    [["put", "page/late"]],
  );
  const none = (await call(port, "GET", "/page/nothing?changes&wait=50ms")).json();
  assert.deepEqual(none.changes, []);
});

test("feed: a GET of one key waits until it differs from what the client knows", async () => {
  const etag = await put(port, "wait/1", "one");
  const ask = (query: string, ifNoneMatch?: string) =>
    call(port, "GET", `/wait/1${query}`, {
      agent: false,
      headers: ifNoneMatch === undefined ? {} : { "If-None-Match": ifNoneMatch },
    });
  // What differs already is answered at once.
  assert.equal((await ask("?wait=60s")).text, "one");
  assert.equal((await ask("?wait=60s", '"0"')).text, "one");
  const unchanged = await ask("?wait=50ms", `"${etag}"`);
  assert.deepEqual([unchanged.status, unchanged.headers.etag], [304, `"${etag}"`]);
  const changed = ask("?wait=60s", `"${etag}"`);
  const removed = ask("?wait=60s", "*");
  await put(port, "wait/1/below", "no");
  await put(port, "wait/1", "two");
  assert.equal((await changed).text, "two");
  await remove(port, "wait/1");
  assert.equal((await removed).status, 404);
  assert.equal((await ask("?wait=60s", "*")).status, 404);
  assert.equal((await ask("?wait=50ms")).status, 304);
  const created = ask("?wait=60s");
  await put(port, "wait/1", "three");
  assert.equal((await created).text, "three");
});

test("feed: what makes no sense is refused", async () => {
  for (const query of [
    ...[
      "watch&list",
      "watch&changes",
      "watch&wait=1s",
      "list&changes",
      "list&wait=1s",
      "list&changes&wait=1s",
    ],
    ...["watch=no", "watch&watch", "watch=false", "changes=false", "watch&limit=5", "watch&since="],
    ...["changes&limit=0", "changes&limit=10001", "changes&wait=x", "changes&wait=-1", "changes&wait=1h"],
    ...["changes&wait=301s", "changes&initial", "changes&since=x", "changes&since=%00", "wait=1s&values"],
    ...["wait=1s&since=x", "watch&consistency=all", "watch&values=7", `watch&since=${"A".repeat(9000)}`],
  ]) {
    const reply = await call(port, "GET", `/some/key?${query}`);
    assert.equal(reply.status, 400, `${query}: ${reply.text}`);
    assert.equal(reply.json().code, "bad_request", query);
  }
  for (const query of ["watch", "changes", "wait=1s"]) {
    const reply = await call(port, "HEAD", `/some/key?${query}`);
    assert.deepEqual([reply.status, reply.headers.allow], [405, "GET"], query);
    assert.equal((await call(port, "PUT", `/some/key?${query}`, { body: "x" })).status, 400, query);
  }
  assert.equal((await call(port, "GET", "/?wait=1s")).status, 400);
  assert.equal((await call(port, "GET", "/%ff?watch")).status, 400);
  assert.equal((await call(port, "GET", `/${"x".repeat(1025)}?watch`)).status, 414);
});

async function watchers(): Promise<number> {
  return (await call(port, "GET", "/_stats")).json().queues.watchers;
}

test("feed: who reads slowly gets everything, who never reads holds up nobody", async () => {
  const deaf = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const socket = net.connect({ host: "127.0.0.1", port });
      await new Promise((resolve) => socket.once("connect", resolve));
      socket.write("GET /slow/?watch&values HTTP/1.1\r\nHost: x\r\n\r\n");
      // Its first place has come: from here on it takes nothing.
      await new Promise((resolve) => socket.once("data", resolve));
      socket.pause();
      return socket;
    }),
  );
  const stream = new EventStream(port, "/slow/?watch&values");
  await stream.begun();
  assert.ok((await watchers()) > deaf.length, "all of them are counted");
  stream.pause();
  // More than memory keeps, and more than sockets hold.
  const keys = Array.from({ length: 400 }, (_, i) => `slow/${i}`);
  const body = "x".repeat(60_000);
  for (let round = 0; round < 2; round++)
    await inParallel(keys.length, 16, async (i) => void (await put(port, keys[i], `${round}${body}`)));
  const etags = new Map<string, string>();
  for (const key of keys) etags.set(key, await put(port, key, `last${body}`));
  stream.resume();
  await stream.until(({ events }) => {
    const last = new Map(keyed(events).map(({ data }) => [data.key, data.etag]));
    return keys.every((key) => last.get(key) === etags.get(key));
  });
  const seen = new Map<string, string>();
  for (const { data } of keyed(stream.events)) {
    assert.ok((seen.get(data.key) ?? "") <= data.etag, data.key);
    seen.set(data.key, data.etag);
  }
  stream.close();
  for (const socket of deaf) socket.destroy();
  await waitUntil("nobody follows any more", async () => (await watchers()) === 0);
});

test("feed: tokens see what they may, and one that is withdrawn sees nothing more", async () => {
  const folder = temporaryFolder();
  const { createHash } = await import("node:crypto");
  const line = (name: string, prefix: string[], allow: string[]): string =>
    JSON.stringify({
      name,
      sha256: createHash("sha256").update(`secret-of-${name}`).digest("hex"),
      prefix,
      allow,
    });
  const all = line("all", [""], ["read", "list", "write", "delete", "watch", "metrics", "admin"]);
  const ours = line("ours", ["ours/", "also/"], ["read", "watch"]);
  const reader = line("reader", [""], ["read", "list"]);
  const blind = line("blind", [""], ["watch"]);
  const file = path.join(folder, "tokens");
  writeFileSync(file, `${[all, ours, reader, blind].join("\n")}\n`, { mode: 0o600 });
  const bearer = (name: string) => ({ Authorization: `Bearer secret-of-${name}` });
  try {
    await withServer({ flags: ["-tokens", file] }, async (node) => {
      const write = (key: string) =>
        call(node.port, "PUT", `/${key}`, {
          body: "x",
          headers: { ...bearer("all"), "Content-Type": "text/plain" },
        });
      const statusOf = async (path: string, name?: string) =>
        (await call(node.port, "GET", path, { headers: name === undefined ? {} : bearer(name) })).status;
      assert.equal(await statusOf("/?changes"), 401);
      assert.equal(await statusOf("/?changes", "reader"), 403);
      assert.equal(await statusOf("/?changes&values", "blind"), 403);
      assert.equal(await statusOf("/?changes", "blind"), 200);
      assert.equal(await statusOf("/other/?changes", "ours"), 403);
      assert.equal(await statusOf("/ours/x?wait=1ms", "blind"), 403);
      assert.equal(await statusOf("/ours/x?wait=1ms", "reader"), 304);
      const stream = new EventStream(node.port, "/?watch&values", bearer("ours"));
      await stream.begun();
      const kept = new EventStream(node.port, "/?watch", bearer("all"));
      await kept.begun();
      assert.match(String(stream.headers.vary), /Authorization/);
      for (const key of ["other/1", "ours/1", "also/1", "ours"]) assert.equal((await write(key)).status, 201);
      await stream.until(has("put", "also/1"));
      await kept.until(has("put", "ours"));
      assert.deepEqual(
        keyed(stream.events).map(({ data }) => data.key),
        ["ours/1", "also/1"],
      );
      writeFileSync(file, `${[all, reader].join("\n")}\n`, { mode: 0o600 });
      await stream.finished();
      await write("later");
      await kept.until(has("put", "later"));
      kept.close();
    });
  } finally {
    removeFolder(folder);
  }
});

test("feed: a page of an allowed origin may read it, and resume", async () => {
  await withServer({ flags: ["-cors", "https://app.example"] }, async (node) => {
    const stream = new EventStream(node.port, "/?watch", { Origin: "https://app.example" });
    await stream.begun();
    assert.equal(stream.headers["access-control-allow-origin"], "https://app.example");
    stream.close();
    const preflight = await call(node.port, "OPTIONS", "/?watch", {
      headers: {
        Origin: "https://app.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "last-event-id",
      },
    });
    assert.match(String(preflight.headers["access-control-allow-headers"]), /Last-Event-ID/);
  });
});

test("feed: a node that stops ends its streams in order, and they go on after its next start, and after a kill", async () => {
  const own = await startServer();
  try {
    const stream = new EventStream(own.port, "/?watch");
    await stream.begun();
    const waiting = call(own.port, "GET", "/key?wait=60s", { agent: false });
    const { place } = (await call(own.port, "GET", "/?changes")).json();
    const page = call(own.port, "GET", `/?changes&wait=60s&since=${place}`, { agent: false });
    await put(own.port, "k/1");
    await stream.until(has("put", "k/1"));
    assert.equal((await page).status, 200);
    const { status } = await own.stop();
    assert.equal(status, 0);
    assert.equal((await waiting).status, 503);
    await stream.finished();
    // The last event's place came, too.
    assert.equal(stream.events.at(-1)?.event, "progress");
    await own.restart();
    await put(own.port, "k/2");
    await own.restart();
    await put(own.port, "k/3");
    const again = new EventStream(own.port, "/?watch", { "Last-Event-ID": stream.lastId });
    await again.until(has("put", "k/3"));
    assert.deepEqual(
      keyed(again.events).map(({ data }) => data.key),
      ["k/2", "k/3"],
    );
    again.close();
  } finally {
    await own.dispose();
  }
});
