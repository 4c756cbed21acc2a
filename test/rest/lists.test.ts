/** Lists from outside: pages, streams, counts, deletes by prefix, beside churn, over kills. */
import assert from "node:assert/strict";
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { Random, randomSeed } from "../random.ts";
import { call, closeConnections, inParallel, type Reply } from "./client.ts";
import { removeFolder, runProgram, type Server, startServer, temporaryFolder, withServer } from "./server.ts";
import { listTombstones } from "./tombstones.ts";

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

const LINES = { Accept: "application/x-ndjson" };

function pathOf(key: string): string {
  return `/_kv/${encodeURIComponent(key)}`;
}

async function put(to: number, key: string, body = "v", type = "text/plain"): Promise<Reply> {
  const reply = await call(to, "PUT", pathOf(key), { body, headers: { "Content-Type": type } });
  assert.ok(reply.status === 200 || reply.status === 201, reply.text);
  return reply;
}

interface Entry {
  key: string;
  etag: string;
  bytes: number;
  type: string;
  value?: unknown;
  base64?: string;
}

interface Page {
  keys: Entry[];
  prefixes: string[];
  cursor: string | null;
}

async function page(from: number, prefix: string, query: string): Promise<Page> {
  // A connection of its own: one that is kept may be closed when it is to be used again.
  const reply = await call(from, "GET", `/_kv/${encodeURIComponent(prefix)}?list${query}`, { agent: false });
  assert.equal(reply.status, 200, reply.text);
  return reply.json() as Page;
}

/** All pages; `query` may say how large they are. */
async function list(
  from: number,
  prefix: string,
  query: string,
): Promise<{ keys: string[]; prefixes: string[] }> {
  const found = { keys: [] as string[], prefixes: [] as string[] };
  let cursor: string | null = "";
  for (let pages = 0; cursor !== null; pages++) {
    assert.ok(pages < 5000, "pages without end");
    const next: Page = await page(from, prefix, cursor === "" ? query : `${query}&cursor=${cursor}`);
    found.keys.push(...next.keys.map(({ key }) => key));
    found.prefixes.push(...next.prefixes);
    cursor = next.cursor;
  }
  return found;
}

async function lines(from: number, prefix: string, query = ""): Promise<Record<string, unknown>[]> {
  const reply = await call(from, "GET", `/_kv/${encodeURIComponent(prefix)}?list${query}`, {
    headers: LINES,
    agent: false,
  });
  assert.equal(reply.status, 200, reply.text);
  assert.equal(reply.headers["content-type"], "application/x-ndjson");
  return reply.text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}

function sorted(keys: Iterable<string>): string[] {
  return [...keys]
    .map((key) => Buffer.from(key))
    .sort(Buffer.compare)
    .map(String);
}

test("lists: an entry says what a GET of the key says", async () => {
  const text = await put(port, "entry/text", "hello", "text/plain; charset=utf-8");
  await call(port, "PUT", "/entry/json", {
    body: '{"value": {"n": 12345678901234567890,\n "z": 1}}',
    headers: { "Content-Type": "application/json" },
  });
  await put(port, "entry/large", "x".repeat(70_000));
  const { keys, prefixes, cursor } = await page(port, "entry/", "");
  assert.deepEqual([prefixes, cursor], [[], null]);
  assert.deepEqual(
    keys.map(({ key, bytes, type }) => [key, bytes, type]),
    [
      ["entry/json", 46, "application/json"],
      ["entry/large", 70_000, "text/plain"],
      ["entry/text", 5, "text/plain; charset=utf-8"],
    ],
  );
  assert.equal(`"${keys[2].etag}"`, text.headers.etag);
  const reply = await call(port, "GET", "/entry/?list&values");
  assert.match(reply.text, /12345678901234567890/);
  const valued = (reply.json() as Page).keys;
  assert.deepEqual(valued[0].value, { n: 12345678901234567000, z: 1 });
  assert.deepEqual([valued[1].value, valued[1].base64], [undefined, undefined]);
  assert.equal(Buffer.from(String(valued[2].base64), "base64").toString(), "hello");
});

