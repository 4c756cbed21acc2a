/** `minivault ls`, `rm -r`, `incr` and `top`, against a node as it is shipped, and with nobody there. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { freePort } from "../../native-bench/processes.ts";
import { tableOf } from "../../src/cli/client/top-table.ts";
import { call, closeConnections } from "../rest/client.ts";
import { type Server, startServer } from "../rest/server.ts";
import { runCommand, type Said } from "./terminal.ts";

after(closeConnections);

describe("many keys by the command line", () => {
  let server: Server;
  const run = (...words: string[]): Promise<Said> => runCommand([...words, "-url", server.url]);
  before(async () => {
    server = await startServer();
    for (const key of ["a/1", "a/2", "a/deep/3", "b", "c\u001b[2J"])
      await call(server.port, "PUT", `/_kv/${encodeURIComponent(key).replaceAll("%2F", "/")}`, {
        body: key,
        headers: { "Content-Type": "text/plain" },
      });
  });
  after(() => server.dispose());

  test("ls: like folders, in full, with sizes and times, as JSON", async () => {
    assert.deepEqual(await run("ls"), { status: 0, out: "a/\nb\nc\\x1b[2J\n", err: "" });
    assert.deepEqual(await run("ls", "a/"), { status: 0, out: "a/1\na/2\na/deep/\n", err: "" });
    assert.equal((await run("ls", "-r", "a/")).out, "a/1\na/2\na/deep/3\n");
    const long = await run("ls", "-l", "a/");
    assert.match(long.out, /^ {9}3 {2}\d{4}-\d\d-\d\d \d\d:\d\d:\d\d {2}text\/plain {16}a\/1\n/);
    const year = new Date().getUTCFullYear();
    assert.ok(Math.abs(Number(/\d{4}/.exec(long.out)?.[0]) - year) <= 1);
    assert.match(long.out, /\n +a\/deep\/\n$/);
    const lines = (await run("ls", "-json", "a/")).out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.deepEqual([lines[0].key, lines[0].bytes, lines[2]], ["a/1", 3, { prefix: "a/deep/" }]);
    const none = await run("ls", "zz");
    assert.deepEqual([none.status, none.out, none.err], [1, "", "no key begins with zz\n"]);
    assert.equal((await run("ls", "\ud800")).status, 2);
    assert.equal((await run("ls", "a", "b")).status, 2);
  });

  test("incr: counters of any size, with bounds", async () => {
    assert.deepEqual(await run("incr", "count"), { status: 0, out: "1\n", err: "" });
    assert.equal((await run("incr", "count", "-by", "-0.25")).out, "0.75\n");
    assert.equal(
      (await run("incr", "big", "-by", "123456789012345678901234567890")).out,
      "123456789012345678901234567890\n",
    );
    const json = await run("incr", "big", "-json");
    assert.match(
      json.out,
      /^\{"key":"big","value":123456789012345678901234567891,"etag":"[0-9a-f]{32}"\}\n$/,
    );
    const low = await run("incr", "count", "-by", "-1", "-min", "0");
    assert.deepEqual([low.status, low.out], [1, ""]);
    assert.equal((await run("incr", "none", "-initial", "none")).status, 1);
    assert.equal((await run("incr", "b")).status, 1, "what is no number is refused");
    for (const words of [
      ["-by", "x"],
      ["-by", "1,5"],
      ["-initial", "0x10"],
      ["-max", ""],
    ])
      assert.equal((await run("incr", "count", ...words)).status, 2, words.join(" "));
    const many = await Promise.all(Array.from({ length: 20 }, () => run("incr", "many")));
    assert.deepEqual(
      new Set(many.map(({ out }) => Number(out))),
      new Set(Array.from({ length: 20 }, (_, i) => i + 1)),
    );
  });

  test("rm -r: counts, deletes, and asks for everything by name", async () => {
    assert.deepEqual(await run("rm", "-r", "a/", "-dry-run"), {
      status: 0,
      out: "would delete 3 keys\n",
      err: "",
    });
    assert.deepEqual(await run("rm", "-r", "a/"), { status: 0, out: "deleted 3 keys\n", err: "" });
    assert.equal((await run("rm", "-r", "a/")).status, 1);
    assert.equal((await run("ls", "a/")).status, 1);
    const all = await run("rm", "-r", "");
    assert.equal(all.status, 2);
    assert.match(all.err, /-all/);
    assert.equal((await run("rm", "b", "-dry-run")).status, 2);
    assert.equal((await run("rm", "-r", "b", "-if-match", "*")).status, 2);
    const said = await run("rm", "-r", "", "-all", "-json");
    assert.equal(said.status, 0, said.err);
    assert.equal(JSON.parse(said.out).success, true);
    assert.deepEqual((await run("ls")).err, "there are no keys\n");
  });

  test("top: a table a look, rates from the second one on", async () => {
    await call(server.port, "PUT", "/k", { body: "x" });
    const said = await run("top", "-count", "2", "-interval", "0.2");
    assert.equal(said.status, 0, said.err);
    const lines = said.out.trimEnd().split("\n");
    assert.equal(lines.length, 4);
    assert.match(lines[0], /^NODE +KEYS +BYTES +READS\/s/);
    assert.match(lines[1], /^http:\S+ +1 +\S+ B +- /);
    assert.match(lines[3], /^http:\S+ +1 +\S+ B +[\d.]+ +0 +0 /);
    const json = JSON.parse((await run("top", "-count", "1", "-json")).out);
    assert.deepEqual([json.nodes.length, json.nodes[0].problem, json.nodes[0].keys], [1, null, 1]);
    for (const words of [
      ["-count", "0"],
      ["-interval", "x"],
      ["-interval", "1e9"],
    ])
      assert.equal((await run("top", ...words)).status, 2);
    assert.equal(tableOf([], 10).trimEnd().length, 10);
  });

  test("nobody there: exit status 1 and one line", async () => {
    const url = `http://127.0.0.1:${await freePort()}`;
    for (const words of [
      ["ls"],
      ["rm", "-r", "a"],
      ["incr", "k"],
      ["top"],
      ["export", "-"],
      ["backup", "/nowhere/x"],
    ]) {
      const said = await runCommand([...words, "-url", url]);
      assert.equal(said.status, 1, words.join(" "));
      assert.match(said.err, /^minivault \w+: [^\n]*cannot be reached[^\n]*\n$/);
    }
  });
});
