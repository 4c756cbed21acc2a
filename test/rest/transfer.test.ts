/**
 * `GET /_export` and `PUT /_import`, and `minivault export` and `import`, of the program as it is shipped: every key, byte,
 * type and metadata comes back, GNU tar reads it, what is broken off goes on.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import path from "node:path";
import { after, describe, test } from "node:test";
import { runCommand } from "../cli/terminal.ts";
import { Random, randomSeed } from "../random.ts";
import {
  call,
  closeConnections,
  content,
  contentHash,
  contentStream,
  digest,
  inParallel,
  type Reply,
} from "./client.ts";
import { watchMemory } from "./process-memory.ts";
import {
  removeFolder,
  runProgram,
  type Server,
  startServer,
  temporaryFolder,
  waitUntil,
  withServer,
} from "./server.ts";

const folder = temporaryFolder();
after(() => {
  closeConnections();
  removeFolder(folder);
});

const hasTar = spawnSync("tar", ["--version"]).status === 0;
const kv = (key: string): string => `/_kv/${key.split("/").map(encodeURIComponent).join("/")}`;

interface Value {
  body: Buffer;
  headers: Record<string, string>;
}

const STRANGE = [
  "../up",
  "/etc/passwd",
  "a//b/",
  "%2F",
  "ä/ö?x#y",
  "-dash",
  " ",
  "_stats",
  "health",
  "a\nb",
  "\u0000",
  "x".repeat(1024),
  `${"d/".repeat(300)}e`,
  "a\\b",
  "\ufffd",
];

/** Values of all kinds. */
function values(random: Random): Map<string, Value> {
  const all = new Map<string, Value>();
  for (const key of STRANGE) all.set(key, { body: Buffer.from(key), headers: {} });
  for (let i = 0; i < 200; i++) {
    const isJson = random.below(3) === 0;
    const text = JSON.stringify({ i, big: "x".repeat(random.below(5000)) });
    all.set(`many/${i}`, {
      body: isJson ? Buffer.from(`{"value":${text}}`) : random.bytes(random.below(3000)),
      headers: {
        "Content-Type": isJson
          ? "application/json"
          : ["image/png", "text/plain; charset=utf-8"][random.below(2)],
        ...(random.below(2) === 0 ? { "X-Meta-Number": String(i), "Cache-Control": "max-age=60" } : {}),
        ...(random.below(4) === 0 && !isJson ? { "Content-Encoding": "gzip", "Content-Language": "de" } : {}),
      },
    });
  }
  all.set("empty", { body: Buffer.alloc(0), headers: {} });
  for (const [i, bytes] of [511, 512, 513, 1_048_575, 1_048_576, 1_048_577, 5_000_000].entries())
    all.set(`size/${i}`, { body: content(i, bytes), headers: { "Content-Type": "application/x-test" } });
  const large = JSON.stringify({ text: "y".repeat(2_500_000), number: 12345 });
  all.set("large.json", {
    body: Buffer.from(`{"value":${large}}`),
    headers: { "Content-Type": "application/json" },
  });
  return all;
}

async function store(
  port: number,
  all: Map<string, Value>,
  headers: Record<string, string> = {},
): Promise<void> {
  const entries = [...all];
  await inParallel(entries.length, 16, async (index) => {
    const [key, value] = entries[index];
    const { status, text } = await call(port, "PUT", kv(key), {
      body: value.body,
      headers: { ...value.headers, ...headers },
    });
    assert.equal(status, 201, `${key}: ${text}`);
  });
}

const KEPT = ["content-type", "content-encoding", "content-language", "cache-control", "x-meta-number"];

