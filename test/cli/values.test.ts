/** `minivault get`, `put`, `create` and `rm` against a real node. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import http from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { freePort } from "../../native-bench/processes.ts";
import { call, content } from "../rest/client.ts";
import {
  builtProgram,
  cleanEnvironment,
  removeFolder,
  runProgram,
  type Server,
  startServer,
  temporaryFolder,
} from "../rest/server.ts";
import { type RunOptions, runCommand } from "./terminal.ts";

describe("values: a node", () => {
  let server: Server;
  let folder: string;
  before(async () => {
    server = await startServer();
    folder = temporaryFolder();
  });
  after(async () => {
    await server.dispose();
    removeFolder(folder);
  });
  const run = (words: string[], options: RunOptions = {}) =>
    runCommand(words, {
      ...options,
      env: { MINIVAULT_URL: `http://127.0.0.1:${server.port}`, ...options.env },
    });
  const bytesOf = async (words: string[]): Promise<Buffer> => {
    const pieces: Buffer[] = [];
    assert.equal((await run(words, { pieces })).status, 0);
    return Buffer.concat(pieces);
  };
  const fileOf = (name: string, bytes: Uint8Array | string): string => {
    const file = path.join(folder, name);
    writeFileSync(file, bytes);
    return file;
  };

  test("keys: what a terminal would take for commands is written out; bytes that are no UTF-8 are refused", async () => {
    const key = "odd/\u001b[2J\n/../k";
    assert.match(
      (await run(["put", key, "-value", "1"])).out,
      /^created odd\/\\x1b\[2J\\x0a\/\.\.\/k [0-9a-f]{32}\n$/,
    );
    assert.equal((await run(["get", key])).out, "1\n");
    assert.equal((await run(["rm", key])).out, "deleted odd/\\x1b[2J\\x0a/../k\n");
    assert.equal((await run(["rm", key])).err, "there is no key odd/\\x1b[2J\\x0a/../k\n");
    assert.equal((await run(["put", "odd/\ufffd", "-value", "1"])).status, 0);
    if (process.platform !== "linux") return;
    const words = [process.execPath, await builtProgram()];
    const put = (text: string) =>
      spawnSync("sh", ["-c", `exec "$@" put "$(printf '${text}')" -value 1`, "sh", ...words], {
        env: { ...process.env, MINIVAULT_URL: `http://127.0.0.1:${server.port}` },
        encoding: "utf8",
      });
    const refused = put("odd/\\377");
    assert.deepEqual([refused.status, /is not UTF-8/.test(refused.stderr)], [2, true], refused.stderr);
    // The character that stands for such bytes is one like any other.
    assert.match(put("odd/\\357\\277\\275").stdout, /^replaced odd\/\ufffd /);
  });

  test("values: JSON in, its own text out", async () => {
    const text = '{"b":1e400, "a":[12345678901234567890, "ä"]}';
    const put = await run(["put", "json", "-value", text]);
    assert.equal(put.status, 0, put.err);
    assert.match(put.out, /^created json [0-9a-f]{32}\n$/);
    assert.match((await run(["put", "json", "-value", text])).out, /^replaced json /);
    assert.deepEqual(await run(["get", "json"]), { status: 0, out: `${text}\n`, err: "" });
    const { out } = await run(["get", "json", "-json"]);
    assert.match(out, /^\{"key":"json","etag":"[0-9a-f]{32}","type":"application\/json","value":/);
    assert.ok(out.includes(text));
    const reply = await call(server.port, "GET", "/json");
    assert.equal(reply.text, `{"value":${text}}`);
  });

  test("values: an end of life", async () => {
    const left = async () => Number((await call(server.port, "HEAD", "/ending")).headers["x-ttl"] ?? 0);
    assert.equal((await run(["create", "ending", "-value", "1", "-ttl", "1h"])).status, 0);
    assert.ok((await left()) > 3000);
    assert.equal((await run(["put", "ending", "-value", "2", "-ttl", "keep"])).status, 0);
    assert.ok((await left()) > 3000);
    assert.equal((await run(["put", "ending", "-value", "3"])).status, 0);
    assert.equal(await left(), 0);
    for (const words of [
      ["put", "-ttl", "soon"],
      ["create", "-ttl", "keep"],
      ["put", "-ttl", "none"],
    ]) {
      const { status, err } = await run([words[0], "ending", "-value", "4", ...words.slice(1)]);
      assert.equal(status, 2);
      assert.match(err, /-ttl: ttl/);
    }
  });

  test("values: files of any bytes, by name and by standard input", async () => {
    for (const bytes of [0, 1, 100_000, 3_000_000, 20_000_000]) {
      const body = content(bytes, bytes);
      const file = fileOf(`body-${bytes}`, body);
      const put = await run(["put", "file", file, "-type", "image/png"]);
      assert.equal(put.status, 0, put.err);
      assert.ok((await bytesOf(["get", "file"])).equals(body));
      const saved = path.join(folder, `saved-${bytes}`);
      assert.deepEqual(await run(["get", "file", "-o", saved]).then(({ status, out }) => [status, out]), [
        0,
        "",
      ]);
      assert.ok(readFileSync(saved).equals(body));
      assert.equal((await call(server.port, "HEAD", "/file")).headers["content-type"], "image/png");
      assert.equal((await run(["put", "piped", "-"], { stdin: body })).status, 0);
      assert.ok((await bytesOf(["get", "piped", "-o", "-"])).equals(body));
    }
    await run(["put", "piped", "-"], { stdin: content(7, 1000) });
    const { base64 } = JSON.parse((await run(["get", "piped", "-json"])).out);
    assert.ok(Buffer.from(base64, "base64").equals(content(7, 1000)));
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.startsWith(".")),
      [],
    );
  });

  test("values: a file that is a JSON value", async () => {
    const file = fileOf("config.json", '{"limit": 5}\n');
    assert.equal((await run(["put", "config", file, "-type", "application/json"])).status, 0);
    assert.equal((await run(["get", "config"])).out, '{"limit": 5}\n');
    const bad = await run(["put", "config", fileOf("bad.json", "{"), "-type", "application/json"]);
    assert.equal(bad.status, 1);
    assert.match(bad.err, /^minivault put: [^\n]+\n$/);
    assert.equal(
      (await run(["put", "config", "-", "-type", "application/json"], { stdin: Buffer.from("[1]") })).status,
      0,
    );
    assert.equal((await run(["get", "config"])).out, "[1]\n");
  });

  test("values: created once; conditions; deleted once", async () => {
    const first = await run(["create", "once", "-value", "1"]);
    assert.deepEqual([first.status, (await run(["create", "once", "-value", "2"])).status], [0, 1]);
    const etag = first.out.split(" ")[2].trim();
    const changed = await run(["put", "once", "-value", "3", "-if-match", etag, "-json"]);
    assert.equal(changed.status, 0, changed.err);
    assert.deepEqual(Object.keys(JSON.parse(changed.out)), ["key", "created", "etag"]);
    for (const words of [
      ["put", "once", "-value", "4"],
      ["rm", "once"],
    ])
      assert.equal((await run([...words, "-if-match", etag])).status, 1);
    assert.equal((await run(["get", "once"])).out, "3\n");
    assert.deepEqual(await run(["rm", "once"]).then(({ status, out }) => [status, out]), [
      0,
      "deleted once\n",
    ]);
    const again = await run(["rm", "once"]);
    assert.deepEqual([again.status, again.err], [1, "there is no key once\n"]);
    const gone = await run(["get", "once"]);
    assert.deepEqual([gone.status, gone.out], [1, ""]);
    assert.match(gone.err, /^minivault get: [^\n]+\n$/);
  });

  test("values: keys that a URL would change", async () => {
    for (const key of ["../up", "a//b/", "%2F", "ä/ö?x#y", "-dash", " ", "_stats", "health", "\u0000"]) {
      assert.equal((await run(["put", "-value", JSON.stringify(key), "--", key])).status, 0, key);
      assert.equal((await run(["get", "--", key])).out, `${JSON.stringify(key)}\n`);
      assert.equal((await run(["rm", "--", key])).status, 0);
    }
    assert.equal((await run(["get", "\ud800"])).status, 2);
  });

  test("values: used wrongly is exit status 2 and one line, with what was probably meant", async () => {
    const wrong: [string[], RegExp][] = [
      [["put", "k"], /-value/],
      [["put", "k", "f", "-value", "1"], /one of them/],
      [["put", "k", "-value", "hello"], /is no JSON/],
      [["put", "k", "-valeu", "1"], /did you mean -value\?/],
      [["get"], /use it as minivault get KEY/],
      [["get", "k", "-o"], /-o needs a value/],
      // A flag where a value should be is a forgotten value: rm -r KEY -token -dry-run would delete.
      [["get", "k", "-o", "-json"], /-o needs a value/],
      [["rm", "-r", "k", "-token", "--dry-run"], /-token needs a value/],
      [["get", "k", "-json=maybe"], /-json takes no value but true or false/],
      [["get", "k", "-toString"], /unknown flag/],
      [["get", "k", "-token", ""], /-token: it is empty/],
      [["get", "k", "-token", "two words"], /one word/],
      [["get", "k", "-url", "ftp://x"], /-url: /],
      // Of more than a node would read the connection is closed, as if it were not there.
      ...["get LONG", "ls LONG", "watch LONG", "rm -r LONG", "incr LONG", "lock LONG -- true"].map(
        (text): [string[], RegExp] => [
          text.replace("LONG", "ä".repeat(32_768)).split(" "),
          /has at most 1024 bytes/,
        ],
      ),
    ];
    for (const [words, pattern] of wrong) {
      const said = await run(words);
      assert.deepEqual([said.status, said.out], [2, ""], words.join(" "));
      assert.match(said.err, pattern);
      assert.match(said.err, /^[^\n]+\n$/);
    }
    const missing = await run(["put", "k", path.join(folder, "none")]);
    assert.equal(missing.status, 1);
    assert.match(missing.err, /it is not there/);
    assert.equal((await run(["get", "k"])).status, 1, "nothing was stored");
  });

  test("values: a value that cannot be saved leaves no file behind", async () => {
    await run(["put", "k", "-value", "1"]);
    const target = path.join(folder, "none", "file");
    const said = await run(["get", "k", "-o", target]);
    assert.equal(said.status, 1);
    assert.ok(!existsSync(target));
  });

  test("values: a link stays a link, a file keeps its mode, and nothing takes the place of a device", async () => {
    await run(["put", "k", "-value", "1"]);
    const file = fileOf("secret", "old");
    chmodSync(file, 0o600);
    const link = path.join(folder, "link");
    symlinkSync("secret", link);
    assert.equal((await run(["get", "k", "-json=true", "-o", link])).status, 0);
    assert.deepEqual([readFileSync(file, "utf8"), statSync(file).mode & 0o777], ["1", 0o600]);
    assert.ok(lstatSync(link).isSymbolicLink());
    // What a link names may not be there yet, and a name may be as long as names can be.
    const early = path.join(folder, "early");
    symlinkSync("x".repeat(255), early);
    assert.equal((await run(["get", "k", "-o", early])).status, 0);
    assert.ok(lstatSync(early).isSymbolicLink());
    assert.equal(readFileSync(path.join(folder, "x".repeat(255)), "utf8"), "1");
    const device = path.join(folder, "device");
    symlinkSync("/dev/null", device);
    for (const command of [["get", "k", "-o"], ["export"]])
      assert.equal((await run([...command, device])).status, 0);
    assert.ok(lstatSync(device).isSymbolicLink() && statSync(device).isCharacterDevice());
    for (const command of [["get", "k", "-o"], ["export"]])
      assert.match((await run([...command, folder])).err, /is a directory: name a file/);
    assert.deepEqual(
      readdirSync(folder).filter((name) => /^\.|part$/.test(name)),
      [],
    );
  });

  test("values: a file of the system that says it is empty", async () => {
    const own = "/proc/self/status";
    if (!existsSync(own)) return;
    assert.equal((await run(["put", "proc", own])).status, 0);
    assert.match((await run(["get", "proc"])).out, /^Name:/);
  });

  test("values: the built program, with its own standard input and output", async () => {
    const env = { MINIVAULT_URL: `http://127.0.0.1:${server.port}` };
    const put = await runProgram(["put", "built", "-value", '"x"'], { env });
    assert.deepEqual([put.status, put.output.split(" ")[0]], [0, "created"]);
    const get = await runProgram(["get", "built"], { env });
    assert.deepEqual([get.status, get.output], [0, '"x"\n']);
    // A reader that has seen enough: of a list that is all right, a value or an archive was cut.
    const program = await builtProgram();
    for (const [words, expected] of [
      [["ls"], 0],
      [["get", "built"], 1],
      [["export", "-"], 1],
    ] as const) {
      const child = spawn(process.execPath, [program, ...words], { env: cleanEnvironment(env) });
      child.stdout.destroy();
      const status = await new Promise((resolve) => child.once("exit", resolve));
      assert.equal(status, expected, words.join(" "));
    }
  });
});

test("values: the next node is asked when one is not there, also with a body", async () => {
  const server = await startServer();
  try {
    const url = `http://127.0.0.1:${await freePort()},http://127.0.0.1:${server.port}`;
    assert.equal((await runCommand(["put", "k", "-", "-url", url], { stdin: Buffer.from("x") })).status, 0);
    assert.equal((await runCommand(["get", "k", "-url", url])).out, "x");
  } finally {
    await server.dispose();
  }
  const nobody = await runCommand(["get", "k", "-url", `http://127.0.0.1:${await freePort()}`]);
  assert.equal(nobody.status, 1);
  assert.match(nobody.err, /cannot be reached: .*-url names another node\n$/);
});

test("values: a token, from its flag, its file and the environment", async () => {
  const key = "0123456789abcdef0123456789abcdef";
  const server = await startServer({ env: { MINIVAULT_AUTH: key } });
  const folder = temporaryFolder();
  try {
    const url = ["-url", `http://127.0.0.1:${server.port}`];
    const file = path.join(folder, "token");
    writeFileSync(file, `${key}\n`);
    assert.equal((await runCommand(["put", "k", "-value", "1", ...url, "-token", key])).status, 0);
    assert.equal((await runCommand(["get", "k", ...url, "-token-file", file])).out, "1\n");
    assert.equal((await runCommand(["get", "k", ...url], { env: { MINIVAULT_TOKEN: key } })).out, "1\n");
    // The flag wins, also over the variable of another way to say it.
    for (const words of [
      ["-token-file", file],
      ["-auth", key],
      ["-auth-file", file],
    ]) {
      const env = {
        MINIVAULT_TOKEN: "another",
        ...(words[0] === "-auth-file" ? { MINIVAULT_AUTH: "another-key-of-16" } : {}),
      };
      if (words[0] === "-auth-file") chmodSync(file, 0o600);
      assert.equal((await runCommand(["get", "k", ...url, ...words], { env })).out, "1\n", words[0]);
    }
    const endless = await runCommand(["get", "k", ...url, "-token-file", "/dev/zero"]);
    assert.deepEqual([endless.status, endless.out], [2, ""]);
    assert.match(endless.err, /\/dev\/zero: it is a device, and not a file/);
    const without = await runCommand(["get", "k", ...url]);
    assert.deepEqual([without.status, without.out], [1, ""]);
    assert.match(without.err, /wants a token/);
    assert.match((await runCommand(["get", "k", ...url, "-token", "wrong"])).err, /does not know this token/);
  } finally {
    await server.dispose();
    removeFolder(folder);
  }
});

test("values: an answer that is cut, and a file that shrinks on its way, are failures", async (t) => {
  const cutting = http.createServer((request, response) => {
    request.resume();
    response.writeHead(200, { "content-type": "image/png", "content-length": "100" });
    response.write("x".repeat(10), () => response.destroy());
  });
  await new Promise<void>((resolve) => cutting.listen(0, "127.0.0.1", resolve));
  t.after(() => cutting.close());
  const folder = temporaryFolder();
  t.after(() => removeFolder(folder));
  const target = path.join(folder, "saved");
  const url = ["-url", `http://127.0.0.1:${(cutting.address() as AddressInfo).port}`];
  assert.equal((await runCommand(["get", "k", "-o", target, ...url])).status, 1);
  assert.deepEqual(readdirSync(folder), []);

  // It loses its end as soon as somebody connects.
  const file = path.join(folder, "shrinking");
  writeFileSync(file, Buffer.alloc(4 * 1024 * 1024));
  const shrinking = http.createServer((request) => request.resume());
  shrinking.on("connection", () => truncateSync(file, 1000));
  await new Promise<void>((resolve) => shrinking.listen(0, "127.0.0.1", resolve));
  t.after(() => shrinking.closeAllConnections());
  t.after(() => shrinking.close());
  const port = (shrinking.address() as AddressInfo).port;
  const said = await runCommand(["put", "k", file, "-url", `http://127.0.0.1:${port}`]);
  assert.equal(said.status, 1);
  assert.match(said.err, /^minivault put: \S+ has changed its size while it was sent\n$/);
});