test("lists: bounds, both directions, roll-up, and the prefix may be empty or any text", async () => {
  await withServer({}, async ({ port: own }) => {
    const keys = [
      "a",
      "a/",
      "a/b",
      "a/b/c",
      "a/c",
      "a0",
      "b",
      "health",
      "_x",
      "\u00fc/1",
      "\u{1f600}",
      "\uffff",
    ];
    for (const key of keys) await put(own, key);
    assert.deepEqual((await list(own, "", "&limit=2")).keys, sorted(keys));
    assert.deepEqual((await call(own, "GET", "/?list")).json().keys.length, keys.length);
    assert.deepEqual((await list(own, "", "&reverse&limit=5")).keys, sorted(keys).reverse());
    assert.deepEqual((await list(own, "a", "")).keys, ["a", "a/", "a/b", "a/b/c", "a/c", "a0"]);
    assert.deepEqual((await list(own, "a", "&start=a/b&end=a/c")).keys, ["a/b", "a/b/c"]);
    assert.deepEqual((await list(own, "a", "&after=a/b&reverse")).keys, ["a0", "a/c", "a/b/c"]);
    assert.deepEqual((await list(own, "b", "&start=c")).keys, []);
    assert.deepEqual(await list(own, "", "&delimiter=/&limit=1"), {
      keys: sorted(["_x", "a", "a0", "b", "health", "\u{1f600}", "\uffff"]),
      prefixes: ["a/", "\u00fc/"],
    });
    assert.deepEqual(await list(own, "a/", "&delimiter=%2F"), {
      keys: ["a/", "a/b", "a/c"],
      prefixes: ["a/b/"],
    });
    assert.deepEqual(await list(own, "a/", "&delimiter=/&reverse&limit=1"), {
      keys: ["a/c", "a/b", "a/"],
      prefixes: ["a/b/"],
    });
    assert.deepEqual((await list(own, "no", "")).keys, []);
    assert.deepEqual((await call(own, "GET", "/?list&count")).json(), {
      success: true,
      count: 12,
      cursor: null,
    });
    assert.equal((await call(own, "GET", "/a?list&count&delimiter=/")).json().count, 3);
    const streamed = await lines(own, "", "&delimiter=/");
    assert.deepEqual(
      streamed.slice(0, -1).map((line) => line.key ?? line.prefix),
      sorted(["_x", "a", "a/", "a0", "b", "health", "\u00fc/", "\u{1f600}", "\uffff"]),
    );
    assert.deepEqual(streamed.at(-1), { success: true, count: 9, complete: true });
    assert.deepEqual(await lines(own, "a", "&count"), [{ success: true, count: 6, complete: true }]);
  });
});

test("lists: what makes no sense is refused", async () => {
  for (const query of [
    "list&limit=0",
    "list&limit=10001",
    "list&limit=x",
    "list&limit=",
    "list&limit=1&limit=2",
    "list&cursor=",
    "list&cursor=x",
    "list&cursor=AQAAAAA",
    "list&cursor=%00",
    "list&start=",
    "list&start=%ff",
    `list&end=${"x".repeat(1025)}`,
    "list&delimiter=",
    "list&reverse=2",
    "list&values&count",
    "list&consistency=all",
    "list&watch",
    "list&changes",
    "list&wait=3s",
    "list=no",
  ]) {
    const reply = await call(port, "GET", `/?${query}`);
    assert.equal(reply.status, 400, `${query}: ${reply.text}`);
    assert.equal(reply.json().code, "bad_request", query);
  }
  assert.equal((await call(port, "GET", "/?list&unknown=1")).status, 200);
  assert.equal((await call(port, "GET", "/%ff?list")).json().code, "bad_key");
  assert.equal((await call(port, "GET", `/${"k".repeat(1025)}?list`)).status, 414);
  for (const method of ["PUT", "POST", "DELETE"])
    assert.equal((await call(port, method, "/key?list", { body: "x" })).status, 400);
  for (const path of ["/?list", "/a?list", "/_kv/?list"]) {
    const head = await call(port, "HEAD", path);
    assert.deepEqual([head.status, head.headers.allow, head.text], [405, "GET", ""]);
  }
  for (const key of ["c/1", "c/2", "c/3"]) await put(port, key);
  const { cursor } = await page(port, "c/", "&limit=1");
  for (const other of ["/d/?list", "/c/?list&reverse", "/c/?list&delimiter=/"])
    assert.equal((await call(port, "GET", `${other}&cursor=${cursor}`)).status, 400, other);
  assert.equal((await call(port, "GET", `/c/?list&cursor=${cursor}&values`)).json().keys.length, 2);
});

test("lists: a key that was written is in the next list, one that was deleted is not", async (t) => {
  const random = new Random(randomSeed(t));
  const model = new Set<string>();
  for (let i = 0; i < 150; i++) {
    const key = `fresh/${random.below(40)}`;
    if (random.below(3) === 0) {
      await call(port, "DELETE", `/${key}`);
      model.delete(key);
    } else {
      await put(port, key);
      model.add(key);
    }
    assert.deepEqual((await list(port, "fresh/", `&limit=${1 + random.below(50)}`)).keys, sorted(model));
  }
});

