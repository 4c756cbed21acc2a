import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmdirSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, describe, test } from "node:test";
import { KeyRing } from "../../src/auth/keys.ts";
import { RequestSigner } from "../../src/auth/signature.ts";
import { parseArguments } from "../../src/cli/arguments.ts";
import { NodeHttp } from "../../src/cluster/link/node-http.ts";
import { startMaster } from "../../src/master/master.ts";
import { WORKERS_MAX } from "../../src/master/registry/registry.ts";
import { LOAD_BYTES_MAX, parseReport } from "../../src/master/registry/report.ts";
import { REPORT_BYTES_MAX } from "../../src/master/routes.ts";
import { createLog } from "../../src/platform/log.ts";

interface Harness {
  data: string;
  port: number;
  lines: string[];
  call(method: string, path: string, body?: string, headers?: Record<string, string>): Promise<Response>;
  post(path: string, body: unknown): Promise<Response>;
}

/** Runs `body` with a master on a free port. */
async function withMaster(flags: string[], body: (harness: Harness) => Promise<void>): Promise<void> {
  const data = mkdtempSync(path.join(tmpdir(), "minivault-master-"));
  const words = ["-mode=master", "-host=127.0.0.1", "-port=0", "-data", data, ...flags];
  const parsed = parseArguments(words, {});
  if (parsed.kind !== "run") throw new Error(parsed.text);
  const lines: string[] = [];
  after(() => rmSync(data, { recursive: true, force: true }));
  const master = await startMaster(
    parsed.config,
    createLog("info", false, (line) => lines.push(line)),
  );
  const call: Harness["call"] = (method, path, content, headers = {}) =>
    fetch(`http://127.0.0.1:${master.port}${path}`, {
      method,
      headers,
      ...(content === undefined ? {} : { body: content }),
    });
  const post: Harness["post"] = (path, document) => call("POST", path, JSON.stringify(document));
  try {
    await body({ data, port: master.port, lines, call, post });
  } finally {
    await master.stop();
  }
}

// biome-ignore lint/suspicious/noExplicitAny: documents of any form
const json = async (answer: Response): Promise<any> => answer.json();

async function refused(answer: Response, status: number, code: string, error: RegExp): Promise<void> {
  const document = await json(answer);
  assert.equal(answer.status, status);
  assert.equal(document.success, false);
  assert.equal(document.code, code);
  assert.match(document.error, error);
}