async function compare(port: number, all: Map<string, Value>): Promise<void> {
  const { count } = (await call(port, "GET", "/?list&count")).json();
  assert.equal(count, all.size);
  const entries = [...all];
  await inParallel(entries.length, 16, async (index) => {
    const [key, { body, headers }] = entries[index];
    const reply = await call(port, "GET", kv(key));
    assert.equal(reply.status, 200, key);
    assert.ok(reply.body.equals(body), key);
    const lower = Object.fromEntries(
      Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]),
    );
    const expected = {
      "content-type": "application/octet-stream",
      "cache-control": "no-cache",
      ...lower,
    } as Record<string, string>;
    for (const name of KEPT) assert.equal(reply.headers[name], expected[name], `${key}: ${name}`);
  });
}

const exported = (server: { port: number }, query = ""): Promise<Reply> =>
  call(server.port, "GET", `/_export${query}`);
const imported = (server: { port: number }, body: Uint8Array, query = ""): Promise<Reply> =>
  call(server.port, "PUT", `/_import${query}`, { body, headers: { "Content-Type": "application/x-tar" } });

// biome-ignore lint/suspicious/noExplicitAny: tests read documents of any form
function lastOf({ text }: Reply): any {
  return JSON.parse(text.trimEnd().split("\n").at(-1) as string);
}

/** Where it took its time lines have told how far it was, and the last one alone says what came of it. */
function assertRefused(reply: Reply, sentence: string): void {
  assert.equal(lastOf(reply).success, false, `${sentence}: ${reply.text}`);
  if (!reply.text.trimEnd().includes("\n")) assert.equal(reply.status, 400, sentence);
}

async function withTwo(body: (from: Server, to: Server) => Promise<void>): Promise<void> {
  await withServer({}, (from) => withServer({}, (to) => body(from, to)));
}