test("lists: permanent keys beside churn appear exactly once, in every list", async (t) => {
  const random = new Random(randomSeed(t));
  await withServer({ sync: "os" }, async ({ port: own }) => {
    const permanent = sorted(Array.from({ length: 300 }, (_, i) => `p/${i * 7}/${i % 3 === 0 ? "x/" : ""}k`));
    await inParallel(permanent.length, 8, async (i) => void (await put(own, permanent[i])));
    let stopped = false;
    const churn = inParallel(8, 8, async (worker) => {
      for (let i = 0; !stopped; i++) {
        // Few enough that pages of one key end, however long it goes on.
        const key = `p/${random.below(300) * 7 + (worker % 7)}/churn-${worker}`;
        // Some may be refused where the machine is busy, or meet a connection that is just being closed.
        const write =
          i % 2 === 0
            ? call(own, "PUT", pathOf(key), { body: "c".repeat(random.below(3000)) })
            : call(own, "DELETE", pathOf(key));
        await write.catch(() => {});
      }
    });
    try {
      const isPermanent = new Set(permanent);
      for (let round = 0; round < 30; round++) {
        const reverse = random.below(2) === 0;
        const query = `&limit=${1 + random.below(200)}${reverse ? "&reverse" : ""}`;
        const all =
          round % 3 === 0
            ? (await lines(own, "p/", reverse ? "&reverse" : "")).flatMap(({ key }) =>
                key === undefined ? [] : [String(key)],
              )
            : (await list(own, "p/", query)).keys;
        const found = all.filter((key) => isPermanent.has(key));
        assert.deepEqual(reverse ? found.reverse() : found, permanent);
        assert.equal(new Set(all).size, all.length, "a key came twice");
      }
    } finally {
      stopped = true;
    }
    await churn;
  });
});

test("lists: they are whole after kill -9, and after the catalog's files are gone", async (t) => {
  const random = new Random(randomSeed(t));
  await withServer({}, async (own) => {
    const model = new Set<string>();
    for (let round = 0; round < 4; round++) {
      await inParallel(60, 8, async () => {
        const key = `k/${random.below(100)}`;
        await put(own.port, key);
        model.add(key);
      });
      await own.restart();
      assert.deepEqual((await list(own.port, "", "&limit=7")).keys, sorted(model));
    }
    await own.stop();
    const folder = path.join(own.data, "keys");
    assert.ok(readdirSync(folder).includes("CATALOG"));
    rmSync(folder, { recursive: true });
    await own.restart();
    assert.deepEqual((await list(own.port, "", "")).keys, sorted(model));
  });
});

test("lists: with a key, lists need it also where single reads do not", async () => {
  const env = { MINIVAULT_AUTH: "0123456789abcdef" };
  await withServer({ flags: ["-auth-mode", "writes"], env }, async ({ port: own }) => {
    const headers = { Authorization: "Bearer 0123456789abcdef" };
    await call(own, "PUT", "/secret", { body: "v", headers });
    assert.equal((await call(own, "GET", "/secret")).status, 200);
    for (const path of ["/?list", "/s?list", "/_kv/?list", "/?list&count", "/?%6cist&list", "/?%6cist"])
      assert.equal((await call(own, "GET", path)).status, 401, path);
    // A second question mark makes the name another one, in whichever way the query is read.
    for (const query of ["?list&%61", "?watch&%61", "?changes&%61", "?%6cist"])
      assert.equal((await call(own, "GET", `/secret?${query}`)).text, "v", query);
    assert.equal((await call(own, "GET", "/?list", { headers })).json().keys[0].key, "secret");
    assert.equal((await call(own, "POST", "/_delete?all=1")).status, 401);
  });
});