describe("master: routes", () => {
  test("register, heartbeat, nodes, health", async () => {
    await withMaster(["-volumes", "localhost:3001"], async ({ call, post, lines }) => {
      const answer = await post("/register", { url: "10.0.0.1:3000", region: "eu", load: { keys: 5 } });
      const said = { success: true, epoch: 0, store: null, suspect: [], down: [] };
      assert.deepEqual([answer.status, await json(answer)], [200, said]);
      // A heartbeat of a worker that never registered.
      assert.equal((await post("/heartbeat", { url: "http://10.0.0.2:3000" })).status, 200);
      assert.equal((await post("/heartbeat", { url: "http://localhost:3001/", region: "us" })).status, 200);
      const { success, nodes } = await json(await call("GET", "/nodes"));
      assert.equal(success, true);
      for (const node of nodes) assert.ok(node.silentMs >= 0 && node.silentMs < 60_000);
      const same = {
        ...{
          host: "",
          store: "",
          state: "up",
          static: false,
          member: null,
          copies: 0,
          epoch: 0,
          voting: false,
        },
        load: null,
      };
      assert.deepEqual(
        nodes.map(({ silentMs: _, ...node }: { silentMs: number }) => node),
        [
          { ...same, url: "http://10.0.0.1:3000", region: "eu", load: { keys: 5 } },
          { ...same, url: "http://10.0.0.2:3000", region: "default" },
          { ...same, url: "http://localhost:3001", region: "us", static: true },
        ],
      );
      const health = await json(await call("GET", "/health"));
      assert.equal(typeof health.version, "string");
      assert.ok(Number.isInteger(health.uptimeSeconds) && health.uptimeSeconds < 60);
      const { status, role, nodes: count, up } = health;
      assert.deepEqual({ status, role, count, up }, { status: "healthy", role: "master", count: 3, up: 3 });
      const logged = lines.map((line) => JSON.parse(line)).filter(({ msg }) => msg === "a worker is there");
      assert.deepEqual(logged.map(({ url }) => url).length, 3, "each is logged once");
    });
  });

  test("HEAD says the length and sends nothing", async () => {
    await withMaster([], async ({ call }) => {
      for (const [path, status] of [
        ["/nodes", 200],
        ["/health", 200],
        ["/x", 404],
        ["/register", 405],
      ] as const) {
        const answer = await call("HEAD", path);
        assert.equal(answer.status, status);
        assert.ok(Number(answer.headers.get("content-length")) > 10);
        assert.equal(await answer.text(), "");
      }
    });
  });

  test("paths and methods that a master does not have", async () => {
    await withMaster([], async ({ call }) => {
      for (const path of ["/some-key", "/nodes/", "/__proto__", "/toString"]) {
        await refused(await call("GET", path), 404, "not_found", /keys live on the workers/);
        await refused(await call("PUT", path, "x"), 404, "not_found", /keys live on the workers/);
        await refused(await call("POST", path, "x"), 404, "not_found", /keys live on the workers/);
      }
      for (const [method, path, allow] of [
        ["GET", "/register", "POST"],
        ["PUT", "/heartbeat", "POST"],
        ["DELETE", "/register", "POST"],
        ["PATCH", "/register", "POST"],
        ["POST", "/nodes", "GET, HEAD"],
        ["PUT", "/layout", "GET, HEAD, POST"],
        ["DELETE", "/health", "GET, HEAD"],
      ]) {
        const answer = await call(method, path);
        assert.equal(answer.headers.get("allow"), allow);
        await refused(answer, 405, "method_not_allowed", /not allowed/);
      }
    });
  });

  test("GET / says who is there, without a key", async () => {
    await withMaster(["-auth", "a-secret-of-masters"], async ({ call }) => {
      const answer = await call("GET", "/");
      const { name, role, nodes } = await json(answer);
      assert.deepEqual([answer.status, name, role, nodes], [200, "minivault", "master", "/nodes"]);
      assert.equal((await call("HEAD", "/")).status, 200);
      await refused(
        await call("POST", "/", "x", { authorization: "Bearer a-secret-of-masters" }),
        405,
        "method_not_allowed",
        /./,
      );
    });
  });

  test("pages of other origins change nothing; -cors lets some read and write", async () => {
    const report = JSON.stringify({ url: "10.0.0.1:3000" });
    await withMaster([], async ({ call, port }) => {
      for (const route of ["/register", "/heartbeat", "/layout"]) {
        const page = { origin: "http://evil.example", "content-type": "text/plain" };
        await refused(await call("POST", route, report, page), 403, "foreign_origin", /-cors/);
      }
      assert.deepEqual((await json(await call("GET", "/nodes"))).nodes, []);
      const own = { origin: `http://127.0.0.1:${port}` };
      assert.equal((await call("POST", "/register", report, own)).status, 200);
    });
    await withMaster(["-cors", "http://a.example"], async ({ call }) => {
      const page = { origin: "http://a.example" };
      const asks = { ...page, "access-control-request-method": "POST" };
      assert.equal((await call("OPTIONS", "/register", undefined, asks)).status, 204);
      assert.equal((await call("POST", "/register", report, page)).status, 200);
      const nodes = await call("GET", "/nodes", undefined, page);
      assert.equal(nodes.headers.get("access-control-allow-origin"), "http://a.example");
    });
  });

  test("a disk that takes nothing: reports and commands are refused in whole sentences, the log says it once, and it heals", async () => {
    await withMaster(["-volumes", "localhost:3001"], async ({ data, call, post, lines }) => {
      const told = (message: RegExp) => lines.filter((line) => message.test(JSON.parse(line).msg)).length;
      // In the way of the file that is to take MASTER's place.
      const obstacle = path.join(data, "master/MASTER.new");
      mkdirSync(obstacle);
      for (let report = 0; report < 5; report++)
        await refused(
          await post("/register", { url: "10.0.0.1:3000" }),
          503,
          "unavailable",
          /^the master cannot write to its disk, so nothing new counts: it is a directory/,
        );
      await refused(
        await post("/layout", { remove: "http://localhost:3001" }),
        503,
        "unavailable",
        /cannot write/,
      );
      const health = await json(await call("GET", "/health"));
      assert.match(health.reason, /cannot write to its disk/);
      assert.equal(told(/cannot write to its disk/), 1);
      rmdirSync(obstacle);
      assert.equal((await post("/register", { url: "10.0.0.1:3000" })).status, 200);
      assert.equal(told(/writes to its disk again/), 1);
      assert.equal((await json(await call("GET", "/health"))).reason, undefined);
    });
  });

  test("bad reports change nothing", async () => {
    await withMaster([], async ({ call }) => {
      const table: [string, RegExp][] = [
        ["", /is not JSON/],
        ["{", /is not JSON/],
        ["[]", /is not a JSON object/],
        ["null", /is not a JSON object/],
        ["{}", /"url" is missing/],
        ['{"url":5}', /"url" is missing, or no text/],
        ['{"url":"http://a/b"}', /"url": .* has more than scheme, host and port/],
        ['{"url":"ftp://a"}', /"url": .* http or https/],
        ['{"url":"a:1","region":5}', /"region" is no text/],
        ['{"url":"a:1","region":"a b"}', /"region": "a b" is not a name/],
        ['{"url":"a:1","store":"5"}', /"store" is not 32 hex digits/],
        ['{"url":"a:1","host":"a b"}', /"host" is no name/],
        ['{"url":"a:1","epoch":-1}', /"epoch" is no number/],
        ['{"url":"a:1","rank":"x"}', /"rank" is no number/],
        ['{"url":"a:1","progress":{"epoch":1}}', /"progress" is not/],
        [JSON.stringify({ url: "a:1", load: "x".repeat(LOAD_BYTES_MAX) }), /"load" is longer than/],
      ];
      for (const [body, error] of table)
        await refused(await call("POST", "/register", body), 400, "bad_request", error);
      assert.deepEqual((await json(await call("GET", "/nodes"))).nodes, []);
    });
  });

  test("a report up to 64 KiB is taken, a larger one refused, also in pieces of unknown number", async () => {
    await withMaster([], async ({ call, port }) => {
      const start = '{"url":"a:1","note":"';
      const fits = `${start}${"x".repeat(REPORT_BYTES_MAX - start.length - 2)}"}`;
      assert.equal((await call("POST", "/register", fits)).status, 200);
      await refused(await call("POST", "/register", `${fits} `), 413, "too_large", /at most 65536 bytes/);

      const chunk = "x".repeat(50_000);
      const piece = `${chunk.length.toString(16)}\r\n${chunk}\r\n`;
      const head = "POST /register HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n";
      const answer = await raw(port, [head, piece, piece, piece, "0\r\n\r\n"]);
      assert.match(answer, /^HTTP\/1\.1 413 .*"code":"too_large"/s);
      const small = '{"url":"b:1"}';
      const taken = await raw(port, [
        head,
        `5\r\n${small.slice(0, 5)}\r\n`,
        `8\r\n${small.slice(5)}\r\n`,
        "0\r\n\r\n",
      ]);
      assert.match(taken, /^HTTP\/1\.1 200 /);
      assert.equal((await json(await call("GET", "/nodes"))).nodes.length, 2);
    });
  });

  test("a client that goes away in the middle leaves nothing behind", async () => {
    await withMaster([], async ({ call, port }) => {
      const socket = net.connect(port, "127.0.0.1");
      socket.write('POST /register HTTP/1.1\r\nHost: m\r\nContent-Length: 100\r\n\r\n{"url":"a:1"');
      await new Promise((resolve) => setTimeout(resolve, 50));
      socket.destroy();
      await new Promise((resolve) => setTimeout(resolve, 50));
      assert.deepEqual((await json(await call("GET", "/nodes"))).nodes, []);
    });
  });

  test("a full registry answers 503, and goes on for those that it knows", async () => {
    const urls = Array.from({ length: WORKERS_MAX }, (_, index) => `w${index}:1`).join();
    await withMaster(["-volumes", urls], async ({ post }) => {
      const answer = await post("/register", { url: "late:1" });
      assert.equal(answer.headers.get("retry-after"), "1");
      await refused(answer, 503, "overloaded", /knows 1024 workers already/);
      assert.equal((await post("/register", { url: "w5:1" })).status, 200);
    });
  });
});