describe("transfer: one node", () => {
  test("every key, byte, type and header comes back in another node", async (t) => {
    const all = values(new Random(randomSeed(t)));
    await withTwo(async (from, to) => {
      await store(from.port, all);
      const archive = await exported(from);
      assert.deepEqual([archive.status, archive.headers["content-type"]], [200, "application/x-tar"]);
      const reply = await imported(to, archive.body);
      assert.equal(reply.status, 200, reply.text);
      assert.deepEqual(lastOf(reply), {
        success: true,
        entries: all.size,
        stored: all.size,
        kept: 0,
        refused: 0,
        complete: true,
      });
      await compare(to.port, all);
      // Once more, in each mode: nothing is lost, and nothing changes that should not.
      for (const [mode, stored] of [
        ["create", 0],
        ["newer", 0],
        ["replace", all.size],
      ] as const) {
        const again = lastOf(await imported(to, archive.body, `?mode=${mode}`));
        assert.deepEqual([again.success, again.stored, again.kept], [true, stored, all.size - stored], mode);
      }
      await compare(to.port, all);
    });
  });

  test("GNU tar lists and unpacks it without a word, outside of nothing", {
    skip: !hasTar && "there is no tar",
  }, async (t) => {
    const all = values(new Random(randomSeed(t)));
    await withServer({}, async (server) => {
      await store(server.port, all);
      const file = path.join(folder, "gnu.tar");
      fs.writeFileSync(file, (await exported(server)).body);
      const listed = spawnSync("tar", ["-tf", file], { encoding: "utf8", maxBuffer: 1e8 });
      assert.deepEqual([listed.status, listed.stderr], [0, ""]);
      assert.equal(listed.stdout.trimEnd().split("\n").length, all.size);
      const into = path.join(folder, "gnu");
      fs.mkdirSync(into);
      // Longer segments than a file system takes are only listed.
      const unpacked = spawnSync("tar", ["-xf", file, "-C", into, "--exclude=xxx*"], { encoding: "utf8" });
      assert.deepEqual([unpacked.status, unpacked.stderr], [0, ""]);
      assert.ok(fs.readFileSync(path.join(into, "%2E%2E/up")).equals(Buffer.from("../up")));
      assert.ok(fs.readFileSync(path.join(into, "size/6")).equals(content(6, 5_000_000)));
      assert.equal(fs.readFileSync(path.join(into, "large.json"), "utf8").at(0), "{");
      assert.ok(!fs.existsSync(path.join(folder, "up")));
    });
  });

  test("an archive that tar has made", { skip: !hasTar && "there is no tar" }, async () => {
    const from = path.join(folder, "made");
    fs.mkdirSync(path.join(from, "photos/deep"), { recursive: true });
    fs.writeFileSync(path.join(from, "photos/1.jpg"), content(1, 3_000_000));
    fs.writeFileSync(path.join(from, "photos/deep/ü"), "umlaut");
    fs.symlinkSync("1.jpg", path.join(from, "photos/link"));
    for (const format of ["gnu", "pax", "ustar"]) {
      const archive = execFileSync("tar", [`--format=${format}`, "-C", from, "-c", "photos"], {
        maxBuffer: 1e8,
      });
      await withServer({}, async (server) => {
        const reply = lastOf(await imported(server, archive));
        assert.deepEqual(
          [reply.success, reply.entries, reply.stored, reply.refused],
          [false, 3, 2, 1],
          format,
        );
        assert.match(reply.refusals[0].error, /a symlink is no value/);
        assert.equal((await call(server.port, "GET", "/photos/deep/%C3%BC")).text, "umlaut");
        assert.ok((await call(server.port, "GET", "/photos/1.jpg")).body.equals(content(1, 3_000_000)));
        const newer = lastOf(await imported(server, archive, "?mode=newer"));
        assert.ok(newer.refusals.some(({ error }: { error: string }) => /no version/.test(error)));
      });
    }
  });

  test("prefix, bounds, and what is wrong with a request", async () => {
    await withServer({}, async (server) => {
      for (const key of ["a/1", "a/2", "b/1", "ä/1"]) await call(server.port, "PUT", kv(key), { body: key });
      const keysOf = async (query: string) => {
        const { status, body } = await exported(server, query);
        assert.equal(status, 200);
        return execFileSync("tar", ["--quoting-style=literal", "-t"], { input: body, encoding: "utf8" })
          .trim()
          .split("\n");
      };
      if (hasTar) {
        assert.deepEqual(await keysOf("?prefix=a/"), ["a/1", "a/2"]);
        assert.deepEqual(await keysOf("?prefix=a/&after=a/1"), ["a/2"]);
        assert.deepEqual(await keysOf("?prefix=%C3%A4"), ["ä/1"]);
        assert.deepEqual(await keysOf("?prefix=none"), [""]);
      }
      for (const query of ["?prefix=a&prefix=b", "?consistency=two", `?prefix=${"x".repeat(1025)}`]) {
        const reply = await exported(server, query);
        assert.deepEqual([reply.status, reply.json().code], [400, "bad_request"], query);
      }
      assert.equal((await call(server.port, "HEAD", "/_export")).status, 405);
      assert.equal((await call(server.port, "POST", "/_export", { body: "" })).status, 405);
      assert.equal((await imported(server, Buffer.alloc(1024), "?mode=all")).status, 400);
      const headers = { "If-None-Match": "*" };
      const conditional = { headers, body: Buffer.alloc(1024) };
      assert.equal((await call(server.port, "PUT", "/_import", conditional)).status, 400);
      assert.equal((await imported(server, Buffer.alloc(1024), "?mode=create&mode=create")).status, 400);
      assert.equal((await call(server.port, "GET", "/_import")).status, 405);
      const zipped = await call(server.port, "PUT", "/_import", {
        body: "x",
        headers: { "Content-Encoding": "gzip" },
      });
      assert.equal(zipped.status, 415);
      assert.equal((await imported(server, Buffer.alloc(1024))).status, 200, "an empty archive");
    });
  });

  test("an archive that is cut or damaged is never a success, wherever; sent again it ends right", async (t) => {
    const random = new Random(randomSeed(t));
    const all = values(random);
    await withTwo(async (from, to) => {
      await store(from.port, all);
      const { body } = await exported(from);
      for (const at of [
        0,
        100,
        512,
        1024,
        body.length - 1,
        body.length - 512,
        body.length - 1024,
        ...Array.from({ length: 12 }, () => random.below(body.length)),
      ]) {
        const reply = await imported(to, body.subarray(0, at));
        assertRefused(reply, `cut at ${at}`);
      }
      const damaged = Buffer.from(body);
      damaged[148] ^= 0x55;
      assert.equal((await imported(to, damaged)).status, 400);
      assert.equal((await imported(to, Buffer.from("no archive at all".repeat(100)))).status, 400);
      assert.equal(lastOf(await imported(to, body, "?mode=newer")).success, true);
      await compare(to.port, all);
    });
  });

  test("zeros that belong to a value are no end of an archive", async () => {
    await withTwo(async (from, to) => {
      for (const key of ["a", "b"]) await call(from.port, "PUT", kv(key), { body: Buffer.alloc(4096) });
      const { body } = await exported(from);
      // The first value ends just where a half of the rest does.
      const cut = body.subarray(0, (body.length - 1024) / 2);
      const reply = await imported(to, cut);
      assertRefused(reply, "cut behind zeros");
      assert.equal(lastOf(reply).stored, 1);
      assert.match(lastOf(reply).error, /has no end/);
      assert.equal(lastOf(await imported(to, body)).success, true);
    });
  });

  test("a file whose holes tar has left out is refused, and not stored as what tar makes of it", {
    skip: !hasTar && "there is no tar",
  }, async () => {
    const file = path.join(folder, "sparse");
    fs.writeFileSync(file, "");
    fs.truncateSync(file, 1_000_000);
    await withServer({}, async (server) => {
      for (const format of ["gnu", "pax"]) {
        const words = ["--sparse", `--format=${format}`, "-C", folder, "-c", "sparse"];
        const reply = lastOf(await imported(server, execFileSync("tar", words, { maxBuffer: 1e8 })));
        assert.deepEqual([reply.stored, reply.refused], [0, 1], format);
      }
    });
  });

  test("a client that leaves in the middle of a large value stores nothing of it", async () => {
    await withTwo(async (from, to) => {
      await call(from.port, "PUT", "/large", { body: content(1, 20_000_000) });
      const { body } = await exported(from);
      const socket = net.connect({ host: "127.0.0.1", port: to.port });
      socket.write(`PUT /_import HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n`);
      await new Promise((resolve) => socket.write(body.subarray(0, 12_000_000), resolve));
      socket.destroy();
      for (;;) {
        const stats = (await call(to.port, "GET", "/_stats")).json();
        if (stats.queues.requestsInFlight <= 1 && stats.requests.put.aborted > 0) break;
      }
      assert.equal((await call(to.port, "GET", "/large")).status, 404);
      assert.equal(lastOf(await imported(to, body)).success, true);
      assert.ok((await call(to.port, "GET", "/large")).body.equals(content(1, 20_000_000)));
    });
  });

  test("a client that stops sending is told so, and nothing of a value that is not whole is stored", async () => {
    await withTwo(async (from, to) => {
      await call(from.port, "PUT", "/a", { body: "small" });
      await call(from.port, "PUT", "/large", { body: content(1, 5_000_000) });
      const { body } = await exported(from);
      const socket = net.connect({ host: "127.0.0.1", port: to.port });
      socket.write(`PUT /_import HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n`);
      socket.write(body.subarray(0, 3_000_000));
      let answer = "";
      socket.on("data", (piece) => {
        answer += piece;
      });
      socket.on("error", () => {});
      await waitUntil("the client is told", () => answer.includes('"success":false'), 120_000);
      socket.destroy();
      assert.match(answer, /"code":"too_slow"/);
      assert.equal((await call(to.port, "GET", "/a")).text, "small");
      assert.equal((await call(to.port, "GET", "/large")).status, 404);
      assert.equal(lastOf(await imported(to, body, "?mode=newer")).success, true);
    });
  });

  test("modes: what is there stays, is replaced, or is replaced if it is older", async () => {
    await withServer({}, async (server) => {
      const put = (key: string, body: string) => call(server.port, "PUT", kv(key), { body });
      await put("old", "1");
      await put("both", "1");
      await put("gone", "1");
      const { body } = await exported(server);
      await put("both", "2");
      await call(server.port, "DELETE", "/gone");
      await put("new", "2");
      const read = async () =>
        Promise.all(
          ["old", "both", "gone", "new"].map(async (key) =>
            (await call(server.port, "GET", kv(key))).text.slice(0, 1),
          ),
        );
      assert.deepEqual(lastOf(await imported(server, body, "?mode=newer")).stored, 1);
      assert.deepEqual(await read(), ["1", "2", "1", "2"]);
      assert.deepEqual(lastOf(await imported(server, body, "?mode=create")).kept, 3);
      assert.deepEqual(await read(), ["1", "2", "1", "2"]);
      assert.deepEqual(lastOf(await imported(server, body, "?mode=replace")).stored, 3);
      assert.deepEqual(await read(), ["1", "1", "1", "2"]);
    });
  });

  test("tokens: an export needs read and list of all of it; an import is judged key by key", async () => {
    const file = path.join(folder, "tokens");
    const made = async (name: string, ...words: string[]) =>
      JSON.parse((await runProgram(["token", name, "-json", ...words])).output) as {
        token: string;
        line: string;
      };
    const all = await made("all", "-prefix", "", "-allow", "read,list,write");
    const reader = await made("reader", "-prefix", "a/", "-allow", "read,list");
    const lister = await made("lister", "-prefix", "", "-allow", "list");
    const writer = await made("writer", "-prefix", "a/", "-allow", "write");
    fs.writeFileSync(file, [all, reader, lister, writer].map(({ line }) => `${line}\n`).join(""), {
      mode: 0o600,
    });
    await withServer({ flags: ["-tokens", file] }, async ({ port }) => {
      const as = ({ token }: { token: string }) => ({ Authorization: `Bearer ${token}` });
      for (const key of ["a/1", "b/1"]) await call(port, "PUT", kv(key), { body: key, headers: as(all) });
      const statusOf = async (query: string, who: { token: string }) =>
        (await call(port, "GET", `/_export${query}`, { headers: as(who) })).status;
      assert.equal((await call(port, "GET", "/_export")).status, 401);
      assert.deepEqual(
        await Promise.all([
          statusOf("", all),
          statusOf("", reader),
          statusOf("?prefix=b/", reader),
          statusOf("?prefix=a/", reader),
          statusOf("", lister),
        ]),
        [200, 403, 403, 200, 403],
      );
      const { body } = await call(port, "GET", "/_export", { headers: as(all) });
      const reply = lastOf(await call(port, "PUT", "/_import?mode=replace", { body, headers: as(writer) }));
      assert.deepEqual(
        [reply.success, reply.stored, reply.refused, reply.refusals[0].code],
        [false, 1, 1, "forbidden"],
      );
      assert.equal((await call(port, "PUT", "/_import", { body })).status, 401);
    });
  });

  test("memory stays flat, whatever the sizes", async () => {
    await withTwo(async (from, to) => {
      const bytes = 300_000_000;
      await call(from.port, "PUT", "/large", { body: contentStream(9, bytes) });
      await inParallel(3000, 32, async (index) => {
        await call(from.port, "PUT", `/small/${index}`, { body: content(index, 10_000) });
      });
      const watches = [from, to].map(({ pid }) => watchMemory(pid));
      const out = http.get({ host: "127.0.0.1", port: from.port, path: "/_export", agent: false });
      const archive = await new Promise<http.IncomingMessage>((resolve) => out.on("response", resolve));
      const reply = await call(to.port, "PUT", "/_import", { body: archive, agent: false });
      const more = watches.map(({ start, stop }) => stop().own - start.own);
      assert.equal(lastOf(reply).success, true, reply.text);
      assert.equal((await digest(to.port, "GET", "/large")).sha256, contentHash(9, bytes));
      for (const bytes of more) assert.ok(bytes < 128 * 1024 * 1024, `${more} bytes more`);
    });
  });
});

