import assert from "node:assert/strict";
import { hash, randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import fc from "fast-check";
import { PERMISSIONS, type Permission, type TokenRecord } from "../../../src/auth/token-file.ts";
import { Token } from "../../../src/auth/tokens.ts";
import type { Audit } from "../../../src/server/access/audit.ts";
import { addressOf } from "../../../src/server/access/audited.ts";
import { may } from "../../../src/server/access/needs.ts";
import { RefusalLog } from "../../../src/server/access/refusal-log.ts";
import { isFeedQuery, readFeedQuery } from "../../../src/server/feed/feed-query.ts";
import { TARGET_KEY } from "../../../src/server/http/target.ts";
import { isListQuery } from "../../../src/server/list/list-query.ts";
import { GET } from "../../../src/server/status/meter.ts";
import { Random, randomSeed } from "../../random.ts";
import { type Harness, until, withFront } from "../harness.ts";

const makeToken = () =>
  `mv1.${randomBytes(8).toString("base64url")}.${randomBytes(32).toString("base64url")}`;

interface Holder {
  text: string;
  record: TokenRecord;
}

let slot = 0;

function holder(more: Partial<TokenRecord>): Holder {
  const text = makeToken();
  const record: TokenRecord = {
    ...{ name: `token ${slot}`, sha256: hash("sha256", text, "hex"), prefix: [], allow: [] },
    ...{ requestsPerSecond: null, expiresMs: null, s3: null, slot: slot++ },
    ...more,
  };
  return { text, record };
}

const bearer = (text: string) => ({ authorization: `Bearer ${text}` });

/** Whether it was let in: what is then wrong with the request is not the gate's. */
const isIn = (status: number) => status !== 401 && status !== 403 && status !== 429;

describe("gate: token by method by path", () => {
  /** What a request needs: one of these sets of permissions, and a key or prefix that is covered. */
  interface Case {
    method: string;
    path: string;
    needs: readonly Permission[] | "any" | "none";
    /** Key that has to be covered; a prefix of which something has to be. */
    key?: string;
    prefix?: string;
  }
  const CASES: readonly Case[] = [
    { method: "GET", path: "/a/1", needs: ["read"], key: "a/1" },
    { method: "HEAD", path: "/a/1", needs: ["read"], key: "a/1" },
    { method: "GET", path: "/%61%2F1", needs: ["read"], key: "a/1" },
    { method: "GET", path: "/_kv/a/1", needs: ["read"], key: "a/1" },
    { method: "GET", path: "/%5Fkv/a/1", needs: ["read"], key: "a/1" },
    { method: "GET", path: "/_kv%2Fa/1", needs: ["read"], key: "a/1" },
    { method: "GET", path: "/a/1?consistency=one", needs: ["read"], key: "a/1" },
    { method: "GET", path: "/a/1?wait=1s", needs: ["read"], key: "a/1" },
    { method: "GET", path: "/_kv/_stats", needs: ["read"], key: "_stats" },
    { method: "GET", path: "/_kv/health", needs: ["read"], key: "health" },
    { method: "GET", path: "/_kv/_kv/a/1", needs: ["read"], key: "_kv/a/1" },
    { method: "GET", path: "/a", needs: ["read"], key: "a" },
    { method: "GET", path: "/A/1", needs: ["read"], key: "A/1" },
    { method: "GET", path: "/a/../b/1", needs: ["read"], key: "a/../b/1" },
    { method: "PUT", path: "/a/1", needs: ["write"], key: "a/1" },
    { method: "PUT", path: "/_kv/a/1", needs: ["write"], key: "a/1" },
    { method: "POST", path: "/a/2", needs: ["write"], key: "a/2" },
    { method: "POST", path: "/_kv/b/2", needs: ["write"], key: "b/2" },
    { method: "DELETE", path: "/a/1", needs: ["delete"], key: "a/1" },
    { method: "DELETE", path: "/_kv/%61/1", needs: ["delete"], key: "a/1" },
    { method: "PATCH", path: "/a/1", needs: ["read", "write"], key: "a/1" },
    { method: "PATCH", path: "/_kv/a/1", needs: ["read", "write"], key: "a/1" },
    { method: "GET", path: "/?list", needs: ["list"], prefix: "" },
    { method: "GET", path: "/a/?list&limit=3", needs: ["list"], prefix: "a/" },
    { method: "GET", path: "/_kv/a/?list", needs: ["list"], prefix: "a/" },
    { method: "GET", path: "/b/?list", needs: ["list"], prefix: "b/" },
    { method: "GET", path: "/a/?list&values", needs: ["list", "read"], prefix: "a/" },
    { method: "GET", path: "/a/?l%69st&v%61lues", needs: ["list", "read"], prefix: "a/" },
    { method: "HEAD", path: "/a/?list", needs: ["list"], prefix: "a/" },
    { method: "GET", path: "/a/?watch", needs: ["watch"], prefix: "a/" },
    { method: "GET", path: "/a/?watch&values", needs: ["watch", "read"], prefix: "a/" },
    { method: "GET", path: "/a/?watch&initial", needs: ["watch", "list"], prefix: "a/" },
    { method: "GET", path: "/?changes&since=x", needs: ["watch"], prefix: "" },
    { method: "GET", path: "/_stats", needs: ["metrics"] },
    { method: "GET", path: "/%5fstats", needs: ["metrics"] },
    { method: "HEAD", path: "/_stats", needs: ["metrics"] },
    { method: "PUT", path: "/_stats", needs: ["metrics"] },
    { method: "GET", path: "/_metrics", needs: ["metrics"] },
    { method: "POST", path: "/_admin/backup?directory=/x", needs: ["admin"] },
    { method: "GET", path: "/_nobody/has/built/this", needs: ["admin"] },
    { method: "GET", path: "/_peer2", needs: ["admin"] },
    { method: "POST", path: "/_batch", needs: "any" },
    { method: "POST", path: "/_delete?prefix=a/", needs: ["delete"], key: "a/" },
    { method: "POST", path: "/_delete?prefix=", needs: ["delete"], key: "" },
    { method: "POST", path: "/_delete?all=1", needs: ["delete"], key: "" },
    // What is no parameter to the handler is none here: a name with a question mark, or one of two.
    { method: "POST", path: "/_delete??prefix=a/&all=1", needs: ["delete"], key: "" },
    { method: "POST", path: "/_delete?prefix=a/&prefix=", needs: ["delete"], key: "" },
    { method: "GET", path: "/a/1??list", needs: ["read"], key: "a/1" },
    { method: "GET", path: "/a/1??watch", needs: ["read"], key: "a/1" },
    { method: "GET", path: "/a/1??list&%61", needs: ["read"], key: "a/1" },
    { method: "GET", path: "/_export?prefix=a%2F", needs: ["read", "list"], key: "a/" },
    { method: "GET", path: "/_export", needs: ["read", "list"], key: "" },
    { method: "PUT", path: "/_import?mode=create", needs: "any" },
    { method: "GET", path: "/_raw/a/1", needs: ["read"], key: "a/1" },
    { method: "POST", path: "/_raw/a/1", needs: ["write"], key: "a/1" },
    { method: "LOCK", path: "/_raw/a/1", needs: ["write"], key: "a/1" },
    { method: "DELETE", path: "/_raw/b/1", needs: ["delete"], key: "b/1" },
    { method: "UNLOCK", path: "/%5Fraw%2Fa/1", needs: ["write"], key: "a/1" },
    { method: "GET", path: "/_raw//a/1", needs: ["read"], key: "/a/1" },
    { method: "GET", path: "/_unstorage/:a:1", needs: ["read"], key: "a/1" },
    { method: "HEAD", path: "/_unstorage/b%5C1", needs: ["read"], key: "b/1" },
    { method: "DELETE", path: "/_unstorage//a/1", needs: ["delete"], key: "a/1" },
    { method: "GET", path: "/_unstorage/a:", needs: ["list"], prefix: "a/" },
    { method: "GET", path: "/_unstorage/:", needs: ["list"], prefix: "" },
    { method: "DELETE", path: "/_unstorage/a/:", needs: ["delete"], key: "a/" },
    { method: "DELETE", path: "/_unstorage/", needs: ["delete"], key: "" },
    { method: "GET", path: "/_unstorage/a/1", needs: ["read"], key: "a/1" },
    { method: "PUT", path: "/_unstorage/a/1", needs: ["write"], key: "a/1" },
    { method: "GET", path: "/health", needs: "none" },
    { method: "HEAD", path: "/health", needs: "none" },
    { method: "GET", path: "/health/live", needs: "none" },
    { method: "GET", path: "/", needs: "none" },
    { method: "GET", path: "/_ui/", needs: "none" },
    { method: "GET", path: "/_ui/x", needs: ["admin"] },
    { method: "GET", path: "/_openapi.json", needs: "none" },
    { method: "PUT", path: "/health", needs: "any" },
    { method: "GET", path: "/%zz", needs: "any" },
    { method: "PUT", path: "/", needs: "any" },
  ];

  /** What the requirement says, by itself: no code of the program is used. */
  function mayPass({ record }: Holder | { record: null }, { needs, key, prefix }: Case): boolean {
    if (needs === "none") return true;
    if (record === null) return false;
    if (needs === "any") return true;
    if (!needs.every((one) => record.allow.includes(one))) return false;
    if (key !== undefined) return record.prefix.some((one) => key.startsWith(one));
    if (prefix !== undefined)
      return record.prefix.some((one) => prefix.startsWith(one) || one.startsWith(prefix));
    return true;
  }

  const sets: Permission[][] = [
    ...PERMISSIONS.map((one) => [one]),
    ...PERMISSIONS.map((one) => PERMISSIONS.filter((other) => other !== one)),
    ["read", "write"],
    ["list", "read"],
    [...PERMISSIONS],
    [],
  ];
  const holders = sets.flatMap((allow) =>
    [["a/"], ["b/", "_"], [""], []].map((prefix) => holder({ allow, prefix })),
  );

  test("every permission alone, all but one, all; four ranges of keys; every kind of path", async () => {
    const tokens = holders.map(({ record }) => record);
    await withFront({ auth: { mode: "all", tokens } }, async ({ call, vault }) => {
      for (const one of CASES) {
        vault.put("a/1", "secret");
        vault.put("b/1", "secret");
        for (const who of [{ text: "none", record: null }, ...holders]) {
          const options = one.method === "PUT" || one.method === "POST" ? { body: "x" } : {};
          const reply = await call(one.method, one.path, { headers: bearer(who.text), ...options });
          const what = `${one.method} ${one.path} with ${JSON.stringify(who.record?.allow)} ${JSON.stringify(who.record?.prefix)}`;
          const expected = mayPass(who as Holder, one);
          assert.equal(isIn(reply.status), expected, `${what}: ${reply.status} ${reply.text}`);
          if (!expected) {
            assert.equal(reply.status, who.record === null ? 401 : 403, what);
            assert.equal(reply.headers["www-authenticate"] !== undefined, who.record === null, what);
            if (one.method !== "HEAD")
              assert.equal(reply.json().code, who.record === null ? "unauthorized" : "forbidden", what);
            assert.equal(reply.headers.vary, "Authorization");
            assert.ok(!reply.text.includes("secret"), what);
          }
        }
      }
    });
  });

  test("whatever a query is written like: who takes it for a list or a watch is asked for more than to read", (t) => {
    const { record } = holder({ allow: ["read"], prefix: [""] });
    const reader = new Token(record, null);
    const key = { bytes: new TextEncoder().encode("a"), length: 1 };
    const word = fc.constantFrom(
      ...["list", "watch=1", "changes", "l%69st=", "%77atch", "?list", "%3flist", "+list", "LIST"],
      ...["values", "initial", "wait=1s", "x=%61", "a%zz", "\u00e4=;#"],
    );
    const words = fc.array(word, { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(fc.constantFrom("", "?", "&", "??"), words, (front, rest) => {
        const query = front + rest.join("&");
        const parameters = isFeedQuery(query) ? readFeedQuery(query) : "none";
        const isFeed = typeof parameters !== "string" && parameters.kind !== "wait";
        if (!isListQuery(query) && !isFeed) return;
        const req = { getQuery: () => query, getCaseSensitiveMethod: () => "GET" };
        assert.ok(!may(reader, { verb: GET, target: TARGET_KEY, key, req }), query);
      }),
      { seed: randomSeed(t), numRuns: 2000 },
    );
  });

  test("-auth-mode writes: single keys are public, also to tokens that allow less; the rest is as it was", async () => {
    const none = holder({});
    const metrics = holder({ allow: ["metrics"] });
    const tokens = [none.record, metrics.record];
    await withFront({ auth: { mode: "writes", tokens } }, async ({ call, vault }) => {
      vault.put("a/1", "v");
      for (const headers of [{}, bearer(none.text), bearer("wrong")]) {
        assert.equal((await call("GET", "/a/1", { headers })).text, "v");
        assert.equal((await call("HEAD", "/_kv/a/1", { headers })).status, 200);
        // The vault of this harness keeps no log to wait on.
        assert.equal((await call("GET", "/a/1?wait=1s", { headers })).status, 501);
        for (const path of [
          "/?list",
          "/a/?list",
          "/a/?watch",
          "/a/?changes",
          "/_stats",
          "/_export",
          "/_metrics",
        ])
          assert.ok(!isIn((await call("GET", path, { headers })).status), path);
        for (const method of ["PUT", "POST", "DELETE", "PATCH"])
          assert.ok(
            !isIn(
              (await call(method, "/a/1", { headers, ...(method === "PUT" ? { body: "x" } : {}) })).status,
            ),
          );
      }
      assert.equal((await call("GET", "/_stats", { headers: bearer(metrics.text) })).status, 200);
    });
  });

  test("10,000 random requests with random tokens: let in as the model says, and what is stored is as the model says", async (t) => {
    const random = new Random(randomSeed(t));
    const pick = <Item>(items: readonly Item[]): Item => items[random.below(items.length)];
    const some = <Item>(items: readonly Item[]): Item[] => items.filter(() => random.below(2) === 0);
    const letters = ["a", "b", "/", "ä", "_", "\u0000", "😀", "%"];
    const word = (length: number) =>
      Array.from({ length: random.below(length + 1) }, () => pick(letters)).join("");
    const crowd = Array.from({ length: 200 }, () =>
      holder({
        allow: some(["read", "write", "delete", "list", "metrics"] as const),
        prefix: Array.from({ length: random.below(4) }, () => word(3)),
        expiresMs: random.below(8) === 0 ? 1 : null,
      }),
    );
    const encode = (key: string): string =>
      [...Buffer.from(key)]
        .map((byte) =>
          /[A-Za-z0-9/]/.test(String.fromCharCode(byte)) && random.below(3) > 0
            ? String.fromCharCode(byte)
            : `%${byte.toString(16).padStart(2, "0")}`,
        )
        .join("");
    const tokens = crowd.map(({ record }) => record);
    await withFront({ auth: { mode: "all", tokens } }, async ({ call, vault }) => {
      const model = new Map<string, string>();
      for (let round = 0; round < 10_000; round++) {
        const who = random.below(20) === 0 ? null : pick(crowd);
        const key = `${word(4)}k`;
        const method = pick(["GET", "HEAD", "PUT", "POST", "DELETE"] as const);
        const text = who?.text ?? pick(crowd).text.slice(0, -1);
        const password = `Basic ${Buffer.from(`user:${text}`).toString("base64")}`;
        const headers = random.below(3) === 0 ? { authorization: password } : bearer(text);
        const value = String(round);
        const path = `/_kv/${encode(key)}`;
        const reply = await call(method, path, {
          headers,
          ...(method === "PUT" || method === "POST" ? { body: value } : {}),
        });
        const need = ({ GET: "read", HEAD: "read", PUT: "write", POST: "write", DELETE: "delete" } as const)[
          method
        ];
        const isKnown = who !== null && who.record.expiresMs === null;
        const may =
          isKnown && who.record.allow.includes(need) && who.record.prefix.some((one) => key.startsWith(one));
        const what = `round ${round}: ${method} ${JSON.stringify(key)} with ${JSON.stringify(who?.record)}`;
        const old = model.get(key);
        if (!may) assert.equal(reply.status, isKnown ? 403 : 401, what);
        else if (method === "GET")
          assert.deepEqual(
            [reply.status, reply.status === 200 ? reply.text : undefined],
            [old === undefined ? 404 : 200, old],
            what,
          );
        else if (method === "HEAD") assert.equal(reply.status, old === undefined ? 404 : 200, what);
        else if (method === "DELETE") assert.equal(reply.json().deleted, old !== undefined, what);
        else if (method === "POST") assert.equal(reply.status, old === undefined ? 201 : 409, what);
        else assert.equal(reply.status, old === undefined ? 201 : 200, what);
        if (!may) continue;
        if (method === "DELETE") model.delete(key);
        if (method === "PUT" || (method === "POST" && old === undefined)) model.set(key, value);
      }
      assert.deepEqual([...vault.values.keys()].sort(), [...model.keys()].sort());
    });
  });
});

describe("gate: rates, ends, renewal, notes", () => {
  test("over its rate a token is told to wait, others are not, and it goes on afterwards", async () => {
    const slow = holder({ allow: ["read"], prefix: [""], requestsPerSecond: 2 });
    const free = holder({ allow: ["read"], prefix: [""] });
    const tokens = [slow.record, free.record];
    await withFront({ auth: { mode: "all", tokens } }, async ({ call, vault }) => {
      vault.put("k", "v");
      const statuses: number[] = [];
      let over = await call("GET", "/k", { headers: bearer(slow.text) });
      // However slow the machine: two a second cannot be passed by requests that take less than half a second each.
      for (let round = 0; round < 1000 && over.status === 200; round++) {
        statuses.push(over.status);
        over = await call("GET", "/k", { headers: bearer(slow.text) });
      }
      assert.deepEqual(
        [over.status, over.json().code, over.headers["retry-after"]],
        [429, "too_many_requests", "1"],
      );
      assert.equal((await call("GET", "/k", { headers: bearer(free.text) })).status, 200);
      await new Promise((resolve) => setTimeout(resolve, 1000 * Number(over.headers["retry-after"])));
      assert.equal((await call("GET", "/k", { headers: bearer(slow.text) })).status, 200);
    });
  });

  test("a token whose time is over opens nothing; other tokens are in force at once", async () => {
    const over = holder({ allow: ["read"], prefix: [""], expiresMs: Date.now() - 1 });
    const before = holder({ allow: ["read"], prefix: [""] });
    const after = holder({ allow: ["read"], prefix: [""] });
    const tokens = [over.record, before.record];
    await withFront({ auth: { mode: "all", tokens } }, async ({ call, vault, front }) => {
      vault.put("k", "v");
      const status = async ({ text }: Holder) => (await call("GET", "/k", { headers: bearer(text) })).status;
      assert.deepEqual([await status(over), await status(before), await status(after)], [401, 200, 401]);
      front.renewTokens([after.record]);
      assert.deepEqual([await status(over), await status(before), await status(after)], [401, 401, 200]);
      front.renewTokens([]);
      assert.deepEqual([await status(before), await status(after)], [401, 401]);
    });
  });

  test("the audit notes what batches, patches, deletes and pages are refused, and where it came from", async () => {
    const writer = holder({ name: "writer", allow: ["read", "write", "delete"], prefix: [""] });
    const notes: unknown[][] = [];
    const audit: Audit = {
      note: (name, { forwardedFor }, ...words) => notes.push([name, forwardedFor, ...words]),
    };
    await withFront({ auth: { mode: "all", tokens: [writer.record] }, audit }, async ({ call, connect }) => {
      const send = (method: string, target: string, headers: Record<string, string>, body = "{}") =>
        call(method, target, { headers: { ...bearer(writer.text), ...headers }, body });
      const json = { "Content-Type": "application/json" };
      await send("POST", "/_batch", { "Content-Type": "text/plain" });
      await send("POST", "/_batch", json, "no batch");
      await send("POST", "/_batch", json, '{"operations":[{"op":"put","key":"a","value":1}]}');
      await send("PATCH", "/a", { "Content-Type": "text/plain" });
      await send("PATCH", "/a", json, '{"increment":1,"initial":5}');
      await send("POST", "/_delete?prefix=", {}, "");
      await send("PUT", "/a", { Origin: "https://evil.example" });
      await send("PUT", "/b", { "X-Forwarded-For": "10.1.2.3, 10.0.0.1" });
      await send("UNLINK", "/b", {});
      const client = await connect();
      client.send(
        `PUT /gone HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${writer.text}\r\nContent-Length: 10\r\n\r\n123`,
      );
      client.socket.end();
      await until(() => notes.length === 10, "the write whose client has gone is noted");
      assert.deepEqual(notes, [
        ["writer", "", "POST", "/_batch", 400],
        ["writer", "", "POST", "/_batch", 400],
        ["writer", "", "PUT", "/_kv/a", 201],
        ["writer", "", "PATCH", "/a", 400],
        ["writer", "", "PATCH", "/a", 200],
        ["writer", "", "POST", "/_delete", 400],
        [null, "", "PUT", "/a", 403],
        ["writer", "10.1.2.3, 10.0.0.1", "PUT", "/b", 201],
        ["writer", "", "UNLINK", "/b", 405],
        ["writer", "", "PUT", "/gone", 0],
      ]);
    });
  });

  test("addresses are told in their usual form", () => {
    assert.equal(addressOf("10.0.0.7"), "10.0.0.7");
    assert.equal(addressOf("0000:0000:0000:0000:0000:ffff:0a00:0007"), "10.0.0.7");
    assert.equal(addressOf("2001:0db8:0000:0000:0000:0000:0000:0001"), "2001:db8::1");
    assert.equal(addressOf("0000:0000:0000:0000:0000:0000:0000:0001"), "::1");
  });

  test("refusals are counted, logged by token, and noted with writes in the audit", async () => {
    const reader = holder({ name: "reader", allow: ["read"], prefix: ["a/"] });
    const writer = holder({ name: "writer", allow: ["write", "delete", "metrics"], prefix: [""] });
    const notes: (string | number | null)[][] = [];
    const audit: Audit = {
      note: (name, { client, forwardedFor }, ...words) => {
        assert.deepEqual([client, forwardedFor], ["127.0.0.1", ""]);
        notes.push([name, ...words]);
      },
    };
    const tokens = [reader.record, writer.record];
    await withFront({ auth: { mode: "all", tokens }, audit }, async ({ call, log }: Harness) => {
      const as = ({ text }: Holder, body?: string) => ({
        headers: bearer(text),
        ...(body === undefined ? {} : { body }),
      });
      await call("PUT", "/a/1", as(writer, "x"));
      await call("GET", "/a/1", as(reader));
      await call("GET", "/b/1", as(reader));
      await call("GET", "/a/1", { headers: bearer("mv1.somebody.else") });
      await call("DELETE", "/_kv/a/1?x=1", as(writer));
      const stale = { ...as(writer, "x"), headers: { ...bearer(writer.text), "if-match": '"stale"' } };
      await call("PUT", "/a/2", stale);
      await call("PUT", "/%zz", as(writer, "x"));
      await call("DELETE", "/a/2", as(reader));
      assert.deepEqual(notes, [
        ["writer", "PUT", "/a/1", 201],
        ["reader", "GET", "/b/1", 403],
        [null, "GET", "/a/1", 401],
        ["writer", "DELETE", "/_kv/a/1", 200],
        ["writer", "PUT", "/a/2", 412],
        ["writer", "PUT", "/%zz", 400],
        ["reader", "DELETE", "/a/2", 403],
      ]);
      const stats = (await call("GET", "/_stats", as(writer))).json();
      assert.deepEqual(stats.refusedRequests, { unauthorized: 1, forbidden: 2, too_many_requests: 0 });
      const said = log.map(({ fields }) => fields as { token: string; code: string });
      assert.deepEqual(said.map(({ token, code }) => [token, code]).slice(0, 2), [
        ["reader", "forbidden"],
        ["somebody", "unauthorized"],
      ]);
      assert.ok(!JSON.stringify(log).includes("else"));
    });
  });

  test("the log of refusals: a line a second for each id, with how many it does not show; strangers' ids are bounded", () => {
    const lines: { token: string; unsaid?: number }[] = [];
    let nowMs = 0;
    const log = new RefusalLog(
      { info: (fields) => lines.push(fields as (typeof lines)[0]), error: () => assert.fail() },
      () => nowMs,
    );
    for (let count = 0; count < 5; count++) log.note("forbidden", "a", "GET");
    log.note("forbidden", "b", "GET");
    nowMs = 999;
    log.note("forbidden", "a", "GET");
    nowMs = 1000;
    log.note("forbidden", "a", "GET");
    assert.deepEqual(
      lines.splice(0).map(({ token, unsaid }) => [token, unsaid]),
      [
        ["a", undefined],
        ["b", undefined],
        ["a", 5],
      ],
    );
    for (let id = 0; id < 10_000; id++) log.note("unauthorized", `stranger ${id}`, "GET");
    assert.ok(lines.length <= 33, `${lines.length} lines`);
    assert.equal(lines.at(-1)?.token, "others");
    nowMs = 2000;
    lines.length = 0;
    log.note("unauthorized", "one more", "GET");
    assert.equal(lines[0].token, "one more");
  });
});