describe("master: access", () => {
  const key = { Authorization: "Bearer s3cret-of-masters" };
  test("with a key: health is open, the rest needs it", async () => {
    await withMaster(["-auth=s3cret-of-masters"], async ({ call, port }) => {
      const body = '{"url":"a:1"}';
      assert.equal((await call("GET", "/health")).status, 200);
      for (const [method, path] of [
        ["GET", "/nodes"],
        ["GET", "/x"],
        ["POST", "/register"],
        ["POST", "/heartbeat"],
        ["PUT", "/x"],
      ]) {
        const answer = await call(method, path, method === "GET" ? undefined : body);
        assert.ok(answer.headers.get("www-authenticate")?.startsWith("Bearer"));
        await refused(answer, 401, "unauthorized", /./);
      }
      // Who has the clients' key commands, but says nothing in a worker's name.
      assert.equal((await call("POST", "/register", body, key)).status, 401);
      const signer = new RequestSigner(new KeyRing(["s3cret-of-masters"]));
      const worker = new NodeHttp({ url: `http://127.0.0.1:${port}`, signer, connections: 1 });
      const report = await worker.request("POST", "/register", Buffer.from(body), 20_000);
      await worker.close();
      assert.equal(report.status, 200);
      assert.equal((await json(await call("GET", "/nodes", undefined, key))).nodes.length, 1);
    });
  });

  test("-auth-mode writes: reads are public", async () => {
    await withMaster(["-auth=s3cret-of-masters", "-auth-mode=writes"], async ({ call }) => {
      assert.equal((await call("GET", "/nodes")).status, 200);
      assert.equal((await call("POST", "/register", '{"url":"a:1"}')).status, 401);
    });
  });
});

