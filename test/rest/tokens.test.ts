/**
 * Tokens of the program as it is shipped: made by its own command, read again when the file changes, with one
 * front and with two, over TLS; the audit file; what the start says.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import { after, describe, test } from "node:test";
import { ArchiveWriter, END_BYTES } from "../../src/archive/tar-writer.ts";
import { call, closeConnections } from "./client.ts";
import { removeFolder, runProgram, type Server, startServer, temporaryFolder, waitUntil } from "./server.ts";

const folder = temporaryFolder();
after(() => {
  closeConnections();
  removeFolder(folder);
});

const bearer = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } });

async function makeToken(...words: string[]): Promise<{ token: string; line: string; accessKey?: string }> {
  const { status, output } = await runProgram(["token", ...words, "-json"]);
  assert.equal(status, 0, output);
  return JSON.parse(output);
}

async function withTokens(
  name: string,
  flags: string[],
  lines: string[],
  body: (server: Server, file: string) => Promise<void>,
): Promise<void> {
  const file = path.join(folder, name);
  fs.writeFileSync(file, lines.map((line) => `${line}\n`).join(""), { mode: 0o600 });
  const server = await startServer({ flags: ["-tokens", file, ...flags] });
  try {
    await body(server, file);
  } finally {
    await server.dispose();
  }
}

/** An archive of one value. */
async function archiveOf(key: string): Promise<Buffer> {
  const archive = new ArchiveWriter();
  const pieces: Uint8Array[] = [];
  const read = (async () => {
    for await (const piece of archive.pieces()) pieces.push(piece);
  })();
  const bytes = Buffer.from("x");
  await archive.put({ name: key, size: bytes.length, mtime: new Date(0), mode: 0o600, pax: {} }, bytes);
  archive.end();
  await read;
  return Buffer.concat(pieces);
}

const statusOf = async (server: Server, target: string, token: string): Promise<number> =>
  (await call(server.port, "GET", target, { ...bearer(token), agent: false })).status;