describe("transfer: the command line", () => {
  test("an export goes on only with what it has begun itself", async () => {
    await withServer({}, async (server) => {
      for (const key of ["a", "m/1", "m/2", "z"]) await call(server.port, "PUT", kv(key), { body: key });
      const url = ["-url", server.url];
      const file = path.join(folder, "own.tar");
      const saved = async (...words: string[]): Promise<Buffer> => {
        const said = await runCommand(["export", ...words, ...url]);
        assert.equal(said.status, 0, said.err);
        return fs.readFileSync(words[0]);
      };
      const whole = await saved(path.join(folder, "fresh-own.tar"));
      const ofM = await saved(path.join(folder, "m.tar"), "-prefix", "m/");

      // What was broken off was of a longer prefix: what stands before it is missing.
      fs.writeFileSync(`${file}.part`, ofM.subarray(0, -2048));
      assert.ok((await saved(file)).equals(whole));
      fs.writeFileSync(`${file}.part`, whole.subarray(0, -1024));
      assert.match((await runCommand(["export", file, "-prefix", "m/", ...url])).err, /another prefix/);
      assert.ok((await saved(file)).equals(whole));

      // Keys in no order, members of others, no archive at all: they stay as they are.
      const members = [ofM.subarray(0, -1024), whole.subarray(0, -1024)];
      for (const bytes of [Buffer.concat(members), Buffer.from("my own notes".repeat(100))]) {
        fs.writeFileSync(`${file}.part`, bytes);
        const { status, err } = await runCommand(["export", file, ...url]);
        assert.deepEqual([status, /no beginning of an export/.test(err)], [1, true], err);
        assert.ok(fs.readFileSync(`${file}.part`).equals(bytes));
      }
      fs.rmSync(`${file}.part`);

      // Two at once: one of them, or both one after the other.
      const both = await Promise.all([1, 2].map(() => runCommand(["export", file, ...url])));
      assert.ok(both.some(({ status }) => status === 0));
      for (const { status, err } of both) if (status !== 0) assert.match(err, /another command is writing/);
      assert.ok(fs.readFileSync(file).equals(whole));
      assert.ok(!fs.existsSync(`${file}.part`));

      // Of another store: the same keys, and no value that is here. What has been changed since does no harm.
      await withServer({}, async (other) => {
        for (const key of ["a", "m/1"]) await call(other.port, "PUT", kv(key), { body: "another's" });
        const command = ["export", path.join(folder, "other.tar"), "-url", other.url];
        assert.equal((await runCommand(command)).status, 0);
        fs.writeFileSync(`${file}.part`, fs.readFileSync(command[1]).subarray(0, -1024));
        const { status, err } = await runCommand(["export", file, ...url]);
        assert.deepEqual(
          [status, /as if it were of another store: it is made anew/.test(err)],
          [0, true],
          err,
        );
        assert.ok(fs.readFileSync(file).equals(whole));
        fs.writeFileSync(`${file}.part`, whole.subarray(0, -1024));
        await call(server.port, "PUT", kv("a"), { body: "changed since" });
        const { out } = await runCommand(["export", file, "-json", ...url]);
        assert.deepEqual([JSON.parse(out).keys, JSON.parse(out).resumed], [4, true]);
      });
    });
  });

  test("a target that has no room is named", {
    skip: !fs.existsSync("/dev/full") && "there is no /dev/full",
  }, async () => {
    await withServer({}, async ({ port, url }) => {
      await call(port, "PUT", "/k", { body: "v" });
      const { status, err } = await runCommand(["export", "/dev/full", "-url", url]);
      assert.equal(status, 1);
      assert.match(err, /^minivault export: cannot write \/dev\/full: the disk has no room, .*\n$/);
    });
  });

  test("an export that was broken off goes on; an import says what became of it", async () => {
    const server = await startServer();
    const second = await startServer();
    try {
      for (let i = 0; i < 40; i++)
        await call(server.port, "PUT", `/k/${String(i).padStart(2, "0")}`, { body: content(i, 200_000) });
      // A proxy that cuts the answer after so many bytes.
      let left = 3_000_000;
      const proxy = net.createServer((client) => {
        const node = net.connect({ host: "127.0.0.1", port: server.port });
        client.pipe(node);
        node.on("data", (piece) => {
          if (left <= 0) return;
          left -= piece.length;
          // What was sent arrives: a reset would take with it what the other end has not read yet.
          client.write(piece);
          if (left <= 0) client.destroySoon();
        });
        for (const socket of [client, node]) socket.on("error", () => {});
        client.on("close", () => node.destroy());
        node.on("close", () => client.end());
      });
      const port = await new Promise<number>((resolve) =>
        proxy.listen(0, "127.0.0.1", () => resolve((proxy.address() as net.AddressInfo).port)),
      );
      const file = path.join(folder, "resumed.tar");
      const words = ["export", file, "-prefix", "k/", "-json"];
      const cut = await runCommand([...words, "-url", `http://127.0.0.1:${port}`]);
      proxy.close();
      assert.equal(cut.status, 1);
      assert.match(
        cut.err,
        /the export was cut: .*resumed\.tar\.part, and the same command goes on from there\n$/,
      );
      assert.ok(!fs.existsSync(file));
      const other = await runCommand(["export", file, "-prefix", "other/", "-url", server.url]);
      assert.equal(other.status, 1);
      assert.match(other.err, /another prefix/);
      const whole = await runCommand([...words, "-url", server.url]);
      assert.equal(whole.status, 0, whole.err);
      const said = JSON.parse(whole.out);
      assert.deepEqual([said.keys, said.resumed], [40, true]);
      assert.equal(said.bytes, fs.statSync(file).size);
      assert.ok(!fs.existsSync(`${file}.part`));
      const fresh = await runCommand([
        "export",
        path.join(folder, "fresh.tar"),
        "-prefix",
        "k/",
        "-url",
        server.url,
      ]);
      assert.match(fresh.out, /^saved 40 keys, 7\.\d MiB, in /);
      assert.ok(fs.readFileSync(file).equals(fs.readFileSync(path.join(folder, "fresh.tar"))));

      const stored = await runCommand(["import", file, "-url", second.url]);
      assert.deepEqual([stored.status, stored.out], [0, "stored 40 keys, kept 0 as they were, refused 0\n"]);
      const again = await runCommand(["import", file, "-url", second.url, "-mode", "newer", "-json"]);
      assert.deepEqual([again.status, JSON.parse(again.out).kept], [0, 40]);
      const piped: Buffer[] = [];
      assert.equal((await runCommand(["export", "-", "-url", second.url], { pieces: piped })).status, 0);
      const stdin = Buffer.concat(piped);
      assert.equal(
        (await runCommand(["import", "-", "-mode", "replace", "-url", server.url], { stdin })).status,
        0,
      );
      for (const words of [["import", file, "-mode", "all"], ["export"], ["import"]])
        assert.equal((await runCommand([...words, "-url", server.url])).status, 2);
      const missing = await runCommand(["import", path.join(folder, "none.tar"), "-url", server.url]);
      assert.equal(missing.status, 1);
      const half = fs.readFileSync(file).subarray(0, 2_000_000);
      const refused = await runCommand(["import", "-", "-url", second.url], { stdin: half });
      assert.equal(refused.status, 1);
      assert.match(refused.err, /minivault import: the archive has no end/);
    } finally {
      await server.dispose();
      await second.dispose();
    }
  });
});