describe("master: start and stop", () => {
  test("a port that is taken is one clear sentence; after stop it is free", async () => {
    let port = 0;
    await withMaster([], async (harness) => {
      port = harness.port;
      await assert.rejects(
        withMaster([`-port=${port}`], async () => {}),
        /cannot listen on 127\.0\.0\.1:\d+/,
      );
    });
    await withMaster([`-port=${port}`], async ({ call }) =>
      assert.equal((await call("GET", "/health")).status, 200),
    );
  });

  test("parseReport keeps only what the registry needs", () => {
    const report = parseReport('{"url":"http://a:1/","region":"eu","load":[1],"pid":7}');
    assert.deepEqual(report, {
      ...{ url: "http://a:1", region: "eu", host: "", store: "", epoch: 0, empty: false, voting: false },
      ...{ rank: 0, progress: null, load: [1] },
    });
  });
});

/** Sends pieces over one connection and answers what comes back until it is quiet or closed. */
function raw(port: number, pieces: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, "127.0.0.1");
    let text = "";
    const finish = (): void => {
      socket.destroy();
      resolve(text);
    };
    let quiet = setTimeout(finish, 30_000);
    socket.on("data", (data) => {
      text += data;
      clearTimeout(quiet);
      quiet = setTimeout(finish, 1000);
    });
    socket.on("close", finish);
    socket.on("error", (error) => (text === "" ? reject(error) : finish()));
    const send = (index: number): void => {
      if (index < pieces.length && !socket.destroyed)
        socket.write(pieces[index], () => setTimeout(send, 10, index + 1));
    };
    send(0);
  });
}
