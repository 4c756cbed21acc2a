/**
 * `/_openapi.json`: validators take it, it says what the routes do, the other way round, and no request made from it is answered in a way
 * that it does not name (test/fuzz/api-fuzz.ts). Of workers and masters, with tokens and as minikeyvalue's.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { validate } from "@readme/openapi-parser";
import { ApiDocument, type Json, operationsOf } from "../fuzz/api-document.ts";
import { documentOf, fuzzApi } from "../fuzz/api-fuzz.ts";
import { call, closeConnections, type Reply } from "./client.ts";
import { REPOSITORY, removeFolder, type Server, startServer, temporaryFolder, withServer } from "./server.ts";

const METHODS = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "LOCK", "UNLOCK", "BREW"];
/** What people call a route in the source. */
const PATH_LITERAL = /["'`]\/?(_[a-z][\w.-]*(?:\/[a-z]*)*)["'`]/g;
const KEY = "a-key";
const KEY_OF_CLIENTS = "a-key-that-all-clients-have";

let server: Server;
let folder = "";
before(async () => {
  folder = temporaryFolder();
  server = await startServer({ sync: "os" });
});
after(async () => {
  closeConnections();
  await server?.dispose();
  removeFolder(folder);
});

const targetOf = (template: string): string => template.replace(/\{\w+\}/, KEY);

/** The methods of each path that a document has. */
function methodsOf(document: Json): Map<string, string[]> {
  return new Map(
    Object.entries<Json>(document.paths).map(([name, item]) => [
      name,
      Object.keys(operationsOf(item)).map((method) => method.toUpperCase()),
    ]),
  );
}

/** Asks a node for each path and method: what the document has is there, and nothing else. */
async function compareWithRoutes(
  port: number,
  document: Json,
  isPrefix: (template: string) => boolean,
): Promise<void> {
  for (const [template, methods] of methodsOf(document))
    for (const method of METHODS) {
      const reply = await call(port, method, targetOf(template), { agent: false });
      const what = `${method} ${template}: ${reply.status} ${reply.text}`;
      if (methods.includes(method)) {
        assert.notEqual(reply.status, 405, what);
        const isAbsent = reply.status === 404 && !template.includes("{key}");
        assert.ok(!isAbsent, what);
      } else if (!isPrefix(template)) {
        assert.equal(reply.status, 405, what);
        assert.equal(reply.headers.allow, methods.join(", "), what);
      } else assert.ok(reply.status === 400 || reply.status === 405, what);
    }
}

/** All that looks like a route in a folder of the source, and is below none that is meant for other nodes. */
function routesIn(...folders: string[]): string[] {
  const found = new Set<string>();
  for (const name of folders)
    for (const file of fs.readdirSync(path.join(REPOSITORY, "src", name), { recursive: true }).map(String)) {
      if (!file.endsWith(".ts")) continue;
      const text = fs.readFileSync(path.join(REPOSITORY, "src", name, file), "utf8");
      for (const [, route] of text.matchAll(PATH_LITERAL)) found.add(`/${route}`);
    }
  return [...found].filter((route) => !route.startsWith("/_peer")).sort();
}

async function compareWithSource(port: number, document: Json, routes: string[]): Promise<void> {
  const templates = [...methodsOf(document).keys()];
  for (const route of routes)
    for (const target of [route, `${route}/${KEY}`.replace("//", "/")]) {
      const isNamed = templates.some((template) => targetOf(template) === target);
      if (isNamed) continue;
      for (const method of METHODS) {
        const reply = await call(port, method, target, { agent: false });
        const says = method === "HEAD" ? /./ : reply.status === 404 ? /reserved|has no/ : /bad_key/;
        const isRefused = reply.status === 404 || reply.status === 400;
        assert.ok(
          isRefused && says.test(`${reply.text} `),
          `${method} ${target} is answered ${reply.status}, and the document does not have it`,
        );
      }
    }
}

describe("workers", () => {
  test("the document is valid OpenAPI 3.1, and its operations have names of their own", async () => {
    const document = await documentOf(server.port);
    assert.equal(document.openapi, "3.1.0");
    const verdict = await validate(structuredClone(document));
    assert.deepEqual(verdict, { valid: true, warnings: [], specification: "OpenAPI" });
    const ids = new ApiDocument(document).operations().map(({ operation }) => operation.operationId);
    assert.deepEqual([...new Set(ids)], ids);
  });

  test("it can be cached: an ETag that stays, 304, HEAD", async () => {
    const first = await call(server.port, "GET", "/_openapi.json");
    assert.deepEqual([first.status, first.headers["content-type"]], [200, "application/json"]);
    assert.equal(first.headers["cache-control"], "no-cache");
    const etag = first.headers.etag as string;
    assert.match(etag, /^"[0-9a-f]{32}"$/);
    const ask = (method: string, condition: string): Promise<Reply> =>
      call(server.port, method, "/_openapi.json", { headers: { "If-None-Match": condition } });
    for (const known of [etag, `W/${etag}`, `"x", ${etag}`, "*"])
      assert.deepEqual([(await ask("GET", known)).status, (await ask("GET", known)).text], [304, ""]);
    assert.equal((await ask("GET", '"0"')).status, 200);
    const head = await ask("HEAD", '"0"');
    assert.deepEqual([head.status, head.headers.etag], [200, etag]);
    assert.equal(head.headers["content-length"], String(first.body.length));
  });

  test("each path and method is a route, each other method is a 405 that names them", async () => {
    const document = await documentOf(server.port);
    await compareWithRoutes(server.port, document, (template) =>
      ["/", "/_kv/", "/_unstorage/{base}:", "/_unstorage/"].includes(template),
    );
  });

  test("each route of the source is in it", async () => {
    const routes = routesIn("server");
    assert.ok(routes.length > 8, routes.join());
    await compareWithSource(server.port, await documentOf(server.port), routes);
  });

  test("it is there without a token, and says which requests need one", async () => {
    await withServer({ sync: "os", flags: ["-auth", KEY_OF_CLIENTS] }, async ({ port }) => {
      const document = await documentOf(port);
      for (const { path: template, method, operation } of new ApiDocument(document).operations()) {
        const { status } = await call(port, method, targetOf(template), { agent: false });
        const what = `${method} ${template}: ${status}`;
        const isOptional = operation.security.some((one: Json) => Object.keys(one).length === 0);
        if (operation.security.length === 0 || isOptional) assert.notEqual(status, 401, what);
        else assert.equal(status, 401, what);
      }
    });
  });

  test("what a node does not have is not in it", () =>
    withServer({ sync: "os", flags: ["-metrics", "off"] }, async ({ port }) => {
      const { paths } = await documentOf(port);
      assert.equal(paths["/_metrics"], undefined);
      assert.equal((await call(port, "GET", "/_metrics")).status, 404);
    }));
});

describe("answers that are not named", () => {
  test("a document is a judge: a status, a header, a type, a shape, a code that it does not have", async () => {
    const document = new ApiDocument(await documentOf(server.port));
    const { put } = document.root.paths["/{key}"];
    const { get } = document.root.paths["/"];
    const json = { "content-type": "application/json" };
    const answer = (status: number, text: string, headers: Record<string, string> = json) =>
      document.problem("PUT", put, { status, headers, body: Buffer.from(text) });
    assert.equal(answer(200, '{"success":true,"created":false}'), null);
    assert.match(answer(418, "{}") ?? "", /status 418/);
    assert.match(answer(200, '{"success":true}') ?? "", /shape/);
    assert.match(answer(200, "{}", { "content-type": "text/plain" }) ?? "", /text\/plain/);
    assert.match(answer(200, "{}", { ...json, "x-other": "1" }) ?? "", /x-other/);
    assert.match(answer(200, "{}", { ...json, etag: "unquoted" }) ?? "", /etag|ETag/);
    const error = (code: string) => `{"success":false,"error":"a sentence","code":"${code}"}`;
    assert.equal(answer(400, error("bad_json")), null);
    assert.match(answer(400, error("not_found")) ?? "", /shape/);
    const list = '{"success":true,"keys":[{"key":"a"}],"prefixes":[],"cursor":null}';
    const found = document.problem("GET", get, { status: 200, headers: json, body: Buffer.from(list) });
    assert.match(found ?? "", /shape/);
  });

  test("a worker: 1,200 requests made from its document", async (t) => {
    await fuzzApi(t, { port: server.port, folder }, 1200);
  });

  test("a worker with -compat mkv and a key: 600 requests", async (t) => {
    await withServer({ sync: "os", flags: ["-compat", "mkv", "-auth", KEY_OF_CLIENTS] }, async ({ port }) => {
      const verdict = await validate(structuredClone(await documentOf(port)));
      assert.equal(verdict.valid, true);
      await fuzzApi(t, { port, folder, headers: { Authorization: `Bearer ${KEY_OF_CLIENTS}` } }, 600);
    });
  });
});

describe("masters", () => {
  test("the document is valid, says what the routes are, and names the answers to 400 requests", (t) =>
    withServer({ flags: ["-mode", "master"] }, async ({ port }) => {
      const document = await documentOf(port);
      const verdict = await validate(structuredClone(document));
      assert.deepEqual(verdict, { valid: true, warnings: [], specification: "OpenAPI" });
      await compareWithRoutes(port, document, () => false);
      await compareWithSource(port, document, routesIn("master"));
      const routes = [...methodsOf(document).keys()];
      for (const route of ["/register", "/heartbeat", "/nodes", "/layout", "/health", "/_metrics"])
        assert.ok(routes.includes(route), route);
      await fuzzApi(t, { port, folder }, 400);
    }));
});