test("lists: a token sees the keys that it covers, and no others", async () => {
  const folder = temporaryFolder();
  const file = path.join(folder, "tokens");
  const make = async (...words: string[]): Promise<{ token: string; line: string }> => {
    const { status, output } = await runProgram(["token", ...words, "-json"]);
    assert.equal(status, 0, output);
    return JSON.parse(output);
  };
  const all = await make("all", "-prefix", "", "-allow", "read,list,write,delete");
  const some = await make("some", "-prefix", "a/1/,a/3/,c", "-allow", "list");
  const blind = await make("blind", "-prefix", "a/", "-allow", "read");
  writeFileSync(file, `${[all, some, blind].map(({ line }) => line).join("\n")}\n`, { mode: 0o600 });
  await withServer({ flags: ["-tokens", file] }, async ({ port: own }) => {
    const as = ({ token }: { token: string }) => ({ headers: { Authorization: `Bearer ${token}` } });
    const keys = ["a/0", "a/1/x", "a/1/y", "a/2/x", "a/3/x", "b", "c", "c/1", "d"];
    for (const key of keys) await call(own, "PUT", `/${key}`, { body: "v", ...as(all) });
    const seen = async (path: string, who: { token: string }): Promise<[string[], string[]]> => {
      const reply = await call(own, "GET", path, as(who));
      assert.equal(reply.status, 200, reply.text);
      assert.match(String(reply.headers.vary), /Authorization/);
      const { keys: entries, prefixes } = reply.json() as Page;
      return [entries.map(({ key }) => key), prefixes];
    };
    assert.deepEqual((await seen("/?list", all))[0], keys);
    assert.deepEqual((await seen("/?list", some))[0], ["a/1/x", "a/1/y", "a/3/x", "c", "c/1"]);
    assert.deepEqual((await seen("/?list&reverse", some))[0], ["c/1", "c", "a/3/x", "a/1/y", "a/1/x"]);
    assert.deepEqual((await seen("/a/?list", some))[0], ["a/1/x", "a/1/y", "a/3/x"]);
    assert.deepEqual(await seen("/?list&delimiter=/", some), [["c"], ["a/", "c/"]]);
    assert.deepEqual(await seen("/?list&delimiter=/&reverse", some), [["c"], ["c/", "a/"]]);
    assert.equal((await call(own, "GET", "/?list&count", as(some))).json().count, 5);
    assert.equal((await call(own, "GET", "/b?list", as(some))).status, 403);
    assert.equal((await call(own, "GET", "/a/?list", as(blind))).status, 403);
    assert.equal((await call(own, "GET", "/?list&values", as(some))).status, 403);
    assert.equal((await call(own, "POST", "/_delete?prefix=c", as(some))).status, 403);
    assert.equal((await call(own, "POST", "/_delete?prefix=c", as(all))).status, 200);
    assert.equal((await call(own, "GET", "/?list")).status, 401);
  });
  removeFolder(folder);
});

test("deletes by prefix: what a list finds goes, told line by line", async () => {
  await withServer({}, async ({ port: own }) => {
    await inParallel(2500, 16, async (i) => void (await put(own, `d/${i}`)));
    for (const key of ["d/sub/1", "d/sub/2", "e/1"]) await put(own, key);
    const answer = async (query: string): Promise<Record<string, unknown>> => {
      const reply = await call(own, "POST", `/_delete?${query}`);
      assert.equal(reply.status, 200, reply.text);
      assert.equal(reply.headers["content-type"], "application/x-ndjson");
      return JSON.parse(reply.text.trim().split("\n").at(-1) as string);
    };
    assert.deepEqual(await answer("prefix=d/&dry-run"), { success: true, found: 2502, complete: true });
    assert.deepEqual(await answer("prefix=d/&delimiter=/"), { success: true, deleted: 2500, complete: true });
    assert.deepEqual((await list(own, "", "")).keys, ["d/sub/1", "d/sub/2", "e/1"]);
    assert.deepEqual(await answer("prefix=d/"), { success: true, deleted: 2, complete: true });
    assert.deepEqual(await answer("prefix=d/"), { success: true, deleted: 0, complete: true });
    for (const query of [
      "",
      "prefix=",
      "prefix=x&all=1",
      "prefix=%ff",
      "prefix=a&delimiter=",
      "prefix=a&dry-run=maybe",
      ...["limit=1", "cursor=x", "count", "list", "reverse"].map((word) => `prefix=e&${word}`),
    ])
      assert.equal((await call(own, "POST", `/_delete?${query}`)).status, 400, query);
    assert.equal((await call(own, "POST", "/_delete?prefix=e", { body: "x" })).status, 400);
    const headers = { "If-Unmodified-Since": new Date(0).toUTCString() };
    assert.equal((await call(own, "POST", "/_delete?prefix=e", { headers })).status, 400);
    assert.deepEqual((await list(own, "", "")).keys, ["e/1"]);
    assert.deepEqual(await answer("all=1"), { success: true, deleted: 1, complete: true });
    assert.deepEqual((await list(own, "", "")).keys, []);
  });
});

test("lists: many tombstones below a prefix hold no page up, and it goes on", async () => {
  await withServer({ sync: "os" }, async (own) => {
    await listTombstones(own, 25_000);
    assert.deepEqual(await list(own.port, "", "&delimiter=/"), { keys: [], prefixes: ["t/"] });
  });
});