describe("minivault token", () => {
  test("makes a token of 256 random bits, whose hash is in the line; adds the line to a file of its own user", async () => {
    const made = await makeToken("app", "-prefix", "a/,b/", "-prefix=c", "--allow", "read,list");
    assert.match(made.token, /^mv1\.[\w-]{11}\.[\w-]{43}$/);
    const { name, sha256, prefix, allow, ...rest } = JSON.parse(made.line);
    assert.deepEqual([name, prefix, allow, rest], ["app", ["a/", "b/", "c"], ["read", "list"], {}]);
    assert.match(sha256, /^[0-9a-f]{64}$/);
    assert.ok(!made.line.includes(made.token.split(".")[2]));

    const file = path.join(folder, "made");
    for (const round of [1, 2]) {
      const { status, output } = await runProgram([
        "token",
        `n${round}`,
        "-allow",
        "metrics",
        "-tokens",
        file,
      ]);
      assert.equal(status, 0);
      assert.match(output, /^mv1\.[\w-]{11}\.[\w-]{43}\n$/);
    }
    assert.equal(fs.statSync(file).mode & 0o777, 0o600);
    const names = fs
      .readFileSync(file, "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line).name);
    assert.deepEqual(names, ["n1", "n2"]);

    // A line that nodes would not take there is not added.
    fs.chmodSync(file, 0o640);
    const before = fs.readFileSync(file, "utf8");
    const s3 = await runProgram(["token", "n3", "-prefix", "", "-allow", "read", "-s3", "-tokens", file]);
    assert.deepEqual([s3.status, /chmod 600/.test(s3.output)], [2, true], s3.output);
    assert.equal(fs.readFileSync(file, "utf8"), before);
  });

  test("for S3 the line holds the secret, and the answer both keys", async () => {
    const made = await makeToken("s", "-prefix", "bucket/", "-allow", "read", "-s3");
    const { accessKey, secretKey } = JSON.parse(made.line);
    assert.deepEqual({ ...made, token: "", line: "" }, { token: "", line: "", accessKey, secretKey });
    assert.match(accessKey, /^[A-Z0-9]{20}$/);
    assert.match(secretKey, /^[\w-]{40}$/);
  });

  for (const [words, sentence] of [
    [["token"], /use it as minivault token NAME/],
    [["token", "n"], /-allow says what the token may do/],
    [["token", "n", "-allow", "read"], /-prefix says which keys/],
    [["token", "n", "-allow", "fly", "-prefix", ""], /"fly" is none of read, list/],
    [["token", "n", "-allow", "metrics", "-requests-per-second", "many"], /"requestsPerSecond" is a number/],
    [["token", "n", "-allow", "metrics", "-requests-per-second", "1.2.3"], /"requestsPerSecond" is a number/],
    [["token", "n", "-allow", "metrics", "-expires", "soon"], /"expires" is in seconds/],
    [["token", "n", "-allow"], /-allow needs a value/],
    [["token", "n", "-allowed", "read"], /unknown flag "-allowed"/],
  ] as const)
    test(`used wrongly: ${words.join(" ")}`, async () => {
      const { status, output } = await runProgram([...words]);
      assert.equal(status, 2);
      assert.match(output, sentence);
    });
});

describe("tokens of a running node", () => {
  for (const fronts of ["1", "2"])
    test(`a change of the file is in force by itself, a bad file changes nothing and is named; ${fronts} front(s)`, async () => {
      const first = await makeToken("first", "-prefix", "a/", "-allow", "read,write");
      const second = await makeToken("second", "-prefix", "", "-allow", "read");
      await withTokens(`change-${fronts}`, ["-fronts", fronts], [first.line], async (server, file) => {
        const all = async (target: string, token: string, status: number): Promise<boolean> => {
          for (let round = 0; round < 8; round++)
            if ((await statusOf(server, target, token)) !== status) return false;
          return true;
        };
        const put = (token: string) => call(server.port, "PUT", "/a/1", { ...bearer(token), body: "x" });
        assert.equal((await put(first.token)).status, 201);
        assert.equal((await put(second.token)).status, 401);
        assert.ok(await all("/a/1", first.token, 200));
        assert.ok(await all("/b/1", first.token, 403));

        // Written over, in place.
        fs.writeFileSync(file, `${first.line}\n${second.line}\n`);
        await waitUntil("the second token is known to all", () => all("/b/1", second.token, 404));
        assert.equal((await put(second.token)).status, 403);
        assert.ok(await all("/a/1", first.token, 200));

        fs.writeFileSync(file, `${second.line}\n{"name":"geheim",`);
        await waitUntil("the bad file is named", () =>
          /has changed, but -tokens: .*line 2: it is no JSON/.test(server.log()),
        );
        const health = async () => (await call(server.port, "GET", "/health", { agent: false })).json();
        await waitUntil("/health says so", async () => {
          const { status, reason } = await health();
          return status === "degraded" && /tokens, keys or certificates/.test(reason);
        });
        assert.ok(await all("/a/1", first.token, 200));

        // Another file renamed to its place.
        fs.writeFileSync(`${file}.new`, `${second.line}\n`, { mode: 0o600 });
        fs.renameSync(`${file}.new`, file);
        await waitUntil("the first token is forgotten", () => all("/a/1", first.token, 401));
        assert.ok(await all("/a/1", second.token, 200));
        assert.equal((await health()).status, "healthy");

        fs.chmodSync(file, 0o644);
        await waitUntil("a file that all can read is named", () =>
          /other users of this machine may read/.test(server.log()),
        );
        fs.rmSync(file);
        await waitUntil("a file that is gone is named", () => /it is not there/.test(server.log()));
        fs.mkdirSync(file);
        await waitUntil("a folder in its place is named", () =>
          /is a directory, not a file/.test(server.log()),
        );
        assert.ok(await all("/a/1", second.token, 200));

        // By a link to another file, as Kubernetes changes its secrets.
        fs.rmdirSync(file);
        fs.writeFileSync(`${file}.none`, "", { mode: 0o600 });
        fs.symlinkSync(`${file}.none`, file);
        await waitUntil("nobody gets in", () => all("/a/1", second.token, 401));
        fs.writeFileSync(file, `${first.line}\n`);
        process.kill(server.pid, "SIGHUP");
        await waitUntil("SIGHUP reads it at the latest", () => all("/a/1", first.token, 200));
        assert.doesNotMatch(server.log(), /geheim/);
        assert.ok(!server.log().includes(first.token) && !server.log().includes(second.token));
      });
    });

  test("the key is the nodes' alone then; nothing between nodes opens to a token; the start says who gets in", async () => {
    const all = "read,list,write,delete,watch,metrics,admin";
    const operator = await makeToken("operator", "-prefix", "", "-allow", all);
    await withTokens("nodes", ["-auth", "the-nodes-key-alone"], [operator.line], async (server) => {
      assert.equal(await statusOf(server, "/a", "the-nodes-key-alone"), 401);
      assert.equal(await statusOf(server, "/a", operator.token), 404);
      for (const target of ["/_peer/ping", "/_peer/layout", "/_peer/hello"])
        assert.equal(await statusOf(server, target, operator.token), 401, target);
    });
    // Without a nodes' key the routes between nodes are closed, not open.
    await withTokens("alone", [], [operator.line], async (server) => {
      for (const target of ["/_peer/ping", "/_peer/layout"]) {
        assert.equal(await statusOf(server, target, operator.token), 401, target);
        assert.equal((await call(server.port, "GET", target)).status, 401, target);
      }
      assert.equal((await call(server.port, "POST", "/_peer/layout", { body: "{}" })).status, 401);
    });
  });

  test("a master: operators alone; a client's token, and the workers' key as Bearer, open nothing", async () => {
    const operator = await makeToken("operator", "-allow", "admin");
    const client = await makeToken("client", "-prefix", "", "-allow", "read,list,write,delete,watch,metrics");
    const flags = ["-mode", "master", "-auth", "the-workers-key-alone"];
    await withTokens("master", flags, [operator.line, client.line], async (server) => {
      assert.equal(await statusOf(server, "/nodes", operator.token), 200);
      for (const token of [client.token, "the-workers-key-alone", "none"])
        for (const target of ["/nodes", "/layout"]) assert.equal(await statusOf(server, target, token), 401);
      const drain = { ...bearer(client.token), body: '{"drain":"http://a:1"}' };
      assert.equal((await call(server.port, "POST", "/layout", drain)).status, 401);
      const nodes = await runProgram(["nodes", "-master", server.url], {
        env: { MINIVAULT_TOKEN: operator.token },
      });
      assert.equal(nodes.status, 0, nodes.output);
      const refused = await runProgram(["nodes", "-master", server.url, "-token", client.token]);
      assert.match(refused.output, /wants the cluster's key .* that allows admin/);
    });
  });

  test("-audit: a line for each write and refusal, with whose token it was; SIGHUP opens the file anew", async () => {
    const writer = await makeToken("writer", "-prefix", "", "-allow", "write,delete");
    const audit = path.join(folder, "audit.log");
    const lines = (file: string) =>
      fs
        .readFileSync(file, "utf8")
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => JSON.parse(line));
    await withTokens("audit", ["-audit", audit], [writer.line], async (server) => {
      await call(server.port, "PUT", "/a/%C3%BC", { ...bearer(writer.token), body: "x" });
      await call(server.port, "GET", "/a/1", bearer(writer.token));
      await call(server.port, "DELETE", "/a/1");
      await waitUntil("three lines are there", () => lines(audit).length === 3);
      assert.deepEqual(
        lines(audit).map(({ token, method, path: target, status }) => [token, method, target, status]),
        [
          ["writer", "PUT", "/a/%C3%BC", 201],
          ["writer", "GET", "/a/1", 403],
          [null, "DELETE", "/a/1", 401],
        ],
      );
      assert.equal(fs.statSync(audit).mode & 0o777, 0o600);
      for (const { time } of lines(audit)) assert.ok(!Number.isNaN(Date.parse(time)));
      fs.renameSync(audit, `${audit}.1`);
      process.kill(server.pid, "SIGHUP");
      await waitUntil("the file is there again", () => fs.existsSync(audit));
      await call(server.port, "DELETE", "/a/1", bearer(writer.token));
      await waitUntil("the fourth line is in the new one", () => lines(audit).length === 1);
      assert.equal(lines(`${audit}.1`).length, 3);
      assert.ok(!fs.readFileSync(`${audit}.1`, "utf8").includes(writer.token));
    });
  });

  test("lists, counts, streams, deletes of a prefix and batches are held to what the token covers", async () => {
    const all = await makeToken("all", "-prefix", "", "-allow", "read,list,write,delete");
    const some = await makeToken("some", "-prefix", "a/,c/x", "-allow", "list,delete,read,write");
    const lister = await makeToken("lister", "-prefix", "a/", "-allow", "list");
    const audit = path.join(folder, "audit-lists.log");
    const lines = [all.line, some.line, lister.line];
    await withTokens("lists", ["-audit", audit], lines, async (server) => {
      const ask = (method: string, target: string, token: string, body?: string) =>
        call(server.port, method, target, { ...bearer(token), ...(body === undefined ? {} : { body }) });
      const keys = ["a/1", "a/2", "b/1", "c/w", "c/x", "c/xy", "c/y", "d"];
      for (const key of keys) assert.equal((await ask("PUT", `/${key}`, all.token, `of ${key}`)).status, 201);
      const listed = async (target: string, token: string): Promise<string[]> => {
        const { keys: found, prefixes } = (await ask("GET", target, token)).json();
        return [...found.map(({ key }: { key: string }) => key), ...prefixes];
      };
      await waitUntil(
        "all are listed",
        async () => (await listed("/?list", all.token)).length === keys.length,
      );
      const own = ["a/1", "a/2", "c/x", "c/xy"];
      assert.deepEqual(await listed("/?list", some.token), own);
      assert.deepEqual(await listed("/_kv/?list&reverse", some.token), [...own].reverse());
      assert.deepEqual(await listed("/c/?list", some.token), ["c/x", "c/xy"]);
      assert.deepEqual(await listed("/?list&start=b", some.token), ["c/x", "c/xy"]);
      assert.deepEqual(await listed("/?list&delimiter=%2F", some.token), ["a/", "c/"]);
      assert.deepEqual(await listed("/?list", lister.token), ["a/1", "a/2"]);
      assert.equal((await ask("GET", "/?list&count", some.token)).json().count, own.length);
      const stream = await call(server.port, "GET", "/?list", {
        headers: { ...bearer(some.token).headers, Accept: "application/x-ndjson" },
      });
      assert.ok(!/"(?:b\/|d|c\/w|c\/y)/.test(stream.text), stream.text);
      for (const [method, target, token] of [
        ["GET", "/b/?list", some.token],
        ["GET", "/?list&values", lister.token],
        ["GET", "/a/1", lister.token],
        ["GET", "/a/1??list", lister.token],
        ["POST", "/_delete?prefix=c/", some.token],
        ["POST", "/_delete?all=1", some.token],
        ["POST", "/_delete??prefix=a/&all=1", some.token],
        ["POST", "/_delete?prefix=a/", lister.token],
      ] as const)
        assert.equal(
          (await ask(method, target, token, method === "POST" ? "" : undefined)).status,
          403,
          target,
        );
      const operations = ["a/1", "b/1"].map((key) => ({ op: "get", key }));
      const batch = await call(server.port, "POST", "/_batch", {
        headers: { ...bearer(some.token).headers, "Content-Type": "application/json" },
        body: JSON.stringify({ operations }),
      });
      assert.ok(batch.text.includes("forbidden") && !batch.text.includes("of b/1"), batch.text);
      // A change in place tells what became of the value: who may not read cannot, in a batch neither.
      const changes = await call(server.port, "POST", "/_batch", {
        headers: { ...bearer(lister.token).headers, "Content-Type": "application/json" },
        body: JSON.stringify({ operations: [{ op: "patch", key: "a/1", value: { append: "x" } }] }),
      });
      assert.equal(changes.json().results[0].code, "forbidden");
      assert.equal((await ask("POST", "/_delete?prefix=a/", some.token, "")).status, 200);
      assert.deepEqual(await listed("/?list", all.token), keys.slice(2));
      await waitUntil("the audit has it", () =>
        fs
          .readFileSync(audit, "utf8")
          .includes(
            '"token":"some","client":"127.0.0.1","method":"POST","path":"/_delete?prefix=a/","status":200',
          ),
      );
    });
  });

  test("what takes its time stops when its token is taken away", async () => {
    const writer = await makeToken("writer", "-prefix", "", "-allow", "write");
    const reader = await makeToken("reader", "-prefix", "", "-allow", "read,list");
    await withTokens("revoked", [], [writer.line, reader.line], async (server, file) => {
      const [first, second] = await Promise.all(["a/1", "a/2"].map(archiveOf));
      const request = http.request({
        ...{ host: "127.0.0.1", port: server.port, agent: false, method: "PUT", path: "/_import" },
        headers: {
          ...bearer(writer.token).headers,
          "Content-Length": first.length - END_BYTES + second.length,
        },
      });
      const answered = new Promise<http.IncomingMessage>((resolve) => request.once("response", resolve));
      request.write(first.subarray(0, -END_BYTES));
      const has = async (key: string) => (await statusOf(server, key, reader.token)) === 200;
      await waitUntil("the first value is there", () => has("/a/1"));
      fs.writeFileSync(file, `${reader.line}\n`);
      await waitUntil(
        "the token is gone",
        async () => (await statusOf(server, "/a/1", writer.token)) === 401,
      );
      request.end(second);
      const text = Buffer.concat(await (await answered).toArray()).toString();
      assert.match(
        text,
        /"success":false.*the token is not what it was any more.*"code":"unauthorized"\}\n$/,
      );
      assert.ok(await has("/a/1"));
    });
  });

  test("a start with a file that cannot be used is refused, whoever is asked", async () => {
    const bad = path.join(folder, "bad");
    fs.writeFileSync(bad, "{", { mode: 0o600 });
    const { status, output } = await runProgram(["-tokens", bad]);
    assert.deepEqual([status, /-tokens: .*line 1: it is no JSON/.test(output)], [2, true], output);
  });
});
